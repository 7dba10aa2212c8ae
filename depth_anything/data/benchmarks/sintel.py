"""MPI Sintel, the 1,064 training frames of the `final` pass.

    ROOT/sintel/training/final/<sequence>/frame_0001.png
    ROOT/sintel/training/depth/<sequence>/frame_0001.dpt      from the separate depth archive

A .dpt file holds the float 202021.25, the width and height as int32, then float32 metres row by row. Sky and far
matte paintings lie at up to 1e5 m: a protocol's cap decides whether they count, and with them the result.
"""

from pathlib import Path

import numpy as np

from depth_anything.data.benchmarks.image import BenchmarkImage, GroundTruth, metres
from depth_anything.data.benchmarks.read_ground_truth import from_files
from depth_anything.system.files import find

_TAG = 202021.25


def read(root: Path) -> list[BenchmarkImage]:
    """All frames that have depth, by sequence and frame."""
    training = root / "training"
    images = []
    for ground_truth in find(training / "depth", "*/frame_*.dpt"):
        sequence = ground_truth.parent.name
        image = training / "final" / sequence / f"{ground_truth.stem}.png"
        images.append(from_files(f"{sequence}/{ground_truth.stem}", image, ground_truth, _ground_truth, group=sequence))
    return images


def _ground_truth(path: Path) -> GroundTruth:
    data = path.read_bytes()
    if len(data) < 12 or np.frombuffer(data, "<f4", 1)[0] != np.float32(_TAG):
        raise ValueError(f"{path}: not a Sintel depth file (it should begin with the float {_TAG})")
    width, height = np.frombuffer(data, "<i4", 2, offset=4)
    if len(data) != 12 + 4 * width * height:
        raise ValueError(f"{path}: {len(data)} bytes, expected {12 + 4 * width * height} for {width} x {height} pixels")
    return metres(np.frombuffer(data, "<f4", offset=12).reshape(height, width).astype(np.float64))
