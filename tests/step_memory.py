"""The memory that training steps take, by torch's own trackers: for test_plan.py, which also starts it by torchrun.

torchrun ... step_memory.py OUT '[{"recipe": ..., "size": [H, W], "images": 2, ...}, ...]': under FSDP2, a file in OUT
for each process with the bytes at the peaks.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed._tools.mem_tracker import MemTracker

from depth_anything.network.beit_sam import encoder_of
from depth_anything.network.model import DepthAnything
from depth_anything.train import loop
from depth_anything.train import plan_figures as figures
from depth_anything.train.batches import Data
from depth_anything.train.distributed import Machine, Ranks, join
from depth_anything.train.plan import slice_of_shapes
from depth_anything.train.recipes.all_recipes import get_recipe
from depth_anything.train.recipes.base import Recipe, Stage
from depth_anything.train.steps import clipped, gradients, update
from depth_anything.train.student import FinalTokens
from depth_anything.train.teacher import stored_as_computed


def measured_peak(
    recipe: Recipe,
    stage: Stage,
    size: tuple[int, int],
    portion: tuple[int, int],
    machine: Machine,
    ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
) -> int:
    """Bytes of this process at the peak of the second step of a real run."""
    row = figures.row_of(recipe)
    run = loop.start(recipe, DepthAnything(row).state_dict(), machine, ranks)
    frozen = FinalTokens(encoder_of(row)) if recipe.unlabeled else None
    if frozen:
        stored_as_computed(frozen, recipe, "cpu")
    task = loop.task_of(replace(recipe, stages=(stage,)), Data(), machine, ranks, frozen=frozen)
    run.network.train()

    def step() -> None:
        ready = [slice_of_shapes(recipe, stage, size, *portion) for _ in range(machine.accumulate)]
        parts = [part for one in ready for part in (one.labeled, one.unlabeled) if part]
        for tensor in (value for part in parts for value in vars(part).values()):
            tensor.fill_(True) if tensor.dtype == torch.bool else tensor.uniform_(0.1, 1)
        run.step = 0
        gradients(run, ready, task)
        clipped(run)
        update(run)
        run.optimizer.zero_grad()

    step()
    if machine.shard:
        tracker = FSDPMemTracker(run.network, run.optimizer)
        tracker.track_inputs((*(frozen.parameters() if frozen else ()), *run.average.values()))  # what it cannot know
        around = task.around

        def alone(one: object):
            tracker.reset_mod_stats()  # it expects one pass
            return around(one)

        task = replace(task, around=alone)
    else:
        run.model.requires_grad_(True)  # the tracker hooks every parameter; those that nothing reads get no gradient
        tracker = MemTracker()
        for module in (run.network, frozen and frozen.requires_grad_(True), run.optimizer):
            if module is not None:
                tracker.track_external(module)
        tracker.track_external(*run.average.values())
    with tracker:
        step()
    return tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]


def main(out: Path, settings: list[dict]) -> None:
    """Write the peak of this process with each of some settings."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with join() as ranks:
        peaks = []
        for given in settings:
            recipe, stage, portion = step_of(given)
            machine = Machine(shard=True, accumulate=given["accumulate"], checkpointing=given["checkpointing"])
            peaks.append(measured_peak(recipe, stage, stage.sizes[0], portion, machine, ranks))
        (out / f"{ranks.rank}.json").write_text(json.dumps(peaks))


def step_of(given: dict) -> tuple[Recipe, Stage, tuple[int, int]]:
    """A recipe in float32 with a stage of one size, and the labelled and unlabelled images of a slice."""
    recipe = replace(get_recipe(given["recipe"]), precision="float32", ema=given["ema"])
    return recipe, replace(recipe.stages[0], sizes=(tuple(given["size"]),)), figures.portion(recipe, given["images"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
