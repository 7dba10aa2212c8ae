"""The second eye's view beside a rendered one: PSNR and SSIM, with the true shifts and with those of a model's map.

    python benchmarks/stereo.py --scenes 24 --out benchmarks/results/stereo.md

Every scene is rendered twice, the second time with the camera moved to the right so that the nearest percent shifts by
3 % of the width. The view is made from the first rendering with true shifts, and with nano's disparity, whose scale
and shift are fitted to the true one. Beside it: the image as it is, every pixel shifted by the median (what a flat
cardboard would do).
"""

import argparse
import datetime
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from depth_anything.data.scenes.layout import make_scene
from depth_anything.data.scenes.render import stage
from depth_anything.evaluate.align import fit_scale_shift
from depth_anything.geometry import stereo
from depth_anything.predict.predictor import Predictor

SIZE = (512, 384)
SHARE = 0.03


def rendered_pair(seed: int, spp: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Left and right image, the true shifts of the left one's pixels, and where there is no sky."""
    place = stage(SIZE, spp)
    for attempt in range(100):
        scene = make_scene(seed, attempt)
        left = place.render(scene)
        if left is None:
            continue
        metres = SHARE * SIZE[0] / (left.K[0, 0] * np.percentile(left.disparity, 99))
        camera = replace(scene.camera, position=scene.camera.position + metres * scene.camera.axes()[0])
        right = place.render(replace(scene, camera=camera))
        if right is not None:
            return left.image, right.image, left.K[0, 0] * metres * left.disparity, ~left.sky
    raise AssertionError(f"seed {seed}: no attempt gave a pair")


def psnr(found: np.ndarray, expected: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((found.astype(np.float64) - expected) ** 2)))


def ssim(found: np.ndarray, expected: np.ndarray) -> float:
    """Wang et al. 2004, of grey values, Gaussian windows of sigma 1.5."""
    a, b = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64) for image in (found, expected))

    def mean(x: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(x, (11, 11), 1.5)

    ma, mb = mean(a), mean(b)
    va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float(np.mean((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))))


def views(image: np.ndarray, shift: np.ndarray, model_shift: np.ndarray) -> dict[str, np.ndarray]:
    """Name -> the right eye's view."""
    return {
        "the image as it is": image,
        "all shifted by the median": stereo.second_view(image, np.full_like(shift, np.median(shift))),
        "true shifts": stereo.second_view(image, shift),
        "nano": stereo.second_view(image, model_shift),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--seed", type=int, default=900_000)
    parser.add_argument("--spp", type=int, default=16)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    predictor = Predictor("nano")
    scores: dict[str, list[tuple[float, float]]] = {}
    for seed in range(arguments.seed, arguments.seed + arguments.scenes):
        left, right, shift, solid = rendered_pair(seed, arguments.spp)
        disparity = np.asarray(predictor(left).disparity)
        scale, offset = fit_scale_shift(disparity, shift, solid)
        for name, view in views(left, shift, scale * disparity + offset).items():
            scores.setdefault(name, []).append((psnr(view, right), ssim(view, right)))
        print(seed, {name: f"{pairs[-1][0]:.2f}" for name, pairs in scores.items()}, flush=True)
    lines = [
        f"{datetime.date.today()}, {arguments.scenes} rendered scenes of {SIZE[0]}x{SIZE[1]}.\n",
        "| the right eye's view | PSNR dB | SSIM |",
        "|---|---|---|",
    ]
    lines += [
        f"| {name} | {np.mean([one[0] for one in pair]):.2f} | {np.mean([one[1] for one in pair]):.3f} |"
        for name, pair in scores.items()
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
