"""From a picture to the network's input and back to the picture's size, as the official code does it.

RGB / 255, bicubic resize to multiples of 14 without padding, ImageNet normalisation; bilinear back (V1 supplement; V2
README). The size rule is plain Python; the tensor half needs torch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

PATCH = 14
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MAX_TOKENS = 16384
"""Largest number of patches at the network's input: 518 x 6,199 pixels, an aspect ratio of 12. Attention grows with its
square; a longer picture gets a smaller lower bound."""


def network_size(height: int, width: int, input_size: int, max_tokens: int = MAX_TOKENS) -> tuple[int, int]:
    """Height and width at the network's input for a picture of height x width pixels.

    The shorter side becomes `input_size` as a lower bound, the aspect ratio is kept, each side is rounded to a multiple
    of 14 (half to even, as NumPy rounds), and up where it would fall below the bound. The steps are those of the official
    code in float64, because they decide ties.

    Raises:
        ValueError: a side is below 1, or `input_size` is below 14.
    """
    if height < 1 or width < 1:
        raise ValueError(f"picture of {width}x{height} pixels: expected at least 1x1")
    if input_size < PATCH:
        raise ValueError(f"input size {input_size}: expected at least {PATCH} pixels")
    bound = lower_bound(height, width, input_size, max_tokens)
    scale = bound / min(height, width)

    def side(pixels: int) -> int:
        patches = scale * pixels / PATCH
        rounded = round(patches) * PATCH
        return rounded if rounded >= bound else math.ceil(patches) * PATCH

    h, w = side(height), side(width)
    # The longest pictures are more than max_tokens times as long as high: there the long side gives way.
    limit = max_tokens // (min(h, w) // PATCH) * PATCH
    return min(h, limit), min(w, limit)


def lower_bound(height: int, width: int, input_size: int, max_tokens: int = MAX_TOKENS) -> int:
    """`input_size`, or the largest multiple of 14 at which so long a picture stays within `max_tokens` patches."""
    short, long = min(height, width), max(height, width)
    return min(input_size, PATCH * max(1, math.isqrt(max_tokens * short // long)))


def to_tensor(image_HW3: np.ndarray, size: tuple[int, int], device: str = "cpu") -> Tensor:
    """A uint8 RGB picture as the network's input, (1, 3, h, w) float32, normalised, at `size`.

    Bicubic (a = -0.75) on floats, without antialias and without clipping, equal to OpenCV's INTER_CUBIC within 2e-4. No
    arithmetic happens where the size already fits.
    """
    import torch

    image_13HW = torch.from_numpy(np.ascontiguousarray(image_HW3)).to(device).permute(2, 0, 1)[None]
    return normalise(resize(image_13HW.float() / 255, size))


def resize(image_B3HW: Tensor, size: tuple[int, int]) -> Tensor:
    """Bicubic to `size` (h, w), as OpenCV's INTER_CUBIC on floats; as it is where the size fits."""
    import torch.nn.functional as F

    if tuple(image_B3HW.shape[-2:]) == tuple(size):
        return image_B3HW
    return F.interpolate(image_B3HW, size=size, mode="bicubic", align_corners=False, antialias=False)


def normalise(image_B3HW: Tensor) -> Tensor:
    """Subtract ImageNet's mean, divide by its deviation; RGB in 0..1."""
    mean = image_B3HW.new_tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    std = image_B3HW.new_tensor(IMAGENET_STD).view(1, 3, 1, 1)
    return (image_B3HW - mean) / std


def resize_back(map_BHW: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Bilinear from the network's size to the picture's `size` (H, W); V1 align_corners=False, V2 and nano True."""
    import torch.nn.functional as F

    return F.interpolate(map_BHW[:, None], size=size, mode="bilinear", align_corners=align_corners)[:, 0]
