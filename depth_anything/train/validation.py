"""How a run is watched: held-out pictures, scored as the pairs are. It does not choose what is released."""

from collections.abc import Callable

import numpy as np
import torch

from depth_anything.data.benchmarks.case import Truth
from depth_anything.evaluate.protocol import PAIRS, Cut
from depth_anything.evaluate.score import TooFewPixels, align, score
from depth_anything.model import DepthAnything
from depth_anything.preprocess import network_size, resize_back, to_tensor
from depth_anything.train.batches import Samples

NANO_SIZE = 168
"""Shorter side of the held-out pictures at nano's input: cheap, and the same in every run."""


def validate(answer: Callable[[np.ndarray], np.ndarray], samples: Samples) -> dict[str, float]:
    """Mean AbsRel and delta1 over held-out pictures, sky left out, after least squares (protocol `pairs`)."""
    scores = []
    for number in range(len(samples)):
        sample = samples[number]
        known_HW = sample.valid_HW & ~sample.sky_HW & (sample.disparity_HW > 0)
        depth_HW = np.divide(1, sample.disparity_HW, out=np.zeros_like(sample.disparity_HW), where=known_HW)
        truth = Truth(depth_HW, known_HW, "relative_depth")
        try:
            aligned = align(answer(sample.image_HW3), "disparity", truth, PAIRS, Cut())
        except TooFewPixels:
            continue
        scores.append(score(aligned, ("abs_rel", "delta1")))
    return {name: float(np.mean([one[name] for one in scores])) for name in ("abs_rel", "delta1")} if scores else {}


@torch.inference_mode()
def predict(model: DepthAnything, image_HW3: np.ndarray, device: str = "cpu") -> np.ndarray:
    """The model's map (H, W) of a picture; nano's at NANO_SIZE, the others' at their own."""
    height, width = image_HW3.shape[:2]
    side = NANO_SIZE if model.variant.name == "nano" else model.variant.input_size
    image_13HW = to_tensor(image_HW3, network_size(height, width, side), device)
    return resize_back(model(image_13HW), (height, width), model.variant.align_corners_back)[0].cpu().numpy()
