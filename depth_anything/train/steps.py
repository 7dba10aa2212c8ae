"""The training loop: resume; then step, log, validate and save until the run is complete. Every trainer uses it."""

import logging
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from depth_anything.losses import Losses
from depth_anything.predict.prefetch import prefetch
from depth_anything.system.files import make_folder
from depth_anything.system.lock import alone
from depth_anything.system.signals import stop_signals
from depth_anything.train.changes import Changes, change, record
from depth_anything.train.checkpoint import Run
from depth_anything.train.distributed import Machine, Ranks, gradients_shared, raise_on_all
from depth_anything.train.meter import Meter
from depth_anything.train.odd_steps import OddSteps, refuse_broken
from depth_anything.train.run_log import RunLog
from depth_anything.train.saving import Saver
from depth_anything.train.tracker import Tracker
from depth_anything.train.watch import watched

LOG = logging.getLogger(__name__)
S = TypeVar("S")
AHEAD = 3
"""Number of steps whose images are prepared in advance."""


@dataclass(frozen=True, kw_only=True)
class Task(Generic[S]):
    """A training task as functions of the step number, from which every random draw follows."""

    build: Callable[[int, int, ThreadPoolExecutor | None], S]
    """Slice `index` of a step: the input of one forward pass. Reads with the thread pool if there is one."""
    losses: Callable[[nn.Module, S, int], Losses]
    """Losses of a slice, given the network as prepared for this machine and the step."""
    set_rate: Callable[[Optimizer, int], float]
    """Sets the learning rate of every group; returns the one to log."""
    validate: Callable[[RunLog | None], None] | None = None
    """Measures held-out images. All processes call it; the one with the log writes."""
    around: Callable[[S], AbstractContextManager] = lambda one: nullcontext()
    """Context for the forward and the backward pass of a slice."""
    names: Callable[[int, int], list[str]] = lambda step, index: []
    """Keys of the images in slice `index` of a step, for reports about odd steps."""
    image_seconds: float = 0.0
    """FLOP of a training step for one image, divided by the peak FLOP/s of all devices; 0: unknown, `mfu` is not
    logged."""


def run_steps(
    run: Run,
    task: Task,
    out: str | Path,
    machine: Machine,
    ranks: Ranks,
    log_every: int = 1,
    validate_every: int = 1000,
    save_seconds: float = 300.0,
    changes: Changes = Changes(),  # noqa: B008 (frozen)
    tracker: Tracker | None = None,
) -> None:
    """Do the steps of a run, from the state in `out` or from step 0, to the last one.

    `out` receives recipe.json, curve.jsonl (a line per log and validation), events for TensorBoard and the state:
    state.pt, or under FSDP2 checkpoints/ (`saving.Saver`).

    Args:
        log_every, validate_every: in steps.
        save_seconds: wall-clock time between two saves of the state.
        changes: deliberate differences from the saved recipe.
        tracker: also receives what is logged.

    Raises:
        ValueError: `out` holds another recipe, another job writes there, many steps in a row are not finite, or most
            gradients are 0.
        NotWritten: the last state could not be saved. Earlier failures are warnings.
        KeyboardInterrupt: a stop signal arrived; the state is saved.
    """
    out = Path(out)
    make_folder(out)
    with alone(out) if ranks.first else nullcontext():
        _run_steps(run, task, out, machine, ranks, log_every, validate_every, save_seconds, changes, tracker)


def _run_steps(
    run: Run,
    task: Task,
    out: Path,
    machine: Machine,
    ranks: Ranks,
    log_every: int,
    validate_every: int,
    save_seconds: float,
    changes: Changes,
    tracker: Tracker | None,
) -> None:
    recipe = run.recipe
    run.allowed = changes.fields
    saver = Saver(run, out, machine, ranks)
    if saver.resume():
        LOG.info("resuming after step %d of %d", run.step, recipe.steps)
    skip_ahead(run, changes.skip_to)
    log = None
    if ranks.first:
        record(out, recipe, run.changes)
        log = RunLog(out, run.step, tracker)
    _, own = ranks.slices(machine)
    meter, saved = Meter(recipe.seen(run.step), ranks.device, task.image_seconds), time.monotonic()
    odd = OddSteps(out, run.step, recipe.steps, ranks.first)
    ready = batches(task, run.step, recipe.steps, own, machine.readers)
    with stop_signals() as stop, watched(ranks) as watch, closing(saver), closing(ready):
        for step_slices in meter.waiting(ready):
            began = time.monotonic()
            watch.doing(f"step {run.step + 1}")
            rate = task.set_rate(run.optimizer, run.step)
            losses = gradients(run, step_slices, task, meter.forward)
            norm = clipped(run)
            due = time.monotonic() - saved > save_seconds
            values = torch.stack([*(one.total for one in losses), norm]).float()
            (*totals, norm), (broken, stopping, due, busy) = agreed_step(values, [stop.is_set(), due, saver.busy()])
            names = partial(images_of, task, run.step, own)
            if broken:
                odd.skip(run.step, totals, norm, names)
                run.step += 1
            else:
                odd.taken(run.step, totals, norm, names)
                update(run)
                for one in losses:
                    meter.add(one.parts)
            run.seconds += time.monotonic() - began

            done = run.step == recipe.steps
            if run.step % log_every == 0 or done:
                seen = recipe.seen(run.step)
                about = {"step": run.step, "samples": seen, "seconds": round(run.seconds), "rate": rate}
                about |= meter.means(seen) | {"skipped_steps": odd.skipped}
                if not broken:
                    about["gradient_norm"] = norm
                if log:
                    log.add(about)
                meter.restart(seen)
            if (due and not busy) or done or stopping:
                refuse_broken(run, ranks.device)
            if stopping and not done:  # before validation: the sender of the signal may kill the process soon
                watch.doing(f"saving step {run.step}")
                saver.finish()
            if task.validate is not None and (run.step % validate_every == 0 or done):
                watch.doing(f"validation at step {run.step}")
                task.validate(log)
            watch.doing(f"saving step {run.step}")
            if done:
                saver.finish()
            elif due and not busy and not stopping:
                saver.start()
                saved = time.monotonic()
            watch.doing(f"reading images for step {run.step + 1}")
            if stopping and not done:
                raise KeyboardInterrupt(f"stopped and saved after step {run.step} of {recipe.steps}")


def batches(task: Task[S], first_step: int, steps: int, own: range = range(1), readers: int = 1) -> Generator[list[S]]:
    """The slices of every step from `first_step`, prepared up to AHEAD steps in advance by a background thread.

    Args:
        own: indices of this process's slices of a step.
        readers: threads that read and decode images.
    """

    def slices_of_steps() -> Generator[list[S]]:
        torch.set_num_threads(1)  # applies to this thread only; the network uses the other cores
        with ThreadPoolExecutor(readers) as pool:
            for step in range(first_step, steps):
                yield [task.build(step, index, pool if readers > 1 else None) for index in own]

    return prefetch(slices_of_steps(), AHEAD)


def skip_ahead(run: Run, step: int | None) -> None:
    """Continue with step number `step` if it is later than the current one.

    Raises:
        ValueError: it is after the last step of the run.
    """
    if step is None or step <= run.step:
        return
    if step >= run.recipe.steps:
        raise ValueError(f"--skip-to {step}: expected a step before the end of the run, {run.recipe.steps}")
    run.changes.append(change("step", run.step, step, run.step))
    LOG.info("skipped from step %d to step %d", run.step, step)
    run.step = step


def images_of(task: Task, step: int, own: range, chosen: list[int]) -> list[str]:
    """Keys of the images in the chosen slices of this process, by their positions among its slices."""
    return [name for place in chosen for name in task.names(step, own[place])]


def gradients(
    run: Run, step_slices: list[S], task: Task[S], timed: Callable[[], AbstractContextManager] = nullcontext
) -> list[Losses]:
    """Accumulate the gradients of a step in the parameters; return the losses of this process's slices.

    Args:
        timed: context for each forward pass.
    """
    run.optimizer.zero_grad(set_to_none=True)
    found = []
    for number, one in enumerate(step_slices):
        last = number == len(step_slices) - 1
        with gradients_shared(run.network, last), task.around(one):
            with timed():
                losses = task.losses(run.network, one, run.step)
            (losses.total / len(step_slices)).backward()
        found.append(Losses(losses.total.detach(), losses.parts))
    return found


def clipped(run: Run) -> Tensor:
    """Clip the gradients of the step; return their norm before clipping, over all processes, as a scalar."""
    norm = nn.utils.clip_grad_norm_(run.model.parameters(), run.recipe.clip)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def agreed_step(values: Tensor, flags: list[bool]) -> tuple[list[float], list[bool]]:
    """The values of a step (losses of this process's slices, norm of the gradient) as numbers; and, equal on all
    processes, whether any of them is not finite, followed by each flag, true if it is true on any process.

    Everything is copied from the device at once: the only time in a step that the program waits for it.
    """
    broken = ~values.isfinite().all()
    raised = raise_on_all(torch.cat([broken[None], torch.tensor(flags, device=values.device)]))
    copied = torch.cat([values, raised]).tolist()
    return copied[: len(values)], [bool(flag) for flag in copied[len(values) :]]


def update(run: Run) -> None:
    """Apply the step: AdamW, then the running mean."""
    run.optimizer.step()
    run.step += 1
    update_average(run)


def update_average(run: Run) -> None:
    """Move the running mean towards the weights; faster at first, so that the initial weights lose their influence."""
    if run.average:
        decay = min(run.decay, (1 + run.step) / (10 + run.step))
        with torch.no_grad():
            state = run.model.state_dict()
            kinds = {type(tensor) for tensor in state.values()}  # under FSDP2 weights are sharded, buffers are not
            for kind in kinds:
                keys = [key for key, tensor in state.items() if type(tensor) is kind]
                torch._foreach_lerp_([run.average[key] for key in keys], [state[key] for key in keys], 1 - decay)
