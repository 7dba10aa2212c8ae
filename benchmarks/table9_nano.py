"""V1's Table 9 at nano's size: what pseudo labels, perturbation and feature alignment bring, over several seeds.

    python benchmarks/table9_nano.py --out runs/table9 --photos FOLDER --pairs MANIFEST --size 0.15

One teacher for all (the bundled nano) labels the photographs once. Every rung sees the same number of labelled
pictures in the same steps; the rungs with pseudo labels see two unlabelled photographs beside each. There is no DINOv2
here: all students start from random weights, and the frozen encoder of L_feat is the teacher's own, trained for depth.
Finished runs are kept, so the command goes on where it was stopped. Prints Markdown: mean, spread, paired differences.
"""

import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import tyro

from depth_anything.label.jobs import LabelOptions
from depth_anything.label.launch import label
from depth_anything.system.files import atomic_path
from depth_anything.train.engine import score
from depth_anything.train.loop import train
from depth_anything.train.recipes.ablations import RUNGS
from depth_anything.train.recipes.all_recipes import get_recipe, shrunk
from depth_anything.train.recipes.base import Recipe
from depth_anything.train.sources import open_data
from depth_anything.train.student import frozen_encoder

WEIGHTS = Path(__file__).parents[1] / "depth_anything" / "weights" / "nano.safetensors"
TITLES = {
    "labeled": "labels only",
    "naive": "+ pseudo labels",
    "perturbed": "+ strong perturbation",
    "aligned": "+ L_feat",
}


def table9(
    out: Path,
    photos: Path,
    pairs: Path | None = None,
    scenes: Path | None = None,
    size: float = 0.15,
    seeds: int = 3,
    parallel: int = 1,
) -> None:
    """Run what has not been run, and print the table.

    Args:
        out: folder for the labels and a folder for each run.
        photos: unlabelled photographs.
        pairs: manifest of photographs with measured truth.
        scenes: rendered scenes of nano-student, if there are some.
        size: part of the recipe's pictures.
        seeds: runs of each rung.
        parallel: runs side by side, each with its part of the cores.
    """
    scenes = scenes or out / "scenes"
    label(str(photos), str(out / "labels"), LabelOptions(teacher=str(WEIGHTS)))
    tests = {"scenes": scenes / "held_out"} | ({"pairs": pairs} if pairs else {})
    threads = max(1, (os.cpu_count() or 1) // parallel)
    folders = {(rung, seed): out / f"{rung}-{seed}" for seed in range(seeds) for rung in RUNGS}
    with ProcessPoolExecutor(
        parallel, get_context("spawn"), initializer=torch.set_num_threads, initargs=(threads,)
    ) as pool:
        jobs = {
            pool.submit(run, rung_recipe(rung, size, seed), folder, scenes, out / "labels", tests): folder
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
    for test in tests:
        for metric in ("abs_rel", "delta1"):
            print(markdown(test, metric, {rung: [s[metric] for s in scores[test, rung]] for rung in RUNGS}))
    print(
        f"seconds a run: {sorted({rung: max(s['seconds'] for s in scores['scenes', rung]) for rung in RUNGS}.items())}"
    )


def rung_recipe(rung: str, size: float, seed: int) -> Recipe:
    """A rung's recipe; the number of scenes stays whole, whatever the number of steps."""
    whole = get_recipe(f"nano-table9-{rung}")
    return replace(shrunk(whole, size), scenes=whole.scenes, validation_scenes=whole.validation_scenes, seed=seed)


def run(recipe: Recipe, folder: Path, scenes: Path, labels: Path, tests: dict[str, Path]) -> None:
    """Train a rung and score it."""
    began = time.monotonic()
    data, _ = open_data(recipe, {}, scenes, labels)
    frozen = frozen_encoder(WEIGHTS, recipe.variant) if recipe.unlabeled and recipe.unlabeled.feature_weight else None
    train(recipe, folder, data, frozen=frozen)
    seconds = round(time.monotonic() - began)
    scores = {}
    for test, path in tests.items():
        result = score(folder / "final.safetensors", folder.name, path).as_dict()["all"]
        scores[test] = {key: result[key] for key in ("abs_rel", "delta1", "negative_scale")} | {"seconds": seconds}
    with atomic_path(folder / "scores.json") as temporary:
        temporary.write_text(json.dumps(scores))


def markdown(test: str, metric: str, values: dict[str, list[float]]) -> str:
    """Mean and standard deviation over seeds, and each rung minus the one before, seed by seed."""
    lines = [f"\n{test}, {metric}\n", "| rung | each seed | mean ± sd | minus the rung before |", "|---|---|---|---|"]
    before = {after: first for first, after in pairwise(RUNGS)}
    for rung in RUNGS:
        found = np.array(values[rung])
        spread = found.std(ddof=1) if len(found) > 1 else float("nan")
        row = f"| {TITLES[rung]} | {', '.join(f'{v:.3f}' for v in found)} | {found.mean():.3f} ± {spread:.3f} | "
        if rung in before:
            step = found - np.array(values[before[rung]])
            row += f"{step.mean():+.3f} ({', '.join(f'{v:+.3f}' for v in step)}) "
        lines.append(row + "|")
    return "\n".join(lines)


if __name__ == "__main__":
    tyro.cli(table9)
