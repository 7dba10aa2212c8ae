"""Virtual KITTI 2: five driving sequences in ten kinds of light and weather (Cabon et al. 2020), left camera.

    ROOT/Scene01/clone/frames/rgb/Camera_0/rgb_00000.jpg
    ROOT/Scene01/clone/frames/depth/Camera_0/depth_00000.png

Also found: the two archives side by side, as `rgb/Scene01/...` and `depth/Scene01/...`. Depth is z in uint16
centimetres; 65535 (655.35 m) is where nothing is hit and is taken for sky. V2's teacher used 20K images: all of the
left camera. Its metric model used a random 92 % of them, drawn unseeded: put that list here as pictures.txt.
"""

from pathlib import Path

import numpy as np

from depth_anything.data.benchmarks.read_ground_truth import read_uint16
from depth_anything.data.benchmarks.vkitti2 import SKY, depth_path, find_images
from depth_anything.data.labeled.folder import Label, LabeledFolder, depth_label

K_33 = np.array([[725.0087, 0, 620.5], [0, 725.0087, 187.0], [0, 0, 1]])
"""The set's own; its first pixel's centre is (0, 0)."""


class VKITTI2(LabeledFolder):
    """21,260 images of 1242 x 375."""

    title = "Virtual KITTI 2"
    layout = "Scene01/<variant>/frames/rgb/Camera_0/rgb_00000.jpg and .../depth/Camera_0/depth_00000.png"
    scale = "metric"

    def find(self, base: Path) -> list[str]:
        return [image.relative_to(base).as_posix() for image in find_images(base)]

    def label_path(self, image: Path) -> Path:
        return depth_path(image)

    def read_label(self, path: Path) -> Label:
        centimetres_HW = read_uint16(path)
        return depth_label(centimetres_HW / 100, centimetres_HW > 0, centimetres_HW == SKY, K_33)
