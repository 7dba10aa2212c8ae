"""Metrics of depth maps, each with its direction and source. numpy, float64.

Pixel metrics take two flat arrays of the same positive quantity (both depth, or both disparity) at the valid pixels of
one image. e = log prediction - log truth. The mean over images is the caller's: see `protocol.Protocol.averaging`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np


def abs_rel(prediction: np.ndarray, ground_truth: np.ndarray) -> float:
    """mean |p - g| / g."""
    return float(np.mean(np.abs(prediction - ground_truth) / ground_truth))


def sq_rel(prediction: np.ndarray, ground_truth: np.ndarray) -> float:
    """mean (p - g)^2 / g."""
    return float(np.mean((prediction - ground_truth) ** 2 / ground_truth))


def rmse(prediction: np.ndarray, ground_truth: np.ndarray) -> float:
    """sqrt mean (p - g)^2, in the unit of the maps."""
    return float(np.sqrt(np.mean((prediction - ground_truth) ** 2)))


def rmse_log(prediction: np.ndarray, ground_truth: np.ndarray) -> float:
    """sqrt mean e^2, natural logarithm."""
    return float(np.sqrt(np.mean((np.log(prediction) - np.log(ground_truth)) ** 2)))


def log10(prediction: np.ndarray, ground_truth: np.ndarray) -> float:
    """mean |log10 p - log10 g|."""
    return float(np.mean(np.abs(np.log10(prediction) - np.log10(ground_truth))))


def silog(prediction: np.ndarray, ground_truth: np.ndarray) -> float:
    """100 sqrt(mean e^2 - (mean e)^2): invariant to a common factor."""
    return float(100 * np.std(np.log(prediction) - np.log(ground_truth)))


def silog_half(prediction: np.ndarray, ground_truth: np.ndarray) -> float:
    """sqrt(mean e^2 - (mean e)^2 / 2): what the V2 metric code prints as silog. Not the same number as `silog`."""
    e = np.log(prediction) - np.log(ground_truth)
    return float(np.sqrt(np.mean(e**2) - 0.5 * np.mean(e) ** 2))


def delta(prediction: np.ndarray, ground_truth: np.ndarray, power: int = 1) -> float:
    """Share of pixels with max(p / g, g / p) < 1.25^power."""
    return float(np.mean(np.maximum(prediction / ground_truth, ground_truth / prediction) < 1.25**power))


def ordinal(disparity_closer: np.ndarray, disparity_farther: np.ndarray) -> float:
    """Share of pairs whose closer point has the strictly larger disparity (DA-2K).

    A tie is wrong. In DA-2K's file the first point is always the closer one, so a rule that forgave ties would give a
    constant map full marks.

    Args:
        disparity_closer, disparity_farther: (pairs,) predicted disparity (or negated metres) at the point that people
            call closer, and at the other.

    Raises:
        ValueError: no pair, or shapes that differ.
    """
    closer, farther = np.asarray(disparity_closer), np.asarray(disparity_farther)
    if closer.shape != farther.shape or closer.size == 0:
        raise ValueError(f"expected as many closer as farther points, got {closer.shape} and {farther.shape}")
    return float(np.mean(closer > farther))


BOUNDARY_THRESHOLDS = np.linspace(1.05, 1.25, 10)
"""Depth ratios that count as an edge (Depth Pro, section 3.3: 5 % to 25 %)."""
COARSE_SIDE = 120
"""Pixels of the shorter side at which `coarse_boundary_f1` looks for edges."""


def boundary_f1(
    depth_HW: np.ndarray, ground_truth_HW: np.ndarray, valid_HW: np.ndarray | None = None, step: int = 1
) -> float:
    """F1 of occluding edges between neighbouring pixels (Depth Pro, Bochkovskii et al. 2024, section 3.3).

    A neighbour is behind a pixel where its depth is more than t times as large. For each of the four directions such
    relations of the prediction are compared with those of the ground truth: precision and recall are averaged over
    directions, F1 over thresholds with weights t. As in the authors' code a direction or threshold without edges counts
    as 0, so the same map on both sides scores 1 only where the ground truth has edges in all four directions at every
    threshold. Invariant to a common factor; a relative disparity must be aligned first. Two disparities give the same
    number as the two depths: the inverse of a ratio is the relation in the opposite direction.

    Args:
        depth_HW, ground_truth_HW: positive depth, one size. The ground truth is dense at edges (synthetic or scanned).
        valid_HW: bool; a relation counts where both of its pixels are valid.
        step: pixels from one to its neighbour. 1 is the paper's; more forgives edges that are blurred over less.

    Returns:
        0 to 1.

    Raises:
        ValueError: shapes differ or are not (H, W).
    """
    if depth_HW.shape != ground_truth_HW.shape or depth_HW.ndim != 2:
        raise ValueError(f"expected two maps of one size, got {depth_HW.shape} and {ground_truth_HW.shape}")
    valid = np.ones(ground_truth_HW.shape, dtype=bool) if valid_HW is None else np.asarray(valid_HW, dtype=bool)
    p, g = (np.where(valid, x, 1.0).astype(np.float64) for x in (depth_HW, ground_truth_HW))
    ratios = []  # (ratio of the prediction, ratio of the ground truth) to the neighbour in each of the four directions
    for near, far in ((np.s_[:, :-step], np.s_[:, step:]), (np.s_[:-step], np.s_[step:])):
        both = valid[near] & valid[far]
        forward = (p[far] / p[near])[both], (g[far] / g[near])[both]
        ratios += [forward, (1 / forward[0], 1 / forward[1])]
    scores = []
    for t in BOUNDARY_THRESHOLDS:
        edges = [(p_ratio > t, g_ratio > t) for p_ratio, g_ratio in ratios]
        precision = np.mean([(a & b).sum() / max(a.sum(), 1) for a, b in edges])
        recall = np.mean([(a & b).sum() / max(b.sum(), 1) for a, b in edges])
        scores.append(2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0)
    return float(np.average(scores, weights=BOUNDARY_THRESHOLDS))


def coarse_boundary_f1(depth_HW: np.ndarray, ground_truth_HW: np.ndarray, valid_HW: np.ndarray | None = None) -> float:
    """`boundary_f1` between pixels a 120th of the shorter side apart: whether there are outlines at all.

    At one pixel of a large ground truth every small network scores 0: its edges are a few pixels wide and displaced.
    """
    return boundary_f1(
        depth_HW, ground_truth_HW, valid_HW, step=max(1, round(min(ground_truth_HW.shape) / COARSE_SIDE))
    )


def flicker(
    disparity_THW: np.ndarray, ground_truth_THW: np.ndarray | None = None, valid_THW: np.ndarray | None = None
) -> float:
    """How much a clip's map changes from frame to frame where the ground truth does not: lower is steadier.

    mean |(p_t+1 - p_t) - (g_t+1 - g_t)| over pixels valid in both frames, divided by the interquartile range of the
    whole predicted clip, so that the result does not depend on the map's unit. Both clips must be in one unit already
    (one alignment for the clip, never one per frame). Without a ground truth the camera and the scene must stand still.

    Args:
        disparity_THW: at least two frames.
        ground_truth_THW: same shape, aligned; None means a still scene.
        valid_THW: bool, same shape.

    Raises:
        ValueError: fewer than two frames, shapes that differ, or no pixel valid in two frames.
    """
    p = np.asarray(disparity_THW, dtype=np.float64)
    if p.ndim != 3 or len(p) < 2:
        raise ValueError(f"expected at least two frames of shape (frames, height, width), got {p.shape}")
    g = np.zeros_like(p) if ground_truth_THW is None else np.asarray(ground_truth_THW, dtype=np.float64)
    valid = np.ones(p.shape, dtype=bool) if valid_THW is None else np.asarray(valid_THW, dtype=bool)
    if g.shape != p.shape or valid.shape != p.shape:
        raise ValueError(f"expected clips of one shape, got {p.shape}, truth {g.shape}, valid {valid.shape}")
    both = valid[1:] & valid[:-1]
    if not both.any():
        raise ValueError("no pixel is valid in two neighbouring frames")
    low, high = np.percentile(p[valid], [25, 75])
    change = np.abs(np.diff(p, axis=0) - np.diff(g, axis=0))[both].mean()
    if high == low:
        return 0.0 if change == 0 else float("inf")
    return float(change / (high - low))


def mean_iou(counts: np.ndarray) -> float:
    """Mean over classes of intersection over union, over a whole set; classes that occur in neither are left out.

    Args:
        counts: (classes, classes), pixels by true class (row) and predicted class (column).
    """
    both = np.diag(counts)
    union = counts.sum(0) + counts.sum(1) - both
    return float(np.mean(both[union > 0] / union[union > 0]))


@dataclass(frozen=True)
class Metric:
    """A number with its direction. `compute` of a pixel metric takes (prediction, ground truth), flat, positive."""

    name: str
    label: str
    better: Literal["lower", "higher"]
    of: Literal["pixels", "points", "maps", "clips", "classes"]
    compute: Callable[..., float]
    source: str


_EIGEN = "Eigen et al. 2014, section 4.1"
_ZOE = "ZoeDepth (Bhat et al. 2023), compute_metrics"
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("abs_rel", "AbsRel", "lower", "pixels", abs_rel, "V1 section 4.1"),
        Metric("sq_rel", "SqRel", "lower", "pixels", sq_rel, _EIGEN),
        Metric("rmse", "RMSE", "lower", "pixels", rmse, _EIGEN),
        Metric("rmse_log", "RMSElog", "lower", "pixels", rmse_log, _EIGEN),
        Metric("log10", "log10", "lower", "pixels", log10, _ZOE),
        Metric("silog", "SILog", "lower", "pixels", silog, _ZOE),
        Metric("silog_half", "SILog (V2)", "lower", "pixels", silog_half, "V2 released metric code"),
        Metric("delta1", "δ1", "higher", "pixels", delta, "V1 section 4.1"),
        Metric("delta2", "δ2", "higher", "pixels", partial(delta, power=2), _EIGEN),
        Metric("delta3", "δ3", "higher", "pixels", partial(delta, power=3), _EIGEN),
        Metric("ordinal", "ordinal accuracy", "higher", "points", ordinal, "V2 section 6, DA-2K"),
        Metric("boundary_f1", "boundary F1", "higher", "maps", boundary_f1, "Depth Pro section 3.3"),
        Metric("coarse_boundary_f1", "coarse boundary F1", "higher", "maps", coarse_boundary_f1, "this project"),
        Metric("flicker", "flicker", "lower", "clips", flicker, "this project"),
        Metric("miou", "mIoU", "higher", "classes", mean_iou, "V1 section 4.4, one scale"),
        Metric("miou_multiscale", "mIoU (ms)", "higher", "classes", mean_iou, "V1 section 4.4, seven scales, mirrored"),
    )
}
"""Every metric by name."""
