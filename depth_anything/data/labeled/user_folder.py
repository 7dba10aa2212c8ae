"""Your own images with metres or disparity, for `depth-anything finetune`.

    ROOT/images/<name>.jpg ...            any image format, folders below are mirrored
    ROOT/depth_m/<name>.<suffix>          metres
    ROOT/disparity/<name>.<suffix>        or disparity: larger is nearer, scale and shift may be unknown

Suffixes: png of 16 bits (millimetres, or disparity; 0 = unknown), npy, npz (an array `depth_m` or `disparity`), exr,
pfm. Floats that are not finite, and metres of 0 or less, are unknown. Files that `predict --save png16,npz,exr,pfm`
wrote are read as what they are. A map has the size of its image.
"""

from pathlib import Path

import numpy as np

from depth_anything.data.benchmarks.read_ground_truth import read_uint16
from depth_anything.data.labeled.folder import Label, LabeledFolder, depth_label, disparity_label
from depth_anything.data.samples import Chosen
from depth_anything.images import map_files
from depth_anything.images.source import SUFFIXES
from depth_anything.system.files import walk

MAP_SUFFIXES = (".png", ".npy", ".npz", ".exr", ".pfm")


class UserFolder(LabeledFolder):
    """Images in images/, maps of the same names in depth_m/ or disparity/."""

    title = "a labelled folder"
    layout = "images/<name>.jpg beside depth_m/<name>.png (millimetres; npy, npz, exr, pfm) or disparity/<name>.png"

    def __init__(self, root: str | Path):
        held = [name for name in map_files.QUANTITIES if (Path(root) / name).is_dir()]
        if Path(root).is_dir() and len(held) != 1:
            found = " and ".join(held) or "neither depth_m nor disparity"
            raise ValueError(f"{root}: holds {found}; expected {self.layout}")
        self.quantity = held[0] if held else ""
        self.scale = "metric" if self.quantity == "depth_m" else "affine"
        super().__init__(root)

    def find(self, base: Path) -> list[str]:
        folder = base / "images"
        if not folder.is_dir():
            return []
        return sorted(path.relative_to(base).as_posix() for path in walk(folder, SUFFIXES))

    def label_path(self, image: Path) -> Path:
        place = (self.base / self.quantity / image.relative_to(self.base / "images")).with_suffix("")
        names = [
            place.with_name(place.name + end + suffix) for suffix in MAP_SUFFIXES for end in ("", f"_{self.quantity}")
        ]
        return next((path for path in names if path.is_file()), names[0])

    def read_label(self, path: Path) -> Label:
        values_HW, known_HW = self.read_map(path)
        known_HW = known_HW & np.isfinite(values_HW)
        return depth_label(values_HW, known_HW) if self.quantity == "depth_m" else disparity_label(values_HW, known_HW)

    def read_map(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Values float32 (H, W) and where they are known.

        Raises:
            ValueError: a file that does not hold the folder's quantity, or no map.
        """
        try:
            held = map_files.read_map(path, self.quantity)
        except ValueError:
            if path.suffix.lower() != ".png":
                raise
            stored_HW = read_uint16(path)  # another program's
            divisor = map_files.MILLIMETRES if self.quantity == "depth_m" else 1
            return stored_HW.astype(np.float32) / divisor, stored_HW > 0
        if held.text.get("quantity", self.quantity) != self.quantity:
            raise ValueError(f"{path}: holds {held.text['quantity']}; expected {self.quantity} in this folder")
        if held.values_HW.ndim != 2:
            raise ValueError(f"{path}: an array of shape {held.values_HW.shape}; expected (height, width)")
        return held.values_HW.astype(np.float32), np.ones(held.values_HW.shape, bool)


def split(samples: UserFolder, every: int = 10) -> tuple[Chosen, Chosen]:
    """Training and held-out images: every tenth in the order of names, at least one, is held out.

    Raises:
        ValueError: fewer than two images.
    """
    if len(samples) < 2:
        raise ValueError(f"{samples.root}: {len(samples)} image; expected two or more, so that one can be held out")
    held_out = list(range(0, len(samples), every))
    return Chosen(samples, sorted(set(range(len(samples))) - set(held_out))), Chosen(samples, held_out)
