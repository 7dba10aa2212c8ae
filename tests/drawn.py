"""Drawn images for tests of training: bright boxes are near."""

from dataclasses import replace

import numpy as np

from depth_anything.data.sample import Sample
from depth_anything.train.recipes.base import Recipe, Stage, Unlabeled
from depth_anything.train.recipes.nano_vit import nano_vit_teacher
from depth_anything.variants import get_variant


class Boxes:
    """Labelled images by number; each number its own boxes."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Sample:
        rng = np.random.default_rng(number)
        disparity_HW = np.full((40, 48), 0.1, np.float32)
        for near in sorted(rng.uniform(0.2, 1, 3)):
            top, left = rng.integers(0, 30), rng.integers(0, 38)
            disparity_HW[top : top + 14, left : left + 14] = near
        image_HW3 = np.repeat((disparity_HW[..., None] * 250).astype(np.uint8), 3, axis=2)
        valid_HW = rng.uniform(size=disparity_HW.shape) > 0.05
        sky_HW = np.zeros_like(valid_HW)
        return Sample(image_HW3=image_HW3, disparity_HW=disparity_HW, valid_HW=valid_HW, sky_HW=sky_HW, scale="metric")


FAMILIES = ("nano-vit", "nano")
"""A small variant of each kind of encoder that we train from the start: a transformer and a convolutional one."""


def sizes(variant: str) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]:
    """Small network inputs of a variant's patches: of a first and of a second stage."""
    if get_variant(variant).patch == 14:
        return ((28, 42), (56, 42)), ((42, 42),)
    return ((32, 64), (64, 32)), ((32, 32),)


def tiny(steps: int = 8, variant: str = "nano-vit") -> Recipe:
    """A variant at the smallest sizes, both losses, everything random switched on."""
    first, second = sizes(variant)
    return replace(
        nano_vit_teacher(),
        variant=variant,
        stages=(
            Stage(samples=2 * (steps // 2), sizes=first, batch=2, loss="range", gradient_weight=0.5),
            Stage(samples=2 * (steps - steps // 2), sizes=second, batch=2, gradient_weight=0.5),
        ),
        warmup=4,
    )


def tiny_student(steps: int = 4, variant: str = "nano-vit") -> Recipe:
    """A student of two labelled and four unlabelled images a step, with CutMix and L_feat."""
    half = steps // 2
    first, second = sizes(variant)
    return replace(
        tiny(variant=variant),
        name="tiny-student",
        stages=(
            Stage(samples=6 * half, sizes=first, batch=6, loss="range", gradient_weight=0.5),
            Stage(samples=6 * (steps - half), sizes=second, batch=6, gradient_weight=0.5),
        ),
        labeled_weight=1 / 3,
        unlabeled=Unlabeled(data=("pictures",), share=2 / 3, teacher="nano", weight=1 / 3, feature_weight=1 / 3),
    )
