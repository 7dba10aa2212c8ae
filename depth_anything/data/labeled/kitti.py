"""KITTI for metric training: the 23,158 frames of the Eigen training split that have improved ground truth.

    ROOT/raw_data/2011_09_26/2011_09_26_drive_0001_sync/image_02/data/0000000005.png
    ROOT/data_depth_annotated/{train,val}/2011_09_26_drive_0001_sync/proj_depth/groundtruth/image_02/0000000005.png

Other names that are found: see `data/benchmarks/kitti.py`. Truth is uint16 / 256 metres (not / 1000), 0 = not measured,
which is most of the image. The split needs no list: it is every annotated left frame of 33 drives, 23,158 in all, and
no drive has a test frame. A list in ROOT (eigen_train_files_with_gt.txt of BTS, kitti_eigen_train_files_with_gt.txt of
ZoeDepth, or pictures.txt) goes first. The papers never use this set for relative training: it is a test set there.
"""

from pathlib import Path

from depth_anything.data.benchmarks.kitti import RAW, ground_truth_folder
from depth_anything.data.benchmarks.kitti import image_path as frame_path
from depth_anything.data.benchmarks.read_ground_truth import read_uint16
from depth_anything.data.labeled.folder import LIST_FILE, Label, LabeledFolder, depth_label
from depth_anything.system.files import find

_DRIVES = {
    "2011_09_26": "1 5 11 14 15 17 18 19 22 28 32 35 39 51 57 60 61 70 79 87 91 95 104 113",
    "2011_09_28": "1",
    "2011_09_29": "4 26",
    "2011_09_30": "20 28 33 34",
    "2011_10_03": "34 42",
}
EIGEN_TRAIN = tuple(
    f"{date}_drive_{int(drive):04d}_sync" for date, drives in _DRIVES.items() for drive in drives.split()
)
"""The 33 drives of the Eigen training split (Eigen et al. 2014)."""


class KITTI(LabeledFolder):
    """23,158 images of about 1242 x 375. The metric recipes use 0.001 m to 80 m and the KB crop."""

    title = "KITTI"
    layout = "raw_data/<date>/<drive>/image_02/data/*.png and data_depth_annotated/{train,val}/<drive>/proj_depth/..."
    scale = "metric"
    places = RAW
    lists = (LIST_FILE, "eigen_train_files_with_gt.txt", "kitti_eigen_train_files_with_gt.txt")

    def find(self, base: Path) -> list[str]:
        if base == self.root:  # no folder of images
            return []
        folders = {drive: ground_truth_folder(self.root, drive) for drive in EIGEN_TRAIN}
        return [
            frame_path(drive, name)
            for drive, folder in folders.items()
            if folder.is_dir()
            for name in (path.name for path in find(folder, "*.png"))
        ]

    def label_path(self, image: Path) -> Path:
        return ground_truth_folder(self.root, image.parents[2].name) / image.name

    def read_label(self, path: Path) -> Label:
        raw_HW = read_uint16(path)
        return depth_label(raw_HW / 256, raw_HW > 0)
