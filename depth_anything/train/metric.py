"""Fine-tuning to metres: the loss, the learning rates, the validation during a run (V1 4.3, V2 metric)."""

import math
from dataclasses import asdict, replace

import torch.nn.functional as F
from torch import nn
from torch.optim import Optimizer

from depth_anything import losses
from depth_anything.data.samples import Samples
from depth_anything.losses import Losses
from depth_anything.network.model import DepthAnything
from depth_anything.train.batches import Batch, Slice
from depth_anything.train.initial_weights import UNREAD
from depth_anything.train.metres import measure, true_metres
from depth_anything.train.metric_batches import labeled_batch
from depth_anything.train.metric_start import fit_last, groups, start_model
from depth_anything.train.recipes.base import Stage
from depth_anything.train.recipes.metric import MetricRecipe
from depth_anything.train.teacher import run_network

__all__ = ["UNREAD", "fit_last", "groups", "labeled_batch", "set_rate", "start_model", "step_losses", "validate"]

MOMENTA = (0.85, 0.95)
FLAT_SHARE = 0.7
"""Share of a one-cycle run in which the rate stays at its maximum."""
FINAL_DIVISOR = 1e4


def polynomial(step: int, steps: int) -> float:
    """V2's learning rate at a step, relative to the highest: (1 - step / steps)^0.9."""
    return (1 - step / steps) ** 0.9


def one_cycle(step: int, steps: int) -> tuple[float, float]:
    """ZoeDepth's learning rate (relative to the highest) and momentum at a step.

    The one-cycle schedule (Smith 2018) as in torch, starting at the top: constant for 70 % of the steps, while the
    momentum falls from 0.95 to 0.85 along a cosine; then the rate falls to a ten-thousandth and the momentum rises.
    """
    turn, end = FLAT_SHARE * steps - 1, steps - 1
    low, high = MOMENTA
    if step <= turn:
        return 1.0, cosine(high, low, step / turn if turn > 0 else 1.0)
    progress = (step - turn) / (end - turn)
    return cosine(1.0, 1 / FINAL_DIVISOR, progress), cosine(low, high, progress)


def cosine(first: float, last: float, progress: float) -> float:
    """From `first` at progress 0 to `last` at 1 along half a cosine."""
    return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2


def set_rate(optimizer: Optimizer, recipe: MetricRecipe, step: int) -> float:
    """Set the rate of every group, and its momentum under one cycle; return the rate of the new layers."""
    if recipe.metric.schedule == "one_cycle":
        share, momentum = one_cycle(step, recipe.steps)
    else:
        share, momentum = polynomial(step, recipe.steps), recipe.betas[0]
    rate = recipe.learning_rate * share
    for group in optimizer.param_groups:
        group["lr"] = rate * group["share"]
        group["betas"] = (momentum, recipe.betas[1])
    return rate


def metric_losses(network: nn.Module, batch: Batch, recipe: MetricRecipe) -> Losses:
    """SILog of the recipe over all pixels whose ground truth is in its range; predictions are resized to the ground
    truth.

    Args:
        network: the model, or `teacher.MapAndTokens` around it.
    """
    output = run_network(network, batch.image_B3HW, recipe)
    prediction_BHW = (output[0] if isinstance(output, tuple) else output).float()
    depth_BHW, valid_BHW = true_metres(batch, recipe.metric)
    if prediction_BHW.shape != depth_BHW.shape:
        size = depth_BHW.shape[1:]
        prediction_BHW = F.interpolate(prediction_BHW[:, None], size, mode="bilinear", align_corners=True)[:, 0]
    of = {"silog": losses.silog_loss, "zoedepth_silog": losses.zoedepth_silog_loss}[recipe.metric.loss]
    loss = of(prediction_BHW, depth_BHW, valid_BHW)
    return Losses(loss, {recipe.metric.loss: loss.detach()})


def step_losses(
    network: nn.Module,
    one: Slice,
    recipe: MetricRecipe,
    stage: Stage,
    teacher: nn.Module | None = None,
    frozen: nn.Module | None = None,
) -> Losses:
    """`metric_losses` of a slice; training for metres has neither a teacher nor a frozen encoder."""
    assert one.labeled is not None
    return metric_losses(network, one.labeled, recipe)


def validate(model: DepthAnything, samples: Samples, recipe: MetricRecipe) -> dict[str, float]:
    """`measure` during a run, by name. In a camera-aware run, whose range is in canonical metres, all ground truth
    counts."""
    aware = recipe.metric.canonical_focal is not None
    settings = replace(recipe.metric, max_depth=math.inf) if aware else recipe.metric
    return asdict(measure(model, samples, settings))
