"""SUN RGB-D, the 5,050 test images, in the official folders.

    ROOT/sunrgbd/SUNRGBD/kv1/NYUdata/NYU0001/image/*.jpg
    ROOT/sunrgbd/SUNRGBD/kv1/NYUdata/NYU0001/depth_bfx/*.png
    ROOT/sunrgbd/test.txt                one image folder a line, e.g. SUNRGBD/kv1/NYUdata/NYU0001

test.txt is the list `alltest` of the toolbox's allsplit.mat, without its /n/fs/sun3d/data/ in front; docs/evaluate.md
has the line of Python that writes it. Depth is uint16 millimetres whose three lowest bits were moved to the top.
"""

from pathlib import Path

from depth_anything.data.benchmarks.image import BenchmarkImage, GroundTruth, metres
from depth_anything.data.benchmarks.read_ground_truth import from_files, read_uint16
from depth_anything.system.files import find, read_text


def read(root: Path) -> list[BenchmarkImage]:
    """The images of test.txt, in its order; none where the list is missing."""
    lines = read_text(root / "test.txt").splitlines() if (root / "test.txt").is_file() else []
    images = []
    for line in filter(None, (line.strip().strip("/") for line in lines)):
        image, ground_truth = _only(root / line / "image", "*.jpg"), _only(root / line / "depth_bfx", "*.png")
        images.append(from_files(line, image, ground_truth, _ground_truth, group=line, region="indoor"))
    return images


def _only(folder: Path, pattern: str) -> Path:
    return next(iter(find(folder, pattern)), folder / pattern)


def _ground_truth(path: Path) -> GroundTruth:
    raw = read_uint16(path)
    return metres(((raw >> 3) | (raw << 13)) / 1000)
