"""iBims-1, 100 indoor photographs with laser truth.

    ROOT/ibims/imagelist.txt                          one name a line
    ROOT/ibims/{rgb,depth,mask_invalid,mask_transp}/<name>.png

As in the archive ibims1_core_raw. Depth is uint16 * 50 / 65535 metres. A pixel counts where both masks are not 0:
mask_invalid is 0 where nothing was measured, mask_transp is 0 on glass.
"""

from pathlib import Path

import numpy as np

from depth_anything.data.benchmarks.image import Case, Truth
from depth_anything.data.benchmarks.read_truth import read_mask, read_uint16
from depth_anything.images.read import read_image


def read(root: Path) -> list[Case]:
    """The images of imagelist.txt, in its order; none where the list is missing."""
    if (root / "ibims1_core_raw" / "imagelist.txt").is_file():
        root = root / "ibims1_core_raw"
    names = (root / "imagelist.txt").read_text().split() if (root / "imagelist.txt").is_file() else []
    cases = []
    for name in names:
        image, depth, invalid, transparent = files = tuple(
            root / folder / f"{name}.png" for folder in ("rgb", "depth", "mask_invalid", "mask_transp")
        )
        cases.append(
            Case(
                key=name,
                read_image=lambda image=image: read_image(image),
                read_truth=lambda depth=depth, masks=(invalid, transparent): _truth(depth, masks),
                files=files,
                group=name,
                region="indoor",
            )
        )
    return cases


def _truth(depth: Path, masks: tuple[Path, ...]) -> Truth:
    depth_m = read_uint16(depth) * (50.0 / 65535)
    valid = np.logical_and.reduce([read_mask(mask) for mask in masks])
    return Truth(depth_m, valid & (depth_m > 0), "metric_depth")
