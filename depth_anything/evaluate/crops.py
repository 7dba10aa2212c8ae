"""Crops of the benchmarks: Garg's and Eigen's on KITTI, Eigen's on NYUv2, the window of KITTI's depth benchmark."""

import numpy as np

from depth_anything.evaluate.protocol import Crop


def crop_mask(height: int, width: int, crop: Crop) -> np.ndarray:
    """Bool (H, W): the part of the image that a crop keeps.

    garg, eigen: fractions of the image (Garg et al. 2016; Eigen et al. 2014). eigen_rectangle: rows 45:471, columns
    41:601 in absolute pixels, made for NYUv2's 480 x 640; the released ZoeDepth code applies it to any size, so on
    larger images it keeps the upper left. kb: see `kb_window`; kb+x crops inside it.

    Raises:
        ValueError: the image is smaller than the kb crop.
    """
    mask = np.zeros((height, width), dtype=bool)
    window, inner = (slice(None), slice(None)), crop
    if crop.startswith("kb"):
        window, inner = kb_window(height, width), crop[3:] or "none"
        height, width = 352, 1216
    match inner:
        case "none":
            rows, columns = slice(0, height), slice(0, width)
        case "garg":
            rows = slice(int(0.40810811 * height), int(0.99189189 * height))
            columns = slice(int(0.03594771 * width), int(0.96405229 * width))
        case "eigen":
            rows = slice(int(0.3324324 * height), int(0.91351351 * height))
            columns = slice(int(0.0359477 * width), int(0.96405229 * width))
        case "eigen_rectangle":
            rows, columns = slice(45, 471), slice(41, 601)
        case _:
            raise ValueError(f"unknown crop {crop!r}")
    mask[window][rows, columns] = True
    return mask


def kb_window(height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of KITTI's depth benchmark: the lower 352 rows, the middle 1216 columns.

    Raises:
        ValueError: the image is smaller.
    """
    if height < 352 or width < 1216:
        raise ValueError(f"the kb crop is 352 x 1216 (rows x columns), the truth is only {height} x {width}")
    left = int((width - 1216) / 2)
    return slice(height - 352, height), slice(left, left + 1216)
