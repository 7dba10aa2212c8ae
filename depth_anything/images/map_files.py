"""Maps to files and back: 16-bit PNG, PFM, NPZ, EXR, and 8-bit images.

The writers write to the given path; `files.new_file` gives a temporary name, which is renamed at the end.

`text` is a dict of str to str (model, licence, quantity, ...): tEXt in PNG, arrays of one string in NPZ, attributes in
EXR. PFM carries no text.
"""

import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image, PngImagePlugin

from depth_anything.images.formats import ExrChannel
from depth_anything.system.extras import EXTRA_OF, needs
from depth_anything.system.files import missing, read_npy

QUANTITIES = ("disparity", "depth_m")
EXR_CHANNELS = get_args(ExrChannel)
MILLIMETRES = 1000.0
PNG16_MAX = 65535
"""Largest value of 16-bit PNG: 65.535 m in millimetres; what is farther is stored as that."""


# -- images ----------------------------------------------------------------------------------------------------------


def write_image(path: str | os.PathLike[str], image: np.ndarray, text: Mapping[str, str]) -> None:
    """uint8 (H, W, 3) or (H, W), or uint16 (H, W), as PNG with `text`.

    The low bits of 16 are noise to a compressor: its quickest level takes a fifth of the usual one's time for 4 % more.
    """
    chunks = PngImagePlugin.PngInfo()
    for key, value in text.items():
        chunks.add_text(key, value)
    level = 1 if image.dtype == np.uint16 else 6
    Image.fromarray(image).save(path, format="PNG", pnginfo=chunks, compress_level=level)


# -- 16-bit PNG ------------------------------------------------------------------------------------------------------


def write_png16_depth(path: str | os.PathLike[str], depth_m_HW: np.ndarray, text: Mapping[str, str]) -> None:
    """Metres as millimetres in 16 bits: 0 where unknown, at least 1 elsewhere, 65535 for 65.535 m and more.

    The number of pixels that were cut to 65.535 m is stored as `saturated_pixels`.
    """
    stored_HW = np.empty(depth_m_HW.shape, np.uint16)
    saturated = 0
    for row, depth_m_W in enumerate(depth_m_HW):
        millimetres_W = np.round(depth_m_W.astype(np.float64) * MILLIMETRES)
        stored_HW[row] = np.where(depth_m_W > 0, np.clip(millimetres_W, 1, PNG16_MAX), 0)
        saturated += int(np.count_nonzero(millimetres_W > PNG16_MAX))
    text = {**text, "unit": "millimetre, 0 = unknown", "saturated_pixels": str(saturated)}
    write_image(path, stored_HW, text)


def write_png16_disparity(path: str | os.PathLike[str], disparity_HW: np.ndarray, text: Mapping[str, str]) -> None:
    """Disparity from its minimum (0) to its maximum (65535), which are stored as disparity_min and disparity_max.

    Reading it back is off by half a step at most: (max - min) / 131070. A constant map is stored as zeros.
    """
    low, high = float(disparity_HW.min()), float(disparity_HW.max())
    scale = PNG16_MAX / (high - low) if high > low else 0.0
    stored_HW = np.empty(disparity_HW.shape, np.uint16)
    for row, disparity_W in enumerate(disparity_HW):
        stored_HW[row] = np.round((disparity_W.astype(np.float64) - low) * scale)
    write_image(path, stored_HW, {**text, "disparity_min": repr(low), "disparity_max": repr(high)})


def read_png16(path: str | os.PathLike[str]) -> tuple[np.ndarray, dict[str, str]]:
    """A map that `write_png16_depth` or `write_png16_disparity` wrote: float32 (H, W) and its text.

    Raises:
        ValueError: another PNG: 8-bit, or without our text.
    """
    with Image.open(path) as image:
        image.load()
        text = {key: str(value) for key, value in getattr(image, "text", {}).items()}
        if not image.mode.startswith("I") or text.get("quantity") not in QUANTITIES:
            raise ValueError(f"{path}: not a 16-bit map of this program; expected one written with --save png16")
        stored_HW = np.asarray(image).astype(np.float64)
    if text["quantity"] == "depth_m":
        return (stored_HW / MILLIMETRES).astype(np.float32), text
    try:
        low, high = float(text["disparity_min"]), float(text["disparity_max"])
    except (KeyError, ValueError):
        raise ValueError(f"{path}: its disparity_min and disparity_max are lost; write it again from the NPZ") from None
    return (low + stored_HW * ((high - low) / PNG16_MAX)).astype(np.float32), text


# -- float formats ---------------------------------------------------------------------------------------------------


def write_pfm(path: str | os.PathLike[str], map_HW: np.ndarray) -> None:
    """float32 (H, W) as greyscale PFM (Debevec): little-endian, rows from the bottom up. It carries no text."""
    height, width = map_HW.shape
    with open(path, "wb") as file:
        file.write(f"Pf\n{width} {height}\n-1.0\n".encode())
        file.write(np.ascontiguousarray(map_HW[::-1], dtype="<f4").data)


def read_pfm(path: str | os.PathLike[str]) -> np.ndarray:
    """A greyscale PFM of either byte order as float32 (H, W).

    Raises:
        ValueError: not such a file, or cut short.
    """
    with open(path, "rb") as file:
        try:
            kind, size, scale = (file.readline(64).decode("ascii").strip() for _ in range(3))
            width, height = (int(side) for side in size.split())
            order = "<f4" if float(scale) < 0 else ">f4"
        except ValueError:
            kind, width, height, order = "", 0, 0, ""
        data = file.read()
    if kind != "Pf" or width < 1 or height < 1 or len(data) != 4 * width * height:
        raise ValueError(f"{path}: not a whole greyscale PFM; expected 'Pf', a size, and 4 bytes per pixel")
    return np.frombuffer(data, order).reshape(height, width)[::-1].astype(np.float32)


def write_npz(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], text: Mapping[str, str]) -> None:
    """Named arrays, compressed, and the text as arrays of one string."""
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays, **{key: np.array(value) for key, value in text.items()})  # type: ignore[arg-type]


def read_npz(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the text of an NPZ. Pickled objects are refused.

    Raises:
        ValueError: not an NPZ, damaged, or with pickled objects.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            content = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, FileNotFoundError):
            raise ValueError(missing(path, "check the path")) from None
        raise ValueError(f"{path}: not an NPZ that can be read ({error})") from None
    text = {key: str(value) for key, value in content.items() if value.dtype.kind == "U" and value.ndim == 0}
    return {key: value for key, value in content.items() if key not in text}, text


def write_exr(
    path: str | os.PathLike[str],
    map_HW: np.ndarray,
    text: Mapping[str, str],
    channel: ExrChannel = "auto",
    image_HW3: np.ndarray | None = None,
) -> None:
    """float32 (H, W) as OpenEXR, 32 bits, lossless, with `text` as attributes. Extra `3d`.

    Args:
        channel: "auto": Z, the name of metres in Nuke and Blender, where `text` says that the map holds metres, else
            "disparity". Or "Y" (luminance, which viewers show as grey), "R", "Z".
        image_HW3: uint8 sRGB, for channels R, G, B beside the map's: 16 bits, linear light, as compositing expects.

    Raises:
        ValueError: another channel, one that the image has, or OpenEXR is not installed.
    """
    if channel not in EXR_CHANNELS or (channel in "RY" and image_HW3 is not None):
        expected = "auto or Z, as R, G and B are the image's" if image_HW3 is not None else "auto, Z, Y or R"
        raise ValueError(f"EXR channel {channel!r}: expected {expected}")
    openexr = _openexr()
    name = channel if channel != "auto" else "disparity" if text.get("quantity") == "disparity" else "Z"
    header = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage, **text}
    channels = {name: np.ascontiguousarray(map_HW, dtype=np.float32)}
    if image_HW3 is not None:
        channels["RGB"] = linear_light(image_HW3)
    openexr.File(header, channels).write(str(path))


def linear_light(image_HW3: np.ndarray) -> np.ndarray:
    """float16 (H, W, 3), 0..1 in linear light, of uint8 sRGB (IEC 61966-2-1)."""
    value = np.arange(256) / 255
    table = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return table.astype(np.float16)[image_HW3]


def read_exr(path: str | os.PathLike[str]) -> tuple[np.ndarray, dict[str, str]]:
    """The map of an EXR as float32 (H, W), and its attributes that are text: of the channels Z, disparity, Y, R the
    first that is there, or else the only one.

    Raises:
        ValueError: none of these is there, the file is damaged, or OpenEXR is not installed.
    """
    openexr = _openexr()
    try:
        with openexr.File(str(path), separate_channels=True) as file:
            channels = file.channels()
            text = {key: value for key, value in file.header().items() if isinstance(value, str)}
            pixels = {name: np.array(channel.pixels, dtype=np.float32) for name, channel in channels.items()}
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: not an EXR that can be read ({error})") from None
    only = tuple(pixels) if len(pixels) == 1 else ()
    name = next((name for name in ("Z", "disparity", "Y", "R", *only) if name in pixels), None)
    if name is None:
        raise ValueError(f"{path}: expected a channel Z, disparity, Y or R, or one alone; it has {', '.join(pixels)}")
    return pixels[name], text


def _openexr():
    with needs(EXTRA_OF["OpenEXR"], "EXR"):
        import OpenEXR
    return OpenEXR


# -- any of them ------------------------------------------------------------------------------------------------------


@dataclass
class MapFile:
    """What a file of a map holds."""

    values_HW: np.ndarray
    quantity: str | None
    """disparity or depth_m; None if neither the file nor its name states it."""
    text: dict[str, str] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    """Of an NPZ: K, sky, and others'."""


def read_map(path: str | os.PathLike[str], wanted: str | None = None) -> MapFile:
    """A map that `Prediction.save` wrote, or another program: 16-bit PNG of ours, NPY, NPZ, EXR or PFM.

    An NPZ holds the map under the name of its quantity, or one map only.

    Args:
        wanted: the quantity to take from an NPZ that holds both.

    Raises:
        ValueError: no such file, another kind of file, or a damaged one.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(missing(path, "check the path"))
    text, arrays = {}, {}
    match path.suffix.lower():
        case ".png":
            values_HW, text = read_png16(path)
        case ".pfm":
            values_HW = read_pfm(path)
        case ".exr":
            values_HW, text = read_exr(path)
        case ".npy":
            values_HW = read_npy(path)
        case ".npz":
            arrays, text = read_npz(path)
            maps = [name for name, array in arrays.items() if array.ndim == 2 and name != "K"]
            held = [name for name in QUANTITIES if name in arrays] or maps
            held = [wanted] if wanted in held else held
            if len(held) != 1:
                named = ", ".join(arrays) or "none"
                raise ValueError(f"{path}: expected an array named disparity or depth_m, or one map; it has {named}")
            values_HW = arrays[held[0]]
            text |= {"quantity": held[0]} if held[0] in QUANTITIES else {}
        case suffix:
            ending = suffix or "a file without suffix"
            raise ValueError(f"{path}: cannot load a map from {ending}; expected .png .npz .npy .exr .pfm")
    from_name = next((name for name in QUANTITIES if path.stem.endswith(f"_{name}")), None)
    return MapFile(values_HW, text.get("quantity") or from_name, text, arrays)
