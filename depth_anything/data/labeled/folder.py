"""What the readers of published labelled sets share: images as files below a folder, each with a label file.

Errors and odd values are met here once: a missing or damaged file, a label of another size, a label without a usable
pixel, and surfaces that claim to be within 5 cm of the camera.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from depth_anything.data.sample import Sample, to_disparity
from depth_anything.data.samples import Unusable
from depth_anything.images.read import read_image
from depth_anything.system.files import find, read_text

LIST_FILE = "pictures.txt"
NEAREST_M = 0.05
"""Nearer surfaces are not valid (ours): a camera inside an object; one such pixel would span most of the range of a
map."""
_IMAGE_OF_LINE = re.compile(r"/?(.+?\.(?:jpe?g|png))(?:\s|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Label:
    """The contents of a label file, as in `Sample`."""

    disparity_HW: np.ndarray
    valid_HW: np.ndarray
    sky_HW: np.ndarray
    K_33: np.ndarray | None = None


def depth_label(
    depth_HW: np.ndarray, valid_HW: np.ndarray, sky_HW: np.ndarray | None = None, K_33: np.ndarray | None = None
) -> Label:
    """The label of a depth map: 1 / depth where it is valid, finite and positive; sky is valid, with disparity 0."""
    sky_HW = np.zeros(depth_HW.shape, bool) if sky_HW is None else sky_HW
    with np.errstate(invalid="ignore"):
        valid_HW = (valid_HW & np.isfinite(depth_HW) & (depth_HW > 0)) | sky_HW
    return Label(to_disparity(depth_HW, valid_HW, sky_HW), valid_HW, sky_HW, K_33)


def disparity_label(disparity_HW: np.ndarray, valid_HW: np.ndarray, K_33: np.ndarray | None = None) -> Label:
    """The label of a map that holds disparity already."""
    disparity_HW = np.where(valid_HW, disparity_HW, 0).astype(np.float32)
    return Label(disparity_HW, valid_HW, np.zeros(disparity_HW.shape, bool), K_33)


class LabeledFolder(ABC):
    """A set whose images and labels are files below `root`.

    A reader defines their paths and the meaning of a label: `find`, `label_path`, `read_label`.

    If `root` has a `pictures.txt`, the set consists of the images in it, one per line, relative to `base`; anything
    after an image's name is ignored, so published lists can be used unchanged. `depth-anything data check` writes such
    a list of the usable images. Otherwise the folders are searched.

    Raises:
        ValueError: no image found; the message states the expected folders. Reading raises it for a missing or damaged
            file, with its name, and `Unusable` for a label that no loss can use.
    """

    title: str
    layout: str
    """The files that are expected below the root, for error messages."""
    scale: Literal["metric", "relative", "affine"]
    places: Sequence[str] = ("",)
    """Folders below the root in which the layout may begin."""
    lists: Sequence[str] = (LIST_FILE,)
    """Names of lists of images in the root."""

    def __init__(self, root: str | Path):
        self.root = Path(root)
        if not self.root.is_dir():
            raise ValueError(f"{root}: no such folder; expected {self.title}: {self.layout}")
        bases = [self.root / place for place in self.places if (self.root / place).is_dir()] or [self.root]
        listing = next((self.root / name for name in self.lists if (self.root / name).is_file()), None)
        self.base = bases[0]
        """The folder to which the names in `images` are relative."""
        self.images: list[str] = []
        if listing is not None:
            self.images = read_list(listing)
            self.base = next((base for base in bases if (base / self.images[0]).is_file()), self.base)
            return
        for base in bases:
            self.images = self.find(base)
            if self.images:
                self.base = base
                return
        raise ValueError(f"{root}: no image of {self.title} found; expected {self.layout}")

    def __len__(self) -> int:
        return len(self.images)

    def path(self, number: int) -> Path:
        """The image's file."""
        return self.base / self.images[number]

    def __getitem__(self, number: int) -> Sample:
        image = self.path(number)
        image_HW3 = read_image(image)
        label = self.label_path(image)
        if not label.is_file():
            raise ValueError(f"{label}: no such file; expected the label of {image}")
        try:
            found = self.read_label(label)
        except (OSError, KeyError, IndexError) as error:
            raise ValueError(f"{label}: cannot be read ({' '.join(str(error).split())})") from None
        if found.disparity_HW.shape != image_HW3.shape[:2]:
            height, width = found.disparity_HW.shape
            raise ValueError(
                f"{label}: {width} x {height} pixels, but its image {image.name} has "
                f"{image_HW3.shape[1]} x {image_HW3.shape[0]}; expected the same size"
            )
        disparity_HW, valid_HW = found.disparity_HW, found.valid_HW
        if self.scale == "metric":
            valid_HW = valid_HW & (disparity_HW <= 1 / NEAREST_M)
            disparity_HW = np.where(valid_HW, disparity_HW, 0)
        if not valid_HW.any():
            raise Unusable(f"{label}: not one usable pixel")
        return Sample(
            image_HW3=image_HW3,
            disparity_HW=disparity_HW,
            valid_HW=valid_HW,
            sky_HW=found.sky_HW,
            K_33=found.K_33,
            scale=self.scale,
            key=self.images[number],
        )

    @abstractmethod
    def find(self, base: Path) -> list[str]:
        """The set's images below `base`, sorted, relative to it."""

    @abstractmethod
    def label_path(self, image: Path) -> Path:
        """The label's file of an image."""

    @abstractmethod
    def read_label(self, path: Path) -> Label:
        """Read the label's file."""


def files_in(base: Path, folders: str, name: str) -> list[str]:
    """Files below `base`, sorted, relative to it: in folders that match a glob pattern, by a regular expression."""
    whole = re.compile(name)
    found = []
    for folder in find(base, folders):
        found += [path.relative_to(base).as_posix() for path in find(folder, "*") if whole.fullmatch(path.name)]
    return found


def read_list(path: Path) -> list[str]:
    """The images that a list names, one a line, without what follows them and without a slash before them.

    Raises:
        ValueError: a line without a .jpg or .png, or no line at all.
    """
    images = []
    for line in filter(str.strip, read_text(path).splitlines()):
        found = _IMAGE_OF_LINE.match(line.strip())
        if found is None:
            raise ValueError(f"{path}: {line.strip()[:80]!r} names no image; expected one .jpg or .png a line")
        images.append(found[1])
    if not images:
        raise ValueError(f"{path}: the list is empty; expected one image a line")
    return images
