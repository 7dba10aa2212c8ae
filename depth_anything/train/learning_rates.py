"""Learning rates of encoder and decoder, and their schedule (V1 section 4.1)."""

import math
from typing import TYPE_CHECKING

from torch import nn
from torch.optim import Optimizer

from depth_anything.train.recipes.base import Recipe

if TYPE_CHECKING:
    from depth_anything.network.model import DepthAnything

POSITIONS = ("_token", "pos_embed", "_bias_table", "rel_pos_h", "rel_pos_w")
"""Suffixes of the names of tokens and position parameters in each family, which have no weight decay."""


def groups(model: "DepthAnything", recipe: Recipe) -> list[dict]:
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
    return with_layer_rates(result, model, recipe)


def with_layer_rates(groups: list[dict], model: "DepthAnything", recipe: Recipe) -> list[dict]:
    """Parameter groups in which the layers of `recipe.layer_rates` have groups of their own."""
    rates = {
        parameter: rate for name, rate in recipe.layer_rates for parameter in model.get_submodule(name).parameters()
    }
    result = []
    for group in groups:
        result.append(group | {"params": [parameter for parameter in group["params"] if parameter not in rates]})
        result += [
            group | {"params": [parameter], "share": group["share"] * rates[parameter]}
            for parameter in group["params"]
            if parameter in rates
        ]
    return result


def rates_by_size(model: "DepthAnything") -> tuple[tuple[str, float], ...]:
    """The decoder's layers whose weights are smaller than initial ones, with the ratio of both as their rate.

    A step of AdamW moves every weight by about the learning rate, so it would replace the weights of such a layer
    instead of refining them. The step is made relative to the weights (Shazeer and Stern 2018, section 8).
    """
    sizes = {
        f"depth_head.scratch.{name}": size_to_initial(layer)
        for name, layer in model.depth_head.scratch.named_modules()
        if isinstance(layer, nn.Conv2d)
    }
    return tuple((name, float(f"{size:.2g}")) for name, size in sizes.items() if 0 < size < 1)


def size_to_initial(layer: nn.Conv2d) -> float:
    """Root mean square of a layer's weights, relative to that of PyTorch's initial ones."""
    return float(layer.weight.detach().pow(2).mean().sqrt()) * math.sqrt(3 * layer.weight[0].numel())


def set_rate(optimizer: Optimizer, recipe: Recipe, step: int) -> float:
    """The learning rate of the decoder at a step: linear warm-up, then linear decay to 0."""
    total = sum(stage.steps * stage.batch for stage in recipe.stages)
    stage, seen = recipe.stage_of(step)
    rising = (seen + stage.batch) / recipe.warmup if seen < recipe.warmup else 1.0
    rate = recipe.learning_rate * min(rising, 1.0) * (1 - seen / total)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["share"]
    return rate
