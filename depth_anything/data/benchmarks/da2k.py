"""DA-2K (V2 section 6): which of two pixels is closer, about 2,000 pairs on 1,029 images of eight scenarios.

    ROOT/da2k/annotations.json        {"images/indoor/x.jpg": [{"point1": [row, column], "point2": ..., ...}], ...}
    ROOT/da2k/images/<scenario>/*.jpg

Points are (row, column) in the original image, and `point1` is always the closer one in the published file; the
field `closer_point` is what decides here.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from depth_anything.system.files import read_json

IMAGES = 1029
"""Counted by others in the published copy; the paper says 1K."""
SCENARIOS = (
    "indoor",
    "outdoor",
    "non_real",
    "transparent_reflective",
    "adverse_style",
    "aerial",
    "underwater",
    "object",
)


@dataclass(frozen=True)
class Annotated:
    """One image and its pairs of pixels."""

    key: str
    """The path in annotations.json."""
    path: Path
    scenario: str
    closer_P2: np.ndarray
    """(pairs, 2) int, (row, column) of the point that people call closer."""
    farther_P2: np.ndarray


def read(root: Path) -> list[Annotated]:
    """All images of annotations.json, in its order.

    Raises:
        ValueError: no or a broken annotations.json, or images that are missing: how many, and the first of them.
    """
    file = root / "annotations.json"
    try:
        annotations = read_json(file)
    except OSError:
        raise ValueError(f"no {file}; get DA-2K from huggingface.co/datasets/depth-anything/DA-2K") from None
    if not annotations:
        raise ValueError(f"{file}: expected an object with one entry per image")
    images = [_image(root, file, name, pairs) for name, pairs in annotations.items()]
    missing = [image.path for image in images if not image.path.is_file()]
    if missing:
        found = len(images) - len(missing)
        raise ValueError(f"DA-2K: {found} of {len(images)} images found; the first missing one is {missing[0]}")
    return images


def _image(root: Path, file: Path, name: str, pairs: Any) -> Annotated:
    closer, farther = [], []
    try:
        for number, pair in enumerate(pairs, 1):
            if pair["closer_point"] == "":
                raise ValueError(f"pair {number} is not settled: closer_point is empty")
            which = {"point1": ("point1", "point2"), "point2": ("point2", "point1")}[pair["closer_point"]]
            closer.append(pair[which[0]])
            farther.append(pair[which[1]])
        closer_P2, farther_P2 = (np.array(points, dtype=np.int64).reshape(-1, 2) for points in (closer, farther))
    except (TypeError, KeyError) as error:
        raise ValueError(f"{file}: the pairs of {name} cannot be read ({error!r})") from None
    except ValueError as error:
        raise ValueError(f"{file}: the pairs of {name} cannot be read ({error})") from None
    if not closer:
        raise ValueError(f"{file}: {name} has no pair")
    scenario = next((part for part in PurePosixPath(name).parts if part in SCENARIOS), "other")
    return Annotated(name, root / name, scenario, closer_P2, farther_P2)
