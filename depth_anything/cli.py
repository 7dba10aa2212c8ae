"""The command `depth-anything`: one function per command, heavy imports inside.

Exit codes: 0 all done; 1 some inputs failed, the rest is done; 2 bad options, or every input failed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tyro.conf import Positional

from . import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from .image_io import Source
    from .prediction import Prediction

app = tyro.extras.SubcommandApp()


class Failed(Exception):
    """Some inputs failed; their lines are printed already."""

    def __init__(self, code: int):
        self.code = code


@app.command
def predict(
    inputs: Positional[tuple[str, ...]],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("out"),
    model: str = "nano",
    save: str = "color,png16",
    variant: str | None = None,
    backend: Literal["onnx", "torch"] | None = None,
    device: str = "cpu",
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32",
    input_size: int | None = None,
    threads: int | None = None,
    colors: str = "Spectral_r",
    near: float | None = None,
    far: float | None = None,
    fov: float | None = None,
    focal_mm: float | None = None,
    intrinsics: str | None = None,
    sky: Literal["off", "segformer", "threshold"] = "off",
    sky_policy: Literal["keep", "zero", "cap"] = "keep",
    percentile: tuple[float, float] | None = None,
    exr_channel: Literal["Z", "R"] = "Z",
    directx_normals: bool = False,
    overwrite: bool = False,
    accept_license: bool = False,
) -> None:
    """Depth maps of pictures.

    Args:
        inputs: files, folders, patterns, a .txt list of paths, or - for standard input.
        out: folder for the results; the folders of the input are mirrored.
        model: a name that `depth-anything models` lists, a hub id, a checkpoint, a transformers folder, an .onnx file.
        save: what to write, separated by commas: color, side, png16, pfm, npz, exr, normals, sky, control, ply, glb.
        variant: which model a checkpoint holds, where the file does not say it.
        backend: onnx (base install) or torch; by default onnx for nano and .onnx files, torch for the rest.
        device: cpu, cuda, mps.
        dtype: fp32, bf16, fp16.
        input_size: lower bound of the shorter side at the network; by default the model's own (518, nano 224).
        threads: processor threads.
        colors: Spectral_r, inferno, turbo, gray.
        near: metres of the nearest point, for the geometry (normals, ply, glb) of a relative disparity.
        far: metres of the farthest point, likewise.
        fov: the camera's horizontal field of view in degrees, for the geometry.
        focal_mm: or its focal length as the 35 mm equivalent; without either, EXIF is asked.
        intrinsics: or fx,fy,cx,cy in pixels of the upright picture.
        sky: how to find the sky: segformer (extra transfer), or threshold, which only looks at the map.
        sky_policy: what to do with it: keep the values, zero (farthest), or cap (as far as the farthest thing).
        percentile: two percentiles that become black and white of the control image, instead of minimum and maximum.
        exr_channel: name of the EXR channel, Z or R.
        directx_normals: green of the normals points down instead of up.
        overwrite: replace results that exist.
        accept_license: needed once for weights whose owner does not clearly allow commercial use.
    """
    from tqdm import tqdm

    from . import outputs
    from .inputs import find_images
    from .predictor import Predictor

    formats = split_list(save)
    needs_camera = bool({"npz", "normals", "ply", "glb"} & set(formats) or fov or focal_mm or intrinsics)
    sources = find_images(inputs, exclude=out)
    find_sky = sky_finder(sky, accept_license)
    predictor = Predictor(
        model,
        backend=backend,
        variant=variant,
        device=device,
        dtype=dtype,
        input_size=input_size,
        accept_license=accept_license,
        threads=threads,
    )
    written: list[Path] = []
    failed = 0
    said = ""
    with tqdm(sources, unit="picture", disable=None if len(sources) > 1 else True) as progress:
        for source in progress:
            try:
                outputs.paths(out / source.stem, formats, predictor.variant.quantity, overwrite)  # refuses early
                prediction = predictor(source)
                if needs_camera:
                    prediction = with_camera(prediction, source, fov, focal_mm, intrinsics)
                if find_sky is not None:
                    prediction = prediction.with_sky(find_sky(prediction), sky_policy, found_by=sky)
                written += prediction.save(
                    out / source.stem,
                    formats,
                    colors=colors,
                    near=near,
                    far=far,
                    exr_channel=exr_channel,
                    percentile=percentile,
                    directx_normals=directx_normals,
                    overwrite=overwrite,
                )
                said = prediction.describe()
                for note in prediction.notes:
                    progress.write(f"{source.name}: {note}", file=sys.stderr)
            except ValueError as error:
                failed += 1
                progress.write(f"error: {error}", file=sys.stderr)
    for path in written[:20]:
        print(path)
    if len(written) > 20:
        print(f"... {len(written)} files in all, in {out}")
    if said:
        print(said)
    if failed:
        raise Failed(2 if failed == len(sources) else 1)


def split_list(text: str) -> list[str]:
    """The items of a list that is written with commas."""
    return [item.strip() for item in text.split(",") if item.strip()]


def sky_finder(method: str, accept_license: bool) -> Callable[[Prediction], np.ndarray] | None:
    """How the option --sky finds a sky mask; None for off."""
    if method == "off":
        return None
    import numpy as np

    from .data.sky import SkySegmenter, threshold

    if method == "threshold":
        return threshold
    segment = SkySegmenter(accept_license=accept_license)
    return lambda prediction: segment(np.asarray(prediction.image))


def with_camera(
    prediction: Prediction, source: Source, fov: float | None, focal_mm: float | None, intrinsics: str | None
) -> Prediction:
    """The prediction with what is known about its camera: the options, or else EXIF."""
    from dataclasses import replace

    from . import camera, image_io

    try:
        numbers = [float(number) for number in intrinsics.split(",")] if intrinsics else None
    except ValueError:
        raise ValueError(f"--intrinsics {intrinsics}: expected numbers fx,fy,cx,cy separated by commas") from None
    K = camera.intrinsics(
        prediction.width,
        prediction.height,
        fov=fov,
        focal_mm=focal_mm,
        numbers=numbers,
        exif_focal_35mm=image_io.info(source).focal_35mm,
    )
    return replace(prediction, K=K)


@app.command
def models() -> None:
    """The models, what their numbers mean, their licences."""
    from .variants import VARIANTS

    rows = [("model", "answers", "licence", "commercial use", "official file")]
    for row in VARIANTS.values():
        answers = "disparity" if row.max_depth is None else f"metres, up to {row.max_depth:g}"
        commercial = {True: "yes", False: "no", None: "not stated"}[row.commercial]
        rows.append((row.name, answers, row.licence, commercial, row.hub_file or row.note))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(
        "\nWeights that are not clearly free for commercial use need --accept-license once. "
        "Official files come from the Hugging Face hub, or from a path that you give with --variant."
    )


@app.command
def calibrate(
    map: Positional[Path],
    points: Positional[tuple[str, ...]],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("out"),
    save: str = "npz,png16",
    max_depth: float = 1000.0,
    overwrite: bool = False,
) -> None:
    """Metres from a relative disparity and two or more known distances.

    1/metres is fitted to the map by scale and shift, least squares, as everywhere in this package.

    Args:
        map: a disparity that predict wrote: png16, npz, exr or pfm. A map of metres is corrected likewise.
        points: two or more x,y,metres: pixels of the upright picture from its upper left, and the distance there.
        out: folder for the results.
        save: what to write, separated by commas: npz, png16, color, pfm, exr.
        max_depth: metres beyond which the fit is not believed: unknown, 0.
        overwrite: replace results that exist.
    """
    from .prediction import load

    try:
        known = [tuple(float(number) for number in point.split(",")) for point in points]
    except ValueError:
        raise ValueError(f"points {' '.join(points)}: expected x,y,metres of numbers, for each") from None
    relative = load(map)
    metric = relative.align_to(known, max_depth_m=max_depth)
    stem = map.stem.removesuffix(f"_{relative.quantity}")
    for path in metric.save(out / stem, split_list(save), overwrite=overwrite):
        print(path)
    for line in (metric.describe(), *metric.notes):
        print(line)


@app.command
def render(
    out: Positional[Path],
    count: int = 100,
    seed: int = 0,
    width: int = 256,
    height: int = 192,
    samples: int = 4,
    processes: int | None = None,
) -> None:
    """Labelled scenes: pictures with exact disparity, sky and classes, as tar shards (needs the extra render).

    Args:
        out: folder for the shards and sheet.png; finished shards in it are kept.
        count: scenes.
        seed: of the first scene; the same seed gives the same bytes.
        width: of a picture, in pixels.
        height: of a picture, in pixels.
        samples: light paths per pixel.
        processes: workers; by default one per core.
    """
    from .scenes.render import contact_sheet, render_shards

    shards = render_shards(out, count, seed, size=(width, height), spp=samples, processes=processes)
    contact_sheet(out, out / "sheet.png")
    print(f"{count} scenes in {len(shards)} shards in {out}; look at {out / 'sheet.png'}")


@app.command
def train(
    recipe: Positional[str],
    out: Positional[Path],
    scenes: Path | None = None,
    seed: int | None = None,
    processes: int | None = None,
) -> None:
    """Carry out a recipe; run again after any interruption, it goes on where it was.

    Args:
        recipe: a function of train/recipes.py, written with dashes: nano-teacher.
        out: folder for recipe.json, curve.jsonl, state.pt and at the end final.safetensors.
        scenes: folder with rendered scenes (training/, held_out/); by default OUT/scenes. What is missing is rendered.
        seed: of weights, order, crops and colours, instead of the recipe's.
        processes: workers for rendering; by default one per core.
    """
    import logging
    from dataclasses import replace

    from .train.recipes import get_recipe
    from .train.scenes import load_scenes

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    resolved = get_recipe(recipe)
    if seed is not None:
        resolved = replace(resolved, seed=seed)
    training, held_out = load_scenes(resolved, scenes or out / "scenes", processes)

    from .train.loop import train as run

    run(resolved, out, training, held_out)
    print(f"{out / 'final.safetensors'}: try it with depth-anything predict PHOTO --model {out / 'final.safetensors'}")


@app.command
def evaluate(
    table: Positional[str],
    data: Path,
    model: tuple[str, ...] = (),
    sets: tuple[str, ...] = (),
    protocol: str | None = None,
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    form: Literal["text", "json", "csv", "markdown"] = "text",
    json: bool = False,
    partial: bool = False,
    pictures: int = 4,
    regions: str = "grid",
    device: str = "cpu",
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32",
    input_size: int | None = None,
    accept_license: bool = False,
) -> None:
    """Score models under a named protocol, beside the published numbers.

    Args:
        table: pairs, da2k, v1-table2, ..., or da2k-propose; an unknown name lists them all.
        data: the manifest for pairs, pictures for da2k-propose; for the tables the folder with one folder per test set.
        model: one or more of ours, hf:ID for a transformers model, predictions:QUANTITY:FOLDER for finished maps, or
            the floors row and constant; by default nano for pairs, and the table's own models.
        sets: only these columns of the table.
        protocol: another protocol than the table's; the published numbers are then left out.
        out: folder for scores, from which a stopped run goes on, the report and the page of pictures.
        form: of what is printed.
        json: short for --form json.
        partial: take incomplete test sets; the report says so.
        pictures: images per set on the page.
        regions: where da2k-propose looks for points: grid, or sam:ID for a Segment Anything model.
        device: cpu, cuda, mps.
        dtype: fp32, bf16, fp16.
        input_size: lower bound of the shorter side at the network; by default the model's own.
        accept_license: as for predict.
    """
    from .evaluate.tables import run

    report = run(
        table,
        data,
        model or (("nano",) if table == "pairs" else ()),
        form="json" if json else form,
        out=out,
        sets=sets,
        protocol=protocol,
        partial=partial,
        pictures=pictures,
        regions=regions,
        device=device,
        dtype=dtype,
        input_size=input_size,
        accept_license=accept_license,
    )
    print(report)


@app.command
def export(
    model: Positional[str],
    to: Literal["onnx"] = "onnx",
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    variant: str | None = None,
    half: bool = False,
    accept_license: bool = False,
) -> None:
    """One ONNX file with the whole road inside: a uint8 picture of any size in, its map at that size out.

    Args:
        model: a name of `depth-anything models` or a checkpoint.
        to: the form.
        out: the file; by default MODEL.onnx.
        variant: which model a checkpoint holds, where the file does not say it.
        half: store the weights as float16; half the size, computed in float32.
        accept_license: as for predict.
    """
    from .export import export_onnx
    from .model import DepthAnything

    network = DepthAnything.from_pretrained(model, variant=variant, accept_license=accept_license)
    path = out or Path(f"{Path(model).stem}.onnx")
    export_onnx(network, path, half=half)
    print(f"{path}: uint8 (H, W, 3) RGB in, {network.variant.quantity} (H, W) out, licence {network.variant.licence}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: runs a command and leaves with its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments == ["--version"]:
        print(__version__)
        return
    try:
        app.cli(
            prog="depth-anything",
            description="Depth Anything V1 and V2, complete.",
            args=arguments,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    except Failed as failed:
        sys.exit(failed.code)
    except (ValueError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped; what is written is whole, run the command again for the rest", file=sys.stderr)
        sys.exit(130)
