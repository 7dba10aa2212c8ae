"""NYUv2, the 654 test images of the labelled set, from the .mat or from the folders that others extract it to.

    ROOT/nyuv2/nyu_depth_v2_labeled.mat                                        fields images, rawDepths
    ROOT/nyuv2/official_splits/test/<scene>/{rgb_00045.jpg, sync_depth_00045.png}    counted from 0, depth in mm

The truth is the sensor's own depth with its holes (`rawDepths`), not the filled one: with `depths`, which invents
depth in the holes, the same model scores differently (facts known from reproductions: 0.0428 against 0.0554).
"""

from functools import partial
from pathlib import Path

import numpy as np

from depth_anything.data.benchmarks.image import BenchmarkImage, metres
from depth_anything.data.benchmarks.read_ground_truth import from_files, hdf5, uint16_ground_truth
from depth_anything.system.files import find, package_text

TEST_654 = tuple(map(int, package_text("data/benchmarks/nyuv2_test_654.txt").split()))
"""The test images of the labelled set (Silberman et al. 2012): `testNdxs` of its splits.mat, counted from 1."""


def read(root: Path) -> list[BenchmarkImage]:
    """The 654 images. The .mat is taken where both layouts are there."""
    mat = root / "nyu_depth_v2_labeled.mat"
    if mat.exists() or not (root / "official_splits").exists():
        return [_from_mat(mat, number) for number in TEST_654]
    by_number = {int(path.stem[4:]): path for path in find(root / "official_splits" / "test", "*/rgb_*.jpg")}
    missing = root / "official_splits" / "test" / "*"
    return [
        _from_folder(by_number.get(number - 1, missing / f"rgb_{number - 1:05d}.jpg"), number) for number in TEST_654
    ]


def _from_mat(mat: Path, number: int) -> BenchmarkImage:
    return BenchmarkImage(
        key=f"{number:04d}",
        read_image=lambda: _slice(mat, "images", number).transpose(2, 1, 0),
        read_ground_truth=lambda: metres(_slice(mat, "rawDepths", number).T.astype(np.float64)),
        files=(mat,),
        group=f"{number:04d}",
        region="indoor",
    )


def _slice(mat: Path, field: str, number: int) -> np.ndarray:
    """Image `number` (from 1) of a field. MATLAB stores columns first: (3, W, H) and (W, H)."""
    with hdf5(mat) as file:
        if field not in file or number > len(file[field]):
            raise ValueError(f"{mat}: no {field} number {number}; is this nyu_depth_v2_labeled.mat?")
        return np.ascontiguousarray(file[field][number - 1])


def _from_folder(image: Path, number: int) -> BenchmarkImage:
    ground_truth = image.with_name(image.name.replace("rgb_", "sync_depth_").replace(".jpg", ".png"))
    return from_files(
        f"{number:04d}",
        image,
        ground_truth,
        partial(uint16_ground_truth, per_unit=1000),
        group=image.parent.name,
        region="indoor",
    )
