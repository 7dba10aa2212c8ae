"""What a confidence is worth: how much of the error is where it says.

    python benchmarks/confidence.py PAIRS/manifest.json [SCENES] --out benchmarks/results/confidence.md

Pixels are removed from the least to the most confident; the mean error of those that are left is the sparsification
curve. The area between it and the error of all pixels is the gain; that of an oracle, which removes the largest errors
first, is the most that there can be. Printed is the gain as a share of the oracle's: 100 % knows every error, 0 % is a
random order, below 0 worse than that. Two errors: of the disparity, aligned by scale and shift, in the range of the
truth; and of the distance, |log|. Means over scene groups, with their standard error.

Beside the agreement with the mirrored image: with the image at two other sizes, with all three; and two trivial orders:
far from edges of the map, and near.
"""

import argparse
import datetime
from pathlib import Path

import numpy as np

from depth_anything.data.benchmarks import pairs
from depth_anything.data.benchmarks.image import BenchmarkImage
from depth_anything.evaluate.align import fit_scale_shift, resize_bilinear
from depth_anything.predict.confidence import CELLS, agreement
from depth_anything.predict.predictor import Predictor
from depth_anything.predict.tiles import coarse

POINTS = 50
"""Of a sparsification curve."""
SIZES = (5 / 7, 10 / 7)
"""Of the network's input, as multiples of the model's own."""


def sparsification(error_P: np.ndarray, order_P: np.ndarray) -> np.ndarray:
    """Mean error of the first 100 %, ..., 2 % of the pixels in this order (largest first), (POINTS,)."""
    sorted_P = error_P[np.argsort(-order_P, kind="stable")]
    kept = np.round(np.linspace(1, 0.02, POINTS) * len(error_P)).astype(int)
    return (np.cumsum(sorted_P) / np.arange(1, len(error_P) + 1))[np.maximum(kept, 1) - 1]


def share_of_gain(error_P: np.ndarray, order_P: np.ndarray) -> float:
    """The area that an order gains, by the oracle's."""
    gain, most = (float(np.mean(error_P.mean() - sparsification(error_P, order))) for order in (order_P, -error_P))
    return gain / most


def orders(predictors: list[Predictor], image_HW3: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The map, and confidences by their names."""
    usual, *others = predictors
    disparity_HW = usual(image_HW3).as_disparity()
    mirrored_HW = usual(np.ascontiguousarray(image_HW3[:, ::-1])).as_disparity()[:, ::-1]
    sizes = [other(image_HW3).as_disparity() for other in others]

    def agree(maps: list[np.ndarray], cells: int | None) -> np.ndarray:
        return np.mean([agreement(disparity_HW, one, cells) for one in maps], axis=0)

    slope_HW = np.hypot(*np.gradient(coarse(disparity_HW, 60)))
    named = {f"mirror, {cells} cells": agree([mirrored_HW], cells) for cells in (6, 12, 24, 48)}
    return disparity_HW, {
        "mirror, pixels": agree([mirrored_HW], None),
        **named,
        f"two other sizes, {CELLS} cells": agree(sizes, CELLS),
        f"mirror and sizes, {CELLS} cells": agree([mirrored_HW, *sizes], CELLS),
        "far from edges": -coarse(slope_HW.astype(np.float32), CELLS),
        "near": disparity_HW,
    }


def measure(image: BenchmarkImage, predictors: list[Predictor]) -> dict[tuple[str, str], float]:
    """(order, error) -> share of the oracle's gain; without distances where the truth is a disparity."""
    ground_truth = image.read_ground_truth()
    valid_HW = ground_truth.valid_HW & (np.where(ground_truth.valid_HW, ground_truth.values_HW, 0) > 0)
    true_P = ground_truth.values_HW[valid_HW].astype(np.float64)
    inverse_P = true_P if ground_truth.kind == "disparity" else 1 / true_P
    disparity_HW, confidences = orders(predictors, image.read_image())
    height, width = valid_HW.shape
    disparity_P = resize_bilinear(disparity_HW, height, width)[valid_HW]
    scale, shift = fit_scale_shift(disparity_P, inverse_P)
    aligned_P = scale * disparity_P + shift
    errors = {"disparity": np.abs(aligned_P - inverse_P) / np.ptp(inverse_P)}
    if ground_truth.kind != "disparity":
        errors["distance"] = np.abs(np.log(np.maximum(aligned_P, inverse_P.min()) / inverse_P))
    return {
        (name, of): share_of_gain(error_P, resize_bilinear(confidence_HW, height, width)[valid_HW])
        for name, confidence_HW in confidences.items()
        for of, error_P in errors.items()
    }


def table(images: list[BenchmarkImage], predictors: list[Predictor]) -> list[str]:
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for image in images:
        for key, share in measure(image, predictors).items():
            found.setdefault(key, {}).setdefault(image.group, []).append(share)
    lines = [
        "| order | gain in disparity | groups above 0 | gain in distance | groups above 0 |",
        "|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(name for name, _ in found):
        cells = []
        for of in ("disparity", "distance"):
            means = np.array([np.mean(shares) for shares in found[name, of].values()])
            cells.append(f"{means.mean():.1%} ± {means.std(ddof=1) / len(means) ** 0.5:.1%} | {np.mean(means > 0):.0%}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+", help="a manifest of pairs, folders with scene shards")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    usual = Predictor(arguments.model)
    size = usual.variant.input_size
    predictors = [usual, *(Predictor(arguments.model, input_size=round(size * factor)) for factor in SIZES)]
    lines = [f"{datetime.date.today()}, {arguments.model}."]
    for data in arguments.data:
        images = pairs.read(data)
        groups = len({image.group for image in images})
        what = "rendered scenes" if data.is_dir() else "pairs"
        lines += ["", f"{len(images)} {what}, {groups} groups:", "", *table(images, predictors)]
        print("\n".join(lines), flush=True)
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
