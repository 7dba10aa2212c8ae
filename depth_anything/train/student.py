"""Step 3 of the papers: labelled and pseudo-labelled images in, losses out."""

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from depth_anything import losses
from depth_anything.checkpoints.official import load_backbone
from depth_anything.losses import Losses
from depth_anything.network.beit_sam import Encoder, encoder_of
from depth_anything.network.efficientnet import as_tokens
from depth_anything.train.batches import MixedBatch, Slice, counts, mixes, partner
from depth_anything.train.recipes.base import Recipe, Stage, Unlabeled
from depth_anything.train.teacher import labeled_losses, run_network
from depth_anything.variants import Variant, get_variant

LOG = logging.getLogger(__name__)


def student_losses(
    network: nn.Module,
    batch: Slice,
    recipe: Recipe,
    stage: Stage,
    teacher: nn.Module | None = None,
    frozen: nn.Module | None = None,
) -> Losses:
    """V1's (L_l + L_u + L_feat) / 3 (section 3.3), or V2's L_ssi + 2 L_gm + L_feat on pseudo labels alone (section 5).

    Labelled and unlabelled images go through the student in one pass.

    Args:
        network: `MapAndTokens`.
        teacher: labels the clean images during training: a map (B, H, W) from a normalised image. None: the labels
            come with the batch, from shards.
        frozen: the frozen encoder of L_feat: patch tokens (B, N, C) from a normalised image.
    """
    settings = recipe.unlabeled
    assert settings is not None
    labeled, unlabeled = batch.labeled, batch.unlabeled
    image_B3HW = batch.image_B3HW
    prediction_BHW, tokens_BNC = run_network(network, image_B3HW, recipe)
    first = len(labeled.image_B3HW) if labeled else 0
    total = zero = image_B3HW.new_zeros(())
    parts: dict[str, Tensor] = {}
    if recipe.unlabeled_share < 1:
        pair = labeled_losses(prediction_BHW[:first], labeled, stage) if labeled else (zero, zero)
        main, matching = (batch.labeled_weight * one for one in pair)
        total = total + recipe.labeled_weight * (main + stage.gradient_weight * matching)
        parts |= {"labeled": main.detach(), "labeled_gradient": matching.detach()}
    if recipe.unlabeled_share > 0:
        pair = (zero, zero)
        if unlabeled:
            pair = unlabeled_losses(prediction_BHW[first:], unlabeled, recipe, stage, teacher)
        main, matching = (batch.unlabeled_weight * one for one in pair)
        total = total + settings.weight * (main + stage.gradient_weight * matching)
        parts |= {"unlabeled": main.detach(), "unlabeled_gradient": matching.detach()}
    if settings.feature_weight:
        assert frozen is not None, "L_feat needs a frozen encoder"
        alignment, kept = feature_losses(frozen, image_B3HW, tokens_BNC, first, recipe, settings)
        weight = feature_share(batch, recipe, stage, settings)
        total = total + settings.feature_weight * weight * alignment
        parts |= {"feature": weight * alignment.detach(), "tokens_kept": weight * kept}
    return Losses(total, parts)


def feature_losses(
    frozen: nn.Module, image_B3HW: Tensor, tokens_BNC: Tensor, labeled: int, recipe: Recipe, settings: Unlabeled
) -> tuple[Tensor, Tensor]:
    """L_feat (V1 Eq. 9) on the recipe's choice of a slice's images, and the share of tokens below the margin.

    Args:
        labeled: number of labelled images; they come first.
    """
    chosen = {"unlabeled": slice(labeled, None), "labeled": slice(0, labeled), "both": slice(None)}[settings.feature_on]
    if not len(image_B3HW[chosen]):
        return image_B3HW.new_zeros(()), image_B3HW.new_zeros(())
    with torch.no_grad():
        frozen_BNC = run_network(frozen, image_B3HW[chosen], recipe)
    return losses.feature_alignment_loss(tokens_BNC[chosen], frozen_BNC, settings.feature_margin)


def feature_share(batch: Slice, recipe: Recipe, stage: Stage, settings: Unlabeled) -> float:
    """Number of images of L_feat in a slice relative to an equal division (`Slice.labeled_weight`)."""
    if settings.feature_on != "both":
        return batch.labeled_weight if settings.feature_on == "labeled" else batch.unlabeled_weight
    labeled, unlabeled = counts(recipe, stage)
    return (labeled * batch.labeled_weight + unlabeled * batch.unlabeled_weight) / stage.batch


def unlabeled_losses(
    prediction_BHW: Tensor, batch: MixedBatch, recipe: Recipe, stage: Stage, teacher: nn.Module | None
) -> tuple[Tensor, Tensor]:
    """V1's L_u (Eq. 6-8) against the teacher's maps of the clean images, and gradient matching in the same regions.

    Under the loss `range` there is no CutMix (`batches.mixes`).
    """
    settings = recipe.unlabeled
    assert settings is not None
    count = len(batch.box_BHW)
    disparity_NHW, valid_NHW = batch.disparity_NHW, batch.valid_NHW
    if teacher is not None:
        with torch.no_grad():
            disparity_NHW = run_network(teacher, batch.clean_N3HW, recipe).float()
        valid_NHW = disparity_NHW.isfinite()
    own_BHW, own_valid_BHW = disparity_NHW[:count], valid_NHW[:count]
    if stage.loss == "range":
        return range_pair(prediction_BHW, own_BHW, own_valid_BHW, settings)
    return losses.cutmix_pair(
        prediction_BHW,
        partner(disparity_NHW, count),
        own_BHW,
        batch.box_BHW if mixes(recipe, stage) else None,
        partner(valid_NHW, count),
        own_valid_BHW,
        settings.noisiest,
    )


def range_pair(
    prediction_BHW: Tensor, disparity_BHW: Tensor, valid_BHW: Tensor, settings: Unlabeled
) -> tuple[Tensor, Tensor]:
    """Our range-normalised pair on pseudo labels, without the noisiest pixels if the recipe ignores them."""
    if settings.noisiest:
        residual_BHW = losses.range_normalised_residual(prediction_BHW, disparity_BHW, valid_BHW)
        valid_BHW = valid_BHW & ~losses.largest_residuals(residual_BHW, valid_BHW, settings.noisiest)
    return losses.range_normalised_loss(prediction_BHW, disparity_BHW, valid_BHW)


class FinalTokens(nn.Module):
    """A frozen encoder's patch tokens (B, N, C) after the final norm, the targets of L_feat (V1 Eq. 9). The tokens of a
    convolutional encoder are the positions of its coarsest map."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder.eval().requires_grad_(False)
        self.last = len(encoder.blocks) - 1

    def forward(self, image_B3HW: Tensor) -> Tensor:
        return as_tokens(self.encoder(image_B3HW, (self.last,))[0])


def check_teacher(recipe: Recipe, row: Variant) -> None:
    """Check that a student's teacher predicts disparity; warn if it is not the teacher of the recipe.

    Raises:
        ValueError: it predicts metres.
    """
    if row.quantity != "disparity":
        raise ValueError(f"--teacher: {row.name} predicts metres: expected a teacher that predicts disparity")
    if recipe.unlabeled and row.name != recipe.unlabeled.teacher:
        LOG.warning("%s is meant for a teacher %s; this one is %s", recipe.name, recipe.unlabeled.teacher, row.name)


def frozen_encoder(path: str | Path, variant: str, accept_license: bool = False) -> FinalTokens:
    """A frozen encoder for L_feat, from a file of its family or from a model.

    Raises:
        ValueError: the file is damaged, or its size differs from the student's (V1's author used the same size).
    """
    encoder = encoder_of(get_variant(variant))
    encoder.load_state_dict(load_backbone(path, variant, accept_license))
    return FinalTokens(encoder)
