"""EXIF metadata of a camera: orientation and focal length (EXIF 2.32)."""

import math

import numpy as np
from PIL import Image

IFD = 0x8769
"""The block that holds what is about the photograph."""


def orientation(exif: Image.Exif) -> int:
    """EXIF orientation 1 to 8; 1 where it is absent or nonsense."""
    value = exif.get(0x0112, 1)
    return value if value in range(1, 9) else 1


def as_stored(upright_HW3: np.ndarray, turn: int) -> np.ndarray:
    """The same memory, indexed as a file of orientation `turn` stores its rows."""
    transposed = upright_HW3.transpose(1, 0, 2)
    return {
        1: upright_HW3,
        2: upright_HW3[:, ::-1],
        3: upright_HW3[::-1, ::-1],
        4: upright_HW3[::-1],
        5: transposed,
        6: transposed[::-1],
        7: transposed[::-1, ::-1],
        8: transposed[:, ::-1],
    }[turn]


def focal_35mm(exif: Image.Exif) -> float | None:
    """The 35 mm equivalent that EXIF states, or the one that focal length and sensor size give."""
    tags = exif.get_ifd(IFD)

    def number(tag: int) -> float | None:
        try:
            value = float(tags[tag])
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            return None
        return value if 0 < value < 1e6 else None

    stated = number(0xA405)  # FocalLengthIn35mmFilm
    if stated is not None and possible(stated):
        return stated
    focal_mm, pixels_per_unit = number(0x920A), number(0xA20E)  # FocalLength, FocalPlaneXResolution
    width, height = number(0xA002), number(0xA003)  # of the image as it was taken, not as it may have been resized
    if focal_mm is None or pixels_per_unit is None or width is None or height is None:
        return None
    unit = number(0xA210) if 0xA210 in tags else 2  # FocalPlaneResolutionUnit; inches where it is absent
    unit_mm = {2.0: 25.4, 3.0: 10.0, 4.0: 1.0, 5.0: 0.001}.get(unit or 0.0)
    if unit_mm is None:
        return None
    sensor_diagonal_mm = math.hypot(width, height) / pixels_per_unit * unit_mm
    return possible(focal_mm * math.hypot(36, 24) / sensor_diagonal_mm)


def possible(focal_35mm: float) -> float | None:
    """A 35 mm equivalent, or None where no lens has it: from 4 mm (a fisheye) to 10 m (a telescope)."""
    return focal_35mm if 4 <= focal_35mm <= 10_000 else None
