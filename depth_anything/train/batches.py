"""Which images a step sees, and what was drawn for them: decided by the recipe's seed and the step's number alone.

Nothing here has a state. The position in the data is the number of the step, so a resumed run sees what it would have
seen, and a step can be built ahead of time in another thread. A step may be cut into slices, one after the other on one
device (accumulation), or side by side on many. What is drawn for an image follows from its place in the step: crops,
colours and CutMix are the same however the step is cut.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from depth_anything.data.augment import PERTURBATIONS, Draws, cutmix_box
from depth_anything.data.sample import Crop, Sample, cut, min_max, random_crop, to_canonical
from depth_anything.data.samples import OnDevice, Samples, shard_ends
from depth_anything.network.resize import normalise
from depth_anything.train.recipes.base import Recipe, Stage
from depth_anything.train.recipes.metric import MetricRecipe

LOG = logging.getLogger(__name__)
MIXED_SHARDS = 16
"""Images of so many shards are shuffled together; the shards follow one another in random order."""
BROKEN_IN_A_ROW = 20
"""So many unreadable images, far from each other, are no accident."""
FAR = 100_003
"""From an unreadable image to the one that takes its place: out of its shard, if that is what is damaged. A prime."""
LABELED, UNLABELED = 1, 3
"""First numbers of the seeds of both orders."""
SIZES, LABELED_DRAWS, UNLABELED_DRAWS, BOXES = 2, 4, 5, 6
"""First numbers of the seeds of the network's sizes, of what is drawn for an image, and of CutMix."""


@dataclass(frozen=True)
class Data:
    """What a run learns from. Images that lie in shards also say where these end: `ends`, cumulative counts."""

    labeled: Samples | None = None
    unlabeled: Samples | None = None
    """With the teacher's maps, where these come from shards; without, where the teacher is at hand."""


@dataclass(frozen=True)
class Batch:
    """Labelled images."""

    image_B3HW: Tensor
    """float32, ImageNet-normalised."""
    disparity_BHW: Tensor
    """float32, larger is nearer."""
    valid_BHW: Tensor
    """bool."""


@dataclass(frozen=True)
class MixedBatch:
    """Unlabelled images, as the teacher and as the student sees them (V1 section 3.2)."""

    clean_N3HW: Tensor
    """float32, ImageNet-normalised: the teacher's. Where CutMix pastes the image that follows the slice's last one in
    the step, that one stands behind the others here and in the maps below: then N is B + 1, else B."""
    mixed_B3HW: Tensor
    """The student's: perturbed, and in the box the next image of the step."""
    box_BHW: Tensor
    """bool; all false without CutMix."""
    disparity_NHW: Tensor
    """The teacher's map of the clean image, from shards; else zeros."""
    valid_NHW: Tensor
    """bool; all false where the teacher has not answered yet."""


@dataclass(frozen=True)
class Slice:
    """What one forward pass sees."""

    labeled: Any
    """`Batch`, or what a kind of training has in its place, with an `image_B3HW`; None without."""
    unlabeled: MixedBatch | None
    labeled_weight: float = 1.0
    """Labelled images here, divided by those of an equal slice: the mean of the slices' weighted losses is that of the
    step's images."""
    unlabeled_weight: float = 1.0

    @property
    def image_B3HW(self) -> Tensor:
        """What the network sees: labelled images first."""
        seen = [self.labeled.image_B3HW] if self.labeled else []
        return torch.cat(seen + ([self.unlabeled.mixed_B3HW] if self.unlabeled else []))


def counts(recipe: Recipe, stage: Stage) -> tuple[int, int]:
    """Labelled and unlabelled images in a step."""
    unlabeled = round(stage.batch * recipe.unlabeled_share)
    return stage.batch - unlabeled, unlabeled


def places(recipe: Recipe, stage: Stage, slices: int, index: int) -> tuple[range, range]:
    """Which of a step's labelled and unlabelled images slice `index` has, by their places in the step.

    Slices differ by one image at most, and both kinds are spread over them as evenly as their numbers allow.

    Raises:
        ValueError: more slices than images; CutMix without a second unlabelled image.
    """
    labeled, unlabeled = counts(recipe, stage)
    if slices > stage.batch:
        raise ValueError(
            f"{recipe.name}: a step of {stage.batch} images cannot be cut into {slices} slices (processes x "
            "accumulation): use fewer, or a larger --batch"
        )
    if unlabeled == 1 and mixes(recipe, stage):
        raise ValueError(f"{recipe.name}: CutMix needs two unlabelled images in a step: use a larger --batch")
    ends = [(index + side) * stage.batch // slices for side in (0, 1)]
    of_labeled = [end * labeled // stage.batch for end in ends]
    return range(*of_labeled), range(ends[0] - of_labeled[0], ends[1] - of_labeled[1])


def mixes(recipe: Recipe, stage: Stage) -> bool:
    """Whether a stage has CutMix. Under the loss `range` none: two regions of a map that is not normalised would
    contradict each other."""
    return recipe.unlabeled is not None and recipe.unlabeled.cutmix > 0 and stage.loss == "affine"


def sample_number(seed: list[int], samples: Samples, position: int) -> int:
    """Which image comes at `position` of the run: every epoch is one pass in its own random order."""
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
    """The order of one epoch's images, or of one group of shards."""
    return np.random.default_rng(list(seed)).permutation(count)


@lru_cache(maxsize=2)
def shard_order(seed: tuple[int, ...], ends: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The order of an epoch's shards, and the cumulative counts of images at the end of each group of them."""
    shards = np.random.default_rng(list(seed)).permutation(len(ends))
    counts = np.diff(ends, prepend=0)[shards]
    groups = range(0, len(shards), MIXED_SHARDS)
    return shards, np.cumsum([counts[first : first + MIXED_SHARDS].sum() for first in groups])


def read(samples: Samples, number: int) -> Sample:
    """Image `number`, or another one if it cannot be read; what is skipped is logged.

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
    """An image's random window at the network's size.

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


def draw_size(recipe: Recipe, stage: Stage, step: int) -> tuple[int, int]:
    """The network's size (H, W), the same for all images of a step."""
    return stage.sizes[np.random.default_rng([recipe.seed, SIZES, step]).integers(len(stage.sizes))]


@dataclass(frozen=True)
class Draw:
    """With what the images of one slice are made."""

    recipe: Recipe
    size: tuple[int, int]
    """(H, W) of the network's input."""
    rngs: Sequence[np.random.Generator]
    """What each image draws its numbers from."""
    device: str = "cpu"
    pool: ThreadPoolExecutor | None = None
    """Threads that read, if there are some."""

    @property
    def colours(self) -> Draws:
        """The images' draws for `perturbed`."""
        return Draws(map(generator, self.rngs))


def rngs(recipe: Recipe, kind: int, step: int, chosen: Sequence[int]) -> list[np.random.Generator]:
    """What the images at some places of a step draw their numbers from: `kind` is one of the first numbers above."""
    return [np.random.default_rng([recipe.seed, kind, step, place]) for place in chosen]


def labeled_batch(draw: Draw, samples: Samples, numbers: list[int]) -> Batch:
    """Labelled images: random windows, coloured, normalised."""
    image_B3HW, disparity_BHW, valid_BHW = crops(draw, samples, numbers)
    image_B3HW = perturbed(image_B3HW, draw.recipe.perturbation, draw.colours)
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
        labeled_batch: what is made of the labelled images.
    """
    stage, _ = recipe.stage_of(step)
    size = draw_size(recipe, stage, step)
    of_labeled, of_unlabeled = places(recipe, stage, slices, index)
    labeled_count, unlabeled_count = counts(recipe, stage)
    labeled = unlabeled = None
    if of_labeled:
        assert data.labeled is not None
        draw = Draw(recipe, size, rngs(recipe, LABELED_DRAWS, step, of_labeled), device, pool)
        labeled = labeled_batch(draw, data.labeled, numbers(recipe, data, step, LABELED, of_labeled))
    if of_unlabeled:
        assert data.unlabeled is not None and recipe.unlabeled is not None
        box_BHW = boxes(recipe, stage, step, of_unlabeled, size)
        seen = list(of_unlabeled)
        if box_BHW[-1].any() and len(seen) < unlabeled_count:
            seen.append(of_unlabeled.stop % unlabeled_count)
        draw = Draw(recipe, size, rngs(recipe, UNLABELED_DRAWS, step, seen), device, pool)
        clean_N3HW, disparity_NHW, valid_NHW = crops(draw, data.unlabeled, numbers(recipe, data, step, UNLABELED, seen))
        box_BHW = box_BHW.to(clean_N3HW.device)
        mixed_B3HW = mix(perturbed(clean_N3HW, recipe.unlabeled.perturbation, draw.colours), box_BHW)
        unlabeled = MixedBatch(normalise(clean_N3HW), normalise(mixed_B3HW), box_BHW, disparity_NHW, valid_NHW)
    return Slice(
        labeled,
        unlabeled,
        len(of_labeled) * slices / labeled_count if labeled_count else 1.0,
        len(of_unlabeled) * slices / unlabeled_count if unlabeled_count else 1.0,
    )


def numbers(recipe: Recipe, data: Data, step: int, order: int, chosen: Sequence[int]) -> list[int]:
    """The numbers of a step's images at some places, in their set: `order` is LABELED or UNLABELED."""
    samples = data.labeled if order == LABELED else data.unlabeled
    assert samples is not None
    seen = recipe.stage_of(step)[1]
    unlabeled_seen = round(seen * recipe.unlabeled_share)
    first = seen - unlabeled_seen if order == LABELED else unlabeled_seen
    return [sample_number([recipe.seed, order], samples, first + place) for place in chosen]


def keys(recipe: Recipe, data: Data, step: int, slices: int, index: int) -> list[str]:
    """What the images of slice `index` of a step are called, read again; by number where a set has no names."""
    stage, _ = recipe.stage_of(step)
    found = []
    for order, samples, chosen in zip(
        (LABELED, UNLABELED), (data.labeled, data.unlabeled), places(recipe, stage, slices, index), strict=True
    ):
        for number in numbers(recipe, data, step, order, chosen) if chosen else ():
            assert samples is not None
            kind = "labelled" if order == LABELED else "unlabelled"
            found.append(read(samples, number).key or f"{kind} image {number}")
    return found


def crops(draw: Draw, samples: Samples, numbers: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Random windows of images, in 0..1, with their maps and masks, on the device."""
    recipe, size = draw.recipe, draw.size
    draws_N5 = np.stack([rng.random(5) for rng in draw.rngs])
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


def perturbed(image_B3HW: Tensor, name: str, draws: Draws) -> Tensor:
    """The images under one of `PERTURBATIONS`."""
    perturb = PERTURBATIONS[name]
    return image_B3HW if perturb is None else perturb(image_B3HW, draws)


def boxes(recipe: Recipe, stage: Stage, step: int, chosen: Sequence[int], size: tuple[int, int]) -> Tensor:
    """Where CutMix pastes into the unlabelled images at some places of a step, bool (B, H, W): nowhere, or with the
    recipe's probability a box."""
    box_BHW = torch.zeros(len(chosen), *size, dtype=torch.bool)
    if recipe.unlabeled is not None and mixes(recipe, stage):
        for box_HW, draws in zip(box_BHW, map(generator, rngs(recipe, BOXES, step, chosen)), strict=True):
            if torch.rand((), generator=draws) < recipe.unlabeled.cutmix:
                box_HW |= cutmix_box(size, draws)
    return box_BHW


def mix(image_N3HW: Tensor, box_BHW: Tensor) -> Tensor:
    """V1 Eq. 5: a box of the next image, u_ab = u_a * M + u_b * (1 - M), where there is a box.

    The partner is the next image of the step, so the teacher sees each image once, but for those at the ends of
    slices. (V1 does not say how partners are drawn; its author points to UniMatch, which draws them from a second,
    independent order.)
    """
    count = len(box_BHW)
    return torch.where(box_BHW[:, None], partner(image_N3HW, count), image_N3HW[:count])


def partner(batch_N: Tensor, count: int) -> Tensor:
    """For each of the first `count` images (or maps) the one that CutMix pastes into it: the next."""
    return batch_N.roll(-1, 0)[:count]
