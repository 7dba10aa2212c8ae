"""The files of a Prediction: which formats there are, their names, what each of them needs, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

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

    Before a model runs, this tells whether its answer may be written.

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


def load(path: str | Path, quantity: Literal["disparity", "depth_m"] | None = None) -> Prediction:
    """A Prediction from a file that `save` wrote: png16, npz, exr or pfm.

    Args:
        path: `<stem>_disparity.png`, `..._depth_m.npz`, ...
        quantity: what the numbers are, where the file cannot say: a PFM under another name.

    Raises:
        ValueError: another kind of file, a damaged one, or a map whose quantity is not known.
    """
    from depth_anything.predict.prediction import Prediction

    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; check the path")
    arrays: dict[str, np.ndarray] = {}
    match path.suffix.lower():
        case ".png":
            values_HW, text = map_files.read_png16(path)
        case ".pfm":
            values_HW, text = map_files.read_pfm(path), {}
        case ".exr":
            values_HW, text = map_files.read_exr(path)
        case ".npz":
            arrays, text = map_files.read_npz(path)
            held = [name for name in ("disparity", "depth_m") if name in arrays]
            if len(held) != 1:
                raise ValueError(
                    f"{path}: expected an array named disparity or depth_m, it has {', '.join(arrays) or 'none'}"
                )
            values_HW, text = arrays[held[0]], {**text, "quantity": held[0]}
        case suffix:
            raise ValueError(
                f"{path}: cannot load a map from {suffix or 'a file without suffix'}; expected .png .npz .exr .pfm"
            )
    from_name = next((name for name in ("disparity", "depth_m") if path.stem.endswith(f"_{name}")), None)
    known = quantity or text.get("quantity") or from_name
    if known not in ("disparity", "depth_m"):
        raise ValueError(f"{path}: the file does not say what its numbers are; give quantity='disparity' or 'depth_m'")
    fields = {key: text[key] for key in ("model", "licence", "version", "metres_from") if key in text}
    return Prediction(
        **{known: np.asarray(values_HW)},  # type: ignore[arg-type]
        **fields,
        notes=(text["notes"],) if "notes" in text else (),
        network_size=_size(text.get("network_size")),
        K=arrays.get("K"),
        sky=arrays.get("sky"),
    )


def _size(text: str | None) -> tuple[int, int] | None:
    """(height, width) from "width x height"."""
    if text is None:
        return None
    width, _, height = text.partition(" x ")
    return int(height), int(width)
