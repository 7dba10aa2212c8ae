"""Labelled images by number: the protocol of readers, and wrappers between a reader and a run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from depth_anything.data.order import set_ends, shard_ends
from depth_anything.data.sample import Crop, Sample

if TYPE_CHECKING:
    from torch import Tensor

LOG = logging.getLogger("depth_anything")
KEPT_BYTES = 2**30
"""Pseudo labels are kept in memory up to this size."""


class Samples(Protocol):
    """Labelled images by number. A reader of shards also has their ends (`shard_ends`)."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Sample: ...


@runtime_checkable
class OnDevice(Samples, Protocol):
    """Images of one size in the device's memory, where batches of crops are computed."""

    size: tuple[int, int]
    """(H, W) of every image."""

    def windows(self, numbers: Sequence[int], crops: Sequence[Crop]) -> tuple[Tensor, Tensor, Tensor]:
        """`sample.cut` for a batch: images in 0..1 (B, 3, H, W), their disparity and valid pixels (B, H, W)."""
        ...


class Unusable(ValueError):
    """A readable label that no loss can use: an order instead of distances, or no valid pixel."""


def expect(samples: Any, number: int) -> None:
    """Tell a set that one of its images will be read soon: where it lies far away, it may be fetched."""
    if tell := getattr(samples, "expect", None):
        tell(number)


class Mapped:
    """A set with a function applied to every sample."""

    def __init__(self, samples: Any, function: Callable[[Any], Sample]):
        self.samples, self.function = samples, function
        self.ends, self.set_ends = shard_ends(samples), set_ends(samples)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> Sample:
        return self.function(self.samples[number])

    def expect(self, number: int) -> None:
        expect(self.samples, number)


class Chosen:
    """Images of a set by their numbers, in that order; a number may come several times."""

    def __init__(self, samples: Samples, numbers: Sequence[int] | np.ndarray):
        self.samples, self.numbers = samples, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, number: int) -> Sample:
        return self.samples[int(self.numbers[number])]


class Joined:
    """Sets one after the other, without balancing (V1 section 4.1)."""

    def __init__(self, sets: Sequence[Samples]):
        self.sets = sets
        self.set_ends = np.cumsum([len(one) for one in sets])
        ends = [shard_ends(one) for one in sets]
        self.ends: np.ndarray | None = None
        if any(one is not None for one in ends):
            starts = [0, *self.set_ends[:-1]]
            parts = zip(sets, ends, starts, strict=True)
            self.ends = np.concatenate([np.asarray([len(one)] if end is None else end) + s for one, end, s in parts])

    def __len__(self) -> int:
        return int(self.set_ends[-1])

    def __getitem__(self, number: int) -> Sample:
        which, number = self._set_of(number)
        return self.sets[which][number]

    def expect(self, number: int) -> None:
        which, number = self._set_of(number)
        expect(self.sets[which], number)

    def _set_of(self, number: int) -> tuple[int, int]:
        """An image's set, and its number there."""
        which = int(np.searchsorted(self.set_ends, number, side="right"))
        return which, number - int(self.set_ends[which] - len(self.sets[which]))


class Kept(Mapped):
    """Images that stay in memory once they are read, up to KEPT_BYTES: a small set is decoded once."""

    def __init__(self, samples: Samples):
        super().__init__(samples, lambda sample: sample)
        self.kept: dict[int, Sample] = {}
        self.bytes = 0

    def __getitem__(self, number: int) -> Sample:
        if number in self.kept:
            return self.kept[number]
        sample = self.samples[number]
        size = sample.image_HW3.nbytes + sample.disparity_HW.nbytes + 2 * sample.valid_HW.nbytes
        if self.bytes + size <= KEPT_BYTES:
            self.kept[number] = sample
            self.bytes += size
        return sample


class OnlyUsable:
    """A set in which an image with an `Unusable` label is replaced by the next usable one.

    A broken file raises, with its name; training takes another image (`train.batches.read`).
    """

    def __init__(self, samples: Samples):
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> Sample:
        if not 0 <= number < len(self):
            raise IndexError(number)
        for step in range(len(self)):
            try:
                return self.samples[(number + step) % len(self)]
            except Unusable as error:
                reason = error
        raise ValueError(f"not one usable label: {reason}")


def usable(samples: Samples) -> Iterator[tuple[int, Sample]]:
    """(number, sample) of a set in its order, without those whose label is `Unusable`; they are logged."""
    for number in range(len(samples)):
        try:
            sample = samples[number]
        except Unusable as error:
            LOG.warning("skipped: %s", error)
            continue
        yield number, sample


def without_labels(images: Any) -> Mapped:
    """Images, (key, uint8 RGB) or samples, as samples whose every pixel still waits for the teacher."""

    def unlabeled(found: Sample | tuple[str, np.ndarray]) -> Sample:
        key, image_HW3 = (found.key, found.image_HW3) if isinstance(found, Sample) else found
        nothing_HW = np.zeros(image_HW3.shape[:2], bool)
        return Sample(
            image_HW3=image_HW3,
            disparity_HW=nothing_HW.astype(np.float32),
            valid_HW=nothing_HW,
            sky_HW=nothing_HW,
            scale="affine",
            key=key,
        )

    return Mapped(images, unlabeled)
