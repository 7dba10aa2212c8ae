"""The start of a metric run: weights of a relative model, with the last layer fitted to metres."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from depth_anything.data.samples import Samples
from depth_anything.network.model import DepthAnything
from depth_anything.network.resize import normalise
from depth_anything.train import batches
from depth_anything.train.learning_rates import with_layer_rates
from depth_anything.train.metres import metres_of
from depth_anything.train.recipes.metric import MetricRecipe

FITTED_SHARES = (0.001, 0.95)
"""Shares of the range between which a sigmoid is fitted, because its slope vanishes at the ends."""
LEAST_SPREAD = 0.1
"""Of the feature that varies most: the fit takes no feature to vary by less."""


def start_model(recipe: MetricRecipe, weights: dict[str, Tensor] | None) -> DepthAnything:
    """The model of the recipe, initialised with the weights of a relative model.

    Args:
        weights: state dict of `recipe.metric.start` (`checkpoints.load`).

    Raises:
        ValueError: there are no weights, or they lack tensors of the encoder (of the decoder, if it starts from them).
    """
    if weights is None:
        raise ValueError(
            f"{recipe.name} starts from {recipe.metric.start}: give its weights with --start-from"
            + (", or an encoder's with --backbone" if recipe.metric.init == "encoder" else "")
        )
    torch.manual_seed(recipe.seed)
    model = DepthAnything(recipe.row)
    wanted = ("pretrained.",) if recipe.metric.init == "encoder" else ("pretrained.", "depth_head.")
    chosen = {key: tensor for key, tensor in weights.items() if key.startswith(wanted)}
    if recipe.metric.init == "network":  # a metric model that is trained further keeps its head
        chosen |= {key: tensor for key, tensor in weights.items() if key.startswith("metric_head.")}
    lacking = [key for key in model.state_dict() if key.startswith(wanted) and key not in chosen]
    if lacking:
        raise ValueError(
            f"{recipe.name} starts from {recipe.metric.start}: these weights lack {len(lacking)} of its tensors "
            f"(first: {lacking[0]})"
        )
    model.load_state_dict(chosen, strict=False)
    return model


@torch.no_grad()
def fit_last(model: DepthAnything, recipe: MetricRecipe, samples: Samples) -> None:
    """Set the last layer of the decoder to the least-squares fit of its target on some training images.

    The target is the logarithm of metres, or their share of the range before the sigmoid. All layers below keep the
    weights of the relative model, so the run starts from its knowledge. A ridge penalty of a tenth of the spread keeps
    the weights small: large weights on features that hardly vary would destabilise the first steps. On an image where
    such a feature is active, the result would leave the range of the sigmoid, hence LEAST_SPREAD.
    """
    settings = recipe.metric
    size = recipe.stages[0].sizes[0]
    middle_5 = np.array([0.5, 0.5, 0.5, 0.5, 1.0])
    features, targets = [], []
    for number in np.linspace(0, len(samples) - 1, min(len(samples), settings.fitted)).round().astype(int):
        sample = batches.read_crop(samples, recipe, size, int(number), middle_5)
        depth_HW, known_HW = metres_of(sample, settings)
        image_13HW = torch.from_numpy(np.array(sample.image_HW3)).permute(2, 0, 1)[None] / 255
        levels = model.encode(normalise(image_13HW))
        activation_CHW = model.depth_head.stages(levels, *model.grid(image_13HW)).activation_BCHW[0]
        spread = slice(None, None, math.ceil(known_HW.sum() / 1000) or 1)
        depth_P = torch.from_numpy(depth_HW[known_HW][spread])
        features.append(activation_CHW[:, torch.from_numpy(known_HW)].T[spread].double())
        share_P = (depth_P / settings.max_depth).clamp(*FITTED_SHARES)
        targets.append((depth_P.log() if settings.head == "log" else share_P.logit()).double())
    features_PF, targets_P = torch.cat(features), torch.cat(targets)
    mean_F, scale_F = features_PF.mean(0), features_PF.std(0)
    scale_F = scale_F.clamp(min=LEAST_SPREAD * float(scale_F.max()) + 1e-6)
    standard_PF = (features_PF - mean_F) / scale_F
    ridge_FF = 0.1 * len(targets_P) * torch.eye(len(mean_F), dtype=torch.float64)
    moments_F = standard_PF.T @ (targets_P - targets_P.mean())
    weight_F = torch.linalg.solve(standard_PF.T @ standard_PF + ridge_FF, moments_F) / scale_F
    last = model.depth_head.scratch.output_conv2[2]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    last.weight.copy_(weight_F[None, :, None, None])
    last.bias.copy_((targets_P.mean() - weight_F @ mean_F)[None])


def groups(model: DepthAnything, recipe: MetricRecipe) -> list[dict]:
    """Parameter groups of AdamW: the encoder at its share of the learning rate, the layers that predict metres at 1.

    Below a separate metric head, a decoder from the relative model counts as pre-trained. The metric code of both
    papers applies weight decay to every parameter, including norms and biases.
    """
    slow = recipe.metric.pretrained_rate
    below_head = model.metric_head is not None and recipe.metric.init == "network"
    parts: list[tuple[nn.Module | None, float]] = [
        (model.pretrained, slow),
        (model.depth_head, slow if below_head else 1.0),
        (model.metric_head, 1.0),
    ]
    result = [
        {"params": [p for p in part.parameters() if p.requires_grad], "share": share, "lr": 0.0}
        | {"weight_decay": recipe.weight_decay}
        for part, share in parts
        if part is not None
    ]
    return with_layer_rates(result, model, recipe)
