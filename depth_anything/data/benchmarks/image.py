"""One image of a test set with its measured ground truth, as every reader of this folder yields it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

Kind = Literal["metric_depth", "relative_depth", "disparity"]
"""metric_depth: z in metres. relative_depth: z up to a scale. disparity: 1/z up to a scale and a shift."""


@dataclass(frozen=True)
class GroundTruth:
    """What was measured. Never resized: predictions are resized to it."""

    values_HW: np.ndarray
    """Float, in the unit of `kind`; anything where not valid."""
    valid_HW: np.ndarray
    """Bool."""
    kind: Kind


def metres(depth_m: np.ndarray, known_HW: np.ndarray | bool = True) -> GroundTruth:
    """Measured metres: they count where they are known, finite and above 0."""
    return GroundTruth(depth_m, known_HW & np.isfinite(depth_m) & (depth_m > 0), "metric_depth")


@dataclass(frozen=True, kw_only=True)
class BenchmarkImage:
    """An image and its ground truth, both read lazily."""

    key: str
    """Unique within the set, usable as a relative path: where results and predictions of this image are kept."""
    read_image: Callable[[], np.ndarray]
    """Returns uint8 (H, W, 3), RGB."""
    read_ground_truth: Callable[[], GroundTruth]
    group: str
    """Images of one scene share it; protocols that average by scene use it."""
    files: tuple[Path, ...]
    """Every file that the two functions read: how a missing one is found before an hour of evaluation."""
    region: str = ""
    """`indoor`, `outdoor` or empty: parts that are reported apart."""
    exact: bool = False
    """Rendered: the truth is right up to every outline, and what it lacks is sky."""
