"""The images of a step and their random draws: functions of the recipe's seed and the step number alone.

Nothing here has state. The position in the data follows from the step number, so a resumed run sees the same images as
an uninterrupted one, and a thread can build steps in advance. A step may be divided into slices, processed one after
the other on one device (accumulation) or in parallel on several. The draws of an image depend on its position in the
step, so crops, colours and CutMix do not depend on the division.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from depth_anything.data.augment import PERTURBATIONS, Draws, cutmix_box
from depth_anything.data.order import sample_number
from depth_anything.data.sample import Crop, Sample, cut, min_max, random_crop, to_canonical
from depth_anything.data.samples import OnDevice, Samples, expect
from depth_anything.network.resize import normalise
from depth_anything.train.recipes.base import Recipe, Stage
from depth_anything.train.recipes.metric import MetricRecipe

LOG = logging.getLogger(__name__)
BROKEN_IN_A_ROW = 20
"""Number of unreadable images, far from each other, after which reading fails."""
FAR = 100_003
"""Distance from an unreadable image to its replacement: large enough to leave a damaged shard. A prime."""
AHEAD_IMAGES = 50_000
"""So far ahead of an image its shard is fetched from an object store: three shuffled groups of one set,
or half of a group of each of eight."""
LABELED, UNLABELED = 1, 3
"""Seed components of the two sample orders."""
SIZES, LABELED_DRAWS, UNLABELED_DRAWS, BOXES = 2, 4, 5, 6
"""Seed components of the network's input sizes, of the draws per image, and of CutMix."""


@dataclass(frozen=True)
class Data:
    """The training data of a run. Samples in shards have an attribute `ends`: cumulative counts at the shards' ends."""

    labeled: Samples | None = None
    unlabeled: Samples | None = None
    """With the teacher's maps if these come from shards; without them if the teacher runs during training."""


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
    """Unlabelled images, as the teacher and as the student see them (V1 section 3.2)."""

    clean_N3HW: Tensor
    """float32, ImageNet-normalised: the teacher's input. If CutMix pastes the image that follows the slice's last one
    in the step, that image is appended here and in the maps below: N is B + 1 then, else B."""
    mixed_B3HW: Tensor
    """The student's input: perturbed, with the next image of the step in the box."""
    box_BHW: Tensor
    """bool; all false without CutMix."""
    disparity_NHW: Tensor
    """The teacher's map of the clean image if it comes from shards; else zeros."""
    valid_NHW: Tensor
    """bool; all false if there is no map yet."""


@dataclass(frozen=True)
class Slice:
    """The input of one forward pass."""

    labeled: Any
    """`Batch`, or another task's class with an `image_B3HW`; None without labelled images."""
    unlabeled: MixedBatch | None
    labeled_weight: float = 1.0
    """Number of labelled images relative to an equal division: the mean of the slices' weighted losses is then the mean
    over the step's images."""
    unlabeled_weight: float = 1.0

    @property
    def image_B3HW(self) -> Tensor:
        """The network's input: labelled images first."""
        seen = [self.labeled.image_B3HW] if self.labeled else []
        return torch.cat(seen + ([self.unlabeled.mixed_B3HW] if self.unlabeled else []))


def counts(recipe: Recipe, stage: Stage) -> tuple[int, int]:
    """Labelled and unlabelled images in a step."""
    unlabeled = round(stage.batch * recipe.unlabeled_share)
    return stage.batch - unlabeled, unlabeled


def places(recipe: Recipe, stage: Stage, slices: int, index: int) -> tuple[range, range]:
    """The positions in the step of the labelled and the unlabelled images of slice `index`.

    The sizes of slices differ by one image at most, and both kinds are distributed as evenly as possible.

    Raises:
        ValueError: more slices than images; CutMix without a second unlabelled image.
    """
    labeled, unlabeled = counts(recipe, stage)
    if slices > stage.batch:
        raise ValueError(
            f"{recipe.name}: a step of {stage.batch} images cannot be divided into {slices} slices (processes x "
            "accumulation): use fewer, or a larger --batch"
        )
    if unlabeled == 1 and mixes(recipe, stage):
        raise ValueError(f"{recipe.name}: CutMix needs two unlabelled images in a step: use a larger --batch")
    ends = [(index + side) * stage.batch // slices for side in (0, 1)]
    of_labeled = [end * labeled // stage.batch for end in ends]
    return range(*of_labeled), range(ends[0] - of_labeled[0], ends[1] - of_labeled[1])


def mixes(recipe: Recipe, stage: Stage) -> bool:
    """Whether a stage has CutMix. The loss `range` excludes it: its prediction is not normalised, so two regions with
    different targets would contradict each other."""
    return recipe.unlabeled is not None and recipe.unlabeled.cutmix > 0 and stage.loss == "affine"


def read(samples: Samples, number: int) -> Sample:
    """Image `number`, or another one if it cannot be read; errors are logged.

    Raises:
        ValueError: BROKEN_IN_A_ROW images in a row are unreadable; the error of the last one.
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
    """A random crop of an image, resized to the network's input.

    Disparity without metric scale is normalised to 0..1 (V1 section 3.1); metres are converted to the canonical camera
    if the recipe has one.
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
    """The network's input size (H, W), the same for all images of a step."""
    return stage.sizes[np.random.default_rng([recipe.seed, SIZES, step]).integers(len(stage.sizes))]


@dataclass(frozen=True)
class Draw:
    """Settings for reading the images of one slice."""

    recipe: Recipe
    size: tuple[int, int]
    """(H, W) of the network's input."""
    rngs: Sequence[np.random.Generator]
    """A random generator per image."""
    device: str = "cpu"
    pool: ThreadPoolExecutor | None = None
    """Reading threads; None: this thread reads."""

    @property
    def colours(self) -> Draws:
        """The random draws of the images for `perturbed`."""
        return Draws(map(generator, self.rngs))


def rngs(recipe: Recipe, kind: int, step: int, chosen: Sequence[int]) -> list[np.random.Generator]:
    """Random generators of the images at the chosen positions of a step; `kind` is one of the seed components above."""
    return [np.random.default_rng([recipe.seed, kind, step, place]) for place in chosen]


def labeled_batch(draw: Draw, samples: Samples, numbers: list[int]) -> Batch:
    """Labelled images: random crops, perturbed, normalised."""
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
    """Slice `index` of step number `step`: read, cropped, resized, flipped, perturbed, mixed, normalised.

    Args:
        labeled_batch: builds the labelled part; tasks have their own.
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
        read_ahead(recipe, data, step, seen)
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
    """The numbers in their set of a step's images at the chosen positions; `order` is LABELED or UNLABELED."""
    samples = data.labeled if order == LABELED else data.unlabeled
    assert samples is not None
    seen = recipe.stage_of(step)[1]
    unlabeled_seen = round(seen * recipe.unlabeled_share)
    first = seen - unlabeled_seen if order == LABELED else unlabeled_seen
    return [sample_number([recipe.seed, order], samples, first + place) for place in chosen]


def read_ahead(recipe: Recipe, data: Data, step: int, chosen: Sequence[int]) -> None:
    """Tell the unlabelled data which of their images come AHEAD_IMAGES later."""
    assert data.unlabeled is not None
    first = round(recipe.stage_of(step)[1] * recipe.unlabeled_share) + AHEAD_IMAGES
    for place in chosen:
        expect(data.unlabeled, sample_number([recipe.seed, UNLABELED], data.unlabeled, first + place))


def keys(recipe: Recipe, data: Data, step: int, slices: int, index: int) -> list[str]:
    """Keys of the images in slice `index` of a step, which are read again; a number if a set has no keys."""
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
    """Random crops of images, in 0..1, with their maps and masks, on the device."""
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
    """A torch generator seeded by a draw from numpy's."""
    return Generator().manual_seed(int(rng.integers(2**62)))


def perturbed(image_B3HW: Tensor, name: str, draws: Draws) -> Tensor:
    """The images after one of `PERTURBATIONS`."""
    perturb = PERTURBATIONS[name]
    return image_B3HW if perturb is None else perturb(image_B3HW, draws)


def boxes(recipe: Recipe, stage: Stage, step: int, chosen: Sequence[int], size: tuple[int, int]) -> Tensor:
    """The boxes into which CutMix pastes, bool (B, H, W), for the unlabelled images at the chosen positions of a step.
    An image has a box with the recipe's probability."""
    box_BHW = torch.zeros(len(chosen), *size, dtype=torch.bool)
    if recipe.unlabeled is not None and mixes(recipe, stage):
        for box_HW, draws in zip(box_BHW, map(generator, rngs(recipe, BOXES, step, chosen)), strict=True):
            if torch.rand((), generator=draws) < recipe.unlabeled.cutmix:
                box_HW |= cutmix_box(size, draws)
    return box_BHW


def mix(image_N3HW: Tensor, box_BHW: Tensor) -> Tensor:
    """V1 Eq. 5: a box of the next image, u_ab = u_a * M + u_b * (1 - M), where there is a box.

    The partner is the next image of the step, so the teacher sees each image once, except those at the ends of slices.
    (V1 does not state how partners are drawn; its author refers to UniMatch, which draws them from a second,
    independent order.)
    """
    count = len(box_BHW)
    return torch.where(box_BHW[:, None], partner(image_N3HW, count), image_N3HW[:count])


def partner(batch_N: Tensor, count: int) -> Tensor:
    """The partner of each of the first `count` images (or maps) in CutMix: the next one."""
    return batch_N.roll(-1, 0)[:count]
