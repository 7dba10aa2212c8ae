"""Colour perturbations of the images of a student, or of a small teacher.

Batched torch. Images are RGB in 0..1, image_B3HW. Every random number comes from the `Draws` that are passed: each
image has its own, so its perturbation does not depend on the batch. Geometry, and therefore labels, are unchanged.
"""

import math
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

LUMA = (0.299, 0.587, 0.114)
YIQ = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


class Draws:
    """Random numbers for a batch of images, with a generator per image.

    Drawn on the CPU, so that they are the same for every device.
    """

    def __init__(self, generators: Iterable[Generator]):
        self.generators = list(generators)

    def __getitem__(self, numbers: list[int]) -> "Draws":
        """The draws of some of the images."""
        return Draws(self.generators[number] for number in numbers)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers (B, *shape) in 0..1."""
        return torch.stack([torch.rand(shape, generator=one) for one in self.generators])

    def normal(self, *shape: int) -> Tensor:
        """Normal numbers (B, *shape)."""
        return torch.stack([torch.randn(shape, generator=one) for one in self.generators])


def uniform(image_B3HW: Tensor, low: float, high: float, draws: Draws) -> Tensor:
    """(B, 1, 1, 1) numbers in low..high, one per image, on the device of the images."""
    return (draws.uniform(1, 1, 1) * (high - low) + low).to(image_B3HW.device)


def noise_like(image_B3HW: Tensor, draws: Draws) -> Tensor:
    """A normal number for every value, drawn on the device of the images: on the CPU it would be too slow for a GPU."""
    if image_B3HW.device.type == "cpu":
        return draws.normal(*image_B3HW.shape[1:])
    noise_B3HW = torch.empty_like(image_B3HW)
    for noise_3HW, one in zip(noise_B3HW, draws.generators, strict=True):
        seed = int(torch.randint(2**62, (), generator=one))
        noise_3HW.normal_(generator=Generator(image_B3HW.device).manual_seed(seed))
    return noise_B3HW


Change = Callable[[Tensor, Draws], Tensor]
"""Images (B, 3, H, W) and their draws in, images out."""


def sometimes(change: Change, image_B3HW: Tensor, chance: float, draws: Draws) -> Tensor:
    """Each image changed with probability `chance`; the others cost nothing."""
    chosen = torch.nonzero(draws.uniform() < chance).flatten()
    if not len(chosen):
        return image_B3HW
    there = chosen.to(image_B3HW.device)
    return image_B3HW.index_copy(0, there, change(image_B3HW.index_select(0, there), draws[chosen.tolist()]))


def gray(image_B3HW: Tensor, draws: Draws) -> Tensor:
    """`grayscale` as a change that draws nothing."""
    return grayscale(image_B3HW)


def unimatch_perturbation(image_B3HW: Tensor, draws: Draws) -> Tensor:
    """V1's strong colour perturbation: colour jitter and Gaussian blur, with the strengths of UniMatch.

    V1 does not print strengths; its author points to UniMatch, whose are: brightness, contrast, saturation 0.5, hue
    0.25 with probability 0.8; grayscale 0.2; blur with a radius of 0.1 to 2 pixels, 0.5. Hue turns the chroma plane of
    YIQ.
    """

    def jittered(some_B3HW: Tensor, draws: Draws) -> Tensor:
        return colour_jitter(some_B3HW, 0.5, 0.5, 0.5, 0.25, draws)

    def blurred(some_B3HW: Tensor, draws: Draws) -> Tensor:
        return blur(some_B3HW, 0.1, 2.0, draws)

    image_B3HW = sometimes(jittered, image_B3HW, 0.8, draws)
    image_B3HW = sometimes(gray, image_B3HW, 0.2, draws)
    return sometimes(blurred, image_B3HW, 0.5, draws)


def camera_perturbation(image_B3HW: Tensor, draws: Draws) -> Tensor:
    """Ours, for rendered images: what cameras, light and files do, stronger than UniMatch.

    White balance, exposure, contrast, saturation, a little hue; gray; blur; sensor noise; JPEG blocks.
    """

    def balanced(some_B3HW: Tensor, draws: Draws) -> Tensor:
        return (some_B3HW * torch.exp(0.25 * draws.normal(3, 1, 1).to(some_B3HW.device))).clamp(0, 1)

    def jittered(some_B3HW: Tensor, draws: Draws) -> Tensor:
        return colour_jitter(some_B3HW, 0.4, 0.5, 0.7, 0.08, draws)

    def blurred(some_B3HW: Tensor, draws: Draws) -> Tensor:
        return blur(some_B3HW, 0.3, 1.5, draws)

    def noisy(some_B3HW: Tensor, draws: Draws) -> Tensor:
        return sensor_noise(some_B3HW, 0.08, draws)

    def compressed(some_B3HW: Tensor, draws: Draws) -> Tensor:
        return jpeg_blocks(some_B3HW, 0.02, 0.25, draws)

    image_B3HW = sometimes(balanced, image_B3HW, 0.7, draws)
    image_B3HW = (image_B3HW + 1e-3) ** torch.exp(uniform(image_B3HW, -0.6, 0.6, draws))
    for change, chance in ((jittered, 0.8), (gray, 0.15), (blurred, 0.3), (noisy, 0.5), (compressed, 0.3)):
        image_B3HW = sometimes(change, image_B3HW, chance, draws)
    return image_B3HW


PERTURBATIONS = {"none": None, "unimatch": unimatch_perturbation, "camera": camera_perturbation}


def grayscale(image_B3HW: Tensor) -> Tensor:
    """Luma in all three channels."""
    luma = image_B3HW.new_tensor(LUMA).view(1, 3, 1, 1)
    return (image_B3HW * luma).sum(1, keepdim=True).expand_as(image_B3HW)


def colour_jitter(
    image_B3HW: Tensor, brightness: float, contrast: float, saturation: float, hue: float, draws: Draws
) -> Tensor:
    """Brightness, contrast, saturation by factors in 1 - x .. 1 + x, hue by -x .. x turns; clipped to 0..1."""
    count = len(image_B3HW)
    image_B3HW = (image_B3HW * uniform(image_B3HW, 1 - brightness, 1 + brightness, draws)).clamp(0, 1)
    mean_B = grayscale(image_B3HW).mean((1, 2, 3), keepdim=True)
    image_B3HW = mean_B + (image_B3HW - mean_B) * uniform(image_B3HW, 1 - contrast, 1 + contrast, draws)
    factor_B = uniform(image_B3HW, 1 - saturation, 1 + saturation, draws).view(count)
    turn_B = uniform(image_B3HW, -hue, hue, draws).view(count) * (2 * math.pi)
    return torch.einsum("bij,bjhw->bihw", chroma_matrix(factor_B, turn_B), image_B3HW).clamp(0, 1)


def chroma_matrix(factor_B: Tensor, turn_B: Tensor) -> Tensor:
    """RGB to RGB (B, 3, 3): the two chroma axes of YIQ stretched by `factor_B` and turned by `turn_B` radians."""
    yiq = torch.tensor(YIQ, dtype=factor_B.dtype)
    turned = factor_B.new_zeros(len(factor_B), 3, 3)
    turned[:, 0, 0] = 1
    turned[:, 1, 1] = turned[:, 2, 2] = factor_B * turn_B.cos()
    turned[:, 2, 1] = factor_B * turn_B.sin()
    turned[:, 1, 2] = -turned[:, 2, 1]
    return torch.linalg.inv(yiq).to(turned.device) @ turned @ yiq.to(turned.device)


def blur(image_B3HW: Tensor, low: float, high: float, draws: Draws) -> Tensor:
    """Gaussian blur with a standard deviation of low..high pixels, mirrored at the borders."""
    count, channels, height, width = image_B3HW.shape
    reach = math.ceil(2.5 * high)
    offsets = torch.arange(-reach, reach + 1, dtype=image_B3HW.dtype, device=image_B3HW.device)
    kernel_BK = torch.exp(-((offsets / uniform(image_B3HW, low, high, draws).view(count, 1)) ** 2) / 2)
    kernel = (kernel_BK / kernel_BK.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    flat = F.pad(image_B3HW.reshape(1, count * channels, height, width), (reach,) * 4, mode="reflect")
    flat = F.conv2d(flat, kernel[:, None, :, None], groups=count * channels)
    flat = F.conv2d(flat, kernel[:, None, None, :], groups=count * channels)
    return flat.reshape(image_B3HW.shape)


def sensor_noise(image_B3HW: Tensor, strongest: float, draws: Draws) -> Tensor:
    """Gaussian noise: a constant part and one that grows with the root of brightness, up to `strongest` in all."""
    strength = uniform(image_B3HW, 0, strongest, draws)
    share = uniform(image_B3HW, 0, 1, draws)
    noise = noise_like(image_B3HW, draws)
    return (image_B3HW + noise * strength * (1 - share + share * image_B3HW.clamp(min=0).sqrt())).clamp(0, 1)


def jpeg_blocks(image_B3HW: Tensor, low: float, high: float, draws: Draws) -> Tensor:
    """What JPEG does to 8 x 8 blocks: cosine transform, quantised more coarsely towards high frequencies, and back.

    The step is low..high at the highest frequencies. All channels alike: no chroma subsampling.
    """
    count, _, height, width = image_B3HW.shape
    padded = F.pad(image_B3HW, (0, -width % 8, 0, -height % 8), mode="replicate")
    blocks = padded.unflatten(3, (-1, 8)).unflatten(2, (-1, 8))
    k = torch.arange(8, dtype=image_B3HW.dtype, device=image_B3HW.device)
    dct = torch.cos(math.pi / 8 * (k[None] + 0.5) * k[:, None]) / 2
    dct[0] /= math.sqrt(2)
    step = (1 + k[:, None] + k[None]) / 15 * uniform(image_B3HW, low, high, draws).view(count, 1, 1, 1)
    step = step.view(count, 1, 1, 8, 1, 8)
    coefficients = torch.einsum("ui,bcyixj,vj->bcyuxv", dct, blocks, dct)
    blocks = torch.einsum("ui,bcyuxv,vj->bcyixj", dct, (coefficients / step).round() * step, dct)
    return blocks.flatten(4, 5).flatten(2, 3)[:, :, :height, :width].clamp(0, 1)


def cutmix_box(side: tuple[int, int], generator: Generator) -> Tensor:
    """UniMatch's box as a bool mask (H, W): 2 to 40 % of the area, height / width of 0.3 to 1 / 0.3, wholly inside."""
    height, width = side
    mask_HW = torch.zeros(height, width, dtype=torch.bool)
    while True:
        area, ratio, y, x = torch.rand(4, generator=generator).tolist()
        area = (0.02 + 0.38 * area) * height * width
        ratio = 0.3 + (1 / 0.3 - 0.3) * ratio
        box_width, box_height = int(math.sqrt(area / ratio)), int(math.sqrt(area * ratio))
        top, left = int(y * height), int(x * width)
        if top + box_height <= height and left + box_width <= width:
            mask_HW[top : top + box_height, left : left + box_width] = True
            return mask_HW
