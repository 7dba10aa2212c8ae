"""Everything that can be measured, behind one call: our models, other people's, finished maps, and the floors.

Names: a variant (`nano`, `v2-small`, ...) or a checkpoint path for our own code; `row` and `constant` for the floors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from depth_anything.evaluate.score import Quantity

if TYPE_CHECKING:
    from depth_anything.predictor import Predictor


@dataclass(frozen=True)
class Candidate:
    """One thing to measure."""

    name: str
    quantity: Quantity
    predict: Callable[[np.ndarray, str], np.ndarray]
    """(uint8 (H, W, 3) RGB, the image's key in its test set) -> float map at any size."""


def _row(image_HW3: np.ndarray, key: str) -> np.ndarray:
    height, width = image_HW3.shape[:2]
    return np.broadcast_to(np.arange(height, dtype=np.float64)[:, None], (height, width))


ROW = Candidate("row", "disparity", _row)
"""Disparity = image row: lower in the picture is nearer. What a model must beat to have learned anything."""
CONSTANT = Candidate("constant", "disparity", lambda image_HW3, key: np.zeros(image_HW3.shape[:2]))
"""One value everywhere: what the fit's shift alone is worth."""
FLOORS = {floor.name: floor for floor in (ROW, CONSTANT)}


def load_candidate(name: str, **options: Any) -> Candidate:
    """Whatever a model name on the command line stands for.

    Args:
        name: a floor, or anything that `Predictor` takes: a variant, a checkpoint, an exported file.
        options: for `Predictor`: device, dtype, input_size, accept_license, ...

    Raises:
        ValueError: an unknown name, or a model that cannot be had.
    """
    if name in FLOORS:
        return FLOORS[name]
    from depth_anything.predictor import Predictor

    return from_predictor(Predictor(name, **options), name)


def from_predictor(predictor: "Predictor", name: str | None = None) -> Candidate:
    """One of our models, ready to be measured."""
    quantity = predictor.variant.quantity
    return Candidate(
        name or predictor.variant.name, quantity, lambda image_HW3, key: getattr(predictor(image_HW3), quantity)
    )
