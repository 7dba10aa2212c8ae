"""ETH3D, the 454 photographs of the high-resolution multi-view training scenes.

    ROOT/eth3d/<scene>/images/dslr_images/DSC_0219.JPG                 <scene>_dslr_jpg.7z, the distorted images
    ROOT/eth3d/<scene>/ground_truth_depth/dslr_images/DSC_0219.JPG     <scene>_dslr_depth.7z

The depth files end in .JPG and are none: they are the float32 metres of the image's pixels, row by row, inf where
nothing was measured. They belong to the distorted images, not to the undistorted ones. Also found: `rgb/<scene>`
with `depth/<scene>_dslr_depth/<scene>`, as the archives unpack into two folders.
"""

from functools import partial
from pathlib import Path

import numpy as np

from depth_anything.data.benchmarks.image import BenchmarkImage, GroundTruth, metres
from depth_anything.data.benchmarks.read_ground_truth import from_files
from depth_anything.images.read import image_info
from depth_anything.system.files import find


def read(root: Path) -> list[BenchmarkImage]:
    """All images that have depth, by scene and name."""
    ground_truths = find(root, "*/ground_truth_depth/dslr_images/*.JPG")
    unpacked = find(root, "depth/*_dslr_depth/*/ground_truth_depth/dslr_images/*.JPG")
    images = []
    for ground_truth in ground_truths or unpacked:
        scene = ground_truth.parents[2].name
        image = (root / scene if ground_truths else root / "rgb" / scene) / "images" / "dslr_images" / ground_truth.name
        images.append(
            from_files(f"{scene}/{ground_truth.stem}", image, ground_truth, partial(_ground_truth, image), group=scene)
        )
    return images


def _ground_truth(image: Path, path: Path) -> GroundTruth:
    info = image_info(image)
    depth_m = np.fromfile(path, "<f4")
    if depth_m.size != info.width * info.height or path.stat().st_size % 4:
        raise ValueError(
            f"{path}: {path.stat().st_size} bytes, expected {4 * info.width * info.height}: one float32 for each of "
            f"the image's {info.width} x {info.height} pixels"
        )
    return metres(depth_m.reshape(info.height, info.width).astype(np.float64))
