"""Learning rates of encoder and decoder, and their schedule (V1 section 4.1)."""

from torch.optim import Optimizer

from depth_anything.network.model import DepthAnything
from depth_anything.train.recipes.base import Recipe

POSITIONS = ("_token", "pos_embed", "_bias_table", "rel_pos_h", "rel_pos_w")
"""Suffixes of the names of tokens and position parameters in each family, which have no weight decay."""


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
