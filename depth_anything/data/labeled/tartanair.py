"""TartanAir v1: flights through rendered places (Wang et al. 2020), left camera.

    ROOT/<place>/{Easy,Hard}/P000/image_left/000000_left.png
    ROOT/<place>/{Easy,Hard}/P000/depth_left/000000_left_depth.npy     z in metres

Also found: the place's folder twice, as the archives unpack. The left camera alone makes the papers' 306K.

The sky is a sphere at a finite distance that differs from place to place, so from 1000 m on everything is sky
(disparity 0.001 / m and less). 0, NaN and infinity are not valid. The scale of 80 / depth in the authors' tools plays
no part: the target is 1 / depth.

Unconfirmed: the sphere of `amusement` is said to lie nearer than others; look at its contact sheet, or let SegFormer
find the sky.
"""

from pathlib import Path

import numpy as np

from depth_anything.data.benchmarks.read_ground_truth import read_npy
from depth_anything.data.labeled.folder import Label, LabeledFolder, depth_label, files_in

LEVELS = ("Easy", "Hard")
SKY_M = 1000.0
K_33 = np.array([[320.0, 0, 319.5], [0, 320.0, 239.5], [0, 0, 1]])


class TartanAir(LabeledFolder):
    """306,637 images of 640 x 480."""

    title = "TartanAir"
    layout = "<place>/{Easy,Hard}/P000/image_left/000000_left.png and depth_left/000000_left_depth.npy"
    scale = "metric"

    def find(self, base: Path) -> list[str]:
        name = r"\d{6}_left\.png"
        below = [files_in(base, f"{place}/{level}/P*/image_left", name) for place in ("*", "*/*") for level in LEVELS]
        return sorted(image for images in below for image in images)

    def label_path(self, image: Path) -> Path:
        return image.parent.with_name("depth_left") / f"{image.stem}_depth.npy"

    def read_label(self, path: Path) -> Label:
        depth_m = read_npy(path)
        known = np.isfinite(depth_m) & (depth_m > 0)
        return depth_label(depth_m, known, known & (depth_m >= SKY_M), K_33)
