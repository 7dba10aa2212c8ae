"""How much of the bare network's speed labelling and training keep, in one run, interleaved.

    python benchmarks/engine.py [--variant v2-small] [--size 518] [--rounds 5] [--images 8] [--batch 2]

Random weights, photographs of examples/. Labelling is `depth-anything label` as it is (read, decode, resize, predict,
encode, write) beside the same network on ready tensors of the same shapes; a training step is the student's of a
recipe (images read and perturbed in the background, losses, clipping, AdamW, running mean) beside the bare forward
and backward of the same images. Ratios are of medians. Prints Markdown.
"""

import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import tyro

from depth_anything.checkpoints import official
from depth_anything.images.read import read_image
from depth_anything.label.jobs import LabelOptions
from depth_anything.label.launch import label
from depth_anything.label.teacher import Teacher
from depth_anything.network.model import DepthAnything
from depth_anything.network.resize import PATCH
from depth_anything.train import loop, steps
from depth_anything.train.batches import Data
from depth_anything.train.recipes.base import Stage
from depth_anything.train.recipes.v2 import v2_student
from depth_anything.train.sources import open_data
from depth_anything.train.teacher import plain_attention, run_network
from depth_anything.variants import get_variant

EXAMPLES = Path(__file__).parents[1] / "examples"


def engine(
    variant: str = "v2-small",
    size: int | None = None,
    rounds: int = 5,
    images: int = 8,
    batch: int = 2,
    threads: int = 2,
) -> None:
    """Measure labelling and training.

    Args:
        variant: the network.
        size: lower bound of the shorter side, and side of the training crop; by default the variant's own.
        rounds: of each; labelling and training alternate with what they are held against.
        images: labelled in a round.
        batch: of labelling and of training.
        threads: of torch.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    row = get_variant(variant)
    size = size or row.input_size
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {threads} threads, torch {torch.__version__}, {variant}, {size}\n")
    print("| | seconds an image | of the bare network |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "model.safetensors"
        official.save(DepthAnything(variant), weights)
        show("labelling", *labelling(weights, Path(folder), size, rounds, images, batch, threads))
        show("training step", *training(Path(folder), variant, size, rounds, batch))


def show(name: str, bare: list[float], whole: list[float]) -> None:
    """One line of each, and the ratio of speeds."""
    bare_s, whole_s = statistics.median(bare), statistics.median(whole)
    print(f"| {name}, bare network | {bare_s:.3f} | |\n| {name} | {whole_s:.3f} | {bare_s / whole_s:.0%} |", flush=True)


def labelling(
    weights: Path, folder: Path, size: int, rounds: int, images: int, batch: int, threads: int
) -> tuple[list[float], list[float]]:
    """Seconds an image of the bare teacher, and of `label`, in each round.

    A run's start (loading, hashing the weights) does not count: it is measured by an empty second run over the output.
    """
    photos = sorted(EXAMPLES.glob("*.jpg"))
    source = folder / "photos"
    source.mkdir()
    for number in range(images):
        shutil.copy(photos[number % len(photos)], source / f"{number:04d}.jpg")
    teacher = Teacher(DepthAnything.from_pretrained(weights), input_size=size)
    inputs = [teacher.prepare(read_image(path)) for path in sorted(source.iterdir())]
    shapes = {one.shape for one in inputs}
    ready = [[one for one in inputs if one.shape == shape] for shape in shapes]

    def bare() -> None:
        for same in ready:
            for first in range(0, len(same), batch):
                teacher(same[first : first + batch])

    asked = LabelOptions(teacher=str(weights), input_size=size, batch=batch, threads=threads)

    def whole(out: Path) -> float:
        began = time.perf_counter()
        label(str(source), str(out), asked)
        middle = time.perf_counter()
        label(str(source), str(out), asked)
        return (middle - began) - (time.perf_counter() - middle)

    bare()
    whole(folder / "warm")
    seconds = [(timed(bare) / images, whole(folder / f"labels{number}") / images) for number in range(rounds)]
    return [one[0] for one in seconds], [one[1] for one in seconds]


def training(folder: Path, variant: str, size: int, rounds: int, batch: int) -> tuple[list[float], list[float]]:
    """Seconds an image of forward and backward alone, and of the student's whole step, in each round."""
    side = size // PATCH * PATCH
    stage = Stage(samples=batch * (2 * rounds + 4), sizes=((side, side),), batch=batch, gradient_weight=2.0)
    recipe = v2_student("large")  # perturbation and CutMix on
    assert recipe.unlabeled is not None
    recipe = replace(
        recipe,
        variant=variant,
        stages=(stage,),
        from_backbone=False,
        validation_scenes=0,
        unlabeled=replace(recipe.unlabeled, feature_weight=0.0),
        ema=0.999,
    )
    data, _ = open_data(recipe, {}, folder, [folder / "labels0"])
    run = loop.start(recipe)
    run.network.train()
    task = loop.task_of(recipe, Data(unlabeled=data.unlabeled))
    ready = steps.batches(task, 0, recipe.steps)
    images = torch.randn(batch, 3, side, side)

    def bare() -> None:
        with plain_attention(images):
            map_BHW, _ = run_network(run.network, images, recipe)
            map_BHW.float().mean().backward()

    def step() -> None:
        task.set_rate(run.optimizer, run.step)
        steps.gradients(run, next(ready), task)
        steps.update(run)

    bare()
    step()
    seconds = [(timed(bare) / batch, timed(step) / batch) for _ in range(rounds)]
    return [one[0] for one in seconds], [one[1] for one in seconds]


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    tyro.cli(engine)
