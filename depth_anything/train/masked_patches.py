"""Ours: pretraining of nano-vit's encoder, without depth labels, by masked image modelling.

There is no DINOv2 of nano-vit's size. As a replacement, the whole network learns to predict the brightness of hidden
patches, with DINOv2's mask token in their place (masked image modelling is a part of DINOv2's own training). A teacher
or a student starts from this encoder, which is also the frozen encoder of L_feat (V1 Eq. 9).

`relative_depth.py` has functions of the same names; the loop uses the module of the recipe's task.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from depth_anything import losses
from depth_anything.data.augment import grayscale
from depth_anything.data.sample import cut, random_crop
from depth_anything.data.samples import Samples
from depth_anything.losses import Losses
from depth_anything.network.model import DepthAnything
from depth_anything.network.resize import PATCH, normalise
from depth_anything.train.batches import Draw, Slice, crops, perturbed
from depth_anything.train.initial_weights import DECODER_UNREAD, start_model
from depth_anything.train.learning_rates import groups, set_rate
from depth_anything.train.recipes.base import MaskedRecipe, Stage
from depth_anything.train.teacher import MapAndTokens, run_network

UNREAD = (DECODER_UNREAD,)
__all__ = ["UNREAD", "groups", "labeled_batch", "set_rate", "start_model", "step_losses", "validate"]


@dataclass(frozen=True)
class MaskedBatch:
    """Input and target of one masked step."""

    image_B3HW: Tensor
    """float32, ImageNet-normalised, without hidden patches: the network hides them."""
    hidden_Bhw: Tensor
    """bool: patches that are hidden from the encoder."""
    luma_BHW: Tensor
    """The target: brightness in 0..1."""


def labeled_batch(draw: Draw, samples: Samples, numbers: list[int]) -> MaskedBatch:
    """Images with hidden patches; labels are not used."""
    assert isinstance(draw.recipe, MaskedRecipe)
    image_B3HW = perturbed(crops(draw, samples, numbers)[0], draw.recipe.perturbation, draw.colours)
    return masked_batch(image_B3HW, draw.recipe.hidden, draw.rngs)


def masked_batch(image_B3HW: Tensor, share: float, rngs: Sequence[np.random.Generator]) -> MaskedBatch:
    """A batch of images in 0..1; a random `share` of the patches of each is hidden."""
    h, w = image_B3HW.shape[2] // PATCH, image_B3HW.shape[3] // PATCH
    order_BN = np.stack([rng.random(h * w) for rng in rngs]).argsort(1)
    hidden_Bhw = torch.from_numpy(order_BN < round(share * h * w)).unflatten(1, (h, w)).to(image_B3HW.device)
    return MaskedBatch(normalise(image_B3HW), hidden_Bhw, grayscale(image_B3HW)[:, 0])


def step_losses(
    network: nn.Module,
    one: Slice,
    recipe: MaskedRecipe,
    stage: Stage,
    teacher: nn.Module | None = None,
    frozen: nn.Module | None = None,
) -> Losses:
    """Mean absolute difference of brightness over the hidden pixels."""
    batch: MaskedBatch = one.labeled
    prediction_BHW, _ = run_network(network, batch.image_B3HW, recipe, batch.hidden_Bhw.flatten(1))
    hidden_BHW = batch.hidden_Bhw.repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)
    loss = losses.mean_over_valid((prediction_BHW.float() - batch.luma_BHW).abs(), hidden_BHW).mean()
    return Losses(loss, {"masked": loss.detach()})


@torch.inference_mode()
def validate(model: DepthAnything, samples: Samples, recipe: MaskedRecipe) -> dict[str, float]:
    """The loss on held-out images at the last stage's size; the hidden patches are the same in every call."""
    size, found = recipe.stages[-1].sizes[-1], []
    for number in range(len(samples)):
        sample = samples[number]
        height, width, _ = sample.image_HW3.shape
        middle = random_crop(height, width, size, (1.0, 1.0), 1.0, 0.0, np.full(5, 0.5))
        image_HW3 = cut(sample, middle).image_HW3
        image_13HW = torch.from_numpy(image_HW3.copy()).permute(2, 0, 1)[None].float() / 255
        one = masked_batch(image_13HW, recipe.hidden, [np.random.default_rng([recipe.seed, number])])
        found.append(step_losses(MapAndTokens(model), Slice(one, None), recipe, recipe.stages[-1]).total.item())
    return {"masked": float(np.mean(found))}
