"""Files of test sets: found under any of their usual names, and read without losing a bit."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from depth_anything.data.benchmarks.image import BenchmarkImage, GroundTruth, Kind
from depth_anything.images.read import read_image
from depth_anything.system import files
from depth_anything.system.extras import EXTRA_OF, needs

LOSSY = ("JPEG", "MPO", "JPEG2000", "WEBP", "AVIF", "HEIF")
"""Formats whose pixels are close to those that were saved."""


def first_existing(candidates: Iterable[Path]) -> Path:
    """The first path that exists; where none does, the first one, so that the message names the preferred place."""
    paths = list(candidates)
    return next((path for path in paths if path.exists()), paths[0])


def read_uint16(path: Path) -> np.ndarray:
    """A 16-bit PNG with one channel as uint16 (H, W), exactly as stored.

    Raises:
        ValueError: missing, damaged, or other pixels: 8-bit depth has lost what is to be measured.
    """
    stored_HW = _read_png(path, ("I;16", "I;16B", "I;16L", "I"), "16 bits")
    if stored_HW.size and not 0 <= stored_HW.min() <= stored_HW.max() <= 65535:  # of a TIFF, whatever its name
        raise ValueError(
            f"{path}: holds {stored_HW.min()} to {stored_HW.max()}; expected 0 to 65535, as in a PNG of 16 bits"
        )
    return stored_HW.astype(np.uint16)


def uint16_ground_truth(path: Path, per_unit: float, kind: Kind = "metric_depth") -> GroundTruth:
    """A 16-bit PNG of truth: stored / per_unit, 0 = not measured. Errors as in `read_uint16`."""
    stored = read_uint16(path)
    return GroundTruth(stored / per_unit, stored > 0, kind)


def read_numbers(path: Path) -> np.ndarray:
    """A PNG with one channel, of classes or a mask, as stored: int64 (H, W). Errors as in `read_uint16`."""
    return _read_png(path, ("1", "L", "P", "I", "I;16", "I;16B"), "numbers of classes, or a mask").astype(np.int64)


def read_mask(path: Path) -> np.ndarray:
    """The same as bool (H, W): where it is not 0."""
    return read_numbers(path) != 0


def read_first_channel(path: Path) -> np.ndarray:
    """A PNG of 8 or 16 bits as stored, (H, W); of a coloured one its first channel. Errors as in `read_uint16`."""
    stored = _read_png(path, ("1", "L", "LA", "RGB", "RGBA", "I;16", "I;16B", "I"), "8 or 16 bits, or colours")
    return stored if stored.ndim == 2 else stored[:, :, 0]


def _read_png(path: Path, modes: tuple[str, ...], what: str) -> np.ndarray:
    try:
        with Image.open(path) as image:
            if image.mode not in modes:
                raise ValueError(f"{path}: expected a PNG with one channel ({what}), got pixels {image.mode}")
            if image.format in LOSSY:
                raise ValueError(
                    f"{path}: a {image.format}, which changes numbers; expected a PNG: use the original file"
                )
            return np.asarray(image)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path}: cannot be read as a PNG ({error})") from None


def read_npy(path: Path) -> np.ndarray:
    """A .npy of truth as float64 (H, W); a last axis of length 1 is dropped.

    Raises:
        ValueError: missing, damaged, or not one number per pixel.
    """
    values = files.read_npy(path)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.ndim != 2:
        raise ValueError(f"{path}: expected one number per pixel, got shape {values.shape}")
    return values.astype(np.float64)


def hdf5(path: Path) -> Any:
    """An open HDF5 file.

    Raises:
        ValueError: h5py is missing, or the file is.
    """
    with needs(EXTRA_OF["h5py"], path.name):
        import h5py
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as HDF5 ({error})") from None


def from_files(
    key: str,
    image: Path,
    ground_truth: Path | tuple[Path, ...],
    read_ground_truth: Callable[..., GroundTruth],
    group: str,
    region: str = "",
) -> BenchmarkImage:
    """A benchmark image in a file, with ground truth that `read_ground_truth` reads from its path or paths."""
    paths = (ground_truth,) if isinstance(ground_truth, Path) else ground_truth
    return BenchmarkImage(
        key=key,
        read_image=partial(read_image, image),
        read_ground_truth=partial(read_ground_truth, *paths),
        group=group,
        files=(image, *paths),
        region=region,
    )
