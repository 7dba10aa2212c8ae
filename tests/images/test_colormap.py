"""Colour maps against the published tables (ColorBrewer's, and OpenCV's copies of inferno and turbo)."""

import cv2
import numpy as np
import pytest

from depth_anything.images.colormap import COLORMAPS, colored, table

# ColorBrewer 2.0, Spectral, 11 classes, from red to blue
SPECTRAL_11 = [
    (158, 1, 66), (213, 62, 79), (244, 109, 67), (253, 174, 97), (254, 224, 139), (255, 255, 191), (230, 245, 152),
    (171, 221, 164), (102, 194, 165), (50, 136, 189), (94, 79, 162),
]  # fmt: skip


def test_spectral_goes_through_the_published_colours_with_near_red():
    at = np.linspace(0, 255, 11)
    colors = np.stack([np.interp(at, range(256), table("Spectral_r")[:, c]) for c in range(3)], axis=1)
    assert np.abs(colors[::-1] - SPECTRAL_11).max() <= 1
    np.testing.assert_array_equal(table("Spectral_r")[[255, 0]], [SPECTRAL_11[0], SPECTRAL_11[10]])


@pytest.mark.parametrize("name", ["inferno", "turbo"])
def test_maps_are_within_one_level_of_the_originals(name):
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    original = cv2.applyColorMap(ramp, getattr(cv2, f"COLORMAP_{name.upper()}"))[:, 0, ::-1]
    assert np.abs(table(name).astype(int) - original).max() <= 1


def test_gray_is_the_identity():
    np.testing.assert_array_equal(table("gray"), np.repeat(np.arange(256)[:, None], 3, axis=1))


@pytest.mark.parametrize("name", COLORMAPS)
def test_near_is_the_last_colour(name):
    image = colored(np.array([[0.0, 0.5, 1.0], [-3.0, 7.0, 0.25]], np.float32), name)
    assert image.shape == (2, 3, 3) and image.dtype == np.uint8
    np.testing.assert_array_equal(image[[0, 0, 1, 1], [0, 2, 0, 1]], table(name)[[0, 255, 0, 255]])
    assert len(np.unique(table(name), axis=0)) > 200, "few colours would show steps"


def test_unknown_map_names_the_known():
    with pytest.raises(ValueError, match="'jet': expected one of Spectral_r, inferno, turbo, gray"):
        table("jet")
