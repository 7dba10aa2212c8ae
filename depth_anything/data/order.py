"""In which order a run sees the images of its data: decided by a seed and a position alone.

Every epoch is one pass. Joined sets are interleaved, so that any stretch of an epoch holds every set in its share.
Within a set that lies in shards, the images of a few shards are shuffled together, because images of one shard are read
fastest together. Orders are computed once an epoch: a position costs the same for ten shards and for 62,000.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

MIXED_SHARDS = 16
"""Images of so many shards of a set are shuffled together; the shards follow one another in random order."""
MIXED_IMAGES = 4096
"""So many positions of interleaved sets are shuffled, so that the sets do not follow one another in a pattern."""
Seed = tuple[int, ...]


def shard_ends(samples: Any) -> np.ndarray | None:
    """Where the shards of a set end, as cumulative counts of its images (`ends`); None where it has no shards."""
    return getattr(samples, "ends", None)


def set_ends(samples: Any) -> np.ndarray | None:
    """Where the sets end that are joined (`Joined`), as cumulative counts of images; None where there is one set."""
    return getattr(samples, "set_ends", None)


def sample_number(seed: list[int], samples: Any, position: int) -> int:
    """Which image comes at `position` of the run: every epoch is one pass in its own random order."""
    count = len(samples)
    epoch, place = divmod(position, count)
    key = (*seed, epoch)
    if shard_ends(samples) is None:
        return int(epoch_order(key, count)[place])
    parts = epoch_parts(key, samples)
    if len(parts) == 1:
        return parts[0].number(place)
    block, offset = divmod(place, MIXED_IMAGES)
    first = block * MIXED_IMAGES
    shuffled = epoch_order((*key, len(parts), block), min(MIXED_IMAGES, count - first))
    which, place = interleaved(tuple(part.count for part in parts), first + int(shuffled[offset]))
    return parts[which].number(place)


def interleaved(counts: tuple[int, ...], place: int) -> tuple[int, int]:
    """Which set comes at a place of their even mixture, and how many of its images came before.

    Image j of a set of n stands at (j + 1/2) / n of the epoch; equal ones follow in the order of the sets. Near the
    place x of the epoch a set has seen n x images, to half an image; so the one that is looked for is at most half an
    image per set away, and a few candidates of each set decide it.
    """
    counts_S = np.array(counts, np.int64)
    reach = len(counts) // 2 + 2
    seen_S = np.maximum(counts_S * place // counts_S.sum() - reach, 0)
    candidates_SC = seen_S[:, None] + np.arange(2 * reach + 2)
    stands_SC = np.where(candidates_SC < counts_S[:, None], (candidates_SC + 0.5) / counts_S[:, None], np.inf)
    chosen = int(np.argsort(stands_SC, axis=None, kind="stable")[place - int(seen_S.sum())])
    which, candidate = divmod(chosen, candidates_SC.shape[1])
    return which, int(candidates_SC[which, candidate])


@dataclass(frozen=True)
class Part:
    """One set's order in an epoch."""

    seed: Seed
    first: int
    """Number of its first image."""
    starts: np.ndarray
    """int64: the number of images of this set before each of its shards."""
    sizes: np.ndarray
    """int64: the number of images of each shard."""
    shards: np.ndarray
    """The order of its shards."""
    group_ends: np.ndarray
    """Cumulative number of images at the end of each group of shards that are shuffled together."""

    @property
    def count(self) -> int:
        return int(self.group_ends[-1])

    def number(self, place: int) -> int:
        """The image at a place of the set's order."""
        group = int(np.searchsorted(self.group_ends, place, side="right"))
        first = int(self.group_ends[group - 1]) if group else 0
        chosen = self.shards[group * MIXED_SHARDS : (group + 1) * MIXED_SHARDS]
        place = int(epoch_order((*self.seed, group + 1), int(self.group_ends[group]) - first)[place - first])
        ends = np.cumsum(self.sizes[chosen])
        which = int(np.searchsorted(ends, place, side="right"))
        return self.first + int(self.starts[chosen[which]]) + place - int(ends[which] - self.sizes[chosen[which]])


@lru_cache(maxsize=8)
def epoch_parts(seed: Seed, samples: Any) -> list[Part]:
    """The order of an epoch in each of the sets that are joined in `samples`, or in the only one."""
    ends = np.asarray(shard_ends(samples), np.int64)
    of_sets = set_ends(samples)
    if of_sets is None or len(of_sets) == 1:
        return [ordered(seed, 0, ends)]
    found, first = [], 0
    for number, last in enumerate(int(end) for end in of_sets):
        own = ends[(ends > first) & (ends <= last)] - first
        if len(own):  # else an empty set
            found.append(ordered((*seed, number), first, own))
        first = last
    return found


def ordered(seed: Seed, first: int, ends: np.ndarray) -> Part:
    """The order of a set that begins at image `first` and whose shards end at `ends`, counted from there."""
    shards = np.random.default_rng(list(seed)).permutation(len(ends))
    sizes = np.diff(ends, prepend=0)
    groups = range(0, len(shards), MIXED_SHARDS)
    group_ends = np.cumsum([sizes[shards[start : start + MIXED_SHARDS]].sum() for start in groups])
    return Part(seed, first, ends - sizes, sizes, shards, group_ends)


@lru_cache(maxsize=128)
def epoch_order(seed: Seed, count: int) -> np.ndarray:
    """The order of one epoch's images, or of one group of shards."""
    return np.random.default_rng(list(seed)).permutation(count)
