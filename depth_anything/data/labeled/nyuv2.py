"""NYUv2 for metric training: the 24,231 pairs of BTS and ZoeDepth, from the sequences of the training scenes.

    ROOT/sync/<scene>/rgb_00045.jpg
    ROOT/sync/<scene>/sync_depth_00045.png                uint16 millimetres, 0 = unknown
    ROOT/nyudepthv2_train_files_with_gt.txt               BTS' list of the 24,231

Also found: the scenes directly below ROOT. The archive holds more pairs than the list; without the list (or
pictures.txt) all are read and the count differs. The test images (`official_splits`) are never read. The papers never
use this set for relative training: it is a test set there.
"""

from pathlib import Path

from depth_anything.data.benchmarks.read_ground_truth import read_uint16
from depth_anything.data.labeled.folder import LIST_FILE, Label, LabeledFolder, depth_label, files_in


class NYUv2(LabeledFolder):
    """24,231 images of 640 x 480. The metric recipes use 0.001 m to 10 m."""

    title = "NYUv2"
    layout = "sync/<scene>/rgb_00045.jpg and sync_depth_00045.png"
    scale = "metric"
    places = ("sync", "")
    lists = (LIST_FILE, "nyudepthv2_train_files_with_gt.txt")

    def find(self, base: Path) -> list[str]:
        return files_in(base, "*/", r"rgb_\d+\.jpg")

    def label_path(self, image: Path) -> Path:
        return image.with_name(f"sync_depth_{image.stem.removeprefix('rgb_')}.png")

    def read_label(self, path: Path) -> Label:
        millimetres_HW = read_uint16(path)
        return depth_label(millimetres_HW / 1000, millimetres_HW > 0)
