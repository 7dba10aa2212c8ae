"""Fine-tuning on your own images: a recipe from a few settings, and a report of before and after."""

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
from depth_anything.train.recipes import nano, nano_vit
from depth_anything.train.recipes.base import SQUARE_518, Recipe, Stage
from depth_anything.train.recipes.metric import Metric, MetricRecipe
from depth_anything.train.validation import validate_disparity
from depth_anything.variants import Variant


def disparity_recipe(row: Variant, pictures: int, epochs: int, batch: int, rate: float, seed: int) -> Recipe:
    """V2's losses on your disparity: the encoder at a tenth of the rate, windows of half to all of an image."""
    small = nano_vit.LARGE if row.name == "nano-vit" else SQUARE_518
    sizes = nano.LARGE if row.encoder == "efficientnet" else small
    return Recipe(
        name="finetune-disparity",
        variant=row.name,
        data=("own",),
        stages=(Stage(samples=max(batch, epochs * pictures), sizes=sizes, batch=batch, gradient_weight=2.0),),
        learning_rate=rate,
        from_backbone=False,
        crop_scale=(0.5, 1.0),
        validation_scenes=0,
        seed=seed,
    )


def metric_recipe(
    row: Variant,
    pictures: int,
    epochs: int,
    batch: int,
    rate: float,
    max_depth: float,
    seed: int,
    canonical_focal: float | None = None,
) -> MetricRecipe:
    """V2's metric recipe on your metres: sigmoid times `max_depth`, SiLog, the encoder at a tenth of the rate.

    Encoder and decoder start from the model: with few images a fresh decoder would not come back. A relative one's
    last layer is fitted to metres first; a model of metres keeps its kind of head. Windows have the image's whole
    shorter side at the network's own size, as in use: a closer look at the same metres would teach that zoom does not
    matter. With a canonical camera it does not, and windows are half to all of that.
    """
    relative = disparity_recipe(row, pictures, epochs, batch, rate, seed)
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
    rate: float = 5e-5,
    max_depth: float | None = None,
    seed: int = 0,
    intrinsics: str | None = None,
    machine: Machine = Machine(),  # noqa: B008 (frozen)
    ranks: Ranks = Ranks(),  # noqa: B008
) -> dict[str, dict[str, float]]:
    """Train `model` further on a folder (`data.labeled.own`); every tenth image is held out for the report.

    `out` receives what every run leaves (docs/train.md) and report.json.

    Args:
        rate: of the decoder; the encoder has a tenth.
        max_depth: top of the range in metres; by default the model's own, or the farthest of your training images.
        intrinsics: where the cameras of the images are known: see `cameras`. The model is then trained in one
            canonical camera, the training images' median, and answers metres for the camera that it is told.

    Returns:
        What report.json holds: measures of the held-out images by name (before, after; for metres also `constant`,
        the median of the training images everywhere).

    Raises:
        ValueError: a folder that is not laid out so, images too few, metres asked of a model for other metres,
            cameras that are missing, too many, or of no use to the model, or no epoch or rate at all.
    """
    if epochs < 1 or not rate > 0:
        raise ValueError(f"{epochs} epochs at a rate of {rate:g}: expected 1 epoch or more, and a rate above 0")
    own, row = UserFolder(folder), model.variant
    refuse_mismatch(own, row, intrinsics, max_depth)
    training, held_out = split(own)
    parts: list[Samples] = [training, held_out]
    seen: list[float] = []
    if intrinsics:
        known = cameras(own, intrinsics)
        of = dict(zip(own.pictures, known, strict=True))
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


def refuse_mismatch(own: UserFolder, row: Variant, intrinsics: str | None, max_depth: float | None) -> None:
    """Raise ValueError where the folder, the model, the cameras and the range do not belong together."""
    if own.quantity == "disparity" and row.quantity == "depth_m":
        raise ValueError(f"{own.root} holds disparity, and {row.name} answers metres: choose a relative model")
    if intrinsics and own.quantity == "disparity":
        raise ValueError(f"--intrinsics {intrinsics}: {own.root} holds disparity; cameras belong to metres")
    if max_depth is not None and own.quantity == "disparity":
        raise ValueError(f"--max-depth {max_depth:g}: {own.root} holds disparity; a range belongs to metres")
    if max_depth is not None and not max_depth > 0:
        raise ValueError(f"--max-depth {max_depth:g}: expected metres above 0")
    if intrinsics and row.fixed_size is not None:
        raise ValueError(f"--intrinsics {intrinsics}: {row.name} squeezes every image; choose another model")
    if row.canonical_focal is not None and own.quantity == "depth_m" and not intrinsics:
        raise ValueError(
            f"{row.name} in {own.root}: the model is camera-aware; say with --intrinsics what took these images"
        )


@dataclass(frozen=True)
class Canonical:
    """The camera in which a run learns, and the top of the head's range in its metres."""

    focal: float | None
    """In pixels of the network's input; None: every camera is taken as it is."""
    top: float


def canonical_camera(row: Variant, seen: list[float], limit: float, keep: bool) -> Canonical:
    """The median training camera, unless the model has one; the range holds `limit` metres of the widest lens.

    Args:
        seen: focal lengths of the training images in pixels of the network's input.
        keep: a camera-aware model keeps its range.
    """
    if keep and row.canonical_focal is not None and row.max_depth is not None:
        return Canonical(row.canonical_focal, row.max_depth)
    focal = row.canonical_focal or float(max(1, round(np.median(seen))))
    return Canonical(focal, limit * focal / min(seen))


def farthest(samples: Samples) -> float:
    """The largest metres of a set."""
    disparities = (sample.disparity_HW for _, sample in usable(samples))
    least = [float(disparity_HW[disparity_HW > 0].min()) for disparity_HW in disparities if (disparity_HW > 0).any()]
    if not least:
        raise ValueError("not one training image has a usable pixel: expected metres above 0 in its map")
    return 1 / min(least)


def as_text(report: dict[str, dict[str, float]]) -> str:
    """The report as a table."""
    names = list(next(iter(report.values())))
    lines = [f"{'held out':10}" + "".join(f"{name:>10}" for name in names)]
    for row, values in report.items():
        lines.append(f"{row:10}" + "".join(f"{values[name]:10.3f}" for name in names))
    return "\n".join(lines)
