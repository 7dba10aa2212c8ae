"""What nano's encoder knows of classes: rendered scenes, one seed after the other.

    python benchmarks/segmentation_nano.py --scenes FOLDER --out OUT [--seeds 0 1 2] [--steps 400] [--threads 2]

Four runs for each seed, all with a linear head, the same images, rates and steps: `probe`, nano's encoder (trained
for relative depth) frozen; `random`, a frozen encoder of the same size with random weights; `tuned`, nano's encoder
fine-tuned; `scratch`, the same network from random weights. mIoU over held-out scenes (FOLDER has
training/ and held_out/), at one scale; the last weights are measured, nothing is chosen.

An interrupted run resumes, a finished one is kept. Prints Markdown.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from depth_anything.system.files import atomic_path
from depth_anything.train.recipes.base import as_json
from depth_anything.transfer import segmentation, segmentation_train
from depth_anything.transfer.segmentation_data import ClassSamples, SceneClasses
from depth_anything.transfer.segmentation_predict import evaluate
from depth_anything.transfer.segmentation_recipes import SegmentationRecipe, nano_scenes

FROZEN = {"probe": True, "random": True, "tuned": False, "scratch": False}
FROM_NANO = {"probe": True, "random": False, "tuned": True, "scratch": False}


def run(
    recipe: SegmentationRecipe, folder: Path, training: ClassSamples, held_out: ClassSamples, encoder: dict | None
) -> float:
    """mIoU of a run, trained and measured unless that was done; both are kept in `folder`."""
    done = folder / "miou.json"
    if done.exists():
        if (folder / "recipe.json").read_text() != as_json(recipe):
            raise SystemExit(f"{folder} holds another recipe: choose another --out")
        return json.loads(done.read_text())
    model = segmentation_train.train(recipe, folder, training, encoder, log_every=20, save_seconds=60)
    found = evaluate(model, held_out)
    with atomic_path(done) as temporary:
        temporary.write_text(json.dumps(found))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", nargs="+", default=list(FROZEN), choices=list(FROZEN))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--images", type=int, default=1024, help="training scenes")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    training = SceneClasses(asked.scenes / "training", asked.images)
    held_out = SceneClasses(asked.scenes / "held_out")
    encoder = segmentation.encoder_of("nano", "nano")
    results: dict[str, float] = {}
    for seed in asked.seeds:
        for name in asked.runs:
            recipe = replace(
                nano_scenes(),
                name=f"nano-scenes-{name}",
                frozen=FROZEN[name],
                steps=asked.steps,
                encoder_rate=1.0,
                seed=seed,
            )
            start = encoder if FROM_NANO[name] else None
            results[f"{name}-{seed}"] = run(recipe, asked.out / f"{name}-{seed}", training, held_out, start)
    with atomic_path(asked.out / "results.json") as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n")
    print(
        f"{len(training)} training and {len(held_out)} held-out scenes, {len(training.names)} classes, {asked.steps} "
        f"steps of 16, seeds {', '.join(map(str, asked.seeds))}, torch {torch.__version__}\n"
    )
    print(table(results, asked.runs, asked.seeds))


def table(results: dict[str, float], runs: list[str], seeds: list[int]) -> str:
    """Markdown: mIoU of each run with its spread over seeds, and both pairs seed by seed."""
    found = {name: np.array([100 * results[f"{name}-{seed}"] for seed in seeds]) for name in runs}
    lines = ["| run | mIoU, each seed | mean ± sd |", "|---|---|---|"]
    for name, values in found.items():
        deviation = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
        lines.append(f"| {name} | {', '.join(f'{value:.1f}' for value in values)} | {values.mean():.1f}{deviation} |")
    for first, second in (("random", "probe"), ("random", "tuned"), ("scratch", "tuned")):
        if first in found and second in found:
            ratio, step = found[second] / np.maximum(found[first], 1e-9), found[second] - found[first]
            lines.append(
                f"\n{second} / {first}, seed by seed: {', '.join(f'{value:.2f}' for value in ratio)}; "
                f"{second} minus {first}: {', '.join(f'{value:+.1f}' for value in step)}."
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
