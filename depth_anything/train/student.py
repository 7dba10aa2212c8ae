"""Step 3 of the papers: labelled and pseudo-labelled pictures in, losses out."""

from pathlib import Path

import torch
from torch import Tensor, nn

from depth_anything import losses
from depth_anything.checkpoints.official import load_backbone
from depth_anything.losses import Losses
from depth_anything.network.beit_sam import Encoder, encoder_of
from depth_anything.network.efficientnet import as_tokens
from depth_anything.train.batches import MixedBatch, Slice, partner
from depth_anything.train.recipes.base import Recipe, Stage, Unlabeled
from depth_anything.train.teacher import labeled_losses, run_network
from depth_anything.variants import get_variant


def student_losses(
    network: nn.Module,
    batch: Slice,
    recipe: Recipe,
    stage: Stage,
    teacher: nn.Module | None = None,
    frozen: nn.Module | None = None,
) -> Losses:
    """V1's (L_l + L_u + L_feat) / 3 (section 3.3), or V2's L_ssi + 2 L_gm + L_feat on pseudo labels alone (section 5).

    Labelled and unlabelled pictures go through the student in one pass.

    Args:
        network: `MapAndTokens`.
        teacher: labels the clean pictures now: a map (B, H, W) from a normalised picture. None: the labels come with
            the batch, from shards.
        frozen: the encoder that L_feat stays near: patch tokens (B, N, C) from a normalised picture.
    """
    settings = recipe.unlabeled
    assert settings is not None
    labeled, unlabeled = batch.labeled, batch.unlabeled
    image_B3HW = batch.image_B3HW
    prediction_BHW, tokens_BNC = run_network(network, image_B3HW, recipe)
    first = len(labeled.image_B3HW) if labeled else 0

    total = image_B3HW.new_zeros(())
    parts: dict[str, Tensor] = {}
    if labeled:
        main, matching = labeled_losses(prediction_BHW[:first], labeled, stage)
        total = total + recipe.labeled_weight * (main + stage.gradient_weight * matching)
        parts |= {"labeled": main.detach(), "labeled_gradient": matching.detach()}
    if unlabeled:
        main, matching = unlabeled_losses(prediction_BHW[first:], unlabeled, recipe, stage, teacher)
        total = total + settings.weight * (main + stage.gradient_weight * matching)
        parts |= {"unlabeled": main.detach(), "unlabeled_gradient": matching.detach()}
    if settings.feature_weight:
        assert frozen is not None, "L_feat needs a frozen encoder"
        start = 0 if settings.feature_on_labeled else first
        with torch.no_grad():
            frozen_BNC = run_network(frozen, image_B3HW[start:], recipe)
        alignment, kept = losses.feature_alignment_loss(tokens_BNC[start:], frozen_BNC, settings.feature_margin)
        total = total + settings.feature_weight * alignment
        parts |= {"feature": alignment.detach(), "tokens_kept": kept}
    return Losses(total, parts)


def unlabeled_losses(
    prediction_BHW: Tensor, batch: MixedBatch, recipe: Recipe, stage: Stage, teacher: nn.Module | None
) -> tuple[Tensor, Tensor]:
    """V1's L_u (Eq. 6-8) against the teacher's maps of the clean pictures, and gradient matching in the same regions.

    Under the loss `range` there is no CutMix: its prediction is not normalised, so two regions would contradict.
    """
    settings = recipe.unlabeled
    assert settings is not None
    disparity_BHW, valid_BHW = batch.disparity_BHW, batch.valid_BHW
    if teacher is not None:
        with torch.no_grad():
            disparity_BHW = run_network(teacher, batch.clean_B3HW, recipe).float()
        valid_BHW = disparity_BHW.isfinite()
    if stage.loss == "range":
        return range_pair(prediction_BHW, disparity_BHW, valid_BHW, settings)
    return losses.cutmix_pair(
        prediction_BHW,
        partner(disparity_BHW),
        disparity_BHW,
        batch.box_BHW,
        partner(valid_BHW),
        valid_BHW,
        settings.noisiest,
    )


def range_pair(
    prediction_BHW: Tensor, disparity_BHW: Tensor, valid_BHW: Tensor, settings: Unlabeled
) -> tuple[Tensor, Tensor]:
    """Our range-normalised pair on pseudo labels, without the noisiest pixels where the recipe leaves them out."""
    if settings.noisiest:
        residual_BHW = losses.range_normalised_residual(prediction_BHW, disparity_BHW, valid_BHW)
        valid_BHW = valid_BHW & ~losses.largest_residuals(residual_BHW, valid_BHW, settings.noisiest)
    return losses.range_normalised_loss(prediction_BHW, disparity_BHW, valid_BHW)


class FinalTokens(nn.Module):
    """A frozen encoder's patch tokens (B, N, C) after the final norm: what L_feat compares with (V1 Eq. 9). Of a
    convolutional encoder the positions of its coarsest map."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder.eval().requires_grad_(False)
        self.last = len(encoder.blocks) - 1

    def forward(self, image_B3HW: Tensor) -> Tensor:
        return as_tokens(self.encoder(image_B3HW, (self.last,))[0])


def frozen_encoder(path: str | Path, variant: str, accept_license: bool = False) -> FinalTokens:
    """The encoder of a file (its family's own) or of any model of the student's size, frozen for L_feat.

    Raises:
        ValueError: broken, or of another size than the student's (V1's author: the same size as the student).
    """
    encoder = encoder_of(get_variant(variant))
    encoder.load_state_dict(load_backbone(path, variant, accept_license))
    return FinalTokens(encoder)
