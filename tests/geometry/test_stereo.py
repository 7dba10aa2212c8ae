"""The second eye's view: planes and steps in closed form, no holes, edges kept, and rendered views as the measure."""

import numpy as np
import pytest

from depth_anything.geometry import stereo

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(1, 256, (40, 120, 3), np.uint8)


@pytest.mark.parametrize("pixels", [7, -4, 0])
def test_a_plane_that_faces_the_camera_moves_by_exactly_so_many_pixels(pixels):
    view = stereo.second_view(IMAGE, np.full((40, 120), float(pixels)))
    inside = slice(max(0, -pixels), 120 - max(0, pixels))
    np.testing.assert_array_equal(view[:, inside], np.roll(IMAGE, -pixels, axis=1)[:, inside])


def test_half_a_pixel_is_the_mean_of_two():
    view = stereo.second_view(IMAGE, np.full((40, 120), 2.5))
    mean = (IMAGE[:, 2:-1].astype(float) + IMAGE[:, 3:]) / 2
    assert np.abs(view[:, :-3] - mean).max() <= 0.5


def test_a_slanted_plane_is_stretched_without_cracks():
    """Shift a x + b: the pixel at x lies at x - a x - b, so the view at t shows x = (t + b) / (1 - a)."""
    columns = np.arange(120.0)
    ramp = np.broadcast_to(2 * columns[:, None], (40, 120, 3)).astype(np.uint8)
    for a in (-0.4, 0.3):
        view = stereo.second_view(ramp, np.broadcast_to(a * columns + 5, (40, 120)))
        source = (columns + 5) / (1 - a)
        inside = (source > 1) & (source < 118)
        assert np.abs(view[:, inside, 0] - 2 * source[inside]).max() <= 1


@pytest.fixture
def step() -> tuple[np.ndarray, np.ndarray]:
    """A red square 10 pixels in front of a blue and green texture."""
    image = IMAGE.copy()
    image[..., 0] = 0
    shift = np.zeros((40, 120))
    image[10:30, 50:80] = (255, 0, 0)
    shift[10:30, 50:80] = 10
    return image, shift


def test_an_object_covers_what_is_behind_it_and_keeps_its_outline(step):
    view = stereo.second_view(*step)
    expected = np.zeros((40, 120), bool)
    expected[10:30, 40:70] = True
    np.testing.assert_array_equal(view[..., 0] == 255, expected)


def test_what_was_hidden_is_filled_from_behind_the_object(step):
    image, shift = step
    view = stereo.second_view(image, shift)
    np.testing.assert_array_equal(view[10:30, 70:80], np.repeat(image[10:30, 80:81], 10, axis=1))
    assert (view[..., 1:].max(-1)[10:30, 70:80] > 0).all(), "no holes"
    np.testing.assert_array_equal(view[:10], image[:10])


def test_the_nearest_and_the_farthest_are_so_far_apart():
    nearness = np.linspace(0, 1, 200, dtype=np.float32)[None]
    shift = stereo.shifts(nearness, 0.05)
    assert shift.max() - shift.min() == pytest.approx(0.05 * 200) and shift.max() == -shift.min()


def test_pairs(step):
    image, shift = step
    right = stereo.second_view(image, shift)
    both = stereo.side_by_side(image, shift)
    np.testing.assert_array_equal(both, np.concatenate([image, right], axis=1))
    glasses = stereo.anaglyph(image, shift)
    np.testing.assert_array_equal(glasses[..., 0], image[..., 0])
    np.testing.assert_array_equal(glasses[..., 1:], right[..., 1:])


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (3, 1)])
def test_the_smallest_images(size):
    view = stereo.second_view(np.full((*size, 3), 9, np.uint8), np.full(size, 0.4))
    assert (view == 9).all()
