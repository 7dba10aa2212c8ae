"""Preprocessing of an image for the network, and resizing of the map to the size of the image, as in the official code.

RGB / 255, bicubic resizing to multiples of 14 without padding, ImageNet normalisation; bilinear resizing of the map (V1
supplement; V2 README). The size rule is plain Python; the functions on tensors need torch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from depth_anything.variants import PATCH, Variant

if TYPE_CHECKING:
    from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MAX_TOKENS = 16384
"""Largest number of patches of 14 pixels at the network's input: 518 x 6,199 pixels, an aspect ratio of 12. The cost of
attention grows with its square; longer images get a smaller lower bound."""


def most_tokens(patch: int) -> int:
    """The largest number of patches of another size, for the same number of pixels."""
    return MAX_TOKENS * PATCH**2 // patch**2


def network_size_of(variant: Variant, height: int, width: int, input_size: int | tuple[int, int]) -> tuple[int, int]:
    """`network_size` with the variant's patch and its largest area."""
    return network_size(height, width, input_size, variant.patch, variant.input_area)


def network_size(
    height: int,
    width: int,
    input_size: int | tuple[int, int],
    patch: int = PATCH,
    area: float | None = None,
) -> tuple[int, int]:
    """Height and width at the network's input for an image of height x width pixels.

    `input_size` is a lower bound of the shorter side, and the aspect ratio is kept. Each side is rounded to a multiple
    of `patch` (half to even, as NumPy rounds), or up if it would fall below the bound. The steps are those of the
    official code, in float64, because they decide ties. An `input_size` of two numbers is (height, width) itself.

    Args:
        patch: patch size of the variant: 14, or 32 for an EfficientNet.
        area: largest area of a long image's input, in units of a square image's.

    Raises:
        ValueError: a side is below 1, or `input_size` is below `patch`.
    """
    if height < 1 or width < 1:
        raise ValueError(f"image of {width}x{height} pixels: expected at least 1x1")
    if isinstance(input_size, tuple):
        return input_size
    if input_size < patch:
        raise ValueError(f"input size {input_size}: expected at least {patch} pixels")
    bound = lower_bound(height, width, input_size, patch, area)
    scale = bound / min(height, width)

    def side(pixels: int) -> int:
        patches = scale * pixels / patch
        rounded = round(patches) * patch
        return rounded if rounded >= bound else math.ceil(patches) * patch

    h, w = side(height), side(width)
    # Images that are more than most_tokens times as long as high: the long side is limited.
    limit = most_tokens(patch) // (min(h, w) // patch) * patch
    return min(h, limit), min(w, limit)


def lower_bound(height: int, width: int, input_size: int, patch: int = PATCH, area: float | None = None) -> int:
    """`input_size`, or the largest multiple of `patch` at which a long image has at most `bounding_tokens` patches."""
    short, long = min(height, width), max(height, width)
    return min(input_size, patch * max(1, math.isqrt(bounding_tokens(input_size, patch, area) * short // long)))


def bounding_tokens(input_size: int, patch: int, area: float | None = None) -> int:
    """The largest number of patches that a lower bound may lead to: `most_tokens`, or `area` times those of a square
    image if that is less."""
    most = most_tokens(patch)
    return most if area is None else min(most, int(area * math.ceil(input_size / patch) ** 2))


def to_tensor(
    image_HW3: np.ndarray, size: tuple[int, int], device: str = "cpu", rule: Literal["cubic", "bilinear"] = "cubic"
) -> Tensor:
    """A uint8 RGB image as the network's input, (1, 3, h, w) float32, normalised, at `size`."""
    import torch

    pixels_HW3 = torch.from_numpy(np.require(image_HW3, requirements=["C", "W"])).to(device)
    return normalise(resize(pixels_HW3, size, rule).permute(2, 0, 1)[None])


def resize(image_HW3: Tensor, size: tuple[int, int], rule: Literal["cubic", "bilinear"] = "cubic") -> Tensor:
    """Bicubic (a = -0.75) from uint8 (H, W, 3) to float32 (h, w, 3) in 0..1, without antialias and without clipping.

    Equal to OpenCV's INTER_CUBIC on floats within 1e-5. Four samples are gathered for every result, first vertically,
    then horizontally, so that a large image is never converted to floats as a whole. Their positions are computed in
    float64 and rounded to float32, as in OpenCV: otherwise values at the edges of a large image differ by up to 4e-4.
    The rule "bilinear" is ZoeDepth's: linear with align_corners=True.
    """
    resized = image_HW3
    taps_of = {"cubic": cubic_taps, "bilinear": linear_taps}[rule]
    for axis, side in enumerate(size):
        index_nT, weight_nT = taps_of(side, resized.shape[axis])
        taps = resized.index_select(axis, index_nT.flatten().to(resized.device)).unflatten(axis, index_nT.shape)
        weight = weight_nT.float().to(resized.device).reshape((1,) * axis + index_nT.shape + (1,) * (2 - axis))
        resized = (taps * weight).sum(axis + 1)
    return resized / 255


def cubic_taps(size: int, side: int) -> tuple[Tensor, Tensor]:
    """Indices, clamped at the borders, and float64 weights of the four samples of `side` for each of `size` results."""
    import torch

    centre_n1 = ((torch.arange(size, dtype=torch.float64) + 0.5) * (side / size) - 0.5)[:, None].float().double()
    tap_n4 = centre_n1.floor() + torch.tensor([-1, 0, 1, 2])
    return tap_n4.clamp(0, side - 1).long(), cubic_weight(centre_n1 - tap_n4)


def linear_taps(size: int, side: int) -> tuple[Tensor, Tensor]:
    """The same for the linear rule, with two samples; the first and last results lie on the first and last samples."""
    import torch

    step = (side - 1) / (size - 1) if size > 1 else 0.0
    position_n1 = (torch.arange(size, dtype=torch.float64) * step)[:, None]
    tap_n2 = position_n1.floor() + torch.tensor([0, 1])
    return tap_n2.clamp(0, side - 1).long(), 1 - (position_n1 - tap_n2).abs()


def cubic_weight(distance: Tensor, a: float = -0.75) -> Tensor:
    """Keys' cubic convolution kernel at `distance` in samples (|distance| <= 2), with a as in torch and OpenCV."""
    import torch

    x = distance.abs()
    inner = (a + 2) * x**3 - (a + 3) * x**2 + 1
    outer = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return torch.where(x <= 1, inner, outer)


def normalise(image_B3HW: Tensor) -> Tensor:
    """Normalise RGB in 0..1 with ImageNet's mean and standard deviation."""
    mean = image_B3HW.new_tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    std = image_B3HW.new_tensor(IMAGENET_STD).view(1, 3, 1, 1)
    return (image_B3HW - mean) / std


def resize_back(map_BHW: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Resize a map bilinearly to the size (H, W) of the image; align_corners is False for V1, True for V2 and nano."""
    import torch.nn.functional as F

    return F.interpolate(map_BHW[:, None], size=size, mode="bilinear", align_corners=align_corners)[:, 0]


def coarse(map_hw: np.ndarray, cells: int) -> np.ndarray:
    """A map without structure that is finer than a cell: means over cells, and linear interpolation between them.

    Args:
        cells: number of cells along the shorter side.
    """
    height, width = map_hw.shape
    size = round(cells * width / min(height, width)), round(cells * height / min(height, width))
    cells_image = Image.fromarray(map_hw).resize(size, Image.Resampling.BOX)
    return np.asarray(cells_image.resize((width, height), Image.Resampling.BILINEAR))
