"""COLMAP's binary files: a depth map of its dense reconstruction, and the camera of a sparse model (`cameras.bin`)."""

import os
import struct

import numpy as np

PINHOLE = 1
"""COLMAP's number of the model with fx, fy, cx, cy."""


def write_depth_map(path: str | os.PathLike[str], depth_m_HW: np.ndarray) -> None:
    """Metres as `stereo/depth_maps/<image>.geometric.bin` holds them: "width&height&channels&", then little-endian
    float32 row by row; 0 where unknown. It carries no text."""
    height, width = depth_m_HW.shape
    with open(path, "wb") as file:
        file.write(f"{width}&{height}&1&".encode())
        file.write(np.ascontiguousarray(depth_m_HW, "<f4").data)


def write_camera(path: str | os.PathLike[str], K_33: np.ndarray, width: int, height: int) -> None:
    """One pinhole camera, number 1, as a `cameras.bin`. COLMAP counts pixels from the corner of the first one, this
    package from its centre: the principal point moves by half a pixel."""
    fx, fy, cx, cy = (float(value) for value in (K_33[0, 0], K_33[1, 1], K_33[0, 2] + 0.5, K_33[1, 2] + 0.5))
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", 1))
        file.write(struct.pack("<iiQQdddd", 1, PINHOLE, width, height, fx, fy, cx, cy))
