"""Cameras of the user's images, for fine-tuning a model that takes focal lengths into account."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from depth_anything.data.labeled.user_folder import UserFolder
from depth_anything.geometry import camera
from depth_anything.images.read import image_info
from depth_anything.system.files import read_text
from depth_anything.variants import Variant, get_variant

ADVICE = "give a text file with a line NAME,fx,fy,cx,cy for each image"


@dataclass(frozen=True)
class ImageCamera:
    """A camera matrix, and the size of the upright image in whose pixels it is given."""

    K_33: np.ndarray
    height: int
    width: int

    def seen_by(self, row: Variant) -> float:
        """Focal length in pixels of the network's input, if the network sees the image at its own size."""
        return camera.mean_focal(self.K_33) * get_variant(row.name).input_size / min(self.height, self.width)


def cameras(own: UserFolder, asked: str) -> list[ImageCamera]:
    """The camera of each image of a folder, in the order of the folder.

    Args:
        asked: `exif` for the EXIF data of the images; `fx,fy,cx,cy` for a single camera, in pixels of the upright
            images; or a text file with a line `NAME,fx,fy,cx,cy` for each image, where NAME is its path below images/.

    Raises:
        ValueError: an image has no camera, images of several sizes share one camera, or the file does not exist.
    """
    found = [image_info(own.path(number)) for number in range(len(own))]
    names = [Path(image).relative_to("images").as_posix() for image in own.images]
    if asked == "exif":
        matrices = {
            name: camera.from_focal_35mm(about.width, about.height, about.focal_35mm)
            for name, about in zip(names, found, strict=True)
            if about.focal_35mm is not None
        }
    elif Path(asked).is_file():
        matrices = read_cameras(Path(asked))
    else:
        K_33 = camera.from_numbers(numbers(asked, f"--intrinsics {asked}"))
        sizes = {(about.width, about.height) for about in found}
        if len(sizes) > 1:
            raise ValueError(f"--intrinsics {asked} is one camera, but the images have {len(sizes)} sizes: {ADVICE}")
        matrices = dict.fromkeys(names, K_33)
    lacking = [name for name in names if name not in matrices]
    if lacking:
        raise ValueError(
            f"--intrinsics {asked}: {len(lacking)} of {len(names)} images have no camera (first: {lacking[0]}): "
            + ADVICE
        )
    return [ImageCamera(matrices[name], about.height, about.width) for name, about in zip(names, found, strict=True)]


def read_cameras(path: Path) -> dict[str, np.ndarray]:
    """K by image from lines `NAME,fx,fy,cx,cy`.

    Raises:
        ValueError: a malformed line; the message states its number.
    """
    matrices = {}
    for count, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(",")
        matrices[name.strip()] = camera.from_numbers(numbers(rest, f"{path}, line {count}"))
    return matrices


def numbers(text: str, where: str) -> list[float]:
    """Parse four numbers separated by commas."""
    try:
        found = [float(number) for number in text.split(",")]
    except ValueError:
        found = []
    if len(found) != 4:
        raise ValueError(f"{where}: expected fx,fy,cx,cy in pixels of the upright image, separated by commas")
    return found
