"""DIODE, the validation set: 325 indoor and 446 outdoor laser scans.

    ROOT/diode/val/{indoors,outdoor}/scene_00019/scan_00183/00019_00183_indoors_000_010.png
    ROOT/diode/val/.../00019_00183_indoors_000_010_depth.npy           metres, (768, 1024, 1)
    ROOT/diode/val/.../00019_00183_indoors_000_010_depth_mask.npy      1 = valid

The folders are called `indoors` and `outdoor`. The mask matters: near edges the scanner leaves small false depths.
"""

from pathlib import Path

from depth_anything.data.benchmarks.image import BenchmarkImage, GroundTruth, metres
from depth_anything.data.benchmarks.read_ground_truth import first_existing, from_files, read_npy
from depth_anything.system.files import find


def read(root: Path) -> list[BenchmarkImage]:
    """All 771 images."""
    return read_indoor(root) + read_outdoor(root)


def read_indoor(root: Path) -> list[BenchmarkImage]:
    """The 325 indoor images."""
    return _read(root, "indoors", "indoor")


def read_outdoor(root: Path) -> list[BenchmarkImage]:
    """The 446 outdoor images."""
    return _read(root, "outdoor", "outdoor")


def _read(root: Path, folder: str, region: str) -> list[BenchmarkImage]:
    folder_path = first_existing([root / "val" / folder, root / folder])
    images = []
    for image in find(folder_path, "scene_*/scan_*/*.png"):
        depth, mask = (image.with_name(f"{image.stem}_{kind}.npy") for kind in ("depth", "depth_mask"))
        scene, scan = image.parent.parent.name, image.parent.name
        key = f"{folder}/{scene}/{scan}/{image.stem}"
        images.append(from_files(key, image, (depth, mask), _ground_truth, group=scene, region=region))
    return images


def _ground_truth(depth: Path, mask: Path) -> GroundTruth:
    return metres(read_npy(depth), read_npy(mask) == 1)
