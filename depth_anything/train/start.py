"""Initial weights and learning rates of runs for disparity and for masked patches."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from depth_anything.network.efficientnet import EfficientNetLite
from depth_anything.network.model import DepthAnything
from depth_anything.train.recipes.base import Recipe

POSITIONS = ("_token", "pos_embed", "_bias_table", "rel_pos_h", "rel_pos_w")
"""Suffixes of the names of tokens and position parameters in each family, which have no weight decay."""

DECODER_UNREAD = "depth_head.scratch.refinenet4.resConfUnit1."
UNREAD = ("pretrained.mask_token", DECODER_UNREAD)
"""Parameters in every official file that training for disparity does not use: DDP would wait for their gradients."""


def start_model(recipe: Recipe, weights: dict[str, Tensor] | None) -> DepthAnything:
    """A model with random weights from the seed, replaced by the given ones: DINOv2's encoder, or a whole model.

    Raises:
        ValueError: the recipe starts from a pretrained encoder, and no weights are given.
    """
    if recipe.from_backbone and weights is None:
        raise ValueError(f"{recipe.name} starts from a trained encoder (docs/train.md): give it with --backbone")
    torch.manual_seed(recipe.seed)
    model = DepthAnything(recipe.variant)
    # If random weights put everything below the last ReLU, the output is 0 everywhere and there is no gradient.
    last = model.depth_head.scratch.output_conv2[2]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    nn.init.constant_(last.bias, 0.5)
    if isinstance(model.pretrained, EfficientNetLite) and weights is None:
        model.pretrained.learn_statistics()
    if weights is not None:
        unknown = model.load_state_dict(weights, strict=False).unexpected_keys
        assert not unknown, unknown
    return model


def groups(model: DepthAnything, recipe: Recipe) -> list[dict]:
    """Parameter groups of AdamW: encoder and decoder with their own rates, weight decay on matrices only."""
    result = []
    for part, share in ((model.pretrained, recipe.encoder_rate), (model.depth_head, 1.0)):
        for decayed in (True, False):
            chosen = [
                parameter
                for name, parameter in part.named_parameters()
                if parameter.requires_grad and (parameter.ndim > 1 and not name.endswith(POSITIONS)) == decayed
            ]
            decay = recipe.weight_decay if decayed else 0.0
            result.append({"params": chosen, "share": share, "weight_decay": decay, "lr": 0.0})
    return result


def set_rate(optimizer: Optimizer, recipe: Recipe, step: int) -> float:
    """The learning rate of the decoder at a step: linear warm-up, then linear decay to 0."""
    total = sum(stage.steps * stage.batch for stage in recipe.stages)
    stage, seen = recipe.stage_of(step)
    rising = (seen + stage.batch) / recipe.warmup if seen < recipe.warmup else 1.0
    rate = recipe.learning_rate * min(rising, 1.0) * (1 - seen / total)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["share"]
    return rate
