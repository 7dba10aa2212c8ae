"""V1's Table 9 at nano's size: what pseudo labels, perturbation and feature alignment bring, over several seeds.

    python benchmarks/table9_nano.py --out runs/table9 --photos FOLDER --pairs MANIFEST --size 0.15
    python benchmarks/table9_nano.py --student nano-vit --teacher FILE --out runs/table9 --photos FOLDER ...

One teacher for all (by default the bundled nano) labels the photographs once. Every rung sees the same number of
labelled images in the same steps; the rungs with pseudo labels see two unlabelled photographs beside each.

A student on an EfficientNet-Lite starts from its own pretrained encoder, which is also the frozen one, as in V1; its
teacher is nano. Two rungs more, beside V1's: L_feat on every token (margin 1), and V2's student, from pseudo labels
alone. They are compared with the whole of V1's ladder. nano-vit has no DINOv2: it starts from random weights, and the
frozen encoder of L_feat is the teacher's own, which must be a nano-vit too.
Finished runs are kept, so an interrupted command resumes. Prints Markdown: the teacher, then mean, spread and paired
differences. A run whose output becomes constant is a nan, which the means leave out.
"""

import json
import math
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import tyro

from depth_anything.checkpoints.hub import WEIGHTS
from depth_anything.checkpoints.official import load_backbone
from depth_anything.data.scenes.render import finished_scenes
from depth_anything.evaluate.pairs import evaluate_pairs
from depth_anything.label.jobs import LabelOptions
from depth_anything.label.launch import label
from depth_anything.network.efficientnet import installed_weights
from depth_anything.network.model import DepthAnything
from depth_anything.system.files import atomic_path
from depth_anything.train.loop import train
from depth_anything.train.odd_steps import ConstantOutput
from depth_anything.train.recipes.ablations import NANO_RUNGS, RUNGS
from depth_anything.train.recipes.all_recipes import get_recipe, shrunk
from depth_anything.train.recipes.base import Recipe
from depth_anything.train.sources import open_data
from depth_anything.train.student import frozen_encoder
from depth_anything.variants import get_variant

TITLES = {
    "labeled": "labels only",
    "naive": "+ pseudo labels",
    "perturbed": "+ strong perturbation",
    "aligned": "+ L_feat",
    "margin-100": "L_feat with margin 1",
    "v2": "pseudo labels alone (V2)",
}
BEFORE = {"naive": "labeled", "perturbed": "naive", "aligned": "perturbed", "margin-100": "aligned", "v2": "aligned"}
"""What a rung's numbers are compared with."""
METRICS = ("abs_rel", "delta1", "ordinal")


def table9(
    out: Path,
    photos: Path,
    pairs: Path | None = None,
    scenes: Path | None = None,
    student: str = "nano-lite0",
    teacher: Path = WEIGHTS / "nano.safetensors",
    backbone: Path | None = None,
    size: float = 0.15,
    seeds: int = 3,
    parallel: int = 1,
    only: tuple[str, ...] = (),
) -> None:
    """Run what has not been run, and print the table.

    Args:
        out: folder for the labels and a folder for each run.
        photos: unlabelled photographs.
        pairs: manifest of photographs with measured truth.
        scenes: rendered scenes of the student (training/ and held_out/), if there are some; else they are rendered.
        student: nano-lite0, nano-lite1, nano, nano-vit.
        teacher: the weights that label.
        backbone: what an EfficientNet starts from; by default the installed package.
        size: part of the recipe's images.
        seeds: runs of each rung.
        parallel: runs side by side, each with its part of the cores.
        only: these rungs instead of all: labeled, naive, perturbed, aligned, margin-100, v2.
    """
    unknown = [rung for rung in only if rung not in TITLES]
    if unknown:
        raise ValueError(f"no rung {', '.join(unknown)}; choose of: {', '.join(TITLES)}")
    scenes = scenes or out / "scenes"
    label(str(photos), str(out / "labels"), LabelOptions(teacher=str(teacher)))
    tests = {"scenes": scenes / "held_out"} | ({"pairs": pairs} if pairs else {})
    is_lite = get_variant(student).encoder == "efficientnet"
    if is_lite:
        backbone = backbone or installed_weights(get_variant(student))
    rungs = [rung for rung in (NANO_RUNGS if is_lite else RUNGS) if not only or rung in only]
    threads = max(1, (os.cpu_count() or 1) // parallel)
    counts = [finished_scenes(scenes / part) for part in ("training", "held_out")]
    folders = {(rung, seed): out / f"{rung}-{seed}" for seed in range(seeds) for rung in rungs}
    with ProcessPoolExecutor(
        parallel, get_context("spawn"), initializer=torch.set_num_threads, initargs=(threads,)
    ) as pool:
        jobs = {
            pool.submit(
                run,
                rung_recipe(student, rung, size, seed, *counts),
                folder,
                scenes,
                out / "labels",
                teacher,
                backbone,
                tests,
            ): folder
            for (rung, seed), folder in folders.items()
            if not (folder / "scores.json").exists()
        }
        for job in as_completed(jobs):
            job.result()
            print(f"{jobs[job].name}: {(jobs[job] / 'scores.json').read_text()}", file=sys.stderr, flush=True)
    scores: dict[tuple[str, str], list[dict[str, float]]] = {}
    for (rung, _), folder in folders.items():
        found = json.loads((folder / "scores.json").read_text())
        for test in tests:
            scores.setdefault((test, rung), []).append(found[test])
    for test, path in tests.items():
        of_teacher = score(teacher, path)
        for metric in METRICS:
            values = {rung: [s[metric] for s in scores[test, rung]] for rung in rungs}
            print(markdown(test, metric, values, of_teacher[metric]))
    print(
        f"seconds a run: {sorted({rung: max(s['seconds'] for s in scores['scenes', rung]) for rung in rungs}.items())}"
    )


def rung_recipe(student: str, rung: str, size: float, seed: int, scenes: int = 0, held_out: int = 0) -> Recipe:
    """A rung's recipe. The numbers of scenes do not depend on that of steps: those that there are, if any."""
    whole = get_recipe(f"{student}-table9-{rung}")
    training = min(scenes, whole.scenes) or whole.scenes
    validation = min(held_out, whole.validation_scenes) or whole.validation_scenes
    return replace(shrunk(whole, size), scenes=training, validation_scenes=validation, seed=seed)


def run(
    recipe: Recipe,
    folder: Path,
    scenes: Path,
    labels: Path,
    teacher: Path,
    backbone: Path | None,
    tests: dict[str, Path],
) -> None:
    """Train a rung and score it."""
    began = time.monotonic()
    data, _ = open_data(recipe, {}, scenes, [labels])
    frozen = weights = None
    if backbone:
        weights = {f"pretrained.{key}": value for key, value in load_backbone(backbone, recipe.variant).items()}
    if recipe.unlabeled and recipe.unlabeled.feature_weight:
        frozen = frozen_encoder(backbone or teacher, recipe.variant)
    try:
        train(recipe, folder, data, weights=weights, frozen=frozen)
    except ConstantOutput as error:
        print(f"{folder.name}: {error}", file=sys.stderr, flush=True)
    seconds = round(time.monotonic() - began)
    scores, final = {}, folder / "final.safetensors"
    for test, path in tests.items():
        result = score(final, path) if final.exists() else dict.fromkeys((*METRICS, "negative_scale"), math.nan)
        scores[test] = {key: result[key] for key in (*METRICS, "negative_scale")} | {"seconds": seconds}
    with atomic_path(folder / "scores.json") as temporary:
        temporary.write_text(json.dumps(scores))


def score(weights: Path, data: Path) -> dict[str, float]:
    """A model under protocol `pairs`."""
    return evaluate_pairs(data, DepthAnything.from_pretrained(weights).infer_rgb, weights.stem).as_dict()["all"]


def markdown(test: str, metric: str, values: dict[str, list[float]], teacher: float) -> str:
    """Mean and standard deviation over seeds; each rung minus another (BEFORE), seed by seed, and minus the teacher."""
    lines = [
        f"\n{test}, {metric}; teacher {teacher:.3f}\n",
        "| rung | each seed | mean ± sd | minus | | minus the teacher |",
        "|---|---|---|---|---|---|",
    ]
    for rung, of_rung in values.items():
        found = np.array(of_rung)
        spread = np.nanstd(found, ddof=1) if np.isfinite(found).sum() > 1 else math.nan
        row = f"| {TITLES[rung]} | {', '.join(f'{v:.3f}' for v in found)} | {np.nanmean(found):.3f} ± {spread:.3f} | "
        if BEFORE.get(rung) in values:
            step = found - np.array(values[BEFORE[rung]])
            row += f"{TITLES[BEFORE[rung]]} | {np.nanmean(step):+.3f} ({', '.join(f'{v:+.3f}' for v in step)}) "
        else:
            row += "| "
        lines.append(row + f"| {np.nanmean(found) - teacher:+.3f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    tyro.cli(table9)
