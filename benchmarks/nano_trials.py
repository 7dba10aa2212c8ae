"""What limits nano-vit: one factor of nano-vit-teacher changed at a time, every run with the same number of images.

    python benchmarks/nano_trials.py --out runs/trials --scenes FOLDER --pairs MANIFEST --samples 16000 --seeds 3

FOLDER has training/ and held_out/ with scene shards, as `depth-anything train` leaves them. The base is
nano-vit-teacher without its last stage, which would take two fifths of the time: three quarters of the images small
under the range loss, one quarter larger under the affine-invariant one. A trial is a function from the recipe to the
recipe (VARIATIONS), another shape of the network (SHAPES, STEM), another optimiser (MUON) or loss (FAR), other scenes
(`--other-scenes`) or another start (`--warm`). Each is run with several seeds; seed by seed it differs from the base
in that one factor.
On a GPU the scenes lie in its memory. Larger batches (`--batch`) use it better, and so do runs side by side, most of
all under NVIDIA's MPS (start `nvidia-cuda-mps-control -d` before).
`--start-from` puts all of it behind a longer training: every run, the base too, goes on from those weights, at a lower
rate and under the affine-invariant loss alone. Then `--pseudo-labels` adds students, whose teacher those weights are:
what `depth-anything label` made with them takes two thirds of the images (nano-vit-student's settings; once as they
are, once without strong perturbation).

A run is scored on the held-out scenes and on photographs with measured truth (protocol `pairs`), with the network input
that its last stage had. Finished runs are kept and unfinished ones go on, so the command can be stopped and repeated,
and `--only` names the trials of a sitting. Prints Markdown: means with spread, then paired differences to the base.
Equal images are not equal time: the images a second and the minutes stand beside.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor, nn

from depth_anything import losses
from depth_anything.checkpoints.official import load, load_backbone
from depth_anything.data.labeled.on_device import ScenesOnDevice
from depth_anything.data.labeled.rendered import PackedScenes
from depth_anything.data.pseudo_labels import PseudoLabels
from depth_anything.data.sample import Crop, Sample
from depth_anything.data.samples import Chosen, Kept, Samples
from depth_anything.evaluate.metrics import METRICS
from depth_anything.evaluate.pairs import evaluate_pairs
from depth_anything.network import dinov2
from depth_anything.system.files import atomic_path
from depth_anything.train.batches import Data
from depth_anything.train.distributed import Machine, Ranks
from depth_anything.train.loop import train
from depth_anything.train.recipes.base import Recipe, as_json
from depth_anything.train.recipes.nano_vit import (
    MIDDLE,
    SMALL,
    WIDE_MIDDLE,
    WIDE_SMALL,
    nano_vit_long_student,
    nano_vit_student,
    nano_vit_teacher,
)
from depth_anything.train.sources import folders
from depth_anything.train.student import frozen_encoder
from depth_anything.variants import NANO_VIT, TRIED, Variant

Variation = Callable[[Recipe], Recipe]
LOG_EVERY = 10
"""Steps between two lines of the curve, from which the speed is read."""


def changed(**fields: object) -> Variation:
    """The recipe with other values of some fields."""
    return lambda recipe: replace(recipe, **fields)  # type: ignore[arg-type]


def every_stage(**fields: object) -> Variation:
    """The recipe with other values in all of its stages."""
    return lambda recipe: replace(recipe, stages=tuple(replace(stage, **fields) for stage in recipe.stages))  # type: ignore[arg-type]


def rate(factor: float) -> Variation:
    """Another learning rate."""
    return lambda recipe: replace(recipe, learning_rate=recipe.learning_rate * factor)


def wide_too(recipe: Recipe) -> Recipe:
    """With network inputs in the aspect ratios of videos and of car cameras among the others."""
    wide: dict[tuple, tuple] = {SMALL: SMALL + WIDE_SMALL, MIDDLE: MIDDLE + WIDE_MIDDLE}
    return replace(recipe, stages=tuple(replace(stage, sizes=wide[stage.sizes]) for stage in recipe.stages))


def batch_by(factor: float) -> Variation:
    """Other batches, and as many more or fewer steps."""
    return lambda recipe: replace(
        recipe, stages=tuple(replace(stage, batch=round(stage.batch * factor)) for stage in recipe.stages)
    )


def fewer_scenes(part: float) -> Variation:
    """A part of the scenes, each seen as much more often."""
    return lambda recipe: replace(recipe, scenes=round(recipe.scenes * part))


BASE = "base"
VARIATIONS: dict[str, Variation] = {
    BASE: changed(),
    "affine": every_stage(loss="affine"),
    "range": every_stage(loss="range"),
    "gradient-0": every_stage(gradient_weight=0.0),
    "gradient-2": every_stage(gradient_weight=2.0),
    "colours-none": changed(perturbation="none"),
    "colours-unimatch": changed(perturbation="unimatch"),
    "crop-0.25": changed(crop_scale=(0.25, 1.0)),
    "crop-0.5": changed(crop_scale=(0.5, 1.0)),
    "crop-0.8": changed(crop_scale=(0.8, 1.0)),
    "small": every_stage(sizes=SMALL),
    "middle": every_stage(sizes=MIDDLE),
    "panoramas": wide_too,
    "rate-half": rate(0.5),
    "rate-double": rate(2.0),
    "batch-half": batch_by(0.5),
    "batch-double": batch_by(2.0),
    "ema-0": changed(ema=0.0),
    "ema-0.9995": changed(ema=0.9995),
    "scenes-quarter": fewer_scenes(0.25),
}
"""Trials by name, which is also the name of their folders."""

SHAPES: dict[str, Variant] = {
    "wide": replace(NANO_VIT, name="nano-wide", width=256, depth=4, heads=4, taps=(0, 1, 2, 3)),
    "deep": replace(NANO_VIT, name="nano-deep", width=128, depth=12, heads=2, taps=(2, 5, 8, 11)),
    "large": replace(NANO_VIT, name="nano-large", width=384, depth=8, heads=6, taps=(1, 3, 5, 7)),
}
"""Width against depth: as many numbers in the encoder's blocks as nano-vit has, within a fifth. And more of both: what
its size costs."""
STEM = "stem"
"""nano-vit with convolutions in the place of the one linear map of each patch."""
MUON = "muon"
"""Muon's orthogonal steps (Jordan et al. 2024) for the matrices of the encoder's blocks; AdamW for all else."""
FAR = "far"
"""The affine-invariant residual weighed by how far a pixel is, as AbsRel and delta1 weigh it: by depth, bounded."""
UNPERTURBED = "-unperturbed"
"""Ends the name of a student without strong colours and CutMix."""
WARM = "warm"
"""An encoder that starts from the weights of `--warm`."""

COLUMNS = (
    *(("pairs", region, "delta1") for region in ("all", "indoor", "outdoor")),
    ("pairs", "all", "abs_rel"),
    *(("pairs", region, "ordinal") for region in ("all", "indoor", "outdoor")),
    ("pairs", "all", "boundary_f1"),
    ("pairs", "all", "coarse_boundary_f1"),
    *(("scenes", "all", m) for m in ("delta1", "abs_rel", "ordinal", "boundary_f1", "coarse_boundary_f1")),
)
"""Test, region and metric of the tables."""


@dataclass(frozen=True)
class Trial:
    """One run and its paths."""

    recipe: Recipe
    folder: Path
    training: Path
    start_from: Path | None
    warm: Path | None
    labels: Path | None
    tests: dict[str, Path]
    device: str

    def sources(self) -> dict[str, str]:
        """What the recipe does not say: the files that the run learns from."""
        given = {"scenes": self.training, "start": self.start_from, "warm": self.warm, "labels": self.labels}
        return {name: str(path.resolve()) for name, path in given.items() if path}


class ConvStem(nn.Module):
    """`PatchEmbed` in three steps: 7 x 7 pixels, then their neighbours, then 2 x 2 of those."""

    def __init__(self, width: int):
        super().__init__()
        self.proj = nn.Sequential(
            nn.Conv2d(3, width // 2, 7, stride=7),
            nn.GELU(),
            nn.Conv2d(width // 2, width // 2, 3, padding=1, groups=width // 2),
            nn.GELU(),
            nn.Conv2d(width // 2, width, 2, stride=2),
        )

    def forward(self, image_B3HW: Tensor) -> Tensor:
        return self.proj(image_B3HW).flatten(2).transpose(1, 2)


class Muon(torch.optim.AdamW):
    """AdamW, but torch's Muon for the encoder's matrices, at a rate that moves them as much as AdamW would."""

    def __init__(self, groups: list[dict], betas: tuple[float, float], fused: bool):
        encoder, *others = groups  # the encoder's decayed weights come first
        matrices = [weight for weight in encoder["params"] if weight.ndim == 2]
        rest = [weight for weight in encoder["params"] if weight.ndim != 2]
        self.muon = torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw")
        first = self.muon.defaults | encoder | {"params": matrices}
        super().__init__([first, encoder | {"params": rest}, *others], betas=betas, fused=fused)

    def step(self, closure=None):
        groups = self.param_groups
        self.muon.param_groups, self.muon.state = groups[:1], self.state  # one state, so that a run can be resumed
        self.muon.step()
        self.param_groups = groups[1:]
        super().step()
        self.param_groups = groups


def far_weighted_pair(
    prediction_BHW: Tensor, target_BHW: Tensor, valid_BHW: Tensor, outline_weight: float = 1.0
) -> tuple[Tensor, Tensor]:
    """`losses.affine_invariant_pair`, its first loss weighed by 1 / (disparity + a fifth of its mean), mean 1."""
    residual_BHW = losses.affine_invariant_residual(prediction_BHW, target_BHW, valid_BHW)
    mean_B = losses.mean_over_valid(target_BHW, valid_BHW)[:, None, None]
    weight_BHW = 1 / (losses.masked(target_BHW, valid_BHW) + 0.2 * mean_B).clamp(min=losses.SMALLEST_SPREAD)
    weight_BHW = weight_BHW / losses.mean_over_valid(weight_BHW, valid_BHW)[:, None, None]
    counts_B = losses.has_spread(target_BHW, valid_BHW)
    pixel_B = losses.mean_over_valid(weight_BHW * residual_BHW.abs(), valid_BHW)
    _, matching = losses.pixel_and_gradient(residual_BHW, target_BHW, valid_BHW, outline_weight)
    return losses.mean_over_images(pixel_B, counts_B), matching


@contextmanager
def as_tried(name: str) -> Iterator[None]:
    """The network, the optimiser and the loss that a trial means while it runs."""
    plain, adamw, pair = dinov2.PatchEmbed, torch.optim.AdamW, losses.affine_invariant_pair
    if name == MUON:
        torch.optim.AdamW = Muon  # type: ignore[misc]
    elif name in SHAPES:
        TRIED[SHAPES[name].name] = SHAPES[name]
    elif name == STEM:
        dinov2.PatchEmbed = ConvStem  # type: ignore[misc, assignment]
    elif name == FAR:
        losses.affine_invariant_pair = far_weighted_pair
    try:
        yield
    finally:
        dinov2.PatchEmbed, torch.optim.AdamW, losses.affine_invariant_pair = plain, adamw, pair  # type: ignore[misc]
        TRIED.pop(f"nano-{name}", None)


def evenly(samples: Samples, count: int) -> Chosen:
    """`count` images of a set, at equal distances."""
    return Chosen(samples, np.arange(count) * len(samples) // count)


class SpreadOnDevice(ScenesOnDevice):
    """`evenly` of scenes in a GPU's memory."""

    def __init__(self, scenes: PackedScenes, count: int, device: str):
        super().__init__(scenes, device)
        self.spread = evenly(scenes, count)

    def __len__(self) -> int:
        return len(self.spread)

    def __getitem__(self, number: int) -> Sample:
        return self.spread[number]

    def windows(self, numbers: Sequence[int], crops: Sequence[Crop]) -> tuple[Tensor, Tensor, Tensor]:
        return super().windows([int(self.spread.numbers[number]) for number in numbers], crops)


def trials(
    out: Path,
    scenes: Path,
    pairs: Path | None = None,
    other_scenes: tuple[str, ...] = (),
    warm: Path | None = None,
    start_from: Path | None = None,
    pseudo_labels: tuple[str, ...] = (),
    samples: int = 16_000,
    batch: int = 32,
    seeds: int = 3,
    only: tuple[str, ...] = (),
    parallel: int = 1,
    device: str = "cpu",
) -> None:
    """Run what has not been run, and print the tables.

    Args:
        out: a folder for each run.
        scenes: rendered scenes, training/ and held_out/.
        pairs: manifest of photographs with measured truth.
        other_scenes: NAME=FOLDER of other rendered scenes; the trial NAME trains on as many of them as the base.
        warm: weights that the trial `warm` starts its encoder from.
        start_from: weights of nano-vit that every run starts from, instead of random ones.
        pseudo_labels: NAME=FOLDER of what those weights have labelled; the trial NAME is a student, and
            NAME-unperturbed is one that sees its images as its teacher saw them.
        samples: images that each run sees.
        batch: images in a step.
        seeds: runs of each trial.
        only: these trials instead of all; the base is always among them.
        parallel: runs side by side, each with its part of the cores.
        device: cpu, cuda.
    """
    others, labels = folders(other_scenes), folders(pseudo_labels)
    if labels and not start_from:
        raise ValueError("--pseudo-labels are for students of --start-from: give that, too")
    labels |= {name + UNPERTURBED: folder for name, folder in labels.items()}
    if start_from and warm:
        raise ValueError("--start-from gives every run its encoder, --warm one of them: choose")
    networks = [] if start_from else [*SHAPES, STEM]
    known = [*VARIATIONS, *networks, MUON, FAR, *others, *labels, *([WARM] if warm else [])]
    unknown = [name for name in only if name not in known]
    if unknown:
        raise ValueError(f"no trial {', '.join(unknown)}; choose of: {', '.join(known)}")
    chosen = [name for name in known if name == BASE or name in (only or known)]
    tests = ({"pairs": pairs} if pairs else {}) | {"scenes": scenes / "held_out"}
    whole = base(samples, batch, len(PackedScenes(scenes / "training")))
    if start_from:
        whole = further(whole)
    runs = {
        (name, seed): Trial(
            trial_recipe(name, student(whole, name) if name in labels else whole, seed),
            out / f"{name}-{seed}",
            others.get(name, scenes / "training"),
            start_from,
            warm if name == WARM else None,
            labels.get(name),
            tests,
            device,
        )
        for seed in range(seeds)
        for name in chosen
    }
    todo = [trial for trial in runs.values() if not finished(trial)]
    if parallel == 1:
        for trial in todo:
            run(trial)
    else:
        threads = max(1, (os.cpu_count() or 1) // parallel)
        with ProcessPoolExecutor(
            parallel, get_context("spawn"), initializer=torch.set_num_threads, initargs=(threads,)
        ) as pool:
            for job in as_completed([pool.submit(run, trial) for trial in todo]):
                job.result()
    scores = {name: [read_scores(runs[name, seed].folder) for seed in range(seeds)] for name in chosen}
    print(tables(scores))


def base(samples: int, batch: int, scenes: int) -> Recipe:
    """nano-vit-teacher with that many images in all, at its two smaller sizes."""
    recipe = nano_vit_teacher()
    small, middle, _ = recipe.stages
    stages = (
        replace(small, samples=samples * 3 // 4, batch=batch),
        replace(middle, samples=samples // 4, batch=batch, loss="affine"),
    )
    return replace(recipe, stages=stages, warmup=samples // 16, scenes=scenes, validation_scenes=0)


def further(whole: Recipe) -> Recipe:
    """The same for weights that have learned already."""
    return replace(every_stage(loss="affine")(whole), learning_rate=nano_vit_long_student().learning_rate)


def student(whole: Recipe, name: str) -> Recipe:
    """The same for a student (V1 section 3.2): as many images, two thirds of them with pseudo labels."""
    recipe = nano_vit_student()
    unlabeled = recipe.unlabeled
    if unlabeled and name.endswith(UNPERTURBED):
        unlabeled = replace(unlabeled, perturbation="none", cutmix=0.0)
    return replace(whole, labeled_weight=recipe.labeled_weight, unlabeled=unlabeled)


def trial_recipe(name: str, whole: Recipe, seed: int) -> Recipe:
    """The recipe of a run."""
    varied = VARIATIONS.get(name, changed())(whole)
    variant = SHAPES[name].name if name in SHAPES else varied.variant
    return replace(varied, name=f"nano-trial-{name}", variant=variant, seed=seed)


def finished(trial: Trial) -> bool:
    """Whether the run's scores are there.

    Raises:
        ValueError: they are, of another recipe or from other files.
    """
    scores = finished_scores(trial.folder, trial.recipe)
    if scores is not None and scores["sources"] != trial.sources():
        raise ValueError(f"{trial.folder} learned from other files (other scenes or start?): choose another --out")
    return scores is not None


def finished_scores(folder: Path, recipe: Recipe) -> dict | None:
    """The scores of a finished run; None where it has none yet.

    Raises:
        ValueError: they are of another recipe.
    """
    if not (folder / "scores.json").exists():
        return None
    if (folder / "recipe.json").read_text() != as_json(recipe):
        raise ValueError(f"{folder} holds another recipe (other --samples or scenes?): choose another --out")
    return read_scores(folder)


def run(trial: Trial) -> None:
    """Train and score."""
    unlabeled = frozen = None
    if trial.labels and trial.start_from:
        unlabeled = Kept(PseudoLabels(trial.labels))
        frozen = frozen_encoder(trial.start_from, NANO_VIT.name)
    scenes = PackedScenes(trial.training)
    on_gpu = trial.device.startswith("cuda")
    count = trial.recipe.scenes
    data = Data(SpreadOnDevice(scenes, count, trial.device) if on_gpu else evenly(scenes, count), unlabeled)
    machine, ranks = Machine(readers=2), Ranks(device=trial.device)
    weights = None
    if trial.start_from:
        weights = load(trial.start_from)[0]
    elif trial.warm:
        weights = {f"pretrained.{key}": tensor for key, tensor in load_backbone(trial.warm, NANO_VIT.name).items()}
    with as_tried(trial.recipe.name.removeprefix("nano-trial-")):
        model = train(
            trial.recipe,
            trial.folder,
            data,
            weights=weights,
            frozen=frozen,
            machine=machine,
            ranks=ranks,
            log_every=LOG_EVERY,
        )
    size = input_size(trial.recipe)
    scores: dict[str, object] = {"sources": trial.sources(), "input_size": size, **speed(trial.folder / "curve.jsonl")}
    for test, path in trial.tests.items():
        result = evaluate_pairs(path, lambda image_HW3: model.infer_rgb(image_HW3, size), trial.folder.name)
        scores[test] = result.as_dict()
    with atomic_path(trial.folder / "scores.json") as temporary:
        temporary.write_text(json.dumps(scores, indent=1))
    for state in trial.folder.glob("state*.pt"):  # optimiser and all: many runs would fill the disk
        state.unlink()
    print(f"{trial.folder.name}: {summary(scores)}", file=sys.stderr, flush=True)


def summary(scores: dict) -> str:
    """A finished run in one line: delta1 of each test."""
    found = {(test, region): value(scores, (test, region, "delta1")) for test, region, m in COLUMNS if m == "delta1"}
    return ", ".join(f"{test} {region} {score:.3f}" for (test, region), score in found.items() if score is not None)


def input_size(recipe: Recipe) -> int:
    """The shorter side at the network that an image of 4 to 3 had in the last stage."""
    return min(min(size) for size in recipe.stages[-1].sizes if 2 * max(size) <= 3 * min(size))


def speed(curve: Path) -> dict[str, float]:
    """Images and seconds of a run over all its sittings, reading included, pauses between them not."""
    entries = [json.loads(line) for line in curve.read_text().splitlines()]
    seen, seconds = 0, 0.0
    for entry in entries:
        seconds += (entry["samples"] - seen) / entry["images_per_second"]
        seen = entry["samples"]
    return {"samples": seen, "seconds": seconds}


def read_scores(folder: Path) -> dict:
    """What a finished run left."""
    return json.loads((folder / "scores.json").read_text())


def tables(scores: dict[str, list[dict]]) -> str:
    """Mean ± standard deviation over seeds, then each trial minus the base, seed by seed."""
    columns = [column for column in COLUMNS if value(scores[BASE][0], column) is not None]
    heads = " | ".join(heading(column) for column in columns)
    rule = "---:|" * len(columns)
    lines = [f"| trial | input | pictures/s | minutes | {heads} |", f"|---|---:|---:|---:|{rule}"]
    floors = " | ".join(f"{value(scores[BASE][0], column, 'row_'):.3f}" for column in columns)
    lines.append(f"| image row | | | | {floors} |")
    for name, runs in scores.items():
        rates = [run["samples"] / run["seconds"] for run in runs]
        minutes = [run["seconds"] / 60 for run in runs]
        cells = " | ".join(spread([value(run, column) for run in runs], ".3f") for column in columns)
        about = f"{runs[0]['input_size']} | {np.mean(rates):.1f} | {np.mean(minutes):.1f}"
        lines.append(f"| {name} | {about} | {cells} |")
    lines += ["", "Minus the base, seed by seed; * where all seeds agree in sign.", ""]
    lines += [f"| trial | {heads} |", f"|---|{rule}"]
    for name, runs in scores.items():
        if name != BASE:
            cells = []
            for column in columns:
                steps = [
                    value(run, column) - value(plain, column) for run, plain in zip(runs, scores[BASE], strict=True)
                ]
                agree = len(steps) > 1 and abs(sum(np.sign(steps))) == len(steps)
                cells.append(spread(steps, "+.3f") + (" *" if agree else ""))
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def value(run: dict, column: tuple[str, str, str], prefix: str = ""):
    """A number of a run's scores; None where its test does not give it."""
    test, region, metric = column
    return run.get(test, {}).get(region, {}).get(prefix + metric)


def heading(column: tuple[str, str, str]) -> str:
    """A column's name and direction."""
    test, region, metric = column
    arrow = "↓" if METRICS[metric].better == "lower" else "↑"
    return " ".join([test, *([region] if region != "all" else []), METRICS[metric].label, arrow])


def spread(values: list[float], form: str) -> str:
    """Mean ± standard deviation; the value alone where there is one."""
    if len(values) == 1:
        return f"{values[0]:{form}}"
    return f"{np.mean(values):{form}} ± {np.std(values, ddof=1):.3f}"


if __name__ == "__main__":
    tyro.cli(trials)
