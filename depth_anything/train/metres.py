"""Metres of samples and batches within a range, and metrics of predicted metres."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from depth_anything.data.sample import Sample
from depth_anything.data.samples import Samples, usable
from depth_anything.evaluate import metrics
from depth_anything.train.batches import Batch
from depth_anything.train.recipes.metric import Metric

if TYPE_CHECKING:
    from depth_anything.network.model import DepthAnything


@dataclass(frozen=True)
class MetricScore:
    """Means over images of the metrics in `evaluate.metrics`, without alignment."""

    abs_rel: float
    delta1: float
    rmse: float
    images: int


def measure(
    model: DepthAnything, samples: Samples, metric: Metric, input_size: int | None = None, mirrored: bool = False
) -> MetricScore:
    """Metrics of predicted metres on held-out images, at their size, within the range of the recipe.

    A camera-aware model gets the intrinsics of the images that have them.

    Args:
        input_size: lower bound of the shorter side at the network; None: the rule of the model.
        mirrored: average with the prediction of the mirrored image, as in ZoeDepth's evaluation.
    """

    def predict(image_HW3: np.ndarray, K_33: np.ndarray | None) -> np.ndarray:
        return model.infer_rgb(image_HW3, input_size, K_33)

    predictions = {}
    for number, sample in usable(samples):
        image_HW3, K_33 = sample.image_HW3, sample.K_33
        depth_HW = predict(image_HW3, K_33)
        if mirrored:  # the focal length does not change, nor does a principal point in the centre
            depth_HW = (depth_HW + predict(np.ascontiguousarray(image_HW3[:, ::-1]), K_33)[:, ::-1]) / 2
        predictions[number] = depth_HW
    return score(predictions, samples, metric)


def score(
    predictions: Sequence[np.ndarray | float] | Mapping[int, np.ndarray], samples: Samples, metric: Metric
) -> MetricScore:
    """The same metrics for given maps, by the number of the image, or for a constant number of metres."""
    rows = []
    for number, sample in usable(samples):
        depth_HW, valid_HW = metres_of(sample, metric)
        if valid_HW.sum() < 10:
            continue
        p = np.broadcast_to(np.asarray(predictions[number], np.float64), depth_HW.shape)[valid_HW]
        p, g = np.clip(p, metric.min_depth, metric.max_depth), depth_HW[valid_HW].astype(np.float64)
        rows.append((metrics.abs_rel(p, g), metrics.delta(p, g), metrics.rmse(p, g)))
    if not rows:
        raise ValueError("no held-out image has ten pixels with metres in the range of the recipe")
    abs_rel, delta1, rmse = np.mean(rows, axis=0)
    return MetricScore(float(abs_rel), float(delta1), float(rmse), len(rows))


def true_metres(batch: Batch, metric: Metric) -> tuple[Tensor, Tensor]:
    """Metres (0 where unknown), and a mask of the pixels to use: known, not sky, and within the recipe's range."""
    known_BHW = batch.valid_BHW & (batch.disparity_BHW > 0)
    depth_BHW = torch.where(known_BHW, 1 / batch.disparity_BHW.clamp(min=1e-12), 0)
    return depth_BHW, known_BHW & in_range(depth_BHW, metric)


def in_range(depth: Tensor, metric: Metric) -> Tensor:
    """bool: within the range of the recipe, which includes its ends or not."""
    if metric.closed:
        return (depth >= metric.min_depth) & (depth <= metric.max_depth)
    return (depth > metric.min_depth) & (depth < metric.max_depth)


def metres_of(sample: Sample, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
    """Metres of a sample, and where they are known and in range."""
    known_HW = sample.valid_HW & ~sample.sky_HW & (sample.disparity_HW > 0)
    depth_HW = np.divide(1, sample.disparity_HW, out=np.zeros(sample.disparity_HW.shape, np.float32), where=known_HW)
    return depth_HW, known_HW & in_range(torch.from_numpy(depth_HW), metric).numpy()


def median_metres(samples: Samples, metric: Metric) -> float:
    """The median of the known metres of a set: the constant baseline."""
    return float(np.median(some_metres(samples, metric)))


def some_metres(samples: Samples, metric: Metric, most: int = 10_000) -> np.ndarray:
    """Known metres of a set, float32, concatenated: of all images, or of `most` evenly distributed ones."""
    parts = []
    for _, sample in usable(samples):
        depth_HW, valid_HW = metres_of(sample, metric)
        known_P = depth_HW[valid_HW]
        parts.append(known_P[:: math.ceil(len(known_P) / most) or 1])
    known = np.concatenate([np.empty(0, np.float32), *parts])
    if not len(known):
        raise ValueError(f"no image has metres between {metric.min_depth:g} and {metric.max_depth:g}")
    return known
