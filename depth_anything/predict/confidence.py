"""Confidence in a map: whether the model says the same of the mirrored image.

It is 1 where both maps agree and falls by 0.1 for every hundredth of the map's range by which they differ: 0.7 says
that they differ by 3 % of the range, 0 by 10 % or more. Regions are compared, not pixels: differences are means over
cells, a CELLS-th of the image's shorter side. It is no probability. What it is worth: benchmarks/results/confidence.md.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from depth_anything.evaluate.align import fit_scale_shift
from depth_anything.images.read import ImageSource, read_image
from depth_anything.network.resize import coarse

if TYPE_CHECKING:
    from depth_anything.predict.prediction import Prediction
    from depth_anything.predict.predictor import Predictor

CELLS = 12
"""Cells along the shorter side: of those tried, pixels were worst (benchmarks/results/confidence.md)."""
LARGEST = 0.1
"""Share of the map's range that makes the confidence 0."""


def predict_with_confidence(predictor: Predictor, image: ImageSource) -> Prediction:
    """The map of one image, with `confidence`. The network runs twice.

    Raises:
        ValueError: the image cannot be read.
    """
    image_HW3 = read_image(image)
    return with_confidence(*predictor.predict([image_HW3, mirror(image_HW3)]))


def mirror(image_HW3: np.ndarray) -> np.ndarray:
    """The image with left and right exchanged, as a copy."""
    return np.ascontiguousarray(image_HW3[:, ::-1])


def with_confidence(prediction: Prediction, mirrored: Prediction) -> Prediction:
    """The prediction with its confidence; `mirrored` is that of the mirrored image."""
    confidence_HW = agreement(prediction.as_disparity(), mirrored.as_disparity()[:, ::-1])
    return replace(prediction, confidence=confidence_HW)


def agreement(disparity_HW: np.ndarray, other_HW: np.ndarray, cells: int | None = CELLS) -> np.ndarray:
    """1 where two maps of an image agree up to scale and shift, 0 where they differ by LARGEST of the range or more.

    Args:
        disparity_HW, other_HW: float32, larger is nearer. The range is that of the first, without 2 % at each end.
        cells: along the shorter side; None compares pixels.

    Returns:
        float32 (H, W), 0 to 1; 1 everywhere for a constant map.
    """
    low, high = np.percentile(disparity_HW, [2, 98])
    if not high > low:
        return np.ones(disparity_HW.shape, np.float32)
    scale, shift = fit_scale_shift(other_HW, disparity_HW)
    difference_HW = np.abs(np.float32(scale) * other_HW + np.float32(shift) - disparity_HW)
    if cells is not None:
        difference_HW = coarse(difference_HW, min(cells, *disparity_HW.shape))
    return np.clip(1 - difference_HW / np.float32(LARGEST * (high - low)), 0, 1).astype(np.float32)
