"""THE loop: resume, then step, log, validate, save until the recipe is done."""

import logging
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from depth_anything.data.labeled.folder import Samples
from depth_anything.network.model import DepthAnything
from depth_anything.system.files import atomic_path, make_folder
from depth_anything.train import masked_patches, metric, relative_depth
from depth_anything.train.batches import Data, Slice, batches, parts
from depth_anything.train.checkpoint import Run
from depth_anything.train.distributed import Machine, Ranks, any_rank, gradients_shared, mean_over_ranks, prepare
from depth_anything.train.recipes.base import MaskedRecipe, Recipe, Stage
from depth_anything.train.recipes.metric import MetricRecipe
from depth_anything.train.run_log import Curve
from depth_anything.train.teacher import Losses, MapAndTokens, plain_attention

LOG = logging.getLogger(__name__)
SAME_WISH = 3.0
"""Seconds within which a second signal means what the first one meant."""


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
) -> DepthAnything:
    """Carry out a recipe and answer the trained model (the running mean of the weights, where the recipe keeps one).

    `out` receives recipe.json, curve.jsonl (a line for each log and validation), events for TensorBoard, state.pt (to
    go on from) and at the end final.safetensors. Run again after any interruption, it goes on from state.pt: on the
    same machine with the same threads and processes the final weights are those of a run that was never interrupted.

    Args:
        data: labelled and unlabelled pictures by number, as the recipe wants them.
        validation: held-out labelled pictures.
        weights: what the run starts from, by official keys: DINOv2's encoder, or a whole model.
        teacher: labels the unlabelled pictures, where their labels do not come from shards.
        frozen: the encoder of L_feat (`student.FinalTokens`), where the recipe has that loss.
        machine: accumulation, FSDP2, compilation, reading threads.
        ranks: the processes and their devices (`distributed.join`).
        log_every, validate_every: in steps.
        save_seconds: wall clock between two writes of state.pt.

    Raises:
        ValueError: no pictures, no weights or teacher where they are needed, `out` holds another recipe, or the loss is
            not finite.
    """
    check_pictures(recipe, data)
    check_start(recipe, weights, frozen, machine, ranks)
    task = task_of(recipe)
    out = Path(out)
    make_folder(out)
    with stop_signals() as asked:
        slices, own = ranks.slices(machine)
        run = start(recipe, weights, machine, ranks, data.labeled)
        if run.resume(out):
            LOG.info("going on after step %d of %d", run.step, recipe.steps)
        curve = None
        if ranks.first:
            recipe.save(out / "recipe.json")
            curve = Curve(out, run.step)
        teacher, frozen = (module and module.eval().to(ranks.device) for module in (teacher, frozen))

        run.network.train()
        meter, saved = Meter(), time.monotonic()
        for step_slices in batches(
            task.build_slice, recipe, data, run.step, slices, own, ranks.device, machine.readers
        ):
            began = time.monotonic()
            stage, seen = recipe.stage_of(run.step)
            rate = task.set_rate(run.optimizer, recipe, run.step)
            losses = gradients(run, step_slices, stage, teacher, frozen)
            due = time.monotonic() - saved > save_seconds
            broken = any(not bool(torch.isfinite(one.total)) for one in losses)
            broken, stopping, due = any_rank([broken, asked.is_set(), due], ranks.device)
            if broken:
                loss = max(one.total.item() for one in losses)
                raise ValueError(f"the loss is {loss} at step {run.step}: lower the learning rate or look at the data")
            update(run)
            run.seconds += time.monotonic() - began
            for one in losses:
                meter.add(stage.batch / len(losses), one.parts)

            done = run.step == recipe.steps
            if run.step % log_every == 0 or done:
                about = {"step": run.step, "samples": seen + stage.batch, "seconds": round(run.seconds), "rate": rate}
                means = meter.means()
                if curve:
                    curve.add(about | means)
                meter = Meter()
            if validation is not None and (run.step % validate_every == 0 or done):
                average = run.whole_average()
                if curve:
                    model = averaged_model(run, average)
                    curve.add({"step": run.step, **task.validate(model, validation, recipe)})
                    curve.show(run.step, model.infer_rgb, validation)
            if due or done or stopping:
                run.save(out, ranks.first)
                saved = time.monotonic()
            if stopping and not done:
                raise KeyboardInterrupt(f"stopped and saved after step {run.step} of {recipe.steps}")

        model = averaged_model(run, run.whole_average())
        if ranks.first:
            save_final(model, out)
        return model


def check_start(
    recipe: Recipe, weights: dict[str, Tensor] | None, frozen: nn.Module | None, machine: Machine, ranks: Ranks
) -> None:
    """All that a run needs besides pictures is there and fits. To be asked before any are opened or rendered.

    Args:
        as for `train`.

    Raises:
        ValueError: weights or the encoder of L_feat are missing, the weights are another network's, or this machine
            cannot do such a run.
    """
    machine.check()
    slices, _ = ranks.slices(machine)
    for stage in recipe.stages:
        parts(recipe, stage, slices)
    if recipe.unlabeled and recipe.unlabeled.feature_weight and frozen is None:
        raise ValueError(f"{recipe.name} keeps near a frozen encoder (V1 Eq. 9): give its file with --frozen")
    shapes = weights and {key: tensor.to("meta") for key, tensor in weights.items()}
    try:
        with torch.device("meta"):
            task_of(recipe).start_model(recipe, shapes)
    except RuntimeError as error:
        mismatch = str(error).splitlines()[-1].strip()
        raise ValueError(
            f"{recipe.name} trains {recipe.variant}: the weights that it should start from do not fit ({mismatch})"
        ) from None


def check_pictures(recipe: Recipe, data: Data) -> None:
    """There are pictures of every kind that the recipe learns from.

    Raises:
        ValueError: there are none.
    """
    for kind, samples, share in (
        ("labelled", data.labeled, 1 - recipe.unlabeled_share),
        ("unlabelled", data.unlabeled, recipe.unlabeled_share),
    ):
        if share and not (samples is not None and len(samples)):
            raise ValueError(f"{recipe.name}: there are no {kind} pictures to train on")


def gradients(
    run: Run, step_slices: list[Slice], stage: Stage, teacher: nn.Module | None, frozen: nn.Module | None
) -> list[Losses]:
    """The losses of this process's slices of a step, and the step's gradients in the parameters."""
    run.optimizer.zero_grad(set_to_none=True)
    task, found = task_of(run.recipe), []
    for number, one in enumerate(step_slices):
        last = number == len(step_slices) - 1
        with gradients_shared(run.network, last), plain_attention(one.image_B3HW):
            losses = task.step_losses(run.network, one, run.recipe, stage, teacher, frozen)
            (losses.total / len(step_slices)).backward()
        found.append(Losses(losses.total.detach(), losses.parts))
    return found


def update(run: Run) -> None:
    """The step itself: clipped gradients, AdamW, the running mean."""
    nn.utils.clip_grad_norm_(run.model.parameters(), run.recipe.clip)
    run.optimizer.step()
    run.step += 1
    update_average(run)


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set, so that a run ends behind a whole step. Another one ends it at once, not
    within SAME_WISH seconds: torchrun and make pass on a signal that the terminal, or `timeout`, sent to all processes.

    What counts is when a signal came: Python hears of it when a backward pass is over, which may be seconds later. So a
    thread reads the clock, woken by a socket into which each signal is written as it comes.
    """
    asked = threading.Event()
    came: list[float] = []
    before: dict[int, Any] = {}

    def ask(number: int, frame: object) -> None:
        if not asked.is_set():
            asked.set()
            return
        time.sleep(0.05)  # the thread's turn, if this one came just now
        if came and came[-1] - came[0] > SAME_WISH:
            signal.signal(number, before[number])
            signal.raise_signal(number)

    def read_clock() -> None:
        while number := woken.recv(1):
            if number[0] in before:
                came.append(time.monotonic())

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    woken, wakes = socket.socketpair()
    wakes.setblocking(False)
    clock = threading.Thread(target=read_clock, name="signals", daemon=True)
    woken_before = signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    before |= {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    clock.start()
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(woken_before)
        wakes.close()
        clock.join()
        woken.close()


def start(
    recipe: Recipe,
    weights: dict[str, Tensor] | None = None,
    machine: Machine = Machine(),  # noqa: B008
    ranks: Ranks = Ranks(),  # noqa: B008
    labeled: Samples | None = None,
) -> Run:
    """Step 0: the model, as the machine runs it, and AdamW. A run for metres may look at pictures for its start."""
    task = task_of(recipe)
    model = task.start_model(recipe, weights)
    if isinstance(recipe, MetricRecipe) and recipe.metric.fitted and labeled is not None:
        metric.fit_last(model, recipe, labeled)
    for name, parameter in model.named_parameters():
        frozen = recipe.encoder_rate == 0 and name.startswith("pretrained.")
        if frozen or name.startswith(task.UNREAD):
            parameter.requires_grad_(False)
    network = prepare(MapAndTokens(model.to(ranks.device)), recipe, machine, ranks)
    average = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    optimizer = torch.optim.AdamW(task.groups(model, recipe), betas=recipe.betas, fused=True)
    return Run(recipe, model, network, optimizer, average)


def task_of(recipe: Recipe) -> ModuleType:
    """The functions for disparity, those for metres, or those for hidden patches."""
    match recipe:
        case MetricRecipe():
            return metric
        case MaskedRecipe():
            return masked_patches
        case _:
            return relative_depth


def update_average(run: Run) -> None:
    """Move the running mean towards the weights; faster at first, so that the random start is forgotten."""
    decay = min(run.recipe.ema, (1 + run.step) / (10 + run.step))
    with torch.no_grad():
        state = run.model.state_dict()
        torch._foreach_lerp_([run.average[key] for key in state], list(state.values()), 1 - decay)


def averaged_model(run: Run, average: dict[str, Tensor]) -> DepthAnything:
    """A model of its own with the running mean of the weights, in evaluation mode, where the run is."""
    model = DepthAnything(run.model.variant)
    model.load_state_dict(average)
    return model.to(next(iter(run.average.values())).device).eval()


def save_final(model: DepthAnything, out: Path) -> None:
    """The released weights: official keys, safetensors, our metadata."""
    from depth_anything.checkpoints.official import save

    with atomic_path(out / "final.safetensors") as temporary:
        save(model, temporary)


class Meter:
    """Speed and mean loss parts over the steps that were added."""

    def __init__(self):
        self.began, self.pictures = time.monotonic(), 0.0
        self.values: dict[str, list[Tensor]] = {}

    def add(self, pictures: float, parts: dict[str, Tensor]) -> None:
        self.pictures += pictures
        for name, value in parts.items():
            self.values.setdefault(name, []).append(value)

    def means(self) -> dict[str, float]:
        """Images per second, and each part's mean over the steps that had it. All processes call this together."""
        speed = self.pictures / (time.monotonic() - self.began)
        means = mean_over_ranks(torch.stack([torch.stack(values).mean() for values in self.values.values()]))
        return {"images_per_second": speed, **dict(zip(self.values, means.tolist(), strict=True))}
