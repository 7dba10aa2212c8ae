"""Fine-tuning on the user's images: a recipe from a few settings, and a report of the metrics before and after."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from depth_anything.data.labeled.user_folder import UserFolder, split
from depth_anything.data.samples import Mapped, Samples, usable
from depth_anything.network.model import DepthAnything
from depth_anything.system.files import write_text
from depth_anything.train import loop, metres
from depth_anything.train.batches import Data
from depth_anything.train.distributed import Machine, Ranks
from depth_anything.train.intrinsics import cameras
from depth_anything.train.learning_rates import rates_by_size
from depth_anything.train.recipes import nano, nano_vit
from depth_anything.train.recipes.base import SQUARE_518, Recipe, Stage
from depth_anything.train.recipes.metric import Metric, MetricRecipe
from depth_anything.train.validation import validate_disparity
from depth_anything.variants import Variant


def disparity_recipe(row: Variant, images: int, epochs: int, batch: int, rate: float, seed: int) -> Recipe:
    """V2's losses on the user's disparity: the encoder at a tenth of the rate, crops of half to all of an image."""
    small = nano_vit.LARGE if row.name == "nano-vit" else SQUARE_518
    sizes = nano.LARGE if row.encoder == "efficientnet" else small
    return Recipe(
        name="finetune-disparity",
        variant=row.name,
        data=("own",),
        stages=(Stage(samples=max(batch, epochs * images), sizes=sizes, batch=batch, gradient_weight=2.0),),
        learning_rate=rate,
        from_backbone=False,
        crop_scale=(0.5, 1.0),
        validation_scenes=0,
        seed=seed,
    )


def metric_recipe(
    row: Variant,
    images: int,
    epochs: int,
    batch: int,
    rate: float,
    max_depth: float,
    seed: int,
    canonical_focal: float | None = None,
) -> MetricRecipe:
    """V2's metric recipe on the user's metres: sigmoid times `max_depth`, SILog, the encoder at a tenth of the rate.

    Encoder and decoder start from the model: few images cannot train a new decoder. The last layer of a relative model
    is fitted to metres first; a metric model keeps its type of head. Crops have the whole shorter side of the image, at
    the network's input size, as in prediction: smaller crops, which show the same metres enlarged, would teach that
    magnification does not matter. With a canonical camera it does not, and crops are half to all of an image.
    """
    relative = disparity_recipe(row, images, epochs, batch, rate, seed)
    sizes = (row.fixed_size or (row.input_size, row.input_size),)
    stages = tuple(replace(stage, gradient_weight=0.0, sizes=sizes) for stage in relative.stages)
    fields = {name: getattr(relative, name) for name in relative.__dataclass_fields__}
    fields |= {"name": "finetune-metric", "stages": stages}
    if canonical_focal is None:
        fields["crop_scale"] = (1.0, 1.0)
    return MetricRecipe(
        **fields,
        metric=Metric(
            head=row.head if row.head != "linear" else "sigmoid",
            bins=row.bins,
            max_depth=max_depth,
            canonical_focal=canonical_focal,
            fitted=32 if row.quantity == "disparity" else 0,
            start=row.name,
            init="network",
            whole=row.fixed_size is not None,
        ),
    )


def finetune(
    model: DepthAnything,
    folder: str | Path,
    out: str | Path,
    epochs: int = 10,
    batch: int = 8,
    rate: float | None = None,
    max_depth: float | None = None,
    seed: int = 0,
    intrinsics: str | None = None,
    machine: Machine = Machine(),  # noqa: B008 (frozen)
    ranks: Ranks = Ranks(),  # noqa: B008
) -> dict[str, dict[str, float]]:
    """Fine-tune `model` on a folder (`data.labeled.user_folder`); every tenth image is held out for the report.

    `out` receives the files of every run (docs/train.md) and report.json.

    Args:
        rate: learning rate of the decoder; the encoder has a tenth. By default `default_rate`.
        max_depth: upper end of the range in metres; by default that of the model, or the largest metres of the
            training images.
        intrinsics: the cameras of the images, if known (`intrinsics.cameras`). The model is then trained in one
            canonical camera, the median of the training images, and predicts metres for the camera that is given to it.

    Returns:
        The contents of report.json: metrics of the held-out images (`before`, `after`; for metres also `constant`, a
        prediction of the median of the training images everywhere).

    Raises:
        ValueError: the folder does not have the layout, there are too few images, folder and model have different
            quantities, cameras are missing or not supported by the model, or epochs or rate are not positive.
    """
    rate = default_rate(model.variant) if rate is None else rate
    if epochs < 1 or not rate > 0:
        raise ValueError(f"{epochs} epochs at a rate of {rate:g}: expected 1 epoch or more, and a rate above 0")
    own, row = UserFolder(folder), model.variant
    refuse_mismatch(own, row, intrinsics, max_depth)
    training, held_out = split(own)
    parts: list[Samples] = [training, held_out]
    seen: list[float] = []
    if intrinsics:
        known = cameras(own, intrinsics)
        of = dict(zip(own.images, known, strict=True))
        parts = [Mapped(part, lambda one: replace(one, K_33=of[one.key].K_33)) for part in (training, held_out)]
        seen = [known[number].seen_by(row) for number in training.numbers]
    settings, report = None, {}
    if own.quantity == "disparity":
        recipe = disparity_recipe(row, len(training), epochs, batch, rate, seed)
    else:
        limit = max_depth or (row.max_depth if row.canonical_focal is None else None) or farthest(training)
        canonical = canonical_camera(row, seen, limit, keep=max_depth is None) if intrinsics else Canonical(None, limit)
        recipe = metric_recipe(row, len(training), epochs, batch, rate, canonical.top, seed, canonical.focal)
        settings = replace(recipe.metric, max_depth=limit, canonical_focal=None)
        median = metres.median_metres(training, settings)
        report["constant"] = asdict(metres.score([median] * len(held_out), held_out, settings))

    recipe = replace(recipe, layer_rates=layer_rates(model, recipe))

    def measure(network: DepthAnything) -> dict[str, float]:
        if settings is None:
            return validate_disparity(network, parts[1])
        return asdict(metres.measure(network, parts[1], settings))

    if row.quantity == own.quantity:
        report["before"] = measure(model)
    weights: dict[str, Tensor] = {key: tensor.cpu() for key, tensor in model.state_dict().items()}
    trained = loop.train(
        recipe, out, Data(parts[0]), parts[1], weights=weights, machine=machine, ranks=ranks, validate_every=10**9
    )
    report["after"] = measure(trained)
    if ranks.first:
        write_text(Path(out) / "report.json", json.dumps(report, indent=1) + "\n")
    return report


def default_rate(row: Variant) -> float:
    """V1's and V2's rate of the decoder (V1 section 4.1); for this repository's small models twenty times as much."""
    return 1e-3 if row.name.startswith("nano") else 5e-5


def layer_rates(model: DepthAnything, recipe: Recipe) -> tuple[tuple[str, float], ...]:
    """The rates of layers of small weights (`rates_by_size`), without the last layer where it is fitted to metres."""
    fitted = isinstance(recipe, MetricRecipe) and recipe.metric.fitted
    return tuple(
        (name, rate) for name, rate in rates_by_size(model) if not (fitted and name.endswith("output_conv2.2"))
    )


def refuse_mismatch(own: UserFolder, row: Variant, intrinsics: str | None, max_depth: float | None) -> None:
    """Raise ValueError if the folder, the model, the cameras and the range do not fit together."""
    if own.quantity == "disparity" and row.quantity == "depth_m":
        raise ValueError(f"{own.root} has disparity, and {row.name} predicts metres: choose a relative model")
    if own.quantity == "disparity" and intrinsics:
        raise ValueError(f"--intrinsics {intrinsics}: {own.root} has disparity; intrinsics need metres")
    if own.quantity == "disparity" and max_depth is not None:
        raise ValueError(f"--max-depth {max_depth:g}: {own.root} has disparity; a range needs metres")
    if max_depth is not None and not max_depth > 0:
        raise ValueError(f"--max-depth {max_depth:g}: expected metres above 0")
    if intrinsics and row.fixed_size is not None:
        raise ValueError(
            f"--intrinsics {intrinsics}: {row.name} resizes every image to one aspect ratio; choose another model"
        )
    if row.canonical_focal is not None and own.quantity == "depth_m" and not intrinsics:
        raise ValueError(
            f"{own.root}: {row.name} is camera-aware and needs the cameras of these images: give --intrinsics"
        )


@dataclass(frozen=True)
class Canonical:
    """The canonical camera of a run, and the upper end of the head's range in its metres."""

    focal: float | None
    """In pixels of the network's input; None: metres are not converted."""
    top: float


def canonical_camera(row: Variant, seen: list[float], limit: float, keep: bool) -> Canonical:
    """The median camera of the training images, unless the model has a canonical camera.

    Args:
        seen: focal lengths of the training images in pixels of the network's input.
        limit: metres that the range must include, also for the shortest of these focal lengths.
        keep: whether a camera-aware model keeps its range.
    """
    if keep and row.canonical_focal is not None and row.max_depth is not None:
        return Canonical(row.canonical_focal, row.max_depth)
    focal = row.canonical_focal or float(max(1, round(np.median(seen))))
    return Canonical(focal, limit * focal / min(seen))


def farthest(samples: Samples) -> float:
    """The largest ground truth of a set in metres."""
    disparities = (sample.disparity_HW for _, sample in usable(samples))
    least = [float(disparity_HW[disparity_HW > 0].min()) for disparity_HW in disparities if (disparity_HW > 0).any()]
    if not least:
        raise ValueError("no training image has a usable pixel: expected metres above 0 in its map")
    return 1 / min(least)


def as_text(report: dict[str, dict[str, float]]) -> str:
    """The report as a text table."""
    names = list(next(iter(report.values())))
    lines = [f"{'held out':10}" + "".join(f"{name:>10}" for name in names)]
    for row, values in report.items():
        lines.append(f"{row:10}" + "".join(f"{values[name]:10.3f}" for name in names))
    return "\n".join(lines)
