"""Nano in metres on rendered scenes: what fine-tuning gains, sigmoid against log head, beside what costs no training.

    python benchmarks/metric_nano.py --scenes FOLDER --out OUT [--place indoor] [--samples 8000] [--threads 2]

FOLDER has training/ and held_out/ with scene shards, as `depth-anything train` leaves them. Every run starts from the
bundled nano and follows the recipes nano-metric and nano-metric-log at a smaller network input (--side), at which it is
also tested. --place picks the scenes, in training and in the test: all (`mixed`), or as V2's metric models are split,
`indoor` (rooms, tables and clutter up to 20 m) and `outdoor`. Nothing is measured on training images. Scores are
means over held-out images, without any alignment, over truth from 1 mm to the range's end (mixed and outdoor: 80 m);
"near" and "far" split the pixels, not the predictions, at 10 m. Beside the runs: the
median metres of the training scenes everywhere, the constant that is best for AbsRel on them, and `calibrate`, nano's
disparity with five known distances for every image. `--heads sigmoid log camera` adds the sigmoid in a canonical
camera (docs/metric.md), which is told the focal length of every image, in training and in the test.

An interrupted run resumes, a finished one is kept. Prints Markdown.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import torch

from depth_anything.checkpoints import official
from depth_anything.data.labeled.rendered import PackedScenes, shard_paths
from depth_anything.data.sample import Sample
from depth_anything.data.samples import Chosen, Mapped, Samples
from depth_anything.data.shards import read_shard
from depth_anything.geometry import calibrate
from depth_anything.geometry.camera import mean_focal
from depth_anything.network.model import DepthAnything
from depth_anything.system.files import atomic_path
from depth_anything.train import metres
from depth_anything.train.batches import Data
from depth_anything.train.intrinsics import ImageCamera
from depth_anything.train.loop import train
from depth_anything.train.recipes.base import as_json
from depth_anything.train.recipes.metric import Metric, MetricRecipe, nano_metric

SPLIT_M = 10.0
REGIONS = {"all": (0.0, np.inf), "near": (0.0, SPLIT_M), "far": (SPLIT_M, np.inf)}
KNOWN = 5
"""Distances an image that `calibrate` is given."""
INDOOR = ("room", "table", "clutter")
PLACES = {
    "mixed": (80.0, lambda kind: True),
    "indoor": (20.0, lambda kind: kind in INDOOR),
    "outdoor": (80.0, lambda kind: kind not in INDOOR),
}
"""The end of the range in metres, and which kinds of scenes (docs/scenes.md) count."""
Scores = dict[str, dict[str, float]]
"""By region, the result of `metres.score`."""


def within(samples: Samples, settings: Metric, low: float, high: float) -> Samples:
    """Images whose truth counts between `low` and `high` metres only."""

    def cut(sample: Sample) -> Sample:
        depth_HW, known_HW = metres.metres_of(sample, settings)
        return replace(sample, valid_HW=known_HW & (depth_HW >= low) & (depth_HW < high))

    return Mapped(samples, cut)


def scores(predictions: list, held_out: Samples, settings: Metric) -> Scores:
    """By region, where an image has it. Predictions are cut to the whole range, not to a region's."""
    found = {}
    for name, (low, high) in REGIONS.items():
        try:
            found[name] = asdict(metres.score(predictions, within(held_out, settings, low, high), settings))
        except ValueError:
            continue
    return found


def best_constant(metres_P: np.ndarray) -> float:
    """The number of metres with the least AbsRel: the median, each pixel weighted by 1 / metres."""
    ordered_P = np.sort(metres_P)
    weight_P = np.cumsum(1 / ordered_P.astype(np.float64))
    return float(ordered_P[np.searchsorted(weight_P, weight_P[-1] / 2)])


def calibrated(model: DepthAnything, held_out: Samples, settings: Metric, side: int) -> list[np.ndarray]:
    """Nano's disparity in metres by known distances of each image, drawn at random; unknown is the range's end."""
    maps = []
    for number in range(len(held_out)):
        sample = held_out[number]
        depth_HW, known_HW = metres.metres_of(sample, settings)
        disparity_HW = model.infer_rgb(sample.image_HW3, side)
        rows, columns = np.nonzero(known_HW)
        if len(rows) < 10:  # not scored
            maps.append(np.full(depth_HW.shape, settings.max_depth))
            continue
        rng = np.random.default_rng(number)
        for _ in range(100):
            chosen = rng.choice(len(rows), KNOWN, replace=False)
            points = [(int(columns[i]), int(rows[i]), float(depth_HW[rows[i], columns[i]])) for i in chosen]
            try:
                fitted = calibrate.known_distances(disparity_HW, known_HW, points, settings.max_depth)
            except ValueError:  # points that contradict the map: the command asks for others, too
                continue
            maps.append(np.where(fitted.depth_m > 0, fitted.depth_m, settings.max_depth))
            break
        else:
            maps.append(np.full(depth_HW.shape, np.median(depth_HW[known_HW])))
    return maps


@dataclass(frozen=True)
class WithCameras:
    """Images and the camera of each."""

    samples: Samples
    cameras: list[ImageCamera]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> Sample:
        return replace(self.samples[number], K_33=self.cameras[number].K_33)


def open_scenes(folder: Path, place: str, cameras: bool) -> Samples:
    """The packed scenes of a place, with the intrinsics that their shards hold where these are asked for."""
    scenes, (_, counts) = PackedScenes(folder), PLACES[place]
    abouts = [
        json.loads(files["json"]) for files in chain.from_iterable(files_of(path) for path in shard_paths(folder))
    ]
    numbers = [number for number, about in enumerate(abouts) if counts(about["kind"])]
    chosen = Chosen(scenes, numbers)
    if not cameras:
        return chosen
    sizes = [scenes[number].disparity_HW.shape for number in numbers]
    found = [ImageCamera(np.array(abouts[number]["K"]), *size) for number, size in zip(numbers, sizes, strict=True)]
    return WithCameras(chosen, found)


def files_of(path: Path) -> Iterator[dict[str, bytes]]:
    """The files of every scene of a shard."""
    return (files for _, files in read_shard(path))


def recipe_of(head: str, place: str, samples: int, side: int, seed: int, training: Samples) -> MetricRecipe:
    """A run's recipe: windows with the whole shorter side, `side` pixels at the network."""
    recipe = nano_metric("log" if head == "log" else "sigmoid")
    stages = tuple(replace(stage, sizes=((side, side),), samples=samples) for stage in recipe.stages)
    metres = replace(recipe.metric, max_depth=PLACES[place][0])
    recipe = replace(recipe, stages=stages, seed=seed, metric=metres)
    if head != "camera":
        return recipe
    assert isinstance(training, WithCameras)
    seen = [mean_focal(one.K_33) * side / min(one.height, one.width) for one in training.cameras]
    focal = float(round(np.median(seen)))
    top = recipe.metric.max_depth * focal / min(seen)
    return replace(
        recipe, name="nano-metric-camera", metric=replace(recipe.metric, canonical_focal=focal, max_depth=top)
    )


def run(
    recipe: MetricRecipe, folder: Path, training: Samples, held_out: Samples, weights: dict, side: int, settings: Metric
) -> Scores:
    """Train, unless it was done, and score; both are kept in `folder`."""
    done = folder / "scores.json"
    if done.exists():
        if (folder / "recipe.json").read_text() != as_json(recipe):
            raise SystemExit(f"{folder} holds another recipe: choose another --out")
        return json.loads(done.read_text())
    train(recipe, folder, Data(labeled=training), weights=weights, log_every=25, save_seconds=60)
    model = DepthAnything.from_pretrained(folder / "final.safetensors")
    images = [held_out[number] for number in range(len(held_out))]
    found = scores([model.infer_rgb(one.image_HW3, side, one.K_33) for one in images], held_out, settings)
    with atomic_path(done) as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--heads", nargs="+", default=["sigmoid", "log"], choices=["sigmoid", "log", "camera"])
    parser.add_argument("--place", default="mixed", choices=list(PLACES))
    parser.add_argument("--samples", type=int, default=8_000, help="images that each run sees")
    parser.add_argument("--side", type=int, default=128, help="shorter side at the network, a multiple of 32")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    training, held_out = (
        open_scenes(asked.scenes / part, asked.place, "camera" in asked.heads) for part in ("training", "held_out")
    )
    settings = replace(nano_metric().metric, max_depth=PLACES[asked.place][0])
    metres_P = metres.some_metres(training, settings)
    results: dict[str, Scores] = {
        "median of training": scores([float(np.median(metres_P))] * len(held_out), held_out, settings),
        "best constant": scores([best_constant(metres_P)] * len(held_out), held_out, settings),
        f"calibrate, {KNOWN} distances an image": scores(
            calibrated(DepthAnything.from_pretrained("nano"), held_out, settings, asked.side), held_out, settings
        ),
    }
    weights, _ = official.load("nano")
    for seed in asked.seeds:
        for head in asked.heads:
            recipe = recipe_of(head, asked.place, asked.samples, asked.side, seed, training)
            folder = asked.out / f"{head}-{seed}"
            results[f"{head}-{seed}"] = run(recipe, folder, training, held_out, weights, asked.side, settings)
    with atomic_path(asked.out / "results.json") as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n")
    print(
        f"{len(training)} training and {len(held_out)} held-out scenes ({asked.place}), shorter side {asked.side}, "
        f"{asked.samples} images a run, seeds {', '.join(map(str, asked.seeds))}, torch {torch.__version__}\n"
    )
    for region in results["median of training"]:
        print(table(region, results, asked.heads, asked.seeds))


def table(region: str, results: dict[str, Scores], heads: list[str], seeds: list[int]) -> str:
    """Markdown: AbsRel and delta1 of one region, and each head minus the one before, seed by seed."""
    floor = results["median of training"][region]["abs_rel"]
    count = results["median of training"][region]["images"]
    lines = [
        f"{region}: {count:.0f} images\n",
        "| | AbsRel, each seed | AbsRel | below the median's | delta1 |",
        "|---|---|---|---|---|",
    ]
    runs = {head: [results[f"{head}-{seed}"][region] for seed in seeds] for head in heads}
    single = {name: [found[region]] for name, found in results.items() if name.rsplit("-", 1)[0] not in heads}
    for name, found in {**single, **runs}.items():
        error, inside = (np.array([one[key] for one in found]) for key in ("abs_rel", "delta1"))
        each = ", ".join(f"{value:.3f}" for value in error) if len(found) > 1 else ""
        lines.append(f"| {name} | {each} | {spread(error)} | {1 - error.mean() / floor:.0%} | {spread(inside)} |")
    for first, second in pairwise(heads):
        pairs = zip(runs[first], runs[second], strict=True)
        step = np.array([after["abs_rel"] - before["abs_rel"] for before, after in pairs])
        each = ", ".join(f"{value:+.3f}" for value in step)
        lines.append(f"\nAbsRel, {second} minus {first}, seed by seed: {each}; {step.mean():+.3f} in the mean.")
    return "\n".join(lines) + "\n"


def spread(values: np.ndarray) -> str:
    """Mean and standard deviation over seeds."""
    return f"{values.mean():.3f}" + (f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
