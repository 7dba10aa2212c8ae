"""A teacher without torch for tests of what surrounds one: a map is its image's brightness at the network's size.

As a program it labels a folder, slowly enough to be killed: `toy_teacher.py SOURCE OUT [seconds a batch]`.
"""

import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from depth_anything.data.storage import open_store
from depth_anything.data.unlabeled.sets import shards
from depth_anything.label.jobs import claimed, remaining
from depth_anything.label.launch import label_here
from depth_anything.label.teacher import Labeller, LabelRecipe
from depth_anything.network.resize import network_size

RECIPE = LabelRecipe("toy", "0" * 64, 28, "fp32", 3, "png16")


class ToyTeacher:
    """Answers as `pseudo_label.Teacher` does; remembers its batches."""

    input_size = RECIPE.input_size

    def __init__(self, seconds: float = 0.0):
        self.seconds = seconds
        self.batches: list[int] = []

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        return network_size(height, width, self.input_size)

    def prepare(self, image_HW3: np.ndarray) -> np.ndarray:
        height, width = self.network_size(*image_HW3.shape[:2])
        return np.asarray(Image.fromarray(image_HW3).convert("L").resize((width, height)), np.float32)[None]

    def __call__(self, images_1HW: list[np.ndarray]) -> np.ndarray:
        time.sleep(self.seconds)
        self.batches.append(len(images_1HW))
        return np.concatenate(images_1HW)


def write_photos(folder: Path, count: int) -> list[str]:
    """Images of three shapes, with noise so that no two are equal; returns their keys."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(count)
    sizes = [(40, 40), (40, 60), (60, 40)]
    for number in range(count):
        image_HW3 = rng.integers(0, 255, (*sizes[rng.integers(3)], 3), np.uint8)
        Image.fromarray(image_HW3).save(folder / f"{number:03d}.jpg")
    return [f"{number:03d}" for number in range(count)]


def main(source: str, out: str, seconds: str = "0") -> None:
    store = open_store(out)
    with store.lock(f"{time.time_ns()}", first=True):
        todo = remaining(store, RECIPE, shards("auto", source, size=5))
        labeller = Labeller(ToyTeacher(float(seconds)), RECIPE, store, threads=2)
        for outcome in label_here(labeller, claimed(todo, store)):
            assert outcome.error is None, outcome.error


if __name__ == "__main__":
    main(*sys.argv[1:])
