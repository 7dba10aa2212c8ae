"""The size rule and the resize against the official steps and OpenCV."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from depth_anything.network.resize import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    MAX_TOKENS,
    lower_bound,
    network_size,
    resize_back,
    to_tensor,
)


def official_size(height: int, width: int, input_size: int) -> tuple[int, int]:
    """The released rule, step by step: lower bound, aspect ratio kept, multiples of 14 by np.round, up when below."""
    scale = max(input_size / height, input_size / width)
    sides = []
    for side in (height, width):
        constrained = int(np.round(scale * side / 14) * 14)
        if constrained < input_size:
            constrained = int(np.ceil(scale * side / 14) * 14)
        sides.append(constrained)
    return sides[0], sides[1]


@pytest.mark.parametrize(
    ("image", "network"),
    [
        ((480, 640), (518, 686)),
        ((375, 1242), (518, 1722)),
        ((352, 1216), (518, 1792)),
        ((436, 1024), (518, 1218)),
        ((1216, 1936), (518, 826)),
        ((4032, 6048), (518, 770)),
        ((256, 341), (518, 686)),
        ((2000, 1500), (686, 518)),
        ((300, 200), (784, 518)),
        ((518, 518), (518, 518)),
    ],
)
def test_known_sizes(image, network):
    assert network_size(*image, 518) == network


@pytest.mark.parametrize(
    ("image", "input_size", "network"),
    [
        ((480, 640), 384, (392, 518)),
        ((640, 480), 384, (518, 392)),
        ((384, 384), 384, (392, 392)),
        ((480, 640), 508, (518, 672)),
        ((1000, 1000), 508, (518, 518)),
        ((480, 640), 385, (392, 518)),
        ((480, 640), 392, (392, 518)),
    ],
)
def test_a_side_that_would_fall_below_the_bound_is_rounded_up(image, input_size, network):
    """27.4 patches are 28, not 27, where the bound is 384: at 518, a multiple of 14, this never shows."""
    assert network_size(*image, input_size) == network
    assert network_size(480, 640, 390, patch=32) == (416, 512)


def test_half_a_patch_goes_to_the_even_number():
    """As NumPy rounds: 74 x 149 pixels are 37 x 74.5 patches, without any rounding on the way."""
    assert [network_size(74, width, 518)[1] // 14 for width in (147, 149, 151, 153)] == [74, 74, 76, 76]


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([14, 224, 384, 500, 508, 518, 1022]))
def test_equals_the_official_rule_below_the_token_limit(height, width, input_size):
    expected = official_size(height, width, input_size)
    if lower_bound(height, width, input_size) == input_size and expected[0] * expected[1] <= MAX_TOKENS * 14**2:
        assert network_size(height, width, input_size) == expected


@given(st.integers(1, 200_000), st.integers(1, 200_000))
def test_tokens_stay_within_the_limit(height, width):
    h, w = network_size(height, width, 518)
    assert h % 14 == 0 and w % 14 == 0 and min(h, w) >= 14
    assert h * w // 14**2 <= MAX_TOKENS


def test_a_panorama_shrinks_and_says_so():
    assert network_size(400, 65535, 518) == (140, 22932)
    assert lower_bound(400, 65535, 518) == 140
    assert lower_bound(400, 4000, 518) == 518


@pytest.mark.parametrize(("arguments", "said"), [((0, 5, 518), "0"), ((5, 5, 13), "13")])
def test_bad_sizes(arguments, said):
    with pytest.raises(ValueError, match=said):
        network_size(*arguments)


@pytest.mark.parametrize("image", [(480, 640), (61, 47), (1080, 1920)])
def test_resize_equals_opencv(image):
    rng = np.random.default_rng(0)
    image_HW3 = rng.integers(0, 256, (*image, 3), dtype=np.uint8)
    size = network_size(*image, 266)
    expected = cv2.resize(image_HW3 / 255.0, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    expected = (expected - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    found = to_tensor(image_HW3, size)[0].permute(1, 2, 0).numpy()
    assert np.abs(found - expected).max() < 2e-4 / min(IMAGENET_STD)


@pytest.mark.parametrize("align_corners", [True, False])
def test_resize_back_is_the_rule_asked_for(align_corners):
    ramp_1HW = torch.arange(5.0).expand(1, 4, 5)
    back = resize_back(ramp_1HW, (4, 9), align_corners)[0, 0].numpy()
    if align_corners:
        expected = np.linspace(0, 4, 9)
    else:
        expected = ((np.arange(9) + 0.5) * 5 / 9 - 0.5).clip(0, 4)
    np.testing.assert_allclose(back, expected, atol=1e-6)
