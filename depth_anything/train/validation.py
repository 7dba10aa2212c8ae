"""Validation during a run: held-out images, scored as the pairs are. It does not select what is released."""

from typing import Protocol

import numpy as np

from depth_anything.data.benchmarks.image import GroundTruth
from depth_anything.data.samples import Samples, usable
from depth_anything.evaluate.protocol import PAIRS, Cut
from depth_anything.evaluate.score import TooFewPixels, align, score


class DisparityModel(Protocol):
    """A model that predicts the disparity of an image."""

    def infer_rgb(self, image_HW3: np.ndarray) -> np.ndarray: ...


def validate_disparity(model: DisparityModel, samples: Samples) -> dict[str, float]:
    """Mean AbsRel and delta1 over held-out images without sky, after least-squares alignment (protocol `pairs`)."""
    scores = []
    for _, sample in usable(samples):
        known_HW = sample.valid_HW & ~sample.sky_HW & (sample.disparity_HW > 0)
        depth_HW = np.divide(1, sample.disparity_HW, out=np.zeros_like(sample.disparity_HW), where=known_HW)
        ground_truth = GroundTruth(depth_HW, known_HW, "relative_depth")
        try:
            aligned = align(model.infer_rgb(sample.image_HW3), "disparity", ground_truth, PAIRS, Cut())
        except TooFewPixels:
            continue
        scores.append(score(aligned, ("abs_rel", "delta1")))
    return {name: float(np.mean([one[name] for one in scores])) for name in ("abs_rel", "delta1")} if scores else {}
