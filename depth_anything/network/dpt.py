"""The decoder: a dense prediction transformer (DPT) that turns four token maps into one map at full size.

It reassembles the tokens to maps at 4, 2, 1 and 1/2 times the patch grid, fuses them from coarse to fine, and predicts
the map. The four maps of a convolutional encoder are fused directly. Attribute names are those of the official
checkpoints. Batch norm and the class-token readout exist in the authors' code but in no released model.

Shapes: B batch, N tokens, C width, h w patches, F features. Sizes stay symbolic (`h * 14`, never `int(...)`).
"""

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from depth_anything.system.device import is_eager_cpu_inference
from depth_anything.variants import Variant

HEAD_CHANNELS = 32
"""Number of channels of the last features before the map."""


@dataclass(frozen=True)
class Stages:
    """Intermediate results of the decoder; ZoeDepth's head reads all of them."""

    bottleneck_BFhw: Tensor
    """The coarsest level."""
    paths: tuple[Tensor, Tensor, Tensor, Tensor]
    """Results of the four fusion stages (B, F, h, w), from coarse to fine."""
    activation_BCHW: Tensor
    """The last features, at the size of the network's input."""
    map_B1HW: Tensor


class ResidualConvUnit(nn.Module):
    """Two 3x3 convolutions, each after a ReLU, with a skip connection."""

    def __init__(self, features: int):
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x_BFhw: Tensor) -> Tensor:
        return self.conv2(F.relu(self.conv1(F.relu(x_BFhw)))) + x_BFhw


class FeatureFusionBlock(nn.Module):
    """Add the finer level to the running map, refine it, resize it to `size`, and mix its channels."""

    def __init__(self, features: int):
        super().__init__()
        self.out_conv = nn.Conv2d(features, features, 1)
        self.resConfUnit1 = ResidualConvUnit(features)  # for the finer level; in every checkpoint, unused in refinenet4
        self.resConfUnit2 = ResidualConvUnit(features)

    def forward(self, x_BFhw: Tensor, finer_BFhw: Tensor | None, size: tuple[int, int]) -> Tensor:
        if finer_BFhw is not None:
            x_BFhw = x_BFhw + self.resConfUnit1(finer_BFhw)
        x_BFhw = self.resConfUnit2(x_BFhw)
        # The official order is resizing, then the 1x1 convolution. Both are linear and bilinear weights sum to one, so
        # the cheaper order gives the same result.
        return F.interpolate(self.out_conv(x_BFhw), size=size, mode="bilinear", align_corners=True)


class Scratch(nn.Module):
    """The layers that are trained from scratch, under their name in all checkpoints."""

    def __init__(self, variant: Variant):
        super().__init__()
        features, channels = variant.features, variant.out_channels
        self.layer1_rn = nn.Conv2d(channels[0], features, 3, padding=1, bias=False)
        self.layer2_rn = nn.Conv2d(channels[1], features, 3, padding=1, bias=False)
        self.layer3_rn = nn.Conv2d(channels[2], features, 3, padding=1, bias=False)
        self.layer4_rn = nn.Conv2d(channels[3], features, 3, padding=1, bias=False)
        self.refinenet1 = FeatureFusionBlock(features)
        self.refinenet2 = FeatureFusionBlock(features)
        self.refinenet3 = FeatureFusionBlock(features)
        self.refinenet4 = FeatureFusionBlock(features)
        self.output_conv1 = nn.Conv2d(features, features // 2, 3, padding=1)
        last = {"sigmoid": [nn.Sigmoid()], "log": []}.get(variant.head, [nn.ReLU(), nn.Identity()])
        self.output_conv2 = nn.Sequential(
            nn.Conv2d(features // 2, HEAD_CHANNELS, 3, padding=1), nn.ReLU(), nn.Conv2d(HEAD_CHANNELS, 1, 1), *last
        )


class DPTHead(nn.Module):
    """Four levels in, one map out: disparity after a ReLU, 0..1 after a sigmoid (V2's metric models), or unbounded.

    A level is the patch tokens (B, N, C) of a block, or a map (B, C, h, w) of a convolutional encoder.
    """

    def __init__(self, variant: Variant):
        super().__init__()
        self.patch = variant.patch
        self.reads_tokens = variant.encoder != "efficientnet"
        if self.reads_tokens:
            channels = variant.out_channels
            self.projects = nn.ModuleList(nn.Conv2d(variant.width, c, 1) for c in channels)
            self.resize_layers = nn.ModuleList(
                [
                    nn.ConvTranspose2d(channels[0], channels[0], kernel_size=4, stride=4),
                    nn.ConvTranspose2d(channels[1], channels[1], kernel_size=2, stride=2),
                    nn.Identity(),
                    nn.Conv2d(channels[3], channels[3], kernel_size=3, stride=2, padding=1),
                ]
            )
        self.scratch = Scratch(variant)

    def forward(self, levels: list[Tensor], h: int, w: int) -> Tensor:
        """(B, 1, H, W) from the four tapped levels of h x w patches."""
        if not is_eager_cpu_inference(levels[0]):
            return self.stages(levels, h, w).map_B1HW
        _, paths = self.fuse(levels, h, w)
        x = self.scratch.output_conv1(paths[-1])
        return enlarge_and_predict(self.scratch.output_conv2, x, (h * self.patch, w * self.patch))

    def stages(self, levels: list[Tensor], h: int, w: int) -> Stages:
        """The map and all intermediate results."""
        level4, paths = self.fuse(levels, h, w)
        x = self.scratch.output_conv1(paths[-1])
        return Stages(level4, paths, *self.at_full_size(x, (h * self.patch, w * self.patch)))

    def at_full_size(self, x_BFhw: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The last features and the map, at the size of the network's input."""
        x = F.interpolate(x_BFhw, size=size, mode="bilinear", align_corners=True)
        convolution, relu, *last = self.scratch.output_conv2
        activation = x = relu(convolution(x))
        for layer in last:
            x = layer(x)
        return activation, x

    def reassemble(self, tokens_BNC: list[Tensor], h: int, w: int) -> list[Tensor]:
        """Four maps (B, C, h, w) of 4, 2, 1 and 1/2 times the patch grid."""
        maps = []
        for tokens, project, resize in zip(tokens_BNC, self.projects, self.resize_layers, strict=True):
            x_BChw = tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], h, w)
            maps.append(resize(project(x_BChw)))
        return maps

    def fuse(self, levels: list[Tensor], h: int, w: int) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:
        """The coarsest level, and the running map after each fusion, from coarse to fine."""
        scratch = self.scratch
        if self.reads_tokens:
            levels = self.reassemble(levels, h, w)
        level1, level2 = scratch.layer1_rn(levels[0]), scratch.layer2_rn(levels[1])
        level3, level4 = scratch.layer3_rn(levels[2]), scratch.layer4_rn(levels[3])
        path4 = scratch.refinenet4(level4, None, level3.shape[2:])
        path3 = scratch.refinenet3(path4, level3, level2.shape[2:])
        path2 = scratch.refinenet2(path3, level2, level1.shape[2:])
        path1 = scratch.refinenet1(path2, level1, (level1.shape[2] * 2, level1.shape[3] * 2))
        return level4, (path4, path3, path2, path1)


STRIP = 600_000
"""Values in a strip of the resized features: 37 rows of 518 pixels and 32 channels, 2.4 MB."""


def enlarge_and_predict(output_conv2: nn.Sequential, x_BFhw: Tensor, size: tuple[int, int]) -> Tensor:
    """`output_conv2(interpolate(x, size))`, computed in strips of rows that fit into the cache.

    The last 1x1 convolution runs in float32: the eight significant bits of bfloat16 would cause steps in the map.
    """
    _, relu, _, *last = output_conv2
    conv1, conv2 = (cast(nn.Conv2d, output_conv2[index]) for index in (0, 2))
    weight2, bias2 = conv2.weight.float(), cast(Tensor, conv2.bias).float()
    (batch, features, rows, _), (height, width) = x_BFhw.shape, size
    position_H = torch.arange(height) * ((rows - 1) / max(height - 1, 1))  # align_corners=True
    above_H = position_H.long().clamp(max=max(rows - 2, 0))
    part_H11 = (position_H - above_H)[:, None, None].to(x_BFhw.dtype)
    map_B1HW = x_BFhw.new_empty(batch, 1, height, width, dtype=torch.float32)
    step = max(1, STRIP // (width * features))
    for top in range(0, height, step):
        first, end = max(top - 1, 0), min(top + step + 1, height)  # one more row on both sides, for the 3x3 convolution
        low, high = int(above_H[first]), min(int(above_H[end - 1]) + 2, rows)
        wide = F.interpolate(x_BFhw[:, :, low:high], size=(high - low, width), mode="bilinear", align_corners=True)
        above = above_H[first:end] - low
        wide_BhWF = wide.permute(0, 2, 3, 1)  # channels last: whole rows are copied below
        upper, lower = (wide_BhWF.index_select(1, index) for index in (above, (above + 1).clamp(max=high - low - 1)))
        strip = torch.lerp(upper, lower, part_H11[first:end]).permute(0, 3, 1, 2)
        y = relu(F.conv2d(strip, conv1.weight, conv1.bias, padding=1)[:, :, top - first : top - first + step])
        y = F.conv2d(y.float(), weight2, bias2)
        for layer in last:
            y = layer(y)
        map_B1HW[:, :, top : top + step] = y
    return map_B1HW
