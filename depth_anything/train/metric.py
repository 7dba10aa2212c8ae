"""Fine-tuning to metres: what a step sees, its loss, its rates, and how the result is measured (V1 4.3, V2 metric)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.optim import Optimizer

from depth_anything import losses
from depth_anything.data.sample import Sample
from depth_anything.data.samples import Samples, usable
from depth_anything.evaluate import metrics
from depth_anything.evaluate.score import kb_window
from depth_anything.losses import Losses
from depth_anything.network.model import DepthAnything
from depth_anything.network.resize import normalise
from depth_anything.train import batches
from depth_anything.train.batches import Batch, Draw, Slice, read
from depth_anything.train.recipes.base import Stage
from depth_anything.train.recipes.metric import Metric, MetricRecipe
from depth_anything.train.start import UNREAD
from depth_anything.train.teacher import run_network

__all__ = ["UNREAD", "groups", "labeled_batch", "set_rate", "start_model", "step_losses", "validate"]

MOMENTA = (0.85, 0.95)
FLAT_SHARE = 0.7
"""Of a one-cycle run: the rate starts at its top and stays."""
FINAL_DIVISOR = 1e4
FITTED_SHARES = (0.001, 0.95)
"""Of the range, between which a sigmoid is fitted: at the range's end it would start where it has no slope."""
LEAST_SPREAD = 0.1
"""Of the feature that varies most: the fit takes no feature to vary by less."""


# -- the start --------------------------------------------------------------------------------------------------------


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


# -- schedules --------------------------------------------------------------------------------------------------------


def polynomial(step: int, steps: int) -> float:
    """V2's rate at a step as a share of the highest: (1 - step / steps)^0.9."""
    return (1 - step / steps) ** 0.9


def one_cycle(step: int, steps: int) -> tuple[float, float]:
    """ZoeDepth's rate (share of the highest) and momentum at a step.

    One cycle (Smith 2018) as torch computes it, with a start at the top: flat for 70 % of the steps, while the momentum
    falls from 0.95 to 0.85 along a cosine; then the rate falls to a ten-thousandth and the momentum rises again.
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
    """Give every group its rate, and its momentum under one cycle; answers the rate of what is new."""
    if recipe.metric.schedule == "one_cycle":
        share, momentum = one_cycle(step, recipe.steps)
    else:
        share, momentum = polynomial(step, recipe.steps), recipe.betas[0]
    rate = recipe.learning_rate * share
    for group in optimizer.param_groups:
        group["lr"] = rate * group["share"]
        group["betas"] = (momentum, recipe.betas[1])
    return rate


# -- a step -----------------------------------------------------------------------------------------------------------


def metric_losses(network: nn.Module, batch: Batch, recipe: MetricRecipe) -> Losses:
    """SiLog of the recipe over all pixels whose true metres lie in its range; the prediction comes to the truth's size.

    Args:
        network: the model, or `teacher.MapAndTokens` around it.
    """
    answer = run_network(network, batch.image_B3HW, recipe)
    prediction_BHW = (answer[0] if isinstance(answer, tuple) else answer).float()
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
    """`metric_losses` of a slice; metres have neither teacher nor frozen encoder."""
    assert one.labeled is not None
    return metric_losses(network, one.labeled, recipe)


def true_metres(batch: Batch, metric: Metric) -> tuple[Tensor, Tensor]:
    """Metres (0 where unknown) and where they count: known, not sky, and within the recipe's range."""
    known_BHW = batch.valid_BHW & (batch.disparity_BHW > 0)
    depth_BHW = torch.where(known_BHW, 1 / batch.disparity_BHW.clamp(min=1e-12), 0)
    return depth_BHW, known_BHW & in_range(depth_BHW, metric)


def in_range(depth: Tensor, metric: Metric) -> Tensor:
    """bool: within the recipe's range, with or without its ends."""
    if metric.closed:
        return (depth >= metric.min_depth) & (depth <= metric.max_depth)
    return (depth > metric.min_depth) & (depth < metric.max_depth)


def labeled_batch(draw: Draw, samples: Samples, numbers: list[int]) -> Batch:
    """Random windows (V2) or whole pictures (ZoeDepth), as the recipe says."""
    recipe = draw.recipe
    assert isinstance(recipe, MetricRecipe)
    return (whole_batch if recipe.metric.whole else batches.labeled_batch)(draw, samples, numbers)


def whole_batch(draw: Draw, samples: Samples, numbers: list[int]) -> Batch:
    """Whole pictures at the network's size, their truth at its own.

    Raises:
        ValueError: a set whose truth is not in metres; pictures of several sizes.
    """
    recipe = draw.recipe
    assert isinstance(recipe, MetricRecipe)
    assert recipe.metric.canonical_focal is None, "whole pictures are squeezed: the canonical camera wants windows"
    found = [augmented(read(samples, number), recipe, draw.rng.random(8)) for number in numbers]
    if len({one.disparity_HW.shape for one in found}) > 1:
        raise ValueError(f"{recipe.name} sees whole pictures: expected all of one size")
    image_B3HW = torch.from_numpy(np.stack([one.image_HW3 for one in found])).permute(0, 3, 1, 2)
    image_B3HW = normalise(F.interpolate(image_B3HW, draw.size, mode="bilinear", align_corners=True)).to(draw.device)
    disparity_BHW = torch.from_numpy(np.stack([one.disparity_HW for one in found])).to(draw.device)
    valid_BHW = torch.from_numpy(np.stack([one.valid_HW for one in found])).to(draw.device)
    return Batch(image_B3HW, disparity_BHW, valid_BHW)


@dataclass(frozen=True)
class Augmented:
    """A whole picture as ZoeDepth's training sees it."""

    image_HW3: np.ndarray
    """float32 in 0..1."""
    disparity_HW: np.ndarray
    valid_HW: np.ndarray


def augmented(sample: Sample, recipe: MetricRecipe, draws_8: np.ndarray) -> Augmented:
    """ZoeDepth's training augmentation: KB crop, a small turn, mirroring, gamma, brightness, colours.

    Args:
        draws_8: uniform random numbers in 0..1: turn, mirroring, whether colours change, gamma, brightness, R, G, B.

    Raises:
        ValueError: truth that is not in metres.
    """
    metric = recipe.metric
    if sample.scale != "metric":
        raise ValueError(f"{sample.key or 'a picture'}: its truth is {sample.scale}; {recipe.name} learns metres")
    image_HW3, disparity_HW, valid_HW = sample.image_HW3, sample.disparity_HW, sample.valid_HW & ~sample.sky_HW
    if metric.kb_crop:
        window = kb_window(*disparity_HW.shape)
        image_HW3, disparity_HW, valid_HW = image_HW3[window], disparity_HW[window], valid_HW[window]
    if metric.rotation:
        degrees = metric.rotation * (2 * draws_8[0] - 1)
        image_HW3 = turned(image_HW3, degrees, Image.Resampling.BILINEAR)
        disparity_HW = turned(disparity_HW, degrees, Image.Resampling.NEAREST)
        valid_HW = turned(valid_HW.astype(np.uint8), degrees, Image.Resampling.NEAREST) > 0
    if draws_8[1] < recipe.flip:
        image_HW3, disparity_HW, valid_HW = (array[:, ::-1] for array in (image_HW3, disparity_HW, valid_HW))
    image_HW3 = image_HW3.astype(np.float32) / 255
    if draws_8[2] < metric.colours:
        gamma, *gains = 0.9 + 0.2 * draws_8[[3, 5, 6, 7]]
        bright = 1 + metric.brightness * (2 * draws_8[4] - 1)
        image_HW3 = np.clip(image_HW3**gamma * bright * np.array(gains), 0, 1).astype(np.float32)
    return Augmented(image_HW3, disparity_HW.copy(), valid_HW.copy())


def turned(array: np.ndarray, degrees: float, rule: Image.Resampling) -> np.ndarray:
    """A picture or map turned about its centre, at its size; 0 in the corners."""
    return np.asarray(Image.fromarray(array).rotate(degrees, resample=rule))


# -- how good it is ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MetricScore:
    """Means over pictures of what `evaluate.metrics` computes, without any alignment."""

    abs_rel: float
    delta1: float
    rmse: float
    pictures: int


def measure(
    model: DepthAnything, samples: Samples, metric: Metric, input_size: int | None = None, mirrored: bool = False
) -> MetricScore:
    """Metres against truth over held-out pictures, at their size, within the recipe's range.

    A camera-aware model is told the intrinsics of those pictures that have some.

    Args:
        input_size: lower bound of the shorter side at the network; None: the model's own rule.
        mirrored: average with the prediction of the mirrored picture, as ZoeDepth's evaluation does.
    """

    def answer(image_HW3: np.ndarray, K_33: np.ndarray | None) -> np.ndarray:
        return model.infer_rgb(image_HW3, input_size, K_33)

    predictions = {}
    for number, sample in usable(samples):
        image_HW3, K_33 = sample.image_HW3, sample.K_33
        depth_HW = answer(image_HW3, K_33)
        if mirrored:  # neither the focal length nor, in the middle, the principal point changes
            depth_HW = (depth_HW + answer(np.ascontiguousarray(image_HW3[:, ::-1]), K_33)[:, ::-1]) / 2
        predictions[number] = depth_HW
    return score(predictions, samples, metric)


def validate(model: DepthAnything, samples: Samples, recipe: MetricRecipe) -> dict[str, float]:
    """`measure` during a run, by name. The range of a camera-aware run is its canonical camera's: all truth counts."""
    aware = recipe.metric.canonical_focal is not None
    settings = replace(recipe.metric, max_depth=math.inf) if aware else recipe.metric
    return asdict(measure(model, samples, settings))


def score(
    predictions: Sequence[np.ndarray | float] | Mapping[int, np.ndarray], samples: Samples, metric: Metric
) -> MetricScore:
    """The same for finished maps by the pictures' numbers, or for one number of metres everywhere."""
    rows = []
    for number, sample in usable(samples):
        depth_HW, valid_HW = metres_of(sample, metric)
        if valid_HW.sum() < 10:
            continue
        p = np.broadcast_to(np.asarray(predictions[number], np.float64), depth_HW.shape)[valid_HW]
        p, g = np.clip(p, metric.min_depth, metric.max_depth), depth_HW[valid_HW].astype(np.float64)
        rows.append((metrics.abs_rel(p, g), metrics.delta(p, g), metrics.rmse(p, g)))
    if not rows:
        raise ValueError("no held-out picture has ten pixels with metres in the recipe's range")
    abs_rel, delta1, rmse = np.mean(rows, axis=0)
    return MetricScore(float(abs_rel), float(delta1), float(rmse), len(rows))


def metres_of(sample: Sample, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
    """A sample's metres, and where they are known and in range."""
    known_HW = sample.valid_HW & ~sample.sky_HW & (sample.disparity_HW > 0)
    depth_HW = np.divide(1, sample.disparity_HW, out=np.zeros(sample.disparity_HW.shape, np.float32), where=known_HW)
    return depth_HW, known_HW & in_range(torch.from_numpy(depth_HW), metric).numpy()


def median_metres(samples: Samples, metric: Metric) -> float:
    """The median of the known metres of a set: the constant that a model must beat."""
    return float(np.median(some_metres(samples, metric)))


def some_metres(samples: Samples, metric: Metric, most: int = 10_000) -> np.ndarray:
    """Known metres of a set, float32, one after the other: of every picture up to `most`, evenly spread."""
    parts = []
    for _, sample in usable(samples):
        depth_HW, valid_HW = metres_of(sample, metric)
        known_P = depth_HW[valid_HW]
        parts.append(known_P[:: math.ceil(len(known_P) / most) or 1])
    known = np.concatenate([np.empty(0, np.float32), *parts])
    if not len(known):
        raise ValueError(f"not one picture has metres between {metric.min_depth:g} and {metric.max_depth:g}")
    return known
