"""Differences between two maps of one photograph, and the tolerances for them."""

from dataclasses import dataclass

import numpy as np

from depth_anything.evaluate.align import fit_scale_shift
from depth_anything.evaluate.metrics import abs_rel
from depth_anything.variants import Quantity

NEAR_ENOUGH = 0.1
"""Share of a map's largest value below which pixels are left out of AbsRel: relative errors of values near 0 are
meaningless."""


@dataclass(frozen=True)
class Tolerance:
    """Limits of the difference between an export and torch in float32."""

    difference: float | None
    """Largest difference of a map, relative to its largest value if that is above 1; None: not checked."""
    abs_rel: float
    """Mean relative difference, as in `Agreement.abs_rel`."""
    stage: float
    """Mean difference of an intermediate stage, relative to its mean absolute value, above which it has drifted."""


EXACT = Tolerance(difference=1e-4, abs_rel=1e-4, stage=1e-4)
HALF = Tolerance(difference=None, abs_rel=5e-3, stage=1e-2)
INT8 = Tolerance(difference=None, abs_rel=2e-2, stage=0.2)


@dataclass(frozen=True)
class Agreement:
    """Two maps of one photograph."""

    photograph: str
    height: int
    width: int
    network_height: int
    network_width: int
    correlation: float
    largest_difference: float
    """In metres for depth_m; without unit for disparity."""
    mean_difference: float
    abs_rel: float
    """Mean |a - b| / b where b is above a tenth of its largest value; disparity is aligned first by least-squares scale
    and shift, which it does not determine."""
    largest_value: float


def agreement(
    name: str,
    image_HW3: np.ndarray,
    size: tuple[int, int],
    expected_HW: np.ndarray,
    found_HW: np.ndarray,
    quantity: Quantity,
) -> Agreement:
    """Compare the maps of one photograph."""
    apart_HW = np.abs(found_HW - expected_HW)
    return Agreement(
        photograph=name,
        height=image_HW3.shape[0],
        width=image_HW3.shape[1],
        network_height=size[0],
        network_width=size[1],
        correlation=correlation(expected_HW, found_HW),
        largest_difference=float(apart_HW.max()),
        mean_difference=float(apart_HW.mean()),
        abs_rel=relative_difference(found_HW, expected_HW, quantity),
        largest_value=float(np.abs(expected_HW).max()),
    )


def correlation(a_HW: np.ndarray, b_HW: np.ndarray) -> float:
    """Pearson's correlation. If a map is constant: 1 for equal maps, else 0."""
    a, b = a_HW.astype(np.float64).ravel(), b_HW.astype(np.float64).ravel()
    if a.std() == 0 or b.std() == 0:
        return float(np.array_equal(a, b))
    return float(np.corrcoef(a, b)[0, 1])


def relative_difference(found_HW: np.ndarray, expected_HW: np.ndarray, quantity: Quantity) -> float:
    """AbsRel of `found` with respect to `expected`, without pixels where that is almost 0; disparity is aligned first
    by least-squares scale and shift."""
    if not np.isfinite(found_HW).all():
        return float("inf")
    valid_HW = expected_HW > NEAR_ENOUGH * expected_HW.max()
    if not valid_HW.any():  # a map of zeros
        return float(np.abs(found_HW - expected_HW).max())
    scale, shift = fit_scale_shift(found_HW, expected_HW, valid_HW) if quantity == "disparity" else (1.0, 0.0)
    return abs_rel(scale * found_HW[valid_HW].astype(np.float64) + shift, expected_HW[valid_HW].astype(np.float64))
