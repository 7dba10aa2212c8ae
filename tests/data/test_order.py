"""The order in which a run sees images: every one once an epoch, sets in their shares, at no cost of many shards."""

import time

import numpy as np
import pytest

from depth_anything.data.order import MIXED_IMAGES, MIXED_SHARDS, epoch_parts, interleaved, sample_number
from depth_anything.data.samples import Joined, Kept
from depth_anything.data.set_sizes import UNLABELED_IMAGES


class Shards:
    """Images in shards, which are never read."""

    def __init__(self, sizes: list[int]):
        self.ends = np.cumsum(sizes)

    def __len__(self) -> int:
        return int(self.ends[-1])


class Whole:
    """Images without shards."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count


@pytest.fixture(scope="module")
def eight_sets() -> Joined:
    """V1's unlabelled sets at their full sizes, in 62,300 shards."""
    return Joined([Shards([1000] * (count // 1000)) for count in UNLABELED_IMAGES.values()])


@pytest.mark.parametrize(
    "counts", [(3, 1), (5,), (1,) * 8, (1, 1000, 7, 3, 3, 50, 999, 2), (13, 11, 10, 8, 8, 6, 4, 2), (1,) * 40 + (100,)]
)
def test_sets_are_interleaved_by_the_middle_of_their_images(counts):
    """Against all images sorted by their places."""
    places = sorted(((j + 0.5) / count, which, j) for which, count in enumerate(counts) for j in range(count))
    assert [interleaved(counts, place) for place in range(sum(counts))] == [(s, j) for _, s, j in places]


def test_an_epoch_of_joined_sets_sees_every_image_once():
    """Sets of all kinds: many shards, few, empty ones, none; one that is smaller than a block is large."""
    rng = np.random.default_rng(0)
    joined = Kept(
        Joined([Shards(rng.integers(0, 300, 40).tolist()), Shards([0, 5, 0]), Whole(77), Shards([0] * 3 + [1])])
    )
    assert len(joined) > MIXED_IMAGES
    first, second = ([sample_number([0, 3], joined, e * len(joined) + i) for i in range(len(joined))] for e in (0, 1))
    assert sorted(first) == sorted(second) == list(range(len(joined))) and first != second
    of_last = [first.index(len(joined) - 1), second.index(len(joined) - 1)]
    assert all(abs(place - len(joined) / 2) < MIXED_IMAGES for place in of_last)  # one image: in the middle


def test_250_steps_hold_each_set_in_its_share(eight_sets):
    """Of 128 unlabelled images: ImageNet-21K's 21 % to 0.3 %; even the smallest set (2.7 %) to 0.3 %."""
    steps, batch = 250, 128
    shares = np.array(list(UNLABELED_IMAGES.values())) / len(eight_sets)
    for start in (0, 7_000_001, len(eight_sets) - steps * batch // 2):  # the last one from an epoch into the next
        numbers = [sample_number([0, 3], eight_sets, start + place) for place in range(0, steps * batch, 4)]
        sets = np.searchsorted(eight_sets.set_ends, numbers, side="right")
        found = np.bincount(sets, minlength=8) / len(numbers)
        assert np.abs(found - shares).max() < 0.015  # of a quarter of the images: three standard deviations are 0.014
    numbers = [sample_number([0, 3], eight_sets, MIXED_IMAGES * 5 + place) for place in range(MIXED_IMAGES)]
    found = np.bincount(np.searchsorted(eight_sets.set_ends, numbers, side="right"), minlength=8)
    assert np.abs(found - shares * MIXED_IMAGES).max() <= 4  # whole blocks: to an image per set
    assert len({number // 1000 for number in numbers}) <= 2 * 8 * MIXED_SHARDS


def test_sets_do_not_follow_one_another_in_a_pattern(eight_sets):
    """CutMix pastes the next image of a step: its set must not be decided by that of the image before."""
    numbers = [sample_number([0, 3], eight_sets, place) for place in range(MIXED_IMAGES)]
    sets = np.searchsorted(eight_sets.set_ends, numbers, side="right")
    imagenet = sets == list(UNLABELED_IMAGES).index("imagenet21k")
    together = (imagenet[1:] & imagenet[:-1]).mean()
    assert together == pytest.approx(imagenet.mean() ** 2, abs=0.02)


def test_an_image_costs_the_same_in_62000_shards(eight_sets):
    """The order of shards is computed once an epoch. Processor time: the machine may be busy."""

    def seconds(samples) -> float:
        sample_number([1, 3], samples, 0)
        times = []
        for start in range(0, 600, 100):
            began = time.process_time()
            for place in range(start, start + 100):
                sample_number([1, 3], samples, place)
            times.append(time.process_time() - began)
        return min(times)

    few = Joined([Shards([1000] * 20) for _ in range(8)])
    epoch_parts.cache_clear()
    assert seconds(eight_sets) < 3 * seconds(few) + 0.001
    assert epoch_parts.cache_info().misses == 2
