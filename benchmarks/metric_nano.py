"""Nano in metres on rendered scenes: sigmoid against log head over mixed ranges, beside the best constant.

    python benchmarks/metric_nano.py --scenes FOLDER --out OUT [--seeds 0 1 2] [--size 0.1] [--threads 2]

FOLDER has training/ and held_out/ with scene shards, as `depth-anything train` leaves them. Every run starts from the
bundled nano and follows the recipes nano-metric and nano-metric-log; finished ones are not made again. Scores are means
over held-out pictures, without any alignment, over truth from 1 mm to 80 m; "near" and "far" split the pixels at 10 m.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from depth_anything import checkpoints
from depth_anything.data.labeled.scenes import PackedScenes
from depth_anything.files import atomic_path
from depth_anything.model import DepthAnything
from depth_anything.train import metric
from depth_anything.train.batches import Data, Samples
from depth_anything.train.loop import train
from depth_anything.train.metric_recipes import Metric, nano_metric
from depth_anything.train.recipes import shrunk

SPLIT_M = 10.0


def regions(settings: Metric) -> dict[str, Metric]:
    """The ranges of truth that are scored."""
    return {
        "all": settings,
        "near": replace(settings, max_depth=SPLIT_M),
        "far": replace(settings, min_depth=SPLIT_M),
    }


def scores(predictions: list, held_out: Samples, settings: Metric) -> dict[str, dict]:
    """By region; a region that no picture has is left out."""
    found = {}
    for name, region in regions(settings).items():
        try:
            found[name] = asdict(metric.score(predictions, held_out, region))
        except ValueError:
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--heads", nargs="+", default=["sigmoid", "log"])
    parser.add_argument("--size", type=float, default=1.0, help="part of the recipe's pictures")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    training, held_out = PackedScenes(asked.scenes / "training"), PackedScenes(asked.scenes / "held_out")
    settings = nano_metric().metric
    median = metric.median_metres(training, settings)
    results = {"constant": {"metres": median, **scores([median] * len(held_out), held_out, settings)}}
    print(f"constant {median:.2f} m: {line(results['constant'])}")
    weights, _ = checkpoints.load("nano")
    for head in asked.heads:
        for seed in asked.seeds:
            recipe = replace(shrunk(nano_metric(head), asked.size), seed=seed)
            folder = asked.out / f"{head}-{seed}"
            if not (folder / "final.safetensors").exists():
                train(recipe, folder, Data(labeled=training), weights=weights, log_every=25)
            model = DepthAnything.from_pretrained(folder / "final.safetensors")
            predictions = [model.infer_rgb(held_out[number].image_HW3) for number in range(len(held_out))]
            results[f"{head}-{seed}"] = scores(predictions, held_out, settings)
            print(f"{head} seed {seed}: {line(results[f'{head}-{seed}'])}")
    with atomic_path(asked.out / "results.json") as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n")
    for head in asked.heads:
        for region in results["constant"].keys() - {"metres"}:
            runs = [results[f"{head}-{seed}"][region]["abs_rel"] for seed in asked.seeds]
            floor = results["constant"][region]["abs_rel"]
            print(
                f"{head}, {region}: AbsRel {np.mean(runs):.3f} (least {min(runs):.3f}, most {max(runs):.3f}), "
                f"{1 - np.mean(runs) / floor:.0%} below the constant's {floor:.3f}"
            )


def line(found: dict) -> str:
    """One result in words."""
    parts = {name: part for name, part in found.items() if name != "metres"}
    return ", ".join(f"{name} AbsRel {part['abs_rel']:.3f} d1 {part['delta1']:.3f}" for name, part in parts.items())


if __name__ == "__main__":
    main()
