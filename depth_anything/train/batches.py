"""Which pictures a step sees, and what was drawn for them: decided by the recipe's seed and the step's number alone.

Nothing here has a state. The position in the data is the number of the step, so a resumed run sees what it would have
seen, and a step can be built ahead of time in another thread. A step may be cut into equal slices, one after the other
on one device (accumulation), or side by side on many: the slices are the same.
"""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from depth_anything.data.augment import PERTURBATIONS, cutmix_box
from depth_anything.data.sample import Crop, Sample, cut, min_max, random_crop, to_canonical
from depth_anything.data.samples import OnDevice, Samples, shard_ends
from depth_anything.network.resize import normalise
from depth_anything.train.recipes.base import Recipe, Stage, Unlabeled
from depth_anything.train.recipes.metric import MetricRecipe

LOG = logging.getLogger(__name__)
MIXED_SHARDS = 16
"""Pictures of so many shards are shuffled together; the shards follow one another in random order."""
BROKEN_IN_A_ROW = 20
"""So many unreadable pictures, far from each other, are no accident."""
FAR = 100_003
"""From an unreadable picture to the one that takes its place: out of its shard, if that is what is damaged. A prime."""
LABELED, UNLABELED = 1, 3
"""First numbers of the seeds of both orders."""


@dataclass(frozen=True)
class Data:
    """What a run learns from. Pictures that lie in shards also say where these end: `ends`, cumulative counts."""

    labeled: Samples | None = None
    unlabeled: Samples | None = None
    """With the teacher's maps, where these come from shards; without, where the teacher is at hand."""


@dataclass(frozen=True)
class Batch:
    """Labelled pictures."""

    image_B3HW: Tensor
    """float32, ImageNet-normalised."""
    disparity_BHW: Tensor
    """float32, larger is nearer."""
    valid_BHW: Tensor
    """bool."""


@dataclass(frozen=True)
class MixedBatch:
    """Unlabelled pictures, as the teacher and as the student sees them (V1 section 3.2)."""

    clean_B3HW: Tensor
    """float32, ImageNet-normalised: the teacher's."""
    mixed_B3HW: Tensor
    """The student's: perturbed, and in the box the next picture of the batch."""
    box_BHW: Tensor
    """bool; all false without CutMix."""
    disparity_BHW: Tensor
    """The teacher's map of the clean picture, from shards; else zeros."""
    valid_BHW: Tensor
    """bool; all false where the teacher has not answered yet."""


@dataclass(frozen=True)
class Slice:
    """What one forward pass sees."""

    labeled: Any
    """`Batch`, or what a kind of training has in its place, with an `image_B3HW`; None without."""
    unlabeled: MixedBatch | None

    @property
    def image_B3HW(self) -> Tensor:
        """What the network sees: labelled pictures first."""
        seen = [self.labeled.image_B3HW] if self.labeled else []
        return torch.cat(seen + ([self.unlabeled.mixed_B3HW] if self.unlabeled else []))


def parts(recipe: Recipe, stage: Stage, slices: int) -> tuple[int, int]:
    """Labelled and unlabelled pictures in one slice of a step.

    Raises:
        ValueError: the step cannot be cut into that many equal slices.
    """
    unlabeled = round(stage.batch * recipe.unlabeled_share)
    labeled = stage.batch - unlabeled
    if labeled % slices or unlabeled % slices:
        raise ValueError(
            f"{recipe.name}: a step of {labeled} labelled and {unlabeled} unlabelled pictures cannot be cut into "
            f"{slices} equal slices (processes x accumulation): choose a divisor of both"
        )
    return labeled // slices, unlabeled // slices


def sample_number(seed: list[int], samples: Samples, position: int) -> int:
    """Which picture comes at `position` of the run: every epoch is one pass in its own random order."""
    count = len(samples)
    epoch, place = divmod(position, count)
    ends = shard_ends(samples)
    if ends is None:
        return int(epoch_order((*seed, epoch), count)[place])
    shards, group_ends = shard_order((*seed, epoch), tuple(int(end) for end in ends))
    group = int(np.searchsorted(group_ends, place, side="right"))
    first = int(group_ends[group - 1]) if group else 0
    of_group = shards[group * MIXED_SHARDS : (group + 1) * MIXED_SHARDS]
    place = int(epoch_order((*seed, epoch, group + 1), int(group_ends[group]) - first)[place - first])
    for shard in of_group:
        start = int(ends[shard - 1]) if shard else 0
        if place < int(ends[shard]) - start:
            return start + place
        place -= int(ends[shard]) - start
    raise AssertionError("past the group's end")


@lru_cache(maxsize=4)
def epoch_order(seed: tuple[int, ...], count: int) -> np.ndarray:
    """The order of one epoch's pictures, or of one group of shards."""
    return np.random.default_rng(list(seed)).permutation(count)


@lru_cache(maxsize=2)
def shard_order(seed: tuple[int, ...], ends: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The order of an epoch's shards, and the cumulative counts of pictures at the end of each group of them."""
    shards = np.random.default_rng(list(seed)).permutation(len(ends))
    counts = np.diff(ends, prepend=0)[shards]
    groups = range(0, len(shards), MIXED_SHARDS)
    return shards, np.cumsum([counts[first : first + MIXED_SHARDS].sum() for first in groups])


def read(samples: Samples, number: int) -> Sample:
    """Picture `number`, or another one if it cannot be read; what is skipped is logged.

    Raises:
        ValueError: the error of the last of many unreadable ones.
    """
    for further in range(BROKEN_IN_A_ROW):
        try:
            return samples[(number + further * FAR) % len(samples)]
        except ValueError as error:
            if further == BROKEN_IN_A_ROW - 1:
                raise
            LOG.warning("skipped: %s", error)
    raise AssertionError("not reached")


def read_crop(samples: Samples, recipe: Recipe, size: tuple[int, int], number: int, draws_5: np.ndarray) -> Sample:
    """A picture's random window at the network's size.

    Truth that is not metric is brought to 0..1 (V1 section 3.1), metres to the canonical camera, if the recipe has one.
    """
    sample = read(samples, number)
    height, width = sample.disparity_HW.shape
    crop: Crop = random_crop(height, width, size, recipe.crop_scale, recipe.aspect_jitter, recipe.flip, draws_5)
    part = cut(sample, crop)
    if part.scale != "metric":
        part.disparity_HW[:] = min_max(part.disparity_HW, part.valid_HW)
    elif isinstance(recipe, MetricRecipe) and recipe.metric.canonical_focal is not None:
        return to_canonical(part, recipe.metric.canonical_focal)
    return part


def draw_size(recipe: Recipe, stage: Stage, step: int, index: int) -> tuple[tuple[int, int], np.random.Generator]:
    """The network's size, the same for all slices of a step; and what a slice draws its other numbers from."""
    rng = np.random.default_rng([recipe.seed, 2, step])
    size = stage.sizes[rng.integers(len(stage.sizes))]
    return size, np.random.default_rng([recipe.seed, 2, step, index]) if index else rng


@dataclass(frozen=True)
class Draw:
    """With what the pictures of one slice are made."""

    recipe: Recipe
    size: tuple[int, int]
    """(H, W) of the network's input."""
    rng: np.random.Generator
    device: str = "cpu"
    pool: ThreadPoolExecutor | None = None
    """Threads that read, if there are some."""


def labeled_batch(draw: Draw, samples: Samples, numbers: list[int]) -> Batch:
    """Labelled pictures: random windows, coloured, normalised."""
    image_B3HW, disparity_BHW, valid_BHW = crops(draw, samples, numbers)
    image_B3HW = perturbed(image_B3HW, draw.recipe.perturbation, generator(draw.rng))
    return Batch(normalise(image_B3HW), disparity_BHW, valid_BHW)


def build_slice(
    recipe: Recipe,
    data: Data,
    step: int,
    slices: int = 1,
    index: int = 0,
    device: str = "cpu",
    pool: ThreadPoolExecutor | None = None,
    labeled_batch: Callable[[Draw, Samples, list[int]], Any] = labeled_batch,
) -> Slice:
    """Slice `index` of step number `step`: read, cropped, resized, mirrored, coloured, mixed, normalised.

    Args:
        labeled_batch: what is made of the labelled pictures.
    """
    stage, seen = recipe.stage_of(step)
    size, rng = draw_size(recipe, stage, step, index)
    draw = Draw(recipe, size, rng, device, pool)
    unlabeled_seen = round(seen * recipe.unlabeled_share)
    counts = parts(recipe, stage, slices)

    def numbers(order: int, samples: Samples, seen: int, count: int) -> list[int]:
        first = seen + index * count
        return [sample_number([recipe.seed, order], samples, place) for place in range(first, first + count)]

    labeled = unlabeled = None
    if counts[0]:
        assert data.labeled is not None
        labeled = labeled_batch(draw, data.labeled, numbers(LABELED, data.labeled, seen - unlabeled_seen, counts[0]))
    if counts[1]:
        assert data.unlabeled is not None and recipe.unlabeled is not None
        chosen = numbers(UNLABELED, data.unlabeled, unlabeled_seen, counts[1])
        clean_B3HW, disparity_BHW, valid_BHW = crops(draw, data.unlabeled, chosen)
        mixed_B3HW, box_BHW = mix(clean_B3HW, recipe.unlabeled, stage, generator(rng))
        unlabeled = MixedBatch(normalise(clean_B3HW), normalise(mixed_B3HW), box_BHW, disparity_BHW, valid_BHW)
    return Slice(labeled, unlabeled)


def crops(draw: Draw, samples: Samples, numbers: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Random windows of pictures, in 0..1, with their maps and masks, on the device."""
    recipe, size = draw.recipe, draw.size
    draws_N5 = draw.rng.random((len(numbers), 5))
    if isinstance(samples, OnDevice):
        shape = recipe.crop_scale, recipe.aspect_jitter, recipe.flip
        return samples.windows(numbers, [random_crop(*samples.size, size, *shape, draws_5) for draws_5 in draws_N5])
    one = partial(read_crop, samples, recipe, size)
    found = list((draw.pool.map if draw.pool else map)(one, numbers, draws_N5))
    image_BHW3 = torch.from_numpy(np.stack([part.image_HW3 for part in found])).to(draw.device)
    return (
        image_BHW3.permute(0, 3, 1, 2).float() / 255,
        torch.from_numpy(np.stack([part.disparity_HW for part in found])).to(draw.device),
        torch.from_numpy(np.stack([part.valid_HW for part in found])).to(draw.device),
    )


def generator(rng: np.random.Generator) -> Generator:
    """A torch generator that follows from numpy's."""
    return Generator().manual_seed(int(rng.integers(2**62)))


def perturbed(image_B3HW: Tensor, name: str, draws: Generator) -> Tensor:
    """The pictures under one of `PERTURBATIONS`."""
    perturb = PERTURBATIONS[name]
    return image_B3HW if perturb is None else perturb(image_B3HW, draws)


def mix(clean_B3HW: Tensor, settings: Unlabeled, stage: Stage, draws: Generator) -> tuple[Tensor, Tensor]:
    """V1 Eq. 5: strong colours, then with some probability a box of the next picture: u_ab = u_a * M + u_b * (1 - M).

    The partner is the next picture of the batch, so the teacher sees each picture once. (V1 does not say how partners
    are drawn; its author points to UniMatch, which draws them from a second, independent order.)
    """
    image_B3HW = perturbed(clean_B3HW, settings.perturbation, draws)
    box_BHW = torch.zeros(len(image_B3HW), *image_B3HW.shape[2:], dtype=torch.bool)
    if settings.cutmix and stage.loss == "affine" and len(image_B3HW) > 1:
        for box_HW in box_BHW:
            if torch.rand((), generator=draws) < settings.cutmix:
                box_HW |= cutmix_box((box_HW.shape[0], box_HW.shape[1]), draws)
    box_BHW = box_BHW.to(image_B3HW.device)
    return torch.where(box_BHW[:, None], partner(image_B3HW), image_B3HW), box_BHW


def partner(batch: Tensor) -> Tensor:
    """For each picture (or map) of a batch the one that CutMix pastes into it: the next."""
    return batch.roll(-1, 0)
