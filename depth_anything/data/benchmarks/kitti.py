"""KITTI, the 652 Eigen test frames with improved ground truth.

    ROOT/kitti/raw_data/2011_09_26/2011_09_26_drive_0002_sync/image_02/data/0000000069.png
    ROOT/kitti/data_depth_annotated/{train,val}/2011_09_26_drive_0002_sync/proj_depth/groundtruth/image_02/0000000069.png

Truth is uint16 / 256 metres, 0 = not measured (about a fifth of the pixels are). Also found: `raw` for `raw_data`,
`gts` for `data_depth_annotated`, and truth without the train/val folder, as other repositories lay it out.
"""

from functools import partial
from pathlib import Path

from depth_anything.data.benchmarks.image import BenchmarkImage
from depth_anything.data.benchmarks.read_ground_truth import first_existing, from_files, uint16_ground_truth
from depth_anything.system.files import package_text

EIGEN_652 = {
    drive: tuple(map(int, frames))
    for drive, *frames in map(str.split, package_text("data/benchmarks/kitti_eigen_652.txt").splitlines())
}
"""Drive -> frame numbers of its left colour camera: of the 697 frames of the Eigen test split (Eigen et al. 2014) those
with improved ground truth (Uhrig et al. 2017). Every paper with "KITTI, 652 images" means these."""
RAW = ("raw_data", "raw")
"""Names under which the folder of the images is found."""


def read(root: Path) -> list[BenchmarkImage]:
    """The 652 frames, by drive and frame."""
    raw = first_existing(root / name for name in RAW)
    read_ground_truth = partial(uint16_ground_truth, per_unit=256)
    images = []
    for drive, frames in EIGEN_652.items():
        ground_truths = ground_truth_folder(root, drive)
        for name in (f"{frame:010d}" for frame in frames):
            image, ground_truth = raw / image_path(drive, f"{name}.png"), ground_truths / f"{name}.png"
            images.append(
                from_files(f"{drive}/{name}", image, ground_truth, read_ground_truth, group=drive, region="outdoor")
            )
    return images


def image_path(drive: str, name: str) -> str:
    """A frame of the left colour camera, relative to the folder of the images."""
    return f"{drive[:10]}/{drive}/image_02/data/{name}"


def ground_truth_folder(root: Path, drive: str) -> Path:
    """The folder with the ground truth of a drive's left colour camera."""
    annotated = first_existing(root / name for name in ("data_depth_annotated", "gts"))
    return first_existing(
        annotated / part / drive / "proj_depth" / "groundtruth" / "image_02" for part in ("val", "train", "")
    )
