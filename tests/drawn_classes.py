"""Drawn images with classes, and a short segmentation recipe."""

from dataclasses import replace

import numpy as np

from depth_anything.transfer.segmentation_data import ClassSample
from depth_anything.transfer.segmentation_recipes import SegmentationRecipe, nano_vit_scenes


class Patches:
    """Drawn images: classes are red, green and blue regions; a corner is unlabelled."""

    names = ("red", "green", "blue")

    def __init__(self, count: int, height: int = 50, width: int = 70):
        self.count, self.height, self.width = count, height, width

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> ClassSample:
        rng = np.random.default_rng(number)
        classes_HW = np.zeros((self.height, self.width), np.uint8)
        classes_HW[:, self.width // 2 :] = 1
        top = int(rng.integers(0, self.height // 2))
        classes_HW[top : top + 20, 10:40] = 2
        image_HW3 = np.eye(3, dtype=np.uint8)[classes_HW] * 180 + rng.integers(0, 50, (*classes_HW.shape, 3), np.uint8)
        classes_HW[:8, :8] = 255
        return ClassSample(image_HW3.astype(np.uint8), classes_HW, str(number))


def tiny(head: str = "linear", steps: int = 6, **changes) -> SegmentationRecipe:
    return replace(
        nano_vit_scenes(head, frozen=head == "linear"), classes=3, crop=56, stride=42, steps=steps, batch=2, warmup=2,
        queries=6, **changes,
    )  # fmt: skip
