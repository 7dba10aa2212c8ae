"""iBims-1, 100 indoor photographs with laser truth.

    ROOT/ibims/imagelist.txt                          one name a line
    ROOT/ibims/{rgb,depth,mask_invalid,mask_transp}/<name>.png

As in the archive ibims1_core_raw. Depth is uint16 * 50 / 65535 metres. A pixel counts where both masks are not 0:
mask_invalid is 0 where nothing was measured, mask_transp is 0 on glass.
"""

from pathlib import Path

from depth_anything.data.benchmarks.image import BenchmarkImage, GroundTruth, metres
from depth_anything.data.benchmarks.read_ground_truth import from_files, read_mask, read_uint16
from depth_anything.system.files import read_text


def read(root: Path) -> list[BenchmarkImage]:
    """The images of imagelist.txt, in its order; none where the list is missing."""
    if (root / "ibims1_core_raw" / "imagelist.txt").is_file():
        root = root / "ibims1_core_raw"
    names = read_text(root / "imagelist.txt").split() if (root / "imagelist.txt").is_file() else []
    images = []
    for name in names:
        image, *ground_truth = (
            root / folder / f"{name}.png" for folder in ("rgb", "depth", "mask_invalid", "mask_transp")
        )
        images.append(from_files(name, image, tuple(ground_truth), _ground_truth, group=name, region="indoor"))
    return images


def _ground_truth(depth: Path, invalid: Path, transparent: Path) -> GroundTruth:
    return metres(read_uint16(depth) * (50.0 / 65535), read_mask(invalid) & read_mask(transparent))
