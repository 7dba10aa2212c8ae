"""Which pictures a step sees, and what was drawn for them: decided by the recipe's seed and the step's number alone.

Nothing here has a state. The position in the data is the number of the step, so a resumed run sees what it would have
seen, and a step can be built ahead of time in another thread.
"""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from depth_anything.data.augment import PERTURBATIONS
from depth_anything.data.sample import Sample, cut, random_crop
from depth_anything.preprocess import normalise
from depth_anything.train.recipes import Recipe


class Samples(Protocol):
    """Labelled pictures by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Sample: ...


@dataclass(frozen=True)
class Batch:
    """What a step sees."""

    image_B3HW: Tensor
    """float32, ImageNet-normalised."""
    disparity_BHW: Tensor
    """float32, larger is nearer."""
    valid_BHW: Tensor
    """bool."""


def sample_number(recipe: Recipe, count: int, position: int) -> int:
    """Which of `count` pictures comes at `position` of the run: every epoch is one pass in its own random order."""
    epoch, place = divmod(position, count)
    return int(epoch_order(recipe.seed, epoch, count)[place])


@lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of one epoch's pictures. The papers' sets have millions, so it is drawn once."""
    return np.random.default_rng([seed, 1, epoch]).permutation(count)


def build_batch(recipe: Recipe, samples: Samples, step: int) -> Batch:
    """The pictures of step number `step`: cropped, resized, mirrored, coloured, normalised."""
    stage, seen = recipe.stage_of(step)
    rng = np.random.default_rng([recipe.seed, 2, step])
    size = stage.sizes[rng.integers(len(stage.sizes))]
    parts = []
    for position in range(seen, seen + stage.batch):
        sample = samples[sample_number(recipe, len(samples), position)]
        height, width = sample.disparity_HW.shape
        crop = random_crop(height, width, size, recipe.crop_scale, recipe.aspect_jitter, recipe.flip, rng)
        parts.append(cut(sample, crop))
    image_B3HW = torch.from_numpy(np.stack([part.image_HW3 for part in parts])).permute(0, 3, 1, 2).float() / 255
    perturb = PERTURBATIONS[recipe.perturbation]
    if perturb is not None:
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        image_B3HW = perturb(image_B3HW, generator)
    return Batch(
        image_B3HW=normalise(image_B3HW),
        disparity_BHW=torch.from_numpy(np.stack([part.disparity_HW for part in parts])),
        valid_BHW=torch.from_numpy(np.stack([part.valid_HW for part in parts])),
    )


def batches(recipe: Recipe, samples: Samples, first_step: int, ahead: int = 3) -> Iterator[Batch]:
    """The batches of every step from `first_step` on, built up to `ahead` steps early in one background thread."""
    ready: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=ahead)
    stop = threading.Event()

    def offer(item: Batch | BaseException) -> None:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.5)
                return
            except queue.Full:
                continue

    def work() -> None:
        torch.set_num_threads(1)  # of this thread: the others belong to the network
        try:
            for step in range(first_step, recipe.steps):
                if stop.is_set():
                    return
                offer(build_batch(recipe, samples, step))
        except BaseException as error:
            offer(error)

    thread = threading.Thread(target=work, name="batches", daemon=True)
    thread.start()
    try:
        for _ in range(first_step, recipe.steps):
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
