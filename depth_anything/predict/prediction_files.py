"""The files of a Prediction: which formats there are, their names, what each of them needs, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from depth_anything.geometry import point_cloud
from depth_anything.images import map_files

if TYPE_CHECKING:
    from depth_anything.predict.prediction import Prediction

FORMATS = ("color", "side", "png16", "pfm", "npz", "exr", "normals", "sky", "control", "ply", "glb")
_ENDINGS = {
    **{name: f"{name}.png" for name in ("color", "side", "normals", "sky", "control")},
    "png16": "{quantity}.png",
    **{name: f"{{quantity}}.{name}" for name in ("pfm", "npz", "exr")},
    "ply": "points.ply",
    "glb": "mesh.glb",
}


def split_formats(text: str) -> list[str]:
    """The format names of an option --save, which is written with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def paths(stem: Path, formats: Sequence[str], quantity: str, overwrite: bool = False) -> dict[str, Path]:
    """Where `save` will write each format: `<stem>_<kind>.<ext>`, such as photo_disparity.png for png16.

    Checks, before a model runs, whether its prediction can be written.

    Raises:
        ValueError: an unknown format, or a file that exists already.
    """
    found: dict[str, Path] = {}
    for name in formats:
        if name not in _ENDINGS:
            raise ValueError(f"unknown output {name!r}: expected a list of {', '.join(FORMATS)}")
        found[name] = stem.with_name(f"{stem.name}_{_ENDINGS[name].format(quantity=quantity)}")
        map_files.refuse_existing(found[name], overwrite)
    return found


def save(
    prediction: Prediction,
    stem: Path,
    formats: Sequence[str],
    *,
    colors: str,
    near: float | None,
    far: float | None,
    exr_channel: str,
    percentile: tuple[float, float] | None,
    directx_normals: bool,
    overwrite: bool,
) -> list[Path]:
    """`Prediction.save`: see there. Files get their names when the last one is written, so a failure leaves none."""
    path_of = paths(stem, formats, prediction.quantity, overwrite)
    geometry = prediction
    if {"normals", "ply", "glb"} & set(path_of):
        geometry = prediction.to_depth(near, far)
    with ExitStack() as stack:
        for name, path in path_of.items():
            part = stack.enter_context(map_files.new_file(path, overwrite))
            if name in ("color", "side"):
                picture = prediction.colored(colors)
                if name == "side":
                    picture = np.concatenate([_picture(prediction, name), picture], axis=1)
                map_files.write_picture(part, picture, prediction.text())
            elif name == "control":
                map_files.write_picture(part, prediction.control_image(percentile), prediction.text())
            elif name == "sky":
                if prediction.sky is None:
                    raise ValueError("sky: nobody looked for it; choose how with --sky segformer or --sky threshold")
                map_files.write_picture(part, prediction.sky.astype(np.uint8) * 255, prediction.text())
            elif name == "normals":
                picture = point_cloud.normals_picture(geometry.normals(), directx_normals)
                map_files.write_picture(part, picture, geometry.text())
            elif name == "ply":
                point_cloud.write_ply(part, geometry.to_points(), prediction.image, geometry.text())
            elif name == "glb":
                point_cloud.write_glb(part, geometry.to_points(), _picture(prediction, name), geometry.text())
            else:
                _write_map(part, name, prediction, exr_channel)
    return list(path_of.values())


def _write_map(path: Path, name: str, prediction: Prediction, exr_channel: str) -> None:
    """The numbers themselves: png16, pfm, npz, exr."""
    values_HW, text = prediction.values, prediction.text()
    if name == "png16":
        is_disparity = prediction.quantity == "disparity"
        write = map_files.write_png16_disparity if is_disparity else map_files.write_png16_depth
        write(path, values_HW, text)
    elif name == "pfm":
        map_files.write_pfm(path, values_HW)
    elif name == "exr":
        map_files.write_exr(path, values_HW, text, exr_channel)
    else:
        arrays = {prediction.quantity: values_HW, "K": prediction.K, "sky": prediction.sky}
        map_files.write_npz(path, {key: array for key, array in arrays.items() if array is not None}, text)


def _picture(prediction: Prediction, name: str) -> np.ndarray:
    if prediction.image is None:
        raise ValueError(f"{name}: the picture is needed beside the map; give image= to the Prediction")
    return prediction.image
