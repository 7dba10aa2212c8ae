"""A network that will only answer from now on, rearranged for speed: the same map within float32 rounding.

On a processor: linear layers with their weights in oneDNN's own order, with GELU and LayerScale folded in; decoder
weights channels-last; position tables kept per size. On a GPU: channels-last, and `torch.compile` with CUDA graphs
where asked for. Training, saving and export want the network as it was before.
"""

from __future__ import annotations

import platform
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor, nn

from .dinov2 import Block, Mlp
from .model import DepthAnything


class PackedLinear(nn.Module):
    """A linear layer in oneDNN's own order; torch reorders a plain one's weight, or does without, at every call.

    Args:
        linear: the layer to replace.
        gamma_C: LayerScale behind it, folded into weight and bias.
        gelu: the exact GELU behind it, done in the same pass.
    """

    def __init__(self, linear: nn.Linear, dtype: torch.dtype, gamma_C: Tensor | None = None, gelu: bool = False):
        super().__init__()
        weight, bias = linear.weight.detach().float(), linear.bias.detach().float()
        if gamma_C is not None:
            weight, bias = weight * gamma_C.detach().float()[:, None], bias * gamma_C.detach().float()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.to(dtype))
        self.bias = bias.to(dtype)
        self.activation = ("gelu", [], "none") if gelu else ("none", [], "")

    def forward(self, x_BNC: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x_BNC, self.weight, self.bias, *self.activation)


def freeze(
    model: DepthAnything, device: str = "cpu", dtype: torch.dtype = torch.float32, compile: bool = False
) -> DepthAnything:
    """The same object, without gradients, on `device` in `dtype`; what is frozen already only moves.

    Args:
        compile: also through `torch.compile`, once for each size: seconds to a minute then, faster ever after. On a
            GPU with CUDA graphs.
    """
    model = model.eval().requires_grad_(False)
    encoder = model.pretrained
    if device == "cpu" and not compile and can_pack(dtype):
        for block in encoder.blocks:
            pack(cast(Block, block), dtype)
    if "position_table" not in vars(encoder):
        encoder.position_table = lru_cache(maxsize=16)(encoder.position_table)
    encoder.position_table.cache_clear()  # type: ignore[attr-defined]
    model.to(device, dtype)
    model.depth_head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if compile:
        mode = "reduce-overhead" if device.startswith("cuda") else "default"
        model.forward = torch.compile(model.forward, mode=mode, dynamic=False)
    return model


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this torch has oneDNN's packed layers, for this processor and dtype."""
    has_operators = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return has_operators and platform.machine() in ("x86_64", "AMD64") and dtype in (torch.float32, torch.bfloat16)


def pack(block: Block, dtype: torch.dtype) -> None:
    """Replace a block's linear layers in place; not twice."""
    if isinstance(block.attn.qkv, PackedLinear):
        return
    block.attn.qkv = PackedLinear(block.attn.qkv, dtype)
    block.attn.proj = PackedLinear(block.attn.proj, dtype, block.ls1.gamma)
    if isinstance(block.mlp, Mlp):
        fc1 = PackedLinear(block.mlp.fc1, dtype, gelu=True)
        block.mlp = nn.Sequential(fc1, PackedLinear(block.mlp.fc2, dtype, block.ls2.gamma))
    else:
        block.mlp.w12 = PackedLinear(block.mlp.w12, dtype)
        block.mlp.w3 = PackedLinear(block.mlp.w3, dtype, block.ls2.gamma)
    block.ls1 = block.ls2 = nn.Identity()  # type: ignore[assignment]
