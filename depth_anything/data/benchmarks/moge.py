"""MoGe's evaluation bundle: test sets of many papers in one form, seen through one centred pinhole camera each.

    ROOT/moge/<Set>/.index.txt                             one image folder a line
    ROOT/moge/<Set>/<image folder>/{image.jpg, depth.png, meta.json}

As huggingface.co/datasets/Ruicheng/monocular-geometry-evaluation unpacks. depth.png is uint16 on a logarithmic scale
between its text fields `near` and `far`; 0 is unknown, 65535 infinite. meta.json has the camera matrix in units of the
image's sides. Image and truth are turned so that the optical axis goes through the image's middle, and cut to the
set's size (Wang et al. 2025, released evaluation): the same scene as in the set's own files, but not the same pixels.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from depth_anything.data.benchmarks.image import BenchmarkImage, GroundTruth
from depth_anything.data.benchmarks.read_ground_truth import read_uint16
from depth_anything.images.read import read_image
from depth_anything.system.files import read_json, read_text


@dataclass(frozen=True)
class BundleSet:
    """One set of the bundle."""

    folder: str
    width: int
    """Of the image that models see, in pixels."""
    height: int
    metric: bool = True


SETS = {
    "moge-nyuv2": BundleSet("NYUv2", 640, 480),
    "moge-kitti": BundleSet("KITTI", 750, 375),
    "moge-eth3d": BundleSet("ETH3D", 2048, 1365),
    "moge-ibims": BundleSet("iBims-1", 640, 480),
    "moge-gso": BundleSet("GSO", 512, 512, metric=False),
    "moge-sintel": BundleSet("Sintel", 872, 436, metric=False),
    "moge-ddad": BundleSet("DDAD", 1400, 700),
    "moge-diode": BundleSet("DIODE", 1024, 768),
}
"""By name, with the sizes of the released configuration."""


def read(root: Path, name: str) -> list[BenchmarkImage]:
    """The images of a set's own list; none where the list is missing.

    Args:
        root: the folder `moge`.
        name: a key of SETS.
    """
    chosen = SETS[name]
    folder = root / chosen.folder
    index = folder / ".index.txt"
    lines = read_text(index).split("\n") if index.is_file() else []
    images = []
    for line in filter(None, (line.strip() for line in lines)):
        image, depth, meta = (folder / line / file for file in ("image.jpg", "depth.png", "meta.json"))
        images.append(
            BenchmarkImage(
                key=line,
                read_image=partial(_image, image, meta, chosen),
                read_ground_truth=partial(_ground_truth, depth, meta, chosen),
                files=(image, depth, meta),
                group=line,
            )
        )
    return images


def _image(image: Path, meta: Path, chosen: BundleSet) -> np.ndarray:
    image_HW3 = read_image(image)
    view = View(_camera(meta), image_HW3.shape[0], image_HW3.shape[1], chosen)
    return view.image(image_HW3)


def _ground_truth(depth: Path, meta: Path, chosen: BundleSet) -> GroundTruth:
    depth_HW = read_depth(depth)
    view = View(_camera(meta), depth_HW.shape[0], depth_HW.shape[1], chosen)
    values_HW, valid_HW = view.depth(depth_HW, np.isfinite(depth_HW))
    return GroundTruth(values_HW, valid_HW, "metric_depth" if chosen.metric else "relative_depth")


def _camera(meta: Path) -> np.ndarray:
    try:
        return np.array(read_json(meta)["intrinsics"], dtype=np.float64).reshape(3, 3)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{meta}: expected a JSON object with 3 x 3 intrinsics ({error!r})") from None


def read_depth(path: Path) -> np.ndarray:
    """Depth of a bundle's PNG, float64 (H, W): NaN where unknown, inf where infinite.

    Raises:
        ValueError: not a 16-bit PNG, or one without `near` and `far`.
    """
    raw_HW = read_uint16(path)
    with Image.open(path) as image:
        text = image.info
    if "near" not in text or "far" not in text:
        raise ValueError(f"{path}: no text fields near and far: not a depth file of MoGe's bundle")
    near, far, unit = float(text["near"]), float(text["far"]), float(text.get("unit", 1))
    share = (raw_HW.astype(np.float64) - 1) / 65533
    depth_HW = near ** (1 - share) * far**share * unit
    depth_HW[raw_HW == 0] = np.nan
    depth_HW[raw_HW == 65535] = np.inf
    return depth_HW


class View:
    """The largest centred pinhole view of the wanted shape that fits into an image.

    Args:
        camera_33: matrix of the image, in units of its sides (u, v in 0..1).
        height, width: of the image.
        chosen: the shape wanted.
    """

    def __init__(self, camera_33: np.ndarray, height: int, width: int, chosen: BundleSet):
        self.camera_33, self.chosen = camera_33, chosen
        aspect = chosen.width / chosen.height
        axis = np.linalg.inv(camera_33) @ [0.5, 0.5, 1.0]
        turn = _rotation_to_z(axis / np.linalg.norm(axis))
        corners = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 1], [1, 0, 1]]) @ (turn @ np.linalg.inv(camera_33)).T
        corners = corners[:, :2] / corners[:, 2:]
        span_x, span_y = abs(1 / camera_33[0, 0]), abs(1 / camera_33[1, 1])
        wide = min(span_x, span_y * aspect)
        tall = wide / aspect
        for start, end in zip(np.roll(corners, 1, axis=0), corners, strict=True):
            for diagonal in ([aspect, 1.0], [aspect, -1.0]):
                reach = np.linalg.solve(np.stack([diagonal, start - end], axis=1), start)[0] * np.array(diagonal)
                wide, tall = min(wide, 2 * abs(reach[0])), min(tall, 2 * abs(reach[1]))
        self.target_33 = np.array([[1 / wide, 0, 0.5], [0, 1 / tall, 0.5], [0, 0, 1]])
        # The image is first brought to about the view's pixel size, then sampled.
        self.scaled_height = int(height * (span_y / height) / (tall / chosen.height))
        self.scaled_width = int(width * (span_x / width) / (wide / chosen.width))
        v, u = np.meshgrid(
            (np.arange(chosen.height) + 0.5) / chosen.height,
            (np.arange(chosen.width) + 0.5) / chosen.width,
            indexing="ij",
        )
        self.rays_HW3 = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(self.target_33).T
        seen = self.rays_HW3 @ (camera_33 @ turn.T).T
        self.x_HW = seen[..., 0] / seen[..., 2] * self.scaled_width - 0.5
        self.y_HW = seen[..., 1] / seen[..., 2] * self.scaled_height - 0.5

    def image(self, image_HW3: np.ndarray) -> np.ndarray:
        """uint8 image as the view sees it: Lanczos to the view's pixel size, then bilinear."""
        size = (self.scaled_width, self.scaled_height)
        scaled_HW3 = np.asarray(Image.fromarray(image_HW3).resize(size, Image.Resampling.LANCZOS), dtype=np.float64)
        x, y = np.clip(self.x_HW, 0, self.scaled_width - 1), np.clip(self.y_HW, 0, self.scaled_height - 1)
        left, top = np.floor(x).astype(int), np.floor(y).astype(int)
        right, bottom = np.minimum(left + 1, self.scaled_width - 1), np.minimum(top + 1, self.scaled_height - 1)
        part_x, part_y = (x - left)[..., None], (y - top)[..., None]
        above = scaled_HW3[top, left] * (1 - part_x) + scaled_HW3[top, right] * part_x
        below = scaled_HW3[bottom, left] * (1 - part_x) + scaled_HW3[bottom, right] * part_x
        return np.rint(above * (1 - part_y) + below * part_y).astype(np.uint8)

    def depth(self, depth_HW: np.ndarray, valid_HW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """z in the view's camera and where it is known: nearest known pixel, never a mixture of two."""
        depth_HW, valid_HW = nearest_known(depth_HW, valid_HW, self.scaled_height, self.scaled_width)
        v, u = np.meshgrid(
            (np.arange(self.scaled_height) + 0.5) / self.scaled_height,
            (np.arange(self.scaled_width) + 0.5) / self.scaled_width,
            indexing="ij",
        )
        rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(self.camera_33).T
        distance_HW = np.where(valid_HW, depth_HW, 1) * np.linalg.norm(rays, axis=-1)
        column = np.clip(np.rint(self.x_HW).astype(int), 0, self.scaled_width - 1)
        row = np.clip(np.rint(self.y_HW).astype(int), 0, self.scaled_height - 1)
        return distance_HW[row, column] / np.linalg.norm(self.rays_HW3, axis=-1), valid_HW[row, column]


def nearest_known(map_HW: np.ndarray, known_HW: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """A map at another size: of the old pixels that a new one covers, the known one nearest to its middle."""
    old_height, old_width = map_HW.shape
    cover_y, cover_x = max(1.0, old_height / height), max(1.0, old_width / width)
    middle_y, middle_x = (np.arange(height) + 0.5) * old_height / height, (np.arange(width) + 0.5) * old_width / width
    top, left = np.rint(middle_y - cover_y / 2 - 0.5 + 1e-9), np.rint(middle_x - cover_x / 2 - 0.5 + 1e-9)
    best = np.full((height, width), np.inf)
    result = np.zeros((height, width))
    for step_y in range(int(np.ceil(cover_y))):
        for step_x in range(int(np.ceil(cover_x))):
            row, column = (top + step_y).astype(int), (left + step_x).astype(int)
            inside = ((row >= 0) & (row < old_height))[:, None] & ((column >= 0) & (column < old_width))
            row, column = np.clip(row, 0, old_height - 1), np.clip(column, 0, old_width - 1)
            away = ((row + 0.5 - middle_y) ** 2)[:, None] + (column + 0.5 - middle_x) ** 2
            closer = inside & known_HW[row[:, None], column] & (away < best)
            best[closer] = away[closer]
            result[closer] = map_HW[row[:, None], column][closer]
    return result, np.isfinite(best)


def _rotation_to_z(direction: np.ndarray) -> np.ndarray:
    """The smallest rotation that takes a unit vector (not -z) to the z axis."""
    x, y, z = direction
    cross = np.array([[0, 0, -x], [0, 0, -y], [x, y, 0.0]])
    return np.eye(3) + cross + cross @ cross / (1 + z)
