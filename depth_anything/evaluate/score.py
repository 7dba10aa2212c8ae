"""Evaluate one image under a protocol: resize, mask, align, clip, measure."""

from dataclasses import dataclass
from math import isfinite
from typing import Literal

import numpy as np

from depth_anything.data.benchmarks.image import GroundTruth
from depth_anything.evaluate.align import fit_median, fit_scale, fit_scale_shift, resize_bilinear
from depth_anything.evaluate.crops import crop_mask
from depth_anything.evaluate.metrics import METRICS
from depth_anything.evaluate.protocol import Cut, Protocol

Quantity = Literal["disparity", "depth_m"]


class TooFewPixels(ValueError):
    """An image without enough pixels to score."""


@dataclass(frozen=True)
class Aligned:
    """A prediction aligned with its ground truth."""

    prediction_HW: np.ndarray
    """float64, in the unit of `ground_truth_HW`, at its size, everywhere (also outside the mask)."""
    ground_truth_HW: np.ndarray
    mask_HW: np.ndarray
    """Pixels that count."""
    measure: Literal["depth", "disparity"]
    scale: float
    shift: float
    """prediction = scale * map + shift in the fit's space."""


def scored_pixels(ground_truth: GroundTruth, protocol: Protocol, cut: Cut) -> np.ndarray:
    """Bool (H, W): valid, finite, positive ground truth inside the cut.

    Raises:
        ValueError: the cut is in metres and the ground truth is not.
        TooFewPixels: fewer than the protocol's `min_valid` pixels are left.
    """
    values = ground_truth.values_HW
    mask = ground_truth.valid_HW & np.isfinite(values)
    mask &= np.where(mask, values, 0) > 0
    if ground_truth.kind != "metric_depth" and (cut.nearest_m > 0 or isfinite(cut.farthest_m)):
        raise ValueError(f"protocol {protocol.name} cuts at metres, this truth is {ground_truth.kind}")
    safe = np.where(mask, values, 1)
    if protocol.closed:
        mask &= (safe >= cut.nearest_m) & (safe <= cut.farthest_m)
    else:
        mask &= (safe > cut.nearest_m) & (safe < cut.farthest_m)
    mask &= crop_mask(values.shape[0], values.shape[1], cut.crop)
    if isfinite(protocol.far_outlier) and mask.any():
        mask &= safe <= protocol.far_outlier * np.quantile(values[mask], 0.01)
    if mask.sum() < protocol.min_valid:
        raise TooFewPixels(f"only {mask.sum()} pixels to score, protocol {protocol.name} asks for {protocol.min_valid}")
    return mask


def check_same_way_up(image_HW3: np.ndarray, ground_truth: GroundTruth) -> None:
    """Refuse an image that is rotated by 90 degrees against its ground truth: the resize would hide it.

    Raises:
        ValueError: one is upright and the other is wide.
    """
    (height, width), (true_height, true_width) = image_HW3.shape[:2], ground_truth.values_HW.shape
    if (height - width) * (true_height - true_width) < 0:
        raise ValueError(f"the image is {width} x {height} and its truth {true_width} x {true_height}: one is turned")


def align(map_HW: np.ndarray, quantity: Quantity, ground_truth: GroundTruth, protocol: Protocol, cut: Cut) -> Aligned:
    """Resize the map to the ground truth, fit it over the scored pixels, apply the floor, invert it to measure depth.

    Args:
        map_HW: the model's map, at any size.
        quantity: `disparity` or `depth_m`.

    Raises:
        ValueError: NaN or inf in the map, metres that are not positive, or a protocol that does not fit the quantity.
        TooFewPixels: see `scored_pixels`.
    """
    mask = scored_pixels(ground_truth, protocol, cut)
    values = np.where(mask, ground_truth.values_HW, 1).astype(np.float64)
    height, width = values.shape
    prediction = resize_bilinear(map_HW, height, width, protocol.align_corners)
    if not np.isfinite(prediction).all():
        raise ValueError(f"the prediction is NaN or infinite at {np.sum(~np.isfinite(prediction))} pixels")
    if protocol.align == "none" and (quantity != "depth_m" or ground_truth.kind != "metric_depth"):
        raise ValueError(f"protocol {protocol.name} aligns nothing: it needs a metric model and a metric truth")

    space = {"disparity": "disparity", "depth_m": "depth"}[quantity] if protocol.space == "own" else protocol.space
    if ground_truth.kind == "disparity":
        space, measure = "disparity", "disparity"
        target = values
    else:
        measure = protocol.measure
        target = values if space == "depth" else 1 / values
    if space == "depth" and quantity == "disparity":
        raise ValueError(f"protocol {protocol.name} fits depth, the model predicts disparity: use a disparity protocol")
    source = prediction
    if space == "disparity" and quantity == "depth_m":
        if (prediction[mask] <= 0).any():
            raise ValueError(f"predicted metres are not positive at {np.sum(prediction[mask] <= 0)} scored pixels")
        source = 1 / np.where(prediction > 0, prediction, 1)

    fitted = mask & (prediction > 0) if protocol.fit_positive_only else mask
    if not fitted.any():
        fitted = mask  # nothing positive: a constant or reversed map is scored as it is
    scale, shift = 1.0, 0.0
    match protocol.align:
        case "median":
            scale = fit_median(source, target, fitted)
        case "scale":
            scale = fit_scale(source, target, fitted)
        case "scale_shift":
            scale, shift = fit_scale_shift(source, target, fitted)
    aligned = scale * source + shift

    if space == "disparity":
        aligned = np.maximum(aligned, _floor(protocol, cut, target[mask], measure))
        if measure == "depth":
            aligned = 1 / aligned
    elif measure == "disparity":
        raise ValueError(f"protocol {protocol.name} fits depth and measures disparity: not defined")
    if protocol.clip and measure == "depth":
        aligned = np.clip(aligned, max(cut.nearest_m, 1e-6), cut.farthest_m)
    true = values if measure == "depth" or ground_truth.kind == "disparity" else 1 / values
    return Aligned(aligned, true, mask, measure, scale, shift)


def score(aligned: Aligned, names: tuple[str, ...]) -> dict[str, float]:
    """The pixel metrics of one aligned image, by name.

    A prediction that is still zero or negative somewhere (no floor in the protocol) is an error, not an infinite mean.

    Raises:
        ValueError: such a prediction.
    """
    prediction, ground_truth = aligned.prediction_HW[aligned.mask_HW], aligned.ground_truth_HW[aligned.mask_HW]
    if (prediction <= 0).any():
        raise ValueError(f"the aligned prediction is not positive at {np.sum(prediction <= 0)} scored pixels")
    return {name: METRICS[name].compute(prediction, ground_truth) for name in names}


def _floor(protocol: Protocol, cut: Cut, disparity: np.ndarray, measure: str) -> float:
    """Smallest aligned disparity: without a floor, a disparity near zero becomes a depth near infinity."""
    match protocol.floor:
        case "none":
            return -np.inf if measure == "disparity" else np.finfo(np.float64).tiny
        case "cap":
            if not isfinite(cut.farthest_m):
                raise ValueError(f"protocol {protocol.name} floors at 1/cap, but this set has no cap")
            return 1 / cut.farthest_m
        case "farthest_truth":
            return float(disparity.min())
        case "first_percentile":
            return float(np.percentile(disparity, 1))
        case number:
            return float(number)
