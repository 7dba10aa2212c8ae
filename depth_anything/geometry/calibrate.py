"""Convert disparity to metres with known distances. 1/metres = scale * disparity + shift (V1 section 3.1)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from depth_anything.evaluate.align import fit_scale_shift


@dataclass(frozen=True)
class Fitted:
    """Metres by a fit to known distances."""

    depth_m: np.ndarray
    """float32 (H, W); 0 where unknown."""
    scale: float
    shift: float
    count: int
    """Of known distances."""
    notes: tuple[str, ...]
    """Error of the fit, and the share of the image that becomes unknown."""


def near_far(disparity_HW: np.ndarray, near: float, far: float) -> np.ndarray:
    """Metres, float32 (H, W): the largest disparity is `near`, the smallest `far`, 1/metres is linear between.

    Raises:
        ValueError: not 0 < near < far, or the disparity is the same everywhere.
    """
    if not (0 < near < far < np.inf):
        raise ValueError(f"near {near:g} and far {far:g}: expected metres with 0 < near < far")
    low, high = float(disparity_HW.min()), float(disparity_HW.max())
    if not high > low:
        raise ValueError("the disparity is the same everywhere: near and far cannot be placed on it")
    scale = (1 / near - 1 / far) / (high - low)
    return _metres(disparity_HW, np.ones(disparity_HW.shape, bool), scale, 1 / far - scale * low, np.inf)


def known_distances(
    disparity_HW: np.ndarray, valid_HW: np.ndarray, points: Iterable[Sequence[float]], max_depth_m: float
) -> Fitted:
    """Metres whose inverse fits the known distances best: least squares in 1/metres, the fit of `evaluate.align`.

    Args:
        disparity_HW: larger is nearer, any scale and shift.
        valid_HW: bool, where it is known.
        points: two or more (x, y, metres), pixels from the upper left one, which is (0, 0).
        max_depth_m: pixels farther than this by the fit, or beyond infinity, become unknown.

    Raises:
        ValueError: fewer than two points, one outside the image, without a distance or on an unknown pixel; or
            distances that contradict the map (all at one value, or nearer where the map is farther).
    """
    rows = [tuple(point) for point in points]
    if len(rows) < 2 or any(len(row) != 3 for row in rows):
        raise ValueError("known distances: expected two or more of (x, y, metres)")
    if not max_depth_m > 0:
        raise ValueError(f"max_depth_m {max_depth_m:g}: expected metres above 0")
    height, width = disparity_HW.shape
    for x, y, metres in rows:
        if not (-0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5):
            raise ValueError(f"known distance at ({x:g}, {y:g}): outside the image of {width} x {height}")
        if not 0 < metres < np.inf:
            raise ValueError(f"known distance at ({x:g}, {y:g}): got {metres:g}; expected metres above 0")
        if not valid_HW[round(y), round(x)]:
            raise ValueError(f"known distance at ({x:g}, {y:g}): the map is unknown (0) there; give another point")
    disparity_P = np.array([disparity_HW[round(y), round(x)] for x, y, _ in rows], dtype=np.float64)
    metres_P = np.array([metres for _, _, metres in rows], dtype=np.float64)
    if np.ptp(disparity_P) == 0:
        raise ValueError("the known distances lie on one value of the map: give points at different distances")
    scale, shift = fit_scale_shift(disparity_P, 1 / metres_P)
    if scale <= 0:
        raise ValueError(
            "the known distances contradict the map: it is nearer where they are farther; check the points (x to the "
            "right, y down, metres)"
        )
    depth_m_HW = _metres(disparity_HW, valid_HW, scale, shift, max_depth_m)
    off = np.abs(1 / np.maximum(scale * disparity_P + shift, 1 / max_depth_m) / metres_P - 1).max()
    notes = [f"At the known distances these metres are off by {off:.1%} at most."]
    lost = 1 - np.count_nonzero(depth_m_HW) / depth_m_HW.size
    if lost > 0:
        notes.append(f"{lost:.1%} of the image is farther than {max_depth_m:g} m by these distances: unknown (0).")
    return Fitted(depth_m_HW, scale, shift, len(rows), tuple(notes))


def _metres(
    disparity_HW: np.ndarray, valid_HW: np.ndarray, scale: float, shift: float, max_depth_m: float
) -> np.ndarray:
    """1 / (scale * disparity + shift), float32 (H, W): 0 where not valid, beyond max_depth_m, or behind infinity."""
    depth_m_HW = np.zeros(disparity_HW.shape, np.float32)
    for depth_m_W, disparity_W, valid_W in zip(depth_m_HW, disparity_HW, valid_HW, strict=True):
        inverse_W = scale * disparity_W.astype(np.float64) + shift
        known_W = valid_W & (inverse_W > 0) & (inverse_W >= 1 / max_depth_m)
        depth_m_W[known_W] = 1 / inverse_W[known_W]
    return depth_m_HW
