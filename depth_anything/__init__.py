"""Depth Anything V1 and V2, complete: use, train, evaluate, export.

    >>> from depth_anything import Predictor
    >>> prediction = Predictor("nano")("photo.jpg")
    >>> prediction.disparity  # float32 (H, W), larger is nearer, no unit

Names are loaded when they are first used, so that importing this package is quick and needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from depth_anything.system import moved

if TYPE_CHECKING:
    from depth_anything.network.model import DepthAnything
    from depth_anything.predict.prediction import Prediction
    from depth_anything.predict.predictor import Predictor
    from depth_anything.variants import VARIANTS

__version__ = "0.1.0"
moved.install()

HOMES = {
    "DepthAnything": "network.model",
    "Prediction": "predict.prediction",
    "Predictor": "predict.predictor",
    "VARIANTS": "variants",
}
__all__ = ["VARIANTS", "DepthAnything", "Prediction", "Predictor"]


def __getattr__(name: str):
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
