"""The encoder: DINOv2's vision transformer with patches of 14 pixels, without registers.

Both papers start from it (V1 section 4.1, V2 section 6). Attribute names are those of the official checkpoints.

Shapes: B batch, H W pixels, h w patches (H / 14, W / 14), N tokens (h * w, or 1 + h * w with the class token), C width.
All shape arithmetic is symbolic, so that one exported graph serves every size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.compiler import is_dynamo_compiling, is_exporting

from depth_anything.network.resize import PATCH, cubic_weight
from depth_anything.system.device import is_eager_cpu_inference
from depth_anything.variants import Variant

POSITION_OFFSET = 0.1
"""DINOv2 resizes its position table by the factor (n + 0.1) / side; the official weights expect this sampling step."""
TENTHS = 10


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BNC: Tensor) -> Tensor:
        return self.proj(mix_tokens(self.qkv(x_BNC), self.heads))


def mix_tokens(qkv_BN3C: Tensor, heads: int) -> Tensor:
    """Attention between the tokens in every head: queries, keys and values (B, N, 3 C) in, (B, N, C) out."""
    batch, tokens, width = qkv_BN3C.shape[0], qkv_BN3C.shape[1], qkv_BN3C.shape[2] // 3
    q, k, v = qkv_BN3C.reshape(batch, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4).unbind(0)
    return attend(q, k, v).transpose(1, 2).reshape(batch, tokens, width)


def attend(q_BHND: Tensor, k_BHND: Tensor, v_BHND: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D)) v for H heads of D channels.

    Uses torch's fused kernel, except for bfloat16 on a CPU: there, plain products over 192 queries at a time, whose
    scores stay in the cache, take three quarters of the time (docs/log.md). In float32 the fused kernel is faster.
    """
    if exports():  # the form of attention that runtimes recognise; torch would scale both factors
        return (q_BHND * q_BHND.shape[-1] ** -0.5 @ k_BHND.transpose(-2, -1)).softmax(dim=-1) @ v_BHND
    if not (q_BHND.dtype == torch.bfloat16 and is_eager_cpu_inference(q_BHND)):
        return F.scaled_dot_product_attention(q_BHND, k_BHND, v_BHND)
    q, k, v = q_BHND * q_BHND.shape[-1] ** -0.5, k_BHND.contiguous(), v_BHND.contiguous()
    return torch.cat([(rows @ k.mT).softmax(dim=-1) @ v for rows in q.split(192, dim=-2)], dim=-2)


def exports() -> bool:
    """Whether a graph is being exported. In torch 2.11 `is_exporting` also holds while torch.compile traces (pytorch
    issue 176347); what exports here does not trace by Dynamo."""
    return is_exporting() and not is_dynamo_compiling()


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them (S, B, L, nano)."""

    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x_BNC: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x_BNC)))


class SwiGLU(nn.Module):
    """Gated feed-forward layer of the giant: two thirds of the MLP's hidden width, rounded up to a multiple of 8."""

    def __init__(self, width: int):
        super().__init__()
        hidden = (int(4 * width * 2 / 3) + 7) // 8 * 8
        self.w12 = nn.Linear(width, 2 * hidden)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, x_BNC: Tensor) -> Tensor:
        return self.w3(gate(self.w12(x_BNC)))


def gate(x_BNC: Tensor) -> Tensor:
    """The gate of SwiGLU: silu of the first half of the channels, times the second half."""
    first, second = x_BNC.chunk(2, dim=-1)
    return F.silu(first) * second


class LayerScale(nn.Module):
    """One learned factor per channel on a residual branch."""

    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x_BNC: Tensor) -> Tensor:
        return x_BNC * self.gamma


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, variant: Variant):
        super().__init__()
        width = variant.width
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, variant.heads)
        self.ls1 = LayerScale(width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = SwiGLU(width) if variant.swiglu else Mlp(width)
        self.ls2 = LayerScale(width)

    def forward(self, x_BNC: Tensor) -> Tensor:
        x = x_BNC + self.ls1(self.attn(self.norm1(x_BNC)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class PatchEmbed(nn.Module):
    """One token per 14 x 14 pixels."""

    def __init__(self, width: int):
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=PATCH, stride=PATCH)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        return self.proj(image_B3HW).flatten(2).transpose(1, 2)


class DinoVisionTransformer(nn.Module):
    """DINOv2 as used in both papers: an image in, patch tokens of selected blocks out."""

    def __init__(self, variant: Variant):
        super().__init__()
        width, side = variant.width, variant.table_side
        self.table_side = side
        self.patch_embed = PatchEmbed(width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + side * side, width))
        self.mask_token = nn.Parameter(
            torch.zeros(1, width)
        )  # in every file; used when patches are masked (train/masked_patches.py)
        self.blocks = nn.ModuleList(Block(variant) for _ in range(variant.depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.init_weights()

    def init_weights(self) -> None:
        """Initialise as DINOv2 does: truncated normal with deviation 0.02 for tables and linear layers, zero biases."""
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def position_table(self, h: int, w: int) -> Tensor:
        """The position table (1, 1 + h * w, C) for h x w patches.

        DINOv2 uses the table unchanged at its own size; at any other size it resamples it bicubically with a step of
        side / (n + 0.1). Here both are A_h . table . A_w^T. Matrices from plain arithmetic give the same numbers in
        torch, ONNX Runtime and OpenVINO, whose resize operators differ, and keep the size symbolic.
        """
        side = self.table_side
        cls_11C, table_SSC = self.pos_embed[:, :1], self.pos_embed[0, 1:].reshape(side, side, -1)
        size_2 = torch.stack([torch.scalar_tensor(n, dtype=torch.int64, device=table_SSC.device) for n in (h, w)])
        # A sum of absolute differences gives wrong results in OpenVINO for grids smaller than the table.
        is_other_size = (size_2 != side).sum().clamp(max=1)
        rows_hS, columns_wS = cubic_matrix(h, side, is_other_size), cubic_matrix(w, side, is_other_size)
        table_hSC = (rows_hS @ table_SSC.float().flatten(1)).unflatten(1, (side, -1))
        table_hwC = columns_wS @ table_hSC
        return torch.cat([cls_11C, table_hwC.reshape(1, h * w, -1).to(cls_11C.dtype)], dim=1)

    def forward(self, image_B3HW: Tensor, taps: tuple[int, ...], hidden_BN: Tensor | None = None) -> list[Tensor]:
        """Patch tokens (B, N, C) after each block in `taps`, after the final norm, without the class token.

        Patches in `hidden_BN` (bool) are replaced by the mask token, to which their position is added.
        """
        h, w = image_B3HW.shape[-2] // PATCH, image_B3HW.shape[-1] // PATCH
        x_BNC = self.patch_embed(image_B3HW)
        if hidden_BN is not None:
            x_BNC = torch.where(hidden_BN[..., None], self.mask_token.to(x_BNC.dtype), x_BNC)
        x_BNC = torch.cat([self.cls_token.expand(x_BNC.shape[0], -1, -1), x_BNC], dim=1)
        x_BNC = x_BNC + self.position_table(h, w)
        tapped = []
        for index, block in enumerate(self.blocks):
            x_BNC = block(x_BNC)
            if index in taps:
                tapped.append(self.norm(x_BNC)[:, 1:])
            if index == max(taps):
                break
        return tapped


def cubic_matrix(size: int, side: int, is_other_size: Tensor) -> Tensor:
    """Weights (size, side), float32, of `size` bicubic samples of `side` entries with a step of side / (size + 0.1).

    Borders are clamped. `is_other_size` is 1, or 0 for a step of side / size, which is the identity if both are equal.

    Sample i lies at (i + 1/2) 10 side / n - 1/2 entries, with n = 10 size + 1. This is computed in integers, because a
    runtime that may use bfloat16 would lose the position otherwise.
    """
    n = TENTHS * size + is_other_size * int(TENTHS * POSITION_OFFSET)
    doubled_n1 = ((2 * torch.arange(size, device=n.device) + 1) * (TENTHS * side) + n)[:, None]  # 2 n (position + 1)
    base_n1 = torch.div(doubled_n1, 2 * n, rounding_mode="trunc")
    fraction_n1 = (doubled_n1 - base_n1 * (2 * n)).float() / (2 * n).float()
    entries_1S = torch.arange(side, device=n.device)[None]
    weights_nS = torch.zeros_like(fraction_n1 * entries_1S)
    for neighbour in (-1, 0, 1, 2):
        index_n1 = (base_n1 - 1 + neighbour).clamp(0, side - 1)
        weights_nS = weights_nS + cubic_weight(fraction_n1 - neighbour) * (index_n1 == entries_1S)
    return weights_nS
