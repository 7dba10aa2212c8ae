"""How a run for metres starts: from a relative model, the last layer fitted to metres."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from depth_anything.data.samples import Samples
from depth_anything.network.model import DepthAnything
from depth_anything.network.resize import normalise
from depth_anything.train import batches
from depth_anything.train.metres import metres_of
from depth_anything.train.recipes.metric import MetricRecipe

FITTED_SHARES = (0.001, 0.95)
"""Of the range, between which a sigmoid is fitted: at the range's end it would start where it has no slope."""
LEAST_SPREAD = 0.1
"""Of the feature that varies most: the fit takes no feature to vary by less."""


def start_model(recipe: MetricRecipe, weights: dict[str, Tensor] | None) -> DepthAnything:
    """The recipe's model, started from a relative model's weights.

    Args:
        weights: state dict of `recipe.metric.start` (`checkpoints.load`).

    Raises:
        ValueError: no weights, or weights that lack what the encoder (and, as the recipe says, the decoder) needs.
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
    if recipe.metric.init == "network":  # a metric model that is trained further keeps its head, too
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
    """Set the decoder's last layer to the least-squares fit of what it has to answer, over some training pictures.

    It has to answer the logarithm of metres, or their share of the range before the sigmoid. Everything below stays as
    it came from the relative model, so that the run starts with what that one knows. A ridge of a tenth of the spread
    keeps the layer small: large weights on features that hardly vary throw the first steps far off. Where such a
    feature does fire, in another picture, the answer would leave the sigmoid's range: hence LEAST_SPREAD.
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
    """AdamW's groups: the encoder at its share of the rate, and what answers metres at all of it.

    Below a metric head of its own, a decoder that started from the relative model is no more than pre-trained. Both
    papers' metric codes decay every parameter, norms and biases too.
    """
    slow = recipe.metric.pretrained_rate
    below_head = model.metric_head is not None and recipe.metric.init == "network"
    parts: list[tuple[nn.Module | None, float]] = [
        (model.pretrained, slow),
        (model.depth_head, slow if below_head else 1.0),
        (model.metric_head, 1.0),
    ]
    return [
        {"params": [p for p in part.parameters() if p.requires_grad], "share": share, "lr": 0.0}
        | {"weight_decay": recipe.weight_decay}
        for part, share in parts
        if part is not None
    ]
