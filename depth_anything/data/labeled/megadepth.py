"""MegaDepth v1: photographs of landmarks with depth from structure from motion (Li and Snavely 2018).

    ROOT/MegaDepth_v1/0000/dense0/imgs/<name>.jpg
    ROOT/MegaDepth_v1/0000/dense0/depths/<name>.h5      field `depth`, 0 = unknown, a unit of each scene's own

Two kinds of map lie under the same field: dense depth, and the order of foreground and background in a few small
numbers, negative ones among them. An order is no distance: such a map is refused (`Unusable`) and `data check` counts
them. Of dense maps the nearest 1 % and the farthest 2 % of the values are dropped, as the authors' loader does. The sky
has no depth; SegFormer finds it, which this set needs most.

Unconfirmed: how V1 treated the ordered maps. Its 128K is the number of all images.
"""

from pathlib import Path

import numpy as np

from depth_anything.data.benchmarks.read_ground_truth import hdf5
from depth_anything.data.labeled.folder import Label, LabeledFolder, depth_label, files_in
from depth_anything.data.samples import Unusable


class MegaDepth(LabeledFolder):
    """About 128,228 images of many sizes, ordered ones included."""

    title = "MegaDepth"
    layout = "MegaDepth_v1/<4 digits>/dense<k>/imgs/*.jpg and depths/*.h5"
    scale = "relative"
    places = ("", "MegaDepth_v1", "phoenix/S6/zl548/MegaDepth_v1", "MegaDepth_v1/phoenix/S6/zl548/MegaDepth_v1")

    def find(self, base: Path) -> list[str]:
        return files_in(base, "[0-9][0-9][0-9][0-9]/dense*/imgs", r"(?i)[^.].*\.(jpe?g|png)")

    def label_path(self, image: Path) -> Path:
        return image.parent.with_name("depths") / f"{image.stem}.h5"

    def read_label(self, path: Path) -> Label:
        with hdf5(path) as file:
            if "depth" not in file:
                raise ValueError(f"{path}: no field named depth; is this a MegaDepth map?")
            depth_HW = np.asarray(file["depth"], dtype=np.float32)
        if is_ordinal(depth_HW):
            raise Unusable(f"{path}: an order of foreground and background, no distances")
        known = depth_HW > 1e-8
        if not known.any():
            return depth_label(depth_HW, known)
        nearest, farthest = np.percentile(depth_HW[known], [1, 98])
        return depth_label(depth_HW, known & (depth_HW >= nearest) & (depth_HW <= farthest))


def is_ordinal(depth_HW: np.ndarray) -> bool:
    """Whether a map is an order: a negative number in it, or fewer than 50 different positive ones (ours)."""
    positive = depth_HW[depth_HW > 0]
    return depth_HW.min() < 0 or 0 < np.unique(positive).size < 50
