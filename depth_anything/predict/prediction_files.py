"""Write the files of a Prediction: a writer per format, and `save` for several formats, all or none."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from depth_anything.geometry import point_cloud, stereo
from depth_anything.images import colmap_files, map_files
from depth_anything.images.formats import FORMATS, SaveOptions, check_panorama, paths
from depth_anything.system.files import new_file

if TYPE_CHECKING:
    from depth_anything.predict.prediction import Prediction

Writer = Callable[[Path, "Prediction", SaveOptions], None]


def save(prediction: Prediction, stem: Path, formats: Sequence[str], options: SaveOptions) -> list[Path]:
    """See `Prediction.save`. Files get their names after the last one is written, so an error leaves none."""
    if prediction.is_panorama:
        check_panorama(formats)
    path_of = paths(stem, formats, prediction.quantity, options)
    needs = {need for name in path_of for need in FORMATS[name].needs}
    metric = prediction.to_depth(options.near, options.far) if "metres" in needs else prediction
    with ExitStack() as stack:
        for name, path in path_of.items():
            part = stack.enter_context(new_file(path, options.overwrite))
            if "image" in FORMATS[name].needs and prediction.image is None:
                raise ValueError(f"{name}: the image is needed in addition to the map; give image= to the Prediction")
            WRITERS[name](part, metric if "metres" in FORMATS[name].needs else prediction, options)
    return list(path_of.values())


def _color(part: Path, prediction: Prediction, options: SaveOptions) -> None:
    map_files.write_image(part, prediction.colored(options.colors), prediction.text())


def _side(part: Path, prediction: Prediction, options: SaveOptions) -> None:
    both = np.concatenate([np.asarray(prediction.image), prediction.colored(options.colors)], axis=1)
    map_files.write_image(part, both, prediction.text())


def _control(part: Path, prediction: Prediction, options: SaveOptions) -> None:
    map_files.write_image(part, prediction.control_image(options.percentile), prediction.text())


def _sky(part: Path, prediction: Prediction, options: SaveOptions) -> None:
    if prediction.sky is None:
        raise ValueError("sky: there is no mask; choose a method with --sky segformer or --sky threshold")
    map_files.write_image(part, prediction.sky.astype(np.uint8) * 255, prediction.text())


def _confidence(part: Path, prediction: Prediction, options: SaveOptions) -> None:
    if prediction.confidence is None:
        raise ValueError("confidence: it was not computed; see predict.confidence.predict_with_confidence")
    map_files.write_image(part, np.round(prediction.confidence * 255).astype(np.uint8), prediction.text())


def _normals(part: Path, prediction: Prediction, options: SaveOptions) -> None:
    image_HW3 = point_cloud.normals_image(prediction.normals(), options.directx_normals)
    map_files.write_image(part, image_HW3, prediction.text())


def _png16(part: Path, prediction: Prediction, options: SaveOptions) -> None:
    is_metric = prediction.quantity == "depth_m"
    write = map_files.write_png16_depth if is_metric else map_files.write_png16_disparity
    write(part, prediction.values, prediction.text())


def _npz(part: Path, prediction: Prediction, options: SaveOptions) -> None:
    arrays = {prediction.quantity: prediction.values, "K": prediction.K, "sky": prediction.sky}
    arrays["confidence"] = prediction.confidence
    map_files.write_npz(part, {key: array for key, array in arrays.items() if array is not None}, prediction.text())


def _npy(part: Path, prediction: Prediction, options: SaveOptions) -> None:
    np.save(part, prediction.values, allow_pickle=False)


def _pfm(part: Path, prediction: Prediction, options: SaveOptions) -> None:
    map_files.write_pfm(part, prediction.values)


def _exr(part: Path, prediction: Prediction, options: SaveOptions) -> None:
    map_files.write_exr(part, prediction.values, prediction.text(), options.exr_channel)


def _rgbz(part: Path, prediction: Prediction, options: SaveOptions) -> None:
    channel, text = options.exr_channel, prediction.text()
    map_files.write_exr(part, prediction.values, text, channel, np.asarray(prediction.image))


def _sbs(part: Path, prediction: Prediction, options: SaveOptions) -> None:
    shift_HW = prediction.eye_shifts(options.eye_distance)
    map_files.write_image(part, stereo.side_by_side(np.asarray(prediction.image), shift_HW), prediction.text())


def _anaglyph(part: Path, prediction: Prediction, options: SaveOptions) -> None:
    shift_HW = prediction.eye_shifts(options.eye_distance)
    map_files.write_image(part, stereo.anaglyph(np.asarray(prediction.image), shift_HW), prediction.text())


def _colmap(part: Path, prediction: Prediction, options: SaveOptions) -> None:
    assert prediction.depth_m is not None
    colmap_files.write_depth_map(part, prediction.depth_m)


def _colmap_camera(part: Path, prediction: Prediction, options: SaveOptions) -> None:
    if prediction.K is None:
        raise ValueError("colmap_camera: the camera is not known; give --fov, --focal-mm or --intrinsics")
    colmap_files.write_camera(part, prediction.K, prediction.width, prediction.height)


def _ply(part: Path, prediction: Prediction, options: SaveOptions) -> None:
    points_HW3, text = prediction.to_points(), prediction.text()
    point_cloud.write_ply(part, points_HW3, prediction.image, text, options.ply_axes)


def _glb(part: Path, prediction: Prediction, options: SaveOptions) -> None:
    image_HW3, text = np.asarray(prediction.image), prediction.text()
    point_cloud.write_glb(part, prediction.to_points(), image_HW3, text, prediction.is_panorama)


def _json(part: Path, prediction: Prediction, options: SaveOptions) -> None:
    """The metadata, and the values: base64 of little-endian float32, row by row."""
    values_HW = prediction.values
    content = {
        **prediction.text(),
        "height": prediction.height,
        "width": prediction.width,
        "minimum": float(values_HW.min()),
        "maximum": float(values_HW.max()),
        "K": None if prediction.K is None else prediction.K.tolist(),
        "values": {
            "encoding": "base64",
            "dtype": "<f4",
            "shape": [prediction.height, prediction.width],
            "data": base64.b64encode(values_HW.astype("<f4").tobytes()).decode(),
        },
    }
    part.write_text(json.dumps(content), encoding="utf-8")


WRITERS: dict[str, Writer] = {
    "color": _color, "side": _side, "control": _control, "sky": _sky, "confidence": _confidence,
    "normals": _normals, "png16": _png16, "npz": _npz, "npy": _npy, "pfm": _pfm, "exr": _exr, "json": _json,
    "ply": _ply, "glb": _glb, "rgbz": _rgbz, "sbs": _sbs, "anaglyph": _anaglyph,
    "colmap": _colmap, "colmap_camera": _colmap_camera,
}  # fmt: skip
