"""The labelled sample and its geometry, against ramps whose values tell where a pixel came from."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from depth_anything.data.sample import Crop, Sample, cut, min_max, random_crop, to_disparity


def ramp(height: int = 40, width: int = 60) -> Sample:
    """Disparity is 1000 * row + column; the image holds row and column, too."""
    rows, columns = np.mgrid[:height, :width]
    image_HW3 = np.stack([rows * 4, columns * 4, np.zeros_like(rows)], axis=-1).astype(np.uint8)
    return Sample(
        image_HW3=image_HW3,
        disparity_HW=(1000 * rows + columns).astype(np.float32),
        valid_HW=columns >= 5,
        sky_HW=rows < 3,
        classes_HW=columns.astype(np.int16),
        K_33=np.array([[50.0, 0, 30], [0, 50, 20], [0, 0, 1]]),
        scale="metric",
    )


def test_to_disparity_is_one_over_metres_and_zero_in_the_sky():
    depth = np.array([[2.0, 4.0, 0.0, 1e9]], dtype=np.float32)
    valid = np.array([[True, True, False, True]])
    sky = np.array([[False, False, False, True]])
    assert to_disparity(depth, valid, sky).tolist() == [[0.5, 0.25, 0, 0]]


def test_min_max_reads_valid_pixels_only():
    disparity = np.array([[0.0, 1, 3, 9]], dtype=np.float32)
    valid = np.array([[True, True, True, False]])
    assert min_max(disparity, valid)[0].tolist() == pytest.approx([0, 1 / 3, 1, 0])
    assert not min_max(disparity, ~valid).any()  # a single value has no range
    assert not min_max(disparity, np.zeros_like(valid)).any()


def test_the_whole_image_at_its_size_is_itself():
    sample = ramp()
    same = cut(sample, Crop(0, 0, 40, 60, (40, 60)))
    for name in ("image_HW3", "disparity_HW", "valid_HW", "sky_HW", "classes_HW", "K_33"):
        assert np.array_equal(getattr(same, name), getattr(sample, name)), name


def test_mirroring_twice_is_the_image():
    once = cut(ramp(), Crop(0, 0, 40, 60, (40, 60), flip=True))
    assert np.array_equal(once.disparity_HW, ramp().disparity_HW[:, ::-1])
    assert np.array_equal(cut(once, Crop(0, 0, 40, 60, (40, 60), flip=True)).image_HW3, ramp().image_HW3)


def test_labels_are_the_pixel_under_the_centre():
    half = cut(ramp(), Crop(4, 10, 20, 40, (10, 20)))
    assert half.disparity_HW[0].tolist() == [1000 * 5 + 11 + 2 * i for i in range(20)]
    assert half.disparity_HW[:, 0].tolist() == [1000 * (5 + 2 * i) + 11 for i in range(10)]
    assert set(np.unique(cut(ramp(), Crop(3.3, 7.9, 30.1, 44.4, (14, 28))).disparity_HW)) <= set(
        np.unique(ramp().disparity_HW)
    )


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), flip=st.booleans())
def test_image_and_labels_stay_together(seed, flip):
    rng = np.random.default_rng(seed)
    crop = random_crop(40, 60, (28, 42), (0.5, 1.0), 1.3, float(flip), rng.random(5))
    assert crop.flip == flip
    assert (
        crop.top >= 0 and crop.left >= 0 and crop.top + crop.height <= 40 + 1e-9 and crop.left + crop.width <= 60 + 1e-9
    )
    result = cut(ramp(), crop)
    assert result.image_HW3.shape == (28, 42, 3)
    inner = (slice(4, -4), slice(4, -4))  # the bicubic filter sees past a border only outside the image
    rows, columns = result.disparity_HW // 1000, result.disparity_HW % 1000
    assert np.abs(result.image_HW3[inner][..., 0] / 4 - rows[inner]).max() <= 1
    assert np.abs(result.image_HW3[inner][..., 1] / 4 - columns[inner]).max() <= 1
    assert result.classes_HW is not None and np.array_equal(result.classes_HW, columns)
    assert np.array_equal(result.valid_HW, columns >= 5)
    assert np.array_equal(result.sky_HW, rows < 3)


def test_the_largest_windows_stay_inside_any_image():
    rng = np.random.default_rng(0)
    for _ in range(300):
        height, width = (int(side) for side in rng.integers(8, 400, 2))
        crop = random_crop(height, width, (28, 42), (1.0, 1.0), 1.25, 0.5, rng.random(5))
        assert crop.top >= 0 and crop.left >= 0, (height, width, crop)
        assert crop.height == height or crop.width == width
        image = Image.new("RGB", (width, height))
        image.resize((42, 28), box=(crop.left, crop.top, crop.left + crop.width, crop.top + crop.height))


def test_the_papers_crop_is_the_shorter_side_at_any_place():
    lefts = []
    for seed in range(200):
        crop = random_crop(40, 60, (518, 518), (1, 1), 1, 0.5, np.random.default_rng(seed).random(5))
        assert (crop.height, crop.width, crop.top) == (40, 40, 0)
        lefts.append(crop.left)
    assert min(lefts) < 1 and max(lefts) > 19


@pytest.mark.parametrize("flip", [False, True])
def test_a_crop_of_the_networks_size_is_not_resampled(flip):
    """As of a pseudo-labelled image, which has the size of its map: pixels and labels are the same pixels."""
    lefts = set()
    for seed in range(200):
        crop = random_crop(40, 60, (40, 40), (1, 1), 1, float(flip), np.random.default_rng(seed).random(5))
        part, left = cut(ramp(), crop), int(crop.left)
        whole = (slice(None), slice(left, left + 40))
        for name in ("image_HW3", "disparity_HW", "valid_HW", "sky_HW", "classes_HW"):
            expected = getattr(ramp(), name)[whole]
            assert np.array_equal(getattr(part, name), expected[:, ::-1] if flip else expected), name
        lefts.add(left)
    assert lefts == set(range(21))


@pytest.mark.parametrize("flip", [False, True])
def test_intrinsics_follow_the_image(flip):
    """A point in space lands on the pixel that shows it, before and after."""
    crop = Crop(4, 10, 20, 40, (30, 60), flip=flip)
    after = cut(ramp(), crop)
    point = np.array([0.1, -0.05, 1.0])
    before_xy = (ramp().K_33 @ point)[:2]
    x, y = (before_xy + 0.5 - [crop.left, crop.top]) * 1.5 - 0.5
    assert after.K_33 is not None
    x_after, y_after, _ = after.K_33 @ (point * [-1 if flip else 1, 1, 1])
    assert (x_after, y_after) == pytest.approx((59 - x if flip else x, y))


def test_parts_of_unequal_size_are_refused():
    with pytest.raises(AssertionError, match="sky_HW"):
        Sample(
            image_HW3=np.zeros((4, 5, 3), np.uint8),
            disparity_HW=np.zeros((4, 5), np.float32),
            valid_HW=np.zeros((4, 5), bool),
            sky_HW=np.zeros((5, 4), bool),
            scale="metric",
        )
