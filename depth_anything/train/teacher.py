"""Step 1 of the papers: a batch of labelled pictures in, losses out."""

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from depth_anything import losses
from depth_anything.train.batches import Batch
from depth_anything.train.recipes import Recipe, Stage


@dataclass(frozen=True)
class Losses:
    """What a step is judged by."""

    total: Tensor
    """Scalar with a graph."""
    parts: dict[str, Tensor]
    """Unweighted parts by name, for the log."""


def teacher_losses(model: nn.Module, batch: Batch, recipe: Recipe, stage: Stage) -> Losses:
    """V1's L_l, or V2's L_ssi + 2 L_gm, or our range-normalised pair, as the stage says. Losses are float32."""
    device = batch.image_B3HW.device.type
    # On CPUs the plain attention is faster backwards at these lengths than the fused one.
    attention = sdpa_kernel(SDPBackend.MATH) if device == "cpu" else nullcontext()
    with attention, torch.autocast(device, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        prediction_BHW = model(batch.image_B3HW)
    truth = (batch.disparity_BHW, batch.valid_BHW)
    if stage.loss == "range":
        main, matching = losses.range_normalised_loss(prediction_BHW, *truth)
    else:
        main, matching = losses.affine_invariant_pair(prediction_BHW, *truth)
    return Losses(main + stage.gradient_weight * matching, {stage.loss: main.detach(), "gradient": matching.detach()})
