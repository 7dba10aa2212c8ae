"""Step 1 of the papers: a batch of labelled images in, losses out."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from depth_anything import losses
from depth_anything.losses import Losses
from depth_anything.network.efficientnet import as_tokens
from depth_anything.network.resize import PATCH
from depth_anything.system.device import computes_bfloat16, has_values
from depth_anything.train.batches import Batch
from depth_anything.train.recipes.base import Recipe, Stage

if TYPE_CHECKING:
    from depth_anything.network.model import DepthAnything

FEW_TOKENS = 400
"""Up to about this number of tokens, plain attention has a faster backward pass on CPUs than the fused kernel."""


class MapAndTokens(nn.Module):
    """The outputs that training needs, in one forward pass: DDP and FSDP2 act on calls of the outermost module only."""

    def __init__(self, model: DepthAnything):
        super().__init__()
        self.model = model

    def forward(self, image_B3HW: Tensor, hidden_BN: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The map (B, H, W), and the encoder's patch tokens (B, N, C) after the final norm (`efficientnet.as_tokens`).

        The encoder does not see the patches in `hidden_BN` (train/masked_patches.py).
        """
        if hidden_BN is None:
            levels = self.model.encode(image_B3HW)
        else:
            levels = self.model.pretrained(image_B3HW, self.model.variant.taps, hidden_BN)
        return self.model.decode(levels, *self.model.grid(image_B3HW)), as_tokens(levels[-1])


def plain_attention(image_B3HW: Tensor):
    """Context that selects plain attention for few tokens on CPUs, also in backward and activation checkpointing."""
    few = image_B3HW.shape[2] * image_B3HW.shape[3] <= FEW_TOKENS * PATCH**2
    here = image_B3HW.device.type == "cpu" and has_values(image_B3HW)
    return sdpa_kernel(SDPBackend.MATH) if few and here else nullcontext()


def run_network(network: nn.Module, image_B3HW: Tensor, recipe: Recipe, *more: Tensor):
    """A forward pass in the recipe's precision; in float32 on a CPU without bfloat16 instructions.

    In a whole model this is the precision of the encoder: `DepthAnything.decode` computes the map in float32.

    Args:
        more: further arguments of the network.
    """
    kind = image_B3HW.device.type
    mixed = recipe.precision == "bfloat16" and (computes_bfloat16(kind) or not has_values(image_B3HW))
    with torch.autocast(kind, torch.bfloat16, enabled=mixed):
        return network(image_B3HW, *more)


def stored_as_computed(encoder: nn.Module, recipe: Recipe, kind: str) -> None:
    """Store the linear layers of an encoder that is not trained as `run_network` computes with them, in place: in
    bfloat16 where autocast would convert them in every pass. The results are the same, in half of the memory.

    The rest of it (norms, tables, LayerScale, convolutions) stays in float32.

    Args:
        kind: of device.
    """
    if recipe.precision == "bfloat16" and computes_bfloat16(kind):
        for module in encoder.modules():
            if isinstance(module, nn.Linear):
                for name, parameter in list(module.named_parameters()):
                    module.register_parameter(name, nn.Parameter(parameter.detach().bfloat16(), requires_grad=False))


def labeled_losses(prediction_BHW: Tensor, batch: Batch, stage: Stage) -> tuple[Tensor, Tensor]:
    """The stage's loss and its gradient matching: V1's L_l, V2's L_ssi and L_gm, or our range-normalised pair."""
    pair = losses.range_normalised_loss if stage.loss == "range" else losses.affine_invariant_pair
    return pair(prediction_BHW, batch.disparity_BHW, batch.valid_BHW, stage.outline_weight)


def teacher_losses(network: nn.Module, batch: Batch, recipe: Recipe, stage: Stage) -> Losses:
    """V1's L_l, V2's L_ssi + 2 L_gm, or our range-normalised pair, depending on the stage. Losses are float32."""
    prediction_BHW, _ = run_network(network, batch.image_B3HW, recipe)
    main, matching = labeled_losses(prediction_BHW, batch, stage)
    return Losses(main + stage.gradient_weight * matching, {stage.loss: main.detach(), "gradient": matching.detach()})
