"""Batches of training for metres: random crops (V2), or whole images with ZoeDepth's augmentation."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from depth_anything.data.sample import Sample
from depth_anything.data.samples import Samples
from depth_anything.evaluate.crops import kb_window
from depth_anything.network.resize import normalise
from depth_anything.train import batches
from depth_anything.train.batches import Batch, Draw, read
from depth_anything.train.recipes.metric import MetricRecipe


def labeled_batch(draw: Draw, samples: Samples, numbers: list[int]) -> Batch:
    """Random crops (V2) or whole images (ZoeDepth), depending on the recipe."""
    recipe = draw.recipe
    assert isinstance(recipe, MetricRecipe)
    return (whole_batch if recipe.metric.whole else batches.labeled_batch)(draw, samples, numbers)


def whole_batch(draw: Draw, samples: Samples, numbers: list[int]) -> Batch:
    """Whole images at the network's input size, with ground truth at its original size.

    Raises:
        ValueError: a set whose ground truth is not in metres; images of several sizes.
    """
    recipe = draw.recipe
    assert isinstance(recipe, MetricRecipe)
    assert recipe.metric.canonical_focal is None, "whole images change their aspect: the canonical camera needs crops"
    found = [
        augmented(read(samples, number), recipe, rng.random(8)) for number, rng in zip(numbers, draw.rngs, strict=True)
    ]
    if len({one.disparity_HW.shape for one in found}) > 1:
        raise ValueError(f"{recipe.name} trains on whole images: expected all of one size")
    image_B3HW = torch.from_numpy(np.stack([one.image_HW3 for one in found])).permute(0, 3, 1, 2)
    image_B3HW = normalise(F.interpolate(image_B3HW, draw.size, mode="bilinear", align_corners=True)).to(draw.device)
    disparity_BHW = torch.from_numpy(np.stack([one.disparity_HW for one in found])).to(draw.device)
    valid_BHW = torch.from_numpy(np.stack([one.valid_HW for one in found])).to(draw.device)
    return Batch(image_B3HW, disparity_BHW, valid_BHW)


@dataclass(frozen=True)
class Augmented:
    """A whole image after ZoeDepth's augmentation."""

    image_HW3: np.ndarray
    """float32 in 0..1."""
    disparity_HW: np.ndarray
    valid_HW: np.ndarray


def augmented(sample: Sample, recipe: MetricRecipe, draws_8: np.ndarray) -> Augmented:
    """ZoeDepth's training augmentation: KB crop, a small rotation, flip, gamma, brightness, colours.

    Args:
        draws_8: uniform random numbers in 0..1: rotation, flip, whether colours change, gamma, brightness, R, G, B.

    Raises:
        ValueError: ground truth that is not in metres.
    """
    metric = recipe.metric
    if sample.scale != "metric":
        raise ValueError(f"{sample.key or 'an image'}: its truth is {sample.scale}; {recipe.name} learns metres")
    image_HW3, disparity_HW, valid_HW = sample.image_HW3, sample.disparity_HW, sample.valid_HW & ~sample.sky_HW
    if metric.kb_crop:
        window = kb_window(*disparity_HW.shape)
        image_HW3, disparity_HW, valid_HW = image_HW3[window], disparity_HW[window], valid_HW[window]
    if metric.rotation:
        degrees = metric.rotation * (2 * draws_8[0] - 1)
        image_HW3 = turned(image_HW3, degrees, Image.Resampling.BILINEAR)
        disparity_HW = turned(disparity_HW, degrees, Image.Resampling.NEAREST)
        valid_HW = turned(valid_HW.astype(np.uint8), degrees, Image.Resampling.NEAREST) > 0
    if draws_8[1] < recipe.flip:
        image_HW3, disparity_HW, valid_HW = (array[:, ::-1] for array in (image_HW3, disparity_HW, valid_HW))
    image_HW3 = image_HW3.astype(np.float32) / 255
    if draws_8[2] < metric.colours:
        gamma, *gains = 0.9 + 0.2 * draws_8[[3, 5, 6, 7]]
        bright = 1 + metric.brightness * (2 * draws_8[4] - 1)
        image_HW3 = np.clip(image_HW3**gamma * bright * np.array(gains), 0, 1).astype(np.float32)
    return Augmented(image_HW3, disparity_HW.copy(), valid_HW.copy())


def turned(array: np.ndarray, degrees: float, rule: Image.Resampling) -> np.ndarray:
    """An image or map rotated about its centre, at its size; 0 in the corners."""
    return np.asarray(Image.fromarray(array).rotate(degrees, resample=rule))
