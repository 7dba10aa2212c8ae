"""Fine-tuning on your own pictures: a recipe from a few settings, and a report of before and after."""

import json
from dataclasses import asdict, replace
from pathlib import Path

from torch import Tensor

from depth_anything.data.labeled.folder import Samples
from depth_anything.data.labeled.own import Own, split
from depth_anything.files import atomic_path
from depth_anything.model import DepthAnything
from depth_anything.train import loop, metric
from depth_anything.train.batches import Data
from depth_anything.train.distributed import Machine, Ranks
from depth_anything.train.metric_recipes import Metric, MetricRecipe
from depth_anything.train.recipes import LARGE, SQUARE_518, Recipe, Stage
from depth_anything.train.validation import validate_disparity
from depth_anything.variants import Variant


def disparity_recipe(row: Variant, pictures: int, epochs: int, batch: int, rate: float, seed: int) -> Recipe:
    """V2's losses on your disparity: the encoder at a tenth of the rate, windows of half to all of a picture."""
    sizes = LARGE if row.name == "nano" else SQUARE_518
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
    row: Variant, pictures: int, epochs: int, batch: int, rate: float, max_depth: float, seed: int
) -> MetricRecipe:
    """V2's metric recipe on your metres: sigmoid times `max_depth`, SiLog, what is pre-trained at a tenth of the rate.

    Encoder and decoder start from the model: with few pictures a fresh decoder would not come back.
    """
    relative = disparity_recipe(row, pictures, epochs, batch, rate, seed)
    stages = tuple(replace(stage, gradient_weight=0.0) for stage in relative.stages)
    fields = {name: getattr(relative, name) for name in relative.__dataclass_fields__}
    return MetricRecipe(
        **fields | {"name": "finetune-metric", "stages": stages},
        metric=Metric(head="sigmoid", max_depth=max_depth, start=row.name, init="network"),
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
    machine: Machine = Machine(),  # noqa: B008 (frozen)
    ranks: Ranks = Ranks(),  # noqa: B008
) -> dict[str, dict[str, float]]:
    """Train `model` further on a folder (`data.labeled.own`); every tenth picture is held out for the report.

    `out` receives what every run leaves (docs/train.md) and report.json.

    Args:
        rate: of the decoder; the encoder has a tenth.
        max_depth: top of the range in metres; by default the model's own, or the farthest of your training pictures.

    Returns:
        What report.json holds: measures of the held-out pictures by name (before, after; for metres also `constant`,
        the median of the training pictures everywhere).

    Raises:
        ValueError: a folder that is not laid out so, pictures too few, or metres asked of a model for other metres.
    """
    own = Own(folder)
    training, held_out = split(own)
    row = model.variant
    weights: dict[str, Tensor] = {key: tensor.cpu() for key, tensor in model.state_dict().items()}
    if own.quantity == "disparity":
        if row.max_depth is not None:
            raise ValueError(f"{folder} holds disparity, and {row.name} answers metres: choose a relative model")
        recipe = disparity_recipe(row, len(training), epochs, batch, rate, seed)
        report = {"before": validate_disparity(model, held_out)}
    else:
        limit = max_depth or row.max_depth or farthest(training)
        recipe = metric_recipe(row, len(training), epochs, batch, rate, limit, seed)
        median = metric.median_metres(training, recipe.metric)
        report = {"constant": asdict(metric.score([median] * len(held_out), held_out, recipe.metric))}
        if row.max_depth is not None:
            report["before"] = asdict(metric.measure(model, held_out, recipe.metric))
    trained = loop.train(
        recipe, out, Data(training), held_out, weights=weights, machine=machine, ranks=ranks, validate_every=10**9
    )
    if own.quantity == "disparity":
        report["after"] = validate_disparity(trained, held_out)
    else:
        assert isinstance(recipe, MetricRecipe)
        report["after"] = asdict(metric.measure(trained, held_out, recipe.metric))
    if ranks.first:
        with atomic_path(Path(out) / "report.json") as temporary:
            temporary.write_text(json.dumps(report, indent=1) + "\n")
    return report


def farthest(samples: Samples) -> float:
    """The largest metres of a set."""
    disparities = (samples[number].disparity_HW for number in range(len(samples)))
    return float(1 / min(disparity_HW[disparity_HW > 0].min() for disparity_HW in disparities))


def as_text(report: dict[str, dict[str, float]]) -> str:
    """The report as a table."""
    names = list(next(iter(report.values())))
    lines = [f"{'held out':10}" + "".join(f"{name:>10}" for name in names)]
    for row, values in report.items():
        lines.append(f"{row:10}" + "".join(f"{values[name]:10.3f}" for name in names))
    return "\n".join(lines)
