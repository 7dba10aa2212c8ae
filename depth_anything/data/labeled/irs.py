"""IRS: indoor scenes rendered for a stereo robot (Wang et al. 2021), left camera.

    ROOT/{Home,Office,Restaurant,Store}/<scene>/l_<number>.png
    ROOT/{Home,Office,Restaurant,Store}/<scene>/d_<number>.exr      positive disparity in pixels

Also found: the same below ROOT/IRSDataset. The EXR has one channel, whatever its name (`G` in practice), or R, G, B
alike. Focal length 480 pixels, baseline 0.1 m: depth = 48 m / disparity. Training and test lists together make the 103K
of both papers, so all images are read. Beyond 200 m (windows) and without a positive disparity nothing is valid.
"""

from pathlib import Path

import numpy as np

from depth_anything.data.labeled.folder import Label, LabeledFolder, disparity_label, files_in
from depth_anything.images.map_files import read_exr

FOCAL_BASELINE = 480 * 0.1
"""Pixels times metres: 1 / depth is the disparity divided by it."""
FARTHEST_M = 200.0
K_33 = np.array([[480.0, 0, 479.5], [0, 480.0, 269.5], [0, 0, 1]])


class IRS(LabeledFolder):
    """103,316 images of 960 x 540."""

    title = "IRS"
    layout = "{Home,Office,Restaurant,Store}/<scene>/l_<number>.png and d_<number>.exr"
    scale = "metric"
    places = ("", "IRSDataset")

    def find(self, base: Path) -> list[str]:
        return files_in(base, "*/*/", r"l_\d+\.png")

    def label_path(self, image: Path) -> Path:
        return image.with_name(f"d_{image.stem.removeprefix('l_')}.exr")

    def read_label(self, path: Path) -> Label:
        disparity_HW = read_exr(path)[0] / np.float32(FOCAL_BASELINE)
        return disparity_label(disparity_HW, disparity_HW >= 1 / FARTHEST_M, K_33)
