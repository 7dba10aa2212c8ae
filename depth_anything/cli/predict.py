"""`depth-anything predict`: depth maps of images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import OmitArgPrefixes, Positional

from depth_anything.cli.exits import Failed
from depth_anything.cli.options import ModelOptions
from depth_anything.images.formats import FORMATS, SaveOptions, check_panorama, paths, split_formats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np

    from depth_anything.images.read import ImageInfo, Source
    from depth_anything.predict.prediction import Prediction
    from depth_anything.predict.predictor import Predictor


def predict(
    inputs: Positional[tuple[str, ...]],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("out"),
    model: str = "nano",
    save: str = "color,png16",
    upscale: int = 1,
    tiles: int | None = None,
    panorama: bool = False,
    compile: bool = False,
    fov: float | None = None,
    focal_mm: float | None = None,
    intrinsics: str | None = None,
    sky: Literal["off", "segformer", "threshold"] = "off",
    sky_policy: Literal["keep", "zero", "cap"] = "keep",
    *,
    network: OmitArgPrefixes[ModelOptions],
    files: OmitArgPrefixes[SaveOptions],
) -> None:
    """Predict depth maps of images.

    Args:
        inputs: files, folders, patterns, a .txt list of paths, or - for standard input.
        out: folder for the results, with the same subfolders as the input.
        model: a name that `depth-anything models` lists, a hub id, a checkpoint, a transformers folder, or a file
            that export wrote.
        save: what to write, separated by commas: color, side, png16, npz, npy, pfm, exr, json, normals,
            sky, confidence, control, ply, glb, rgbz, sbs, anaglyph, colmap, colmap_camera.
        upscale: factor for the input size: finer edges for more time (V2's test-time upscaling: 2, 4).
        tiles: number of tiles along the shorter side, which add detail to large images: 2 to 10.
        panorama: the images are equirectangular panoramas, twice as wide as high: predict overlapping views and
            blend them. Distances are along the ray.
        compile: use torch.compile (torch only); takes a minute for each new size; no gain was measured yet.
        fov: horizontal field of view of the camera in degrees, for 3D output and camera-aware models.
        focal_mm: focal length as its 35 mm equivalent, instead of --fov; without either it is read from EXIF.
        intrinsics: fx,fy,cx,cy in pixels of the upright image, instead of --fov.
        sky: how to find the sky: segformer (extra transfer), or threshold, which uses only the map.
        sky_policy: value of the sky: keep, zero (farthest), or cap (the largest distance outside the sky).
    """
    from functools import partial

    from tqdm import tqdm

    from depth_anything.images.inputs import find_images
    from depth_anything.predict.confidence import predict_with_confidence
    from depth_anything.predict.panorama import predict_panorama
    from depth_anything.predict.prefetch import prefetch
    from depth_anything.predict.tiles import predict_tiles
    from depth_anything.system.files import NotWritten

    formats = split_formats(save)
    needs_camera = any(value is not None for value in (fov, focal_mm, intrinsics)) or any(
        name in FORMATS and (FORMATS[name].says_camera or "camera" in FORMATS[name].needs) for name in formats
    )
    told_camera = camera_options(fov, focal_mm, intrinsics)
    if panorama:
        if tiles is not None or any(value is not None for value in told_camera.values()):
            raise ValueError("--panorama: leave out --tiles, --fov, --focal-mm and --intrinsics; the views set them")
        check_panorama(formats)
    if "confidence" in formats and tiles is not None:
        raise ValueError("--save confidence: it is that of the whole image; leave out --tiles")
    if sky == "off" and sky_policy != "keep":
        raise ValueError(f"--sky-policy {sky_policy}: needs a sky mask; add --sky segformer or --sky threshold")
    sources = find_images(inputs, exclude=out)
    if len(sources) > 1 and "{stem}" not in files.name:
        raise ValueError(f"--name {files.name!r}: {len(sources)} images would get the same name; use {{stem}}")
    find_sky = sky_finder(sky, network.accept_license)
    predictor = network.predictor(model, compile)
    needs_camera = (needs_camera or predictor.variant.canonical_focal is not None) and not panorama
    if upscale < 1:
        raise ValueError(f"--upscale {upscale}: expected 1 or more")
    if isinstance(predictor.input_size, int):
        predictor.input_size *= upscale
    elif upscale > 1:
        raise ValueError(f"--upscale {upscale}: {predictor.variant.name} has a fixed network size")
    predict = predictor if tiles is None else partial(predict_tiles, predictor, count=tiles)
    if "confidence" in formats:
        predict = partial(predict_with_confidence, predictor)
    if panorama:
        predict = partial(predict_panorama, predictor)
    written: list[Path] = []
    done = 0
    said = ""
    # Three stages run in parallel: while one image is in the network, the next is read and the last one is written.
    maps = prefetch(maps_of(predict, prefetch(images_of(sources, out, formats, predictor, files), 1)), 1)
    with tqdm(maps, total=len(sources), unit="image", disable=None if len(sources) > 1 else True) as progress:
        for source, found in progress:
            try:
                if isinstance(found, ValueError):
                    raise found
                info, prediction = found
                if needs_camera:
                    prediction = with_camera(prediction, info, told_camera)
                if find_sky is not None:
                    prediction = prediction.with_sky(find_sky(prediction), sky_policy, found_by=sky)
                written += prediction.save(out / source.stem, formats, files)
                done += 1
                said = prediction.describe()
                for note in prediction.notes:
                    progress.write(f"{source.name}: {note}", file=sys.stderr)
            except ValueError as error:
                progress.write(f"error: {error}", file=sys.stderr)
            except NotWritten as error:  # the next one would fail too
                progress.write(f"error: {error}; {done} of {len(sources)} images are done", file=sys.stderr)
                break
    for path in written[:20]:
        print(path)
    if len(written) > 20:
        print(f"... {len(written)} files in all, in {out}")
    if said:
        print(said)
    if done < len(sources):
        raise Failed(1 if done else 2)


def images_of(
    sources: list[Source], out: Path, formats: list[str], predictor: Predictor, options: SaveOptions
) -> Iterator[tuple[Source, tuple[np.ndarray, ImageInfo] | ValueError]]:
    """Each image in turn, or the error of reading it or of naming its results."""
    from depth_anything.images.read import read_image_with_info

    for source in sources:
        try:
            paths(out / source.stem, formats, predictor.variant.quantity, options)
            yield source, read_image_with_info(source)
        except ValueError as error:
            yield source, error


def maps_of(
    predict: Callable[[np.ndarray], Prediction],
    images: Iterator[tuple[Source, tuple[np.ndarray, ImageInfo] | ValueError]],
) -> Iterator[tuple[Source, tuple[ImageInfo, Prediction] | ValueError]]:
    """The metadata and the prediction of each image, or its error."""
    for source, image in images:
        try:
            if isinstance(image, ValueError):
                raise image
            image_HW3, info = image
            yield source, (info, predict(image_HW3))
        except ValueError as error:
            yield source, error


def sky_finder(method: str, accept_license: bool) -> Callable[[Prediction], np.ndarray] | None:
    """The function that finds the sky mask for --sky; None for off."""
    if method == "off":
        return None
    import numpy as np

    from depth_anything.data.sky import SkySegmenter, threshold

    if method == "threshold":
        return threshold
    segment = SkySegmenter(accept_license=accept_license)
    return lambda prediction: segment(np.asarray(prediction.image))


def camera_options(fov: float | None, focal_mm: float | None, intrinsics: str | None) -> dict[str, Any]:
    """The camera options as arguments of `geometry.camera.intrinsics`.

    Raises:
        ValueError: they are not valid for any image.
    """
    from depth_anything.geometry import camera

    try:
        numbers = None if intrinsics is None else [float(number) for number in intrinsics.split(",")]
    except ValueError:
        raise ValueError(f"--intrinsics {intrinsics}: expected numbers fx,fy,cx,cy separated by commas") from None
    told: dict[str, Any] = {"fov": fov, "focal_mm": focal_mm, "numbers": numbers}
    camera.intrinsics(100, 100, **told)
    return told


def with_camera(prediction: Prediction, info: ImageInfo, told: dict[str, Any]) -> Prediction:
    """The prediction with its camera from the options, or else from EXIF, if known."""
    from depth_anything.geometry import camera

    K = camera.intrinsics(prediction.width, prediction.height, exif_focal_35mm=info.focal_35mm, **told)
    return prediction if K is None else prediction.with_camera(K)
