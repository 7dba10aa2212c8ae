"""A training step in parts: FLOP and memory on shapes alone, and times of the losses on the processor.

    python benchmarks/step_profile.py v2-student-large v2-student-small    # the tables of results/step_profile.md
    python benchmarks/step_profile.py v2-student-small --operators                # a real step here, by operator
    python benchmarks/step_profile.py --smoke

FLOP: two for a multiplication with its addition; products and convolutions only. Times: medians of alternating runs.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from depth_anything import losses
from depth_anything.network.beit_sam import encoder_of
from depth_anything.network.model import DepthAnything
from depth_anything.train import loop
from depth_anything.train.batches import Data
from depth_anything.train.distributed import Machine
from depth_anything.train.plan import ATTENTION, ShapeRun, slice_of_shapes
from depth_anything.train.plan_figures import GIB, heaviest, portion
from depth_anything.train.recipes.all_recipes import get_recipe
from depth_anything.train.steps import clipped, gradients, update
from depth_anything.train.student import FinalTokens
from depth_anything.train.teacher import run_network
from depth_anything.variants import get_variant

IMAGES = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=["v2-student-large", "v2-student-small"])
    parser.add_argument("--smoke", action="store_true", help="nano-vit at a small size")
    parser.add_argument("--operators", action="store_true", help="a real step of 2 images, in float32")
    arguments = parser.parse_args()
    if arguments.operators:
        for name in arguments.recipes:
            print("| recipe | operator | share of the step |\n|---|---|---|")
            for line in operators(name):
                print(line, flush=True)
        return
    names = ["nano-vit-student"] if arguments.smoke else arguments.recipes
    print("| recipe | part | GFLOP an image | share |\n|---|---|---|---|")
    for name in names:
        for line in flop_parts(name):
            print(line, flush=True)
    print("\n| recipe | options | GiB an image |\n|---|---|---|")
    for name in names:
        for checkpointing in (False, True):
            option = "`--checkpointing`" if checkpointing else "none"
            print(f"| {name} | {option} | {image_bytes(name, checkpointing) / GIB:.2f} |", flush=True)
    print("\n| losses of a V2 student on the processor | ms an image |\n|---|---|")
    for line in loss_times(*((56, 2, 2) if arguments.smoke else (518, 2, 7))):
        print(line, flush=True)
    print("\n| decoder in training, on the processor | ms an image |\n|---|---|")
    for line in layout_times(*(("nano-vit", 56, 2, 2) if arguments.smoke else ("v2-small", 518, 4, 5))):
        print(line, flush=True)


def operators(name: str, images: int = 2) -> Iterator[str]:
    """Rows: the operators that take most time of a whole step on the processor."""
    recipe = replace(get_recipe(name), precision="float32")
    stage, size = heaviest(recipe)
    torch.manual_seed(0)
    run = loop.start(recipe, DepthAnything(recipe.variant).state_dict())
    frozen = FinalTokens(encoder_of(get_variant(recipe.variant)))
    task = loop.task_of(replace(recipe, stages=(stage,)), Data(), frozen=frozen)
    one = slice_of_shapes(recipe, stage, size, *portion(recipe, images))
    for part in (one.labeled, one.unlabeled):
        for what, tensor in vars(part).items() if part else ():
            tensor.fill_(what != "box_BHW") if tensor.dtype == torch.bool else tensor.uniform_(0.1, 1)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        gradients(run, [one], task)
        clipped(run)
        update(run)
    found = sorted(profile.key_averages(), key=lambda event: -event.self_cpu_time_total)
    whole = sum(event.self_cpu_time_total for event in found)
    for event in found[:14]:
        yield f"| {name} | `{event.key}` | {event.self_cpu_time_total / whole:.1%} |"


def flop_parts(name: str) -> Iterator[str]:
    """Rows: encoder, decoder, frozen encoder; forward and backward pass."""
    recipe = get_recipe(name)
    stage, size = heaviest(recipe)
    run = ShapeRun(recipe)
    model = run.run.model
    one_stage = replace(recipe, stages=(stage,))

    def counted(call: Callable[[], object]) -> float:
        with run.fake, run.allocated, FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
            call()
        return counter.get_total_flops() / IMAGES / 1e9

    with run.fake, run.allocated:
        image_B3HW = slice_of_shapes(one_stage, stage, size, *portion(recipe, IMAGES)).image_B3HW
    forward = counted(lambda: run_network(run.run.network, image_B3HW, recipe))
    encoder = counted(lambda: model.encode(image_B3HW))
    whole = run.step(stage, size, *portion(recipe, IMAGES), count=True).flops / IMAGES / 1e9
    frozen = 0.0
    frozen_encoder = run.frozen
    if frozen_encoder is not None:
        share = portion(recipe, IMAGES)[1] / IMAGES
        with torch.no_grad():
            frozen = share * counted(lambda: run_network(frozen_encoder, image_B3HW, recipe))
    backward = whole - frozen - forward
    rows = {
        "encoder, forward": encoder,
        "decoder, forward": forward - encoder,
        "both, backward": backward,
        "frozen encoder": frozen,
    }
    for part, flops in rows.items():
        yield f"| {name} | {part} | {flops:.0f} | {flops / whole:.0%} |"


def image_bytes(name: str, checkpointing: bool) -> float:
    """Growth of the peak by an image."""
    recipe = get_recipe(name)
    stage, size = heaviest(recipe)
    run = ShapeRun(recipe, Machine(checkpointing=checkpointing))
    few, more = (run.step(stage, size, *portion(recipe, images)).peak for images in (IMAGES, 2 * IMAGES))
    return (more - few) / IMAGES


def loss_times(side: int, images: int, rounds: int) -> Iterator[str]:
    """Rows: L_ssi and L_gm without the noisiest tenth, forward and backward, with and without a second region."""
    torch.manual_seed(0)
    map_BHW = torch.rand(images, side, side, requires_grad=True)
    target_BHW, valid_BHW = torch.rand(images, side, side), torch.rand(images, side, side) > 0.01
    nowhere_BHW = torch.zeros(images, side, side, dtype=torch.bool)

    def step(box_BHW: torch.Tensor | None) -> None:
        map_BHW.grad = None
        main_loss, matching = losses.cutmix_pair(
            map_BHW, target_BHW, target_BHW, box_BHW, valid_BHW, valid_BHW, noisiest=0.1
        )
        (main_loss + 2 * matching).backward()

    def old_rank() -> None:
        size = map_BHW.detach().flatten(1)
        _ = size.argsort(dim=1, descending=True, stable=True).argsort(dim=1) < 10

    def new_rank() -> None:
        losses.largest_residuals(map_BHW.detach(), valid_BHW, 0.1)

    calls = {
        "one region (recipes without CutMix)": lambda: step(None),
        "two regions, one of them empty (before)": lambda: step(nowhere_BHW),
        "the noisiest tenth by one sort": new_rank,
        "by two sorts (before)": old_rank,
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.process_time()
            call()
            times[name].append(time.process_time() - start)
    for name, seconds in times.items():
        yield f"| {name} | {1e3 * statistics.median(seconds) / images:.0f} |"


def layout_times(name: str, side: int, images: int, rounds: int) -> Iterator[str]:
    """Rows: the decoder, forward and backward, with its maps and weights in two orders of memory."""
    torch.manual_seed(0)
    model = DepthAnything(name).train()
    decoder, reassemble = model.depth_head, model.depth_head.reassemble
    image_B3HW = torch.randn(images, 3, side, side)
    h, w = model.grid(image_B3HW)
    with torch.no_grad():
        levels = model.encode(image_B3HW)

    def contiguous(tokens: list[torch.Tensor], h: int, w: int) -> list[torch.Tensor]:
        return [x_BChw.contiguous() for x_BChw in reassemble(tokens, h, w)]

    layouts = {
        "maps as tokens lie in memory (channels last)": (reassemble, torch.contiguous_format),
        "maps made contiguous (channels first)": (contiguous, torch.contiguous_format),
        "maps and weights channels last": (reassemble, torch.channels_last),
    }
    times: dict[str, list[float]] = {layout: [] for layout in layouts}
    for _ in range(rounds):
        for layout, (maps, weights) in layouts.items():
            decoder.to(memory_format=weights)  # type: ignore[call-overload]
            decoder.reassemble = maps  # type: ignore[method-assign]
            model.zero_grad()
            leaves = [level.clone().requires_grad_() for level in levels]
            start = time.process_time()
            model.decode(leaves, h, w).mean().backward()
            times[layout].append(time.process_time() - start)
    for layout, seconds in times.items():
        yield f"| {layout} | {1e3 * statistics.median(seconds) / images:.0f} |"


if __name__ == "__main__":
    main()
