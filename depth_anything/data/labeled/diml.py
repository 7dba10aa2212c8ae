"""DIML/CVL RGB-D: Kinect v2 indoors, stereo outdoors (Kim et al. 2018; Cho et al. 2021).

Training packs, as they unpack (other folders may lie above and between):

    ROOT/.../<date>/<number>/col/*_c.png          indoor; depth: up_png/*_<ending>.png of the same beginning
    ROOT/.../<date>_C0/<letter>/left/*_left.png   outdoor; depth/*_depth.png, conf/*_conf.png (optional)

Sample packs:

    ROOT/.../{HR,LR}/<scene>/color/*_c.png        indoor; depth_filled/*_depth_filled.png
    ROOT/.../{HR,LR}/outleft/*.png                outdoor; depthmap/*.png, confidencemap/*.png (optional)

Depth is uint16 millimetres, 0 = unknown. Valid is 0.1 m to 65 m: 65.535 m is where 16 bits end, not a distance. Pixels
of confidence 0 are dropped. LR has the images of HR again, smaller: it is read only if there is no HR.

Unconfirmed: which 927,000 of the about two million images V1 used, and the confidence from which a stereo match is
to be trusted. V2 found pseudo labels better than these labels.
"""

import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from depth_anything.data.benchmarks.read_ground_truth import read_mask, read_uint16
from depth_anything.data.labeled.folder import Label, LabeledFolder, depth_label
from depth_anything.system.files import find, is_hidden

NEAREST_MM, FARTHEST_MM = 100, 65_000


@dataclass(frozen=True)
class Pack:
    """How one kind of pack names its files."""

    image_end: str
    """What follows the common beginning of an image's name."""
    depth: str
    """The folder of the depth maps, beside the images' one."""
    depth_end: str | None
    """What follows the beginning in a depth map's name; None: as the first file of the folder has it."""
    confidence: str = ""
    """The folder of the confidence maps; empty indoors."""
    confidence_end: str = ""


PACKS = {
    "col": Pack("_c.png", "up_png", None),
    "left": Pack("_left.png", "depth", "_depth.png", "conf", "_conf.png"),
    "color": Pack("_c.png", "depth_filled", "_depth_filled.png"),
    "outleft": Pack(".png", "depthmap", ".png", "confidencemap", ".png"),
}
"""By the name of the folder of the images."""


class DIML(LabeledFolder):
    """V1 used 927,000 images of it, mostly 1344 x 756 and 1280 x 720."""

    title = "DIML"
    layout = "col/*_c.png and up_png/*.png, left/*_left.png and depth/*_depth.png, at any level, or the sample packs"
    scale = "metric"

    def find(self, base: Path) -> list[str]:
        found = []
        for folder, below, files in os.walk(base, followlinks=True):
            below[:] = sorted(name for name in below if not is_hidden(name))
            if "HR" in below and "LR" in below:
                below.remove("LR")
            here = Path(folder)
            pack = PACKS.get(here.name)
            if pack is not None and (here.parent / pack.depth).is_dir():
                place = here.relative_to(base).as_posix()
                names = (name for name in sorted(files) if name.endswith(pack.image_end) and not is_hidden(name))
                found += [f"{place}/{name}" for name in names]
        return found

    def label_path(self, image: Path) -> Path:
        pack = PACKS[image.parent.name]
        folder = image.parent.with_name(pack.depth)
        end = pack.depth_end or ending(folder)
        return folder / (image.name.removesuffix(pack.image_end) + end)

    def read_label(self, path: Path) -> Label:
        millimetres_HW = read_uint16(path)
        valid_HW = (millimetres_HW > NEAREST_MM) & (millimetres_HW < FARTHEST_MM)
        pack = next(pack for pack in PACKS.values() if pack.depth == path.parent.name)
        name = path.name.removesuffix(pack.depth_end or "") + pack.confidence_end
        confidence = path.parent.with_name(pack.confidence) / name if pack.confidence else None
        if confidence is not None and confidence.is_file():
            valid_HW &= read_mask(confidence)
        return depth_label(millimetres_HW / 1000, valid_HW)


@cache
def ending(folder: Path) -> str:
    """What the depth maps of a folder of a training pack end in, after their common beginning: `_ud.png` or another."""
    names = [path.name for path in find(folder, "*_*.png") if re.fullmatch(r".*_[^_]+\.png", path.name)]
    return "_" + names[0].rsplit("_", 1)[1] if names else "_ud.png"
