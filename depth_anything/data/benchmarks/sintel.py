"""MPI Sintel, the 1,064 training frames of the `final` pass.

    ROOT/sintel/training/final/<sequence>/frame_0001.png
    ROOT/sintel/training/depth/<sequence>/frame_0001.dpt      from the separate depth archive

A .dpt file holds the float 202021.25, the width and height as int32, then float32 metres row by row. Sky and far
matte paintings lie at up to 1e5 m: a protocol's cap decides whether they count, and with them the result.
"""

from pathlib import Path

import numpy as np

from depth_anything.data.benchmarks.image import Case, Truth
from depth_anything.images.read import read_image

_TAG = 202021.25


def read(root: Path) -> list[Case]:
    """All frames that have depth, by sequence and frame."""
    training = root / "training"
    cases = []
    for truth in sorted((training / "depth").glob("*/frame_*.dpt")):
        image = training / "final" / truth.parent.name / f"{truth.stem}.png"
        cases.append(
            Case(
                key=f"{truth.parent.name}/{truth.stem}",
                read_image=lambda image=image: read_image(image),
                read_truth=lambda truth=truth: Truth(*_depth(truth), "metric_depth"),
                files=(image, truth),
                group=truth.parent.name,
            )
        )
    return cases


def _depth(path: Path) -> tuple[np.ndarray, np.ndarray]:
    data = path.read_bytes()
    if len(data) < 12 or np.frombuffer(data, "<f4", 1)[0] != np.float32(_TAG):
        raise ValueError(f"{path}: not a Sintel depth file (it should begin with the float {_TAG})")
    width, height = np.frombuffer(data, "<i4", 2, offset=4)
    if len(data) != 12 + 4 * width * height:
        raise ValueError(f"{path}: {len(data)} bytes, expected {12 + 4 * width * height} for {width} x {height} pixels")
    depth_m = np.frombuffer(data, "<f4", offset=12).reshape(height, width).astype(np.float64)
    return depth_m, depth_m > 0
