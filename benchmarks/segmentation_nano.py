"""What nano's encoder knows of classes: rendered scenes, one seed after the other.

    python benchmarks/segmentation_nano.py --scenes FOLDER --out OUT [--seeds 0 1 2] [--steps 400] [--threads 2]

Four runs for each seed, all with a linear head and the same pictures: `probe`, nano's encoder frozen; `random`, a
frozen encoder of the same size with random weights; `tuned`, nano's encoder fine-tuned; `scratch`, the same from random
weights in the same budget. mIoU over held-out scenes at one scale. Finished runs are not made again.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from depth_anything.files import atomic_path
from depth_anything.transfer import segmentation, segmentation_train
from depth_anything.transfer.segmentation_data import SceneClasses
from depth_anything.transfer.segmentation_predict import evaluate
from depth_anything.transfer.segmentation_train import nano_scenes

FROZEN = {"probe": True, "random": True, "tuned": False, "scratch": False}
FROM_NANO = {"probe": True, "random": False, "tuned": True, "scratch": False}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", nargs="+", default=list(FROZEN), choices=list(FROZEN))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--pictures", type=int, default=1024, help="training scenes")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    training = SceneClasses(asked.scenes / "training", asked.pictures)
    held_out = SceneClasses(asked.scenes / "held_out")
    encoder = segmentation.encoder_of("nano", "nano")
    results: dict[str, float] = {}
    for seed in asked.seeds:
        for name in asked.runs:
            recipe = replace(
                nano_scenes("linear", FROZEN[name]),
                name=f"nano-scenes-{name}",
                steps=asked.steps,
                encoder_rate=0.3 if FROM_NANO[name] else 1.0,
                seed=seed,
            )
            folder = asked.out / f"{name}-{seed}"
            if not (folder / "final.safetensors").exists():
                start = encoder if FROM_NANO[name] else None
                segmentation_train.train(recipe, folder, training, start, log_every=20)
            model = segmentation.load(folder / "final.safetensors")
            results[f"{name}-{seed}"] = evaluate(model, held_out)
            print(f"{name} seed {seed}: mIoU {100 * results[f'{name}-{seed}']:.1f}")
    with atomic_path(asked.out / "results.json") as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n")
    for name in asked.runs:
        runs = [100 * results[f"{name}-{seed}"] for seed in asked.seeds]
        print(f"{name}: mIoU {np.mean(runs):.1f} (least {min(runs):.1f}, most {max(runs):.1f})")
    if {"probe", "random"} <= set(asked.runs):
        ratios = [results[f"probe-{seed}"] / max(results[f"random-{seed}"], 1e-9) for seed in asked.seeds]
        print("probe / random: " + ", ".join(f"{ratio:.2f}" for ratio in ratios))


if __name__ == "__main__":
    main()
