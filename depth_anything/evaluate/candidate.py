"""The candidates of an evaluation: anything that turns an image into a map, and two baselines without a model."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from depth_anything.evaluate.align import resize_bilinear
from depth_anything.evaluate.score import Quantity


@dataclass(frozen=True)
class Candidate:
    """A source of maps to evaluate."""

    name: str
    quantity: Quantity
    predict: Callable[[np.ndarray, str], np.ndarray]
    """(uint8 (H, W, 3) RGB, the image's key in its test set) -> float map at any size."""
    finished: bool = False
    """Whether the maps exist already, so that the image is not used."""


def _row(image_HW3: np.ndarray, key: str) -> np.ndarray:
    height, width = image_HW3.shape[:2]
    return np.broadcast_to(np.arange(height, dtype=np.float64)[:, None], (height, width))


ROW = Candidate("row", "disparity", _row)
"""Disparity = image row: lower in the image is nearer. A trained model must score better."""
CONSTANT = Candidate("constant", "disparity", lambda image_HW3, key: np.zeros(image_HW3.shape[:2]))
"""One value everywhere: only the shift of the alignment is fitted."""
FLOORS = {floor.name: floor for floor in (ROW, CONSTANT)}


def probe(candidate: Candidate) -> list[float]:
    """A fingerprint: sixteen values of the model's map for a fixed image; they differ for other weights or options.

    Stored with the scores, so that scores of different models with the same name are not mixed.
    Empty for existing maps.
    """
    if candidate.finished:
        return []
    v, u = np.mgrid[0:84, 0:112] / 84
    waves = [np.sin(7 * u + 3 * v), np.sin(11 * v), np.sin(23 * u * v)]
    image_HW3 = np.rint(127.5 + 127.5 * np.stack(waves, axis=-1)).astype(np.uint8)
    map_HW = resize_bilinear(candidate.predict(image_HW3, "probe"), 4, 4)
    return [float(f"{value:.6g}") for value in map_HW.ravel()]
