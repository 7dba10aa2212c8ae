"""ETH3D, the 454 photographs of the high-resolution multi-view training scenes.

    ROOT/eth3d/<scene>/images/dslr_images/DSC_0219.JPG                 <scene>_dslr_jpg.7z, the distorted pictures
    ROOT/eth3d/<scene>/ground_truth_depth/dslr_images/DSC_0219.JPG     <scene>_dslr_depth.7z

The depth files end in .JPG and are none: they are the float32 metres of the picture's pixels, row by row, inf where
nothing was measured. They belong to the distorted pictures, not to the undistorted ones. Also found: `rgb/<scene>`
with `depth/<scene>_dslr_depth/<scene>`, as the archives unpack into two folders.
"""

from pathlib import Path

import numpy as np

from depth_anything.data.benchmarks.image import Case, Truth
from depth_anything.images.read import image_info, read_image


def read(root: Path) -> list[Case]:
    """All pictures that have depth, by scene and name."""
    truths = sorted(root.glob("*/ground_truth_depth/dslr_images/*.JPG"))
    unpacked = sorted(root.glob("depth/*_dslr_depth/*/ground_truth_depth/dslr_images/*.JPG"))
    cases = []
    for truth in truths or unpacked:
        scene = truth.parents[2].name
        image = (root / scene if truths else root / "rgb" / scene) / "images" / "dslr_images" / truth.name
        cases.append(
            Case(
                key=f"{scene}/{truth.stem}",
                read_image=lambda image=image: read_image(image),
                read_truth=lambda image=image, truth=truth: _truth(image, truth),
                files=(image, truth),
                group=scene,
            )
        )
    return cases


def _truth(image: Path, path: Path) -> Truth:
    info = image_info(image)
    depth_m = np.fromfile(path, "<f4")
    if depth_m.size != info.width * info.height or path.stat().st_size % 4:
        raise ValueError(
            f"{path}: {path.stat().st_size} bytes, expected {4 * info.width * info.height}: one float32 for each of "
            f"the picture's {info.width} x {info.height} pixels"
        )
    depth_m = depth_m.reshape(info.height, info.width).astype(np.float64)
    return Truth(depth_m, np.isfinite(depth_m) & (depth_m > 0), "metric_depth")
