"""Train a recipe from its initial weights to its final ones."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from depth_anything.data.samples import Samples
from depth_anything.losses import Losses
from depth_anything.network.model import DepthAnything
from depth_anything.system.files import atomic_path
from depth_anything.train import masked_patches, metric, relative_depth
from depth_anything.train.batches import Data, Slice, build_slice, keys, places
from depth_anything.train.changes import Changes
from depth_anything.train.checkpoint import Run
from depth_anything.train.distributed import Machine, Ranks, prepare
from depth_anything.train.parts import built_in_parts, put_rows, take_rows
from depth_anything.train.recipes.base import MaskedRecipe, Recipe
from depth_anything.train.recipes.metric import MetricRecipe
from depth_anything.train.run_log import RunLog
from depth_anything.train.steps import Task, run_steps
from depth_anything.train.student import check_teacher
from depth_anything.train.teacher import MapAndTokens, plain_attention, stored_as_computed
from depth_anything.train.tracker import Tracker
from depth_anything.variants import get_variant


def train(
    recipe: Recipe,
    out: str | Path,
    data: Data,
    validation: Samples | None = None,
    *,
    weights: dict[str, Tensor] | None = None,
    teacher: nn.Module | None = None,
    frozen: nn.Module | None = None,
    machine: Machine = Machine(),  # noqa: B008 (frozen)
    ranks: Ranks = Ranks(),  # noqa: B008
    log_every: int = 1,
    validate_every: int = 1000,
    save_seconds: float = 300.0,
    changes: Changes = Changes(),  # noqa: B008
    tracker: Tracker | None = None,
    image_seconds: float = 0.0,
) -> DepthAnything:
    """Train a recipe; return the trained model (the running mean of the weights if the recipe keeps one).

    `out` receives recipe.json, curve.jsonl (a line per log and validation), events for TensorBoard, the state for
    resuming (state.pt, or checkpoints/ under FSDP2) and at the end final.safetensors. Called again after an
    interruption, it resumes from the newest state: on the same machine with the same threads and processes the final
    weights are those of an uninterrupted run. Under FSDP2 only the first process returns that model; the others return
    their parts of the trained one.

    Args:
        data: the labelled and unlabelled images that the recipe needs.
        validation: held-out labelled images.
        weights: initial weights by official keys: DINOv2's encoder, or a whole model.
        teacher: labels the unlabelled images if their labels do not come from shards.
        frozen: the encoder of L_feat (`student.FinalTokens`) if the recipe has that loss. The weights of the encoders
            of both are stored as the recipe computes with them from now on (`teacher.stored_as_computed`).
        machine: accumulation, FSDP2, compilation, reading threads.
        ranks: the processes and their devices (`distributed.join`).
        log_every, validate_every: in steps.
        save_seconds: wall-clock time between two saves of the state.
        changes: deliberate changes when a run resumes.
        tracker: a service that also receives what is logged.
        image_seconds: as of `steps.Task`.

    Raises:
        ValueError: images, weights or a teacher are missing, `out` holds another recipe, many steps in a row are not
            finite, or most gradients are 0.
    """
    check_images(recipe, data)
    if isinstance(teacher, DepthAnything):
        check_teacher(recipe, teacher.variant)
    check_start(recipe, weights, frozen, machine, ranks)
    run = start(recipe, weights, machine, ranks, data.labeled)
    teacher, frozen = (module and module.eval().to(ranks.device) for module in (teacher, frozen))
    for module, name in ((teacher, "pretrained"), (frozen, "encoder")):
        if (encoder := getattr(module, name, None)) is not None:
            stored_as_computed(encoder, recipe, torch.device(ranks.device).type)
    kind = kind_of(recipe)

    def validate(log: RunLog | None) -> None:
        assert validation is not None
        average = run.whole_average(kept=log is not None)
        if log:
            model = averaged_model(run, average)
            log.add({"step": run.step, **kind.validate(model, validation, recipe)})
            log.show(run.step, model.infer_rgb, validation)

    task = task_of(recipe, data, machine, ranks, teacher, frozen)
    task = replace(task, image_seconds=image_seconds)
    if validation is not None:
        task = replace(task, validate=validate)
    run.network.train()
    run_steps(run, task, out, machine, ranks, log_every, validate_every, save_seconds, changes, tracker)
    average = run.whole_average(kept=ranks.first or not machine.shard)
    if not average:
        return run.model
    model = averaged_model(run, average)
    if ranks.first:
        save_final(model, Path(out))
    return model


def task_of(
    recipe: Recipe,
    data: Data,
    machine: Machine = Machine(),  # noqa: B008 (frozen)
    ranks: Ranks = Ranks(),  # noqa: B008
    teacher: nn.Module | None = None,
    frozen: nn.Module | None = None,
) -> Task[Slice]:
    """A recipe as the functions that the loop calls; arguments as for `train`."""
    kind, (slices, _) = kind_of(recipe), ranks.slices(machine)

    def build(step: int, index: int, pool: ThreadPoolExecutor | None) -> Slice:
        return build_slice(recipe, data, step, slices, index, ranks.device, pool, kind.labeled_batch)

    def losses(network: nn.Module, one: Slice, step: int) -> Losses:
        found = kind.step_losses(network, one, recipe, recipe.stage_of(step)[0], teacher, frozen)
        return found if recipe.unlabeled else found.times(one.labeled_weight)

    def set_rate(optimizer: Optimizer, step: int) -> float:
        return kind.set_rate(optimizer, recipe, step)

    return Task(
        build=build,
        losses=losses,
        set_rate=set_rate,
        around=lambda one: plain_attention(one.image_B3HW),
        names=lambda step, index: keys(recipe, data, step, slices, index),
    )


def check_start(
    recipe: Recipe, weights: dict[str, Tensor] | None, frozen: nn.Module | None, machine: Machine, ranks: Ranks
) -> None:
    """Check everything that a run needs besides images. Call it before any are opened or rendered.

    Arguments as for `train`.

    Raises:
        ValueError: weights or the encoder of L_feat are missing, the weights belong to another network, or this machine
            cannot do such a run.
    """
    machine.check()
    slices, _ = ranks.slices(machine)
    for stage in recipe.stages:
        places(recipe, stage, slices, 0)
    if recipe.unlabeled and recipe.unlabeled.feature_weight and frozen is None:
        raise ValueError(f"{recipe.name} needs a frozen encoder for L_feat (V1 Eq. 9): give its file with --frozen")
    shapes = weights and {key: tensor.to("meta") for key, tensor in weights.items()}
    try:
        with torch.device("meta"):
            kind_of(recipe).start_model(recipe, shapes)
    except RuntimeError as error:
        mismatch = str(error).splitlines()[-1].strip()
        raise ValueError(
            f"{recipe.name} trains {recipe.variant}: the initial weights do not fit ({mismatch})"
        ) from None


def check_images(recipe: Recipe, data: Data) -> None:
    """Check that there are images of every kind that the recipe learns from.

    Raises:
        ValueError: a kind is missing or empty.
    """
    for kind, samples, share in (
        ("labelled", data.labeled, 1 - recipe.unlabeled_share),
        ("unlabelled", data.unlabeled, recipe.unlabeled_share),
    ):
        if share and not (samples is not None and len(samples)):
            raise ValueError(f"{recipe.name}: there are no {kind} images to train on")


def start(
    recipe: Recipe,
    weights: dict[str, Tensor] | None = None,
    machine: Machine = Machine(),  # noqa: B008
    ranks: Ranks = Ranks(),  # noqa: B008
    labeled: Samples | None = None,
) -> Run:
    """The run at step 0: the model, its form on this machine, and AdamW. `labeled` serves `metric.fit_last`."""
    kind, in_parts = kind_of(recipe), starts_in_parts(recipe, machine)
    with built_in_parts(ranks) if in_parts else nullcontext():
        model = kind.start_model(recipe, weights)
    if isinstance(recipe, MetricRecipe) and recipe.metric.fitted and labeled is not None:
        metric.fit_last(model, recipe, labeled)
    for name, parameter in model.named_parameters():
        frozen = recipe.encoder_rate == 0 and name.startswith("pretrained.")
        if frozen or name.startswith(kind.UNREAD):
            parameter.requires_grad_(False)
    rows = take_rows(model) if in_parts else {}
    network = prepare(MapAndTokens(model if in_parts else model.to(ranks.device)), recipe, machine, ranks)
    if in_parts:
        put_rows(model, rows, ranks.device)
    average = {key: tensor.clone() for key, tensor in model.state_dict().items()} if recipe.ema else {}
    optimizer = torch.optim.AdamW(kind.groups(model, recipe), betas=recipe.betas, fused=True)
    return Run(recipe, model, network, optimizer, average, recipe.ema)


def starts_in_parts(recipe: Recipe, machine: Machine) -> bool:
    """Whether the model is built in parts, so that no process ever holds all of it (`parts`): under FSDP2, unless the
    initial weights are fitted on images. Only DINOv2 has models that are too large to build whole and then split."""
    fitted = isinstance(recipe, MetricRecipe) and bool(recipe.metric.fitted)
    row = recipe.row if isinstance(recipe, MetricRecipe) else get_variant(recipe.variant)
    return machine.shard and not fitted and row.encoder == "dinov2" and row.bins is None


def kind_of(recipe: Recipe) -> ModuleType:
    """The module with the functions of a recipe's task: disparity, metres, or hidden patches."""
    match recipe:
        case MetricRecipe():
            return metric
        case MaskedRecipe():
            return masked_patches
        case _:
            return relative_depth


def averaged_model(run: Run, average: dict[str, Tensor]) -> DepthAnything:
    """A separate model with the running mean of the weights, in evaluation mode, on the device of the run."""
    model = DepthAnything(run.model.variant)
    model.load_state_dict(average)
    return model.to(next(run.model.parameters()).device).eval()


def save_final(model: DepthAnything, out: Path) -> None:
    """Write the weights for release: safetensors with the official keys and our metadata."""
    from depth_anything.checkpoints.official import save

    with atomic_path(out / "final.safetensors") as temporary:
        save(model, temporary)
