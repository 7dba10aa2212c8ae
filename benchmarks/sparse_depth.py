"""Metres from many measured points: scale and shift alone, and `calibrate --local`, against the number of points.

    python benchmarks/sparse_depth.py PAIRS/manifest.json --out benchmarks/results/sparse_depth.md

Points are drawn at random from the measured depth of each pair; the error is measured at other pixels, at most 20,000
of them. Pairs whose ground truth is a disparity with an unknown shift have no metres and are left out. Both maps are
cut to the farthest given point, so that no pixel beyond it decides a mean; what a fit leaves unknown counts as there.
Means over scene groups. "Wrong points" have noise of 2 % and, some of them, a factor of 0.22 to 4.5.
"""

import argparse
import datetime
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from depth_anything.data.benchmarks import pairs
from depth_anything.data.benchmarks.image import BenchmarkImage
from depth_anything.evaluate.align import resize_bilinear
from depth_anything.evaluate.metrics import abs_rel, delta
from depth_anything.geometry import calibrate
from depth_anything.predict.predictor import Predictor

COUNTS = (10, 30, 100, 300, 1000, 3000)
WRONG_SHARES = (0.0, 0.1, 0.3)
WRONG_COUNTS = (30, 300)
FEWEST_ELSEWHERE = 500
MOST_ELSEWHERE = 20_000
MAX_DEPTH_M = 1e6


@dataclass(frozen=True)
class Trial:
    """One draw of points from one pair."""

    group: str
    fit: tuple[float, float]
    """AbsRel and delta1 at pixels that were no points."""
    local: tuple[float, float]
    used: bool
    """Whether the correction was better at points kept out."""
    expected: tuple[float, float]
    """Errors at points kept out: of the fit, with the correction."""


def given(random: np.random.Generator, metres_P: np.ndarray, wrong: float | None) -> np.ndarray:
    """The distances as they are measured; None: exactly."""
    if wrong is None:
        return metres_P
    noisy_P = metres_P * np.exp(0.02 * random.standard_normal(len(metres_P)))
    return np.where(
        random.random(len(metres_P)) < wrong, noisy_P * np.exp(random.uniform(-1.5, 1.5, len(metres_P))), noisy_P
    )


def trial(image: BenchmarkImage, disparity_HW: np.ndarray, count: int, seed: int, wrong: float | None) -> Trial | None:
    """None where the pair has too few measured pixels, or the points contradict the map."""
    ground_truth = image.read_ground_truth()
    valid_HW = ground_truth.valid_HW & (np.where(ground_truth.valid_HW, ground_truth.values_HW, 0) > 0)
    random = np.random.default_rng([seed, count])
    order = random.permutation(np.flatnonzero(valid_HW))
    if len(order) < count + FEWEST_ELSEWHERE:
        return None
    at, elsewhere = order[:count], order[count : count + MOST_ELSEWHERE]
    metres = ground_truth.values_HW.ravel().astype(np.float64)
    width = valid_HW.shape[1]
    points = np.column_stack([at % width, at // width, given(random, metres[at], wrong)])
    everywhere = np.ones(valid_HW.shape, bool)
    try:
        plain = calibrate.known_distances(disparity_HW, everywhere, points, MAX_DEPTH_M)
    except ValueError:
        return None
    local = calibrate.many_known_distances(disparity_HW, everywhere, points, MAX_DEPTH_M)
    assert local.held_out is not None
    farthest = points[:, 2].max()

    def scores(depth_m: np.ndarray) -> tuple[float, float]:
        found = depth_m.ravel()[elsewhere].astype(np.float64)
        found = np.where(found > 0, np.minimum(found, farthest), farthest)
        return abs_rel(found, metres[elsewhere]), delta(found, metres[elsewhere])

    return Trial(
        image.group,
        scores(plain.depth_m),
        scores(local.depth_m),
        local.held_out.local < local.held_out.fit,
        (local.held_out.fit, local.held_out.local),
    )


def mean(trials: list[Trial], value: Callable[[Trial], Any]) -> np.ndarray:
    """Of the trials of each scene group, then of the groups."""
    groups = sorted({one.group for one in trials})
    return np.mean([np.mean([value(one) for one in trials if one.group == group], axis=0) for group in groups], axis=0)


COLUMNS = (
    "points", "trials", "AbsRel, scale and shift", "AbsRel, `--local`", "δ1, scale and shift", "δ1, `--local`",
    "off at points kept out", "correction kept", "worse than scale and shift, by at most",
)  # fmt: skip


def head() -> str:
    return f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"


def line(name: str, trials: list[Trial]) -> str:
    (fit, fit1), (local, local1) = mean(trials, lambda one: one.fit), mean(trials, lambda one: one.local)
    expected = mean(trials, lambda one: one.expected[1] if one.used else one.expected[0])
    worse = [one.local[0] - one.fit[0] for one in trials if one.local[0] > one.fit[0] + 1e-6]
    return (
        f"| {name} | {len(trials)} | {fit:.3f} | {local:.3f} | {fit1:.3f} | {local1:.3f} | {expected:.1%} "
        f"| {np.mean([one.used for one in trials]):.0%} | {len(worse)}, {max(worse, default=0):.3f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--wrong-counts", type=int, nargs="*", default=WRONG_COUNTS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    images = [image for image in pairs.read(arguments.manifest) if image.read_ground_truth().kind != "disparity"]
    predictor = Predictor(arguments.model)
    maps = []
    for image in images:
        height, width = image.read_ground_truth().values_HW.shape
        maps.append(resize_bilinear(predictor(image.read_image()).as_disparity(), height, width).astype(np.float32))

    def trials(count: int, wrong: float | None) -> list[Trial]:
        found = [
            trial(image, map_HW, count, seed, wrong)
            for image, map_HW in zip(images, maps, strict=True)
            for seed in range(arguments.seeds)
        ]
        return [one for one in found if one is not None]

    lines = [
        f"{datetime.date.today()}, {arguments.model}, {len(images)} pairs, {arguments.seeds} draws each.",
        "",
        head(),
    ]
    for count in arguments.counts:
        lines.append(line(str(count), trials(count, None)))
        print(lines[-1], flush=True)
    lines += ["", "Wrong points:", "", head().replace("points |", "points, share of wrong ones |", 1)]
    for count in arguments.wrong_counts:
        for wrong in WRONG_SHARES:
            lines.append(line(f"{count}, {wrong:.0%}", trials(count, wrong)))
            print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
