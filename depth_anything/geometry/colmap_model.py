"""COLMAP's sparse models: the points that one image sees, with their distances. Binary or text, as COLMAP writes them.

Only what is needed is read: the camera's size, the image's pose and observations, the points' places. pycolmap is the
reference in the tests; it is not used here because it never returns from a truncated file.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from depth_anything.system.files import read_text

CAMERA_NUMBERS = (3, 4, 4, 5, 8, 8, 12, 5, 4, 5, 12, 16, 4, 5, 3, 4, 6, 2)
"""Numbers behind the size of a camera, by COLMAP's number of its model: SIMPLE_PINHOLE, PINHOLE, SIMPLE_RADIAL, ..."""
OBSERVATION = np.dtype([("xy", "<f8", 2), ("point", "<i8")])


@dataclass(frozen=True)
class ModelImage:
    """One image of a model."""

    name: str
    camera: int
    rotation_33: np.ndarray
    shift_3: np.ndarray
    """In the camera: rotation @ point + shift."""
    observations: np.ndarray
    """Of dtype OBSERVATION: pixels from the corner of the first one, and the number of the point."""


def read_points(folder: Path, image: str, height: int, width: int) -> np.ndarray:
    """What an image sees of the model's points: (P, 3), x, y in pixels of a map of the image (the first one is (0, 0)),
    and the distance along the optical axis, in the model's unit.

    Args:
        folder: with cameras, images and points3D, as .bin or .txt.
        image: its name in the model, or its name without folders and ending.
        height, width: of the map, which may be the image at another size.

    Raises:
        ValueError: no such model, a damaged file, no such image or several, one of another shape than the map.
    """
    kind = next((kind for kind in ("bin", "txt") if all((folder / f"{name}.{kind}").is_file() for name in FILES)), None)
    if kind is None:
        raise ValueError(f"{folder}: no COLMAP model; expected {', '.join(FILES)} as .bin or .txt, as in sparse/0")
    sizes, images, xyz_of = (
        _read(folder / f"{name}.{kind}", (BINARY if kind == "bin" else TEXT)[name]) for name in FILES
    )
    found = _chosen(folder, images, image)
    if found.camera not in sizes:
        raise ValueError(f"{folder}: {found.name} has camera {found.camera}, which cameras.{kind} lacks")
    camera_width, camera_height = sizes[found.camera]
    if abs(camera_width * height - camera_height * width) > max(camera_width, camera_height, height, width):
        raise ValueError(
            f"{folder}: {found.name} has {camera_width} x {camera_height} pixels there, the map {width} x {height}; "
            "expected the map of that image, at any size"
        )
    seen = found.observations[[int(point) in xyz_of for point in found.observations["point"]]]
    if len(seen) == 0:
        raise ValueError(f"{folder}: {found.name} sees none of the model's points")
    xyz_P3 = np.array([xyz_of[int(point)] for point in seen["point"]])
    depth_P = xyz_P3 @ found.rotation_33[2] + found.shift_3[2]
    x_P, y_P = (seen["xy"] * (width / camera_width, height / camera_height) - 0.5).T
    return np.column_stack([x_P, y_P, depth_P])


def _chosen(folder: Path, images: list[ModelImage], name: str) -> ModelImage:
    exact = [image for image in images if image.name == name]
    found = exact or [image for image in images if PurePosixPath(image.name.replace("\\", "/")).stem == name]
    if len(found) != 1:
        some = ", ".join(image.name for image in (found or images)[:3]) or "none"
        count = "no image" if not found else f"{len(found)} images"
        raise ValueError(f"{folder}: {count} named {name!r} among {len(images)} ({some}, ...); give --image NAME")
    return found[0]


def _read(path: Path, parse: Callable):
    try:
        return parse(path)
    except (struct.error, ValueError, IndexError, KeyError, OverflowError, MemoryError) as error:
        reason = "" if isinstance(error, struct.error | IndexError | KeyError) else f" ({error})"
        raise ValueError(f"{path}: not a file of a COLMAP model, or damaged{reason}; write it again") from None


class _Bytes:
    """A file's bytes, read from the front; struct.error behind the end."""

    def __init__(self, path: Path):
        self.data, self.place = path.read_bytes(), 0

    def take(self, form: str) -> tuple:
        values = struct.unpack_from(f"<{form}", self.data, self.place)
        self.place += struct.calcsize(f"<{form}")
        return values

    def array(self, dtype: np.dtype, count: int) -> np.ndarray:
        if count * dtype.itemsize > len(self.data) - self.place:
            raise struct.error
        values = np.frombuffer(self.data, dtype, count, self.place)
        self.place += count * dtype.itemsize
        return values

    def text(self) -> str:
        end = self.data.index(b"\0", self.place)
        name = self.data[self.place : end].decode()
        self.place = end + 1
        return name


def _cameras_bin(path: Path) -> dict[int, tuple[int, int]]:
    """Number -> (width, height)."""
    file, sizes = _Bytes(path), {}
    for _ in range(file.take("Q")[0]):
        number, model, width, height = file.take("iiQQ")
        file.take(f"{CAMERA_NUMBERS[model]}d")
        sizes[number] = (width, height)
    return sizes


def _images_bin(path: Path) -> list[ModelImage]:
    file, images = _Bytes(path), []
    for _ in range(file.take("Q")[0]):
        _, *pose, camera = file.take("i7di")
        name, count = file.text(), file.take("Q")[0]
        images.append(ModelImage(name, camera, rotation(pose[:4]), np.array(pose[4:]), file.array(OBSERVATION, count)))
    return images


def _points_bin(path: Path) -> dict[int, tuple[float, float, float]]:
    file, xyz_of = _Bytes(path), {}
    for _ in range(file.take("Q")[0]):
        number, x, y, z, *_, track = file.take("Q3d3BdQ")
        file.take(f"{8 * track}x")
        xyz_of[number] = (x, y, z)
    return xyz_of


def _lines(path: Path) -> list[list[str]]:
    return [line.split() for line in read_text(path).splitlines() if not line.startswith("#")]


def _cameras_txt(path: Path) -> dict[int, tuple[int, int]]:
    return {int(words[0]): (int(words[2]), int(words[3])) for words in _lines(path) if words}


def _images_txt(path: Path) -> list[ModelImage]:
    """Two lines an image; the second one is empty where it has no observation."""
    lines, images = _lines(path), []
    for words, seen in zip(lines[::2], lines[1::2] + [[]], strict=False):
        pose = [float(word) for word in words[1:8]]
        numbers = np.array(seen, dtype=np.float64).reshape(-1, 3)
        observations = np.empty(len(numbers), OBSERVATION)
        observations["xy"], observations["point"] = numbers[:, :2], numbers[:, 2]
        name = " ".join(words[9:])
        images.append(ModelImage(name, int(words[8]), rotation(pose[:4]), np.array(pose[4:]), observations))
    return images


def _points_txt(path: Path) -> dict[int, tuple[float, float, float]]:
    return {int(words[0]): (float(words[1]), float(words[2]), float(words[3])) for words in _lines(path) if words}


def rotation(quaternion: list[float]) -> np.ndarray:
    """The matrix of a unit quaternion w, x, y, z (Hamilton's, as COLMAP's), float64 (3, 3)."""
    w, x, y, z = np.array(quaternion) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


FILES = ("cameras", "images", "points3D")
BINARY = {"cameras": _cameras_bin, "images": _images_bin, "points3D": _points_bin}
TEXT = {"cameras": _cameras_txt, "images": _images_txt, "points3D": _points_txt}
