"""Rearrange a model for inference; the map is the same within float32 rounding.

Batch normalisation is folded into convolutions. On a CPU, the weights of linear layers are in oneDNN's memory order,
with GELU and LayerScale folded in, the decoder is channels-last, and position tables are cached per size. On a GPU, the
decoder is channels-last, with `torch.compile` and CUDA graphs if requested. Training, saving and export need the
original network.
"""

from __future__ import annotations

import platform
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from depth_anything.network.dinov2 import Block, DinoVisionTransformer, Mlp, gate, mix_tokens
from depth_anything.network.efficientnet import fold

if TYPE_CHECKING:
    from depth_anything.network.model import DepthAnything


class PackedLinear(nn.Module):
    """A linear layer with its weight in oneDNN's memory order, which torch would otherwise create at every call.

    Args:
        linear: the layer to replace.
        gamma_C: the following LayerScale, folded into weight and bias.
        gelu: whether an exact GELU follows, computed in the same pass.
    """

    def __init__(self, linear: nn.Linear, dtype: torch.dtype, gamma_C: Tensor | None = None, gelu: bool = False):
        super().__init__()
        weight, bias = linear.weight.detach().float(), linear.bias.detach().float()
        if gamma_C is not None:
            weight, bias = weight * gamma_C.detach().float()[:, None], bias * gamma_C.detach().float()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.to(dtype))
        self.bias = bias.to(dtype)
        self.activation = ("gelu", [], "none") if gelu else ("none", [], "")

    def forward(self, x_BNC: Tensor, plus_BNC: Tensor | None = None) -> Tensor:
        """The layer's output, added to `plus_BNC`."""
        if plus_BNC is not None:
            return torch.ops.mkldnn._linear_pointwise.binary(x_BNC, plus_BNC, self.weight, self.bias, "add")
        return torch.ops.mkldnn._linear_pointwise(x_BNC, self.weight, self.bias, *self.activation)


class PackedBlock(nn.Module):
    """A transformer block of packed layers; LayerScale is folded into their weights, and they add the residual."""

    def __init__(self, block: Block, dtype: torch.dtype):
        super().__init__()
        self.heads = block.attn.heads
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.qkv = PackedLinear(block.attn.qkv, dtype)
        self.proj = PackedLinear(block.attn.proj, dtype, block.ls1.gamma)
        self.is_mlp = isinstance(block.mlp, Mlp)
        first, second = (block.mlp.fc1, block.mlp.fc2) if isinstance(block.mlp, Mlp) else (block.mlp.w12, block.mlp.w3)
        self.first = PackedLinear(first, dtype, gelu=self.is_mlp)
        self.second = PackedLinear(second, dtype, block.ls2.gamma)

    def forward(self, x_BNC: Tensor) -> Tensor:
        x = self.proj(mix_tokens(self.qkv(self.norm1(x_BNC)), self.heads), plus_BNC=x_BNC)
        y = self.first(self.norm2(x))
        return self.second(y if self.is_mlp else gate(y), plus_BNC=x)


def optimise(
    model: DepthAnything, device: str = "cpu", dtype: torch.dtype = torch.float32, compile: bool = False
) -> DepthAnything:
    """Optimise a model in place and return it, without gradients, on `device` in `dtype`. May be called again.

    Args:
        compile: also use `torch.compile`, which takes up to a minute for each new size; on a GPU with CUDA graphs.
    """
    model = model.eval().requires_grad_(False)
    encoder = model.pretrained
    if isinstance(encoder, DinoVisionTransformer):  # encoders of beit_sam.py are not changed
        if device == "cpu" and not compile and can_pack(dtype):
            for index, block in enumerate(encoder.blocks):
                if isinstance(block, Block):
                    encoder.blocks[index] = PackedBlock(block, dtype)
        vars(encoder).pop("position_table", None)  # an earlier cache, perhaps of another device or dtype
        if not compile:  # a cached table would be an output of a CUDA graph, which the next run overwrites
            encoder.position_table = lru_cache(maxsize=16)(encoder.position_table)
    fold(model)
    model.to(device, dtype)
    model.depth_head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if compile:
        mode = "reduce-overhead" if device.startswith("cuda") else "default"
        model.forward = torch.compile(model.forward, mode=mode, dynamic=False)
    return model


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this torch has oneDNN's packed layers for this CPU and dtype."""
    has_operators = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    has_dtype = dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return has_operators and platform.machine() in ("x86_64", "AMD64") and has_dtype
