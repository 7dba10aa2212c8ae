"""Test sets by name: folder, number of images, reader; incomplete sets are refused."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from depth_anything.data.benchmarks import (
    ddad,
    diode,
    eth3d,
    hypersim,
    ibims,
    kitti,
    moge,
    nyuv2,
    sintel,
    sunrgbd,
    vkitti2,
)
from depth_anything.data.benchmarks.image import BenchmarkImage
from depth_anything.system.words import one_of


@dataclass(frozen=True)
class Benchmark:
    """One published test set."""

    name: str
    title: str
    folder: str
    """Below ROOT."""
    images: int | None
    """How many the published numbers are a mean of; None: those of the set's own list."""
    read: Callable[[Path], list[BenchmarkImage]]
    obtain: str
    """Where it comes from."""

    @property
    def layout(self) -> str:
        """The module that reads it, whose first lines show the expected files."""
        return getattr(self.read, "func", self.read).__module__


_BUNDLE = "huggingface.co/datasets/Ruicheng/monocular-geometry-evaluation"
BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark("kitti", "KITTI", "kitti", 652, kitti.read, "cvlibs.net/datasets/kitti: raw data, annotated depth"),
        Benchmark("nyuv2", "NYUv2", "nyuv2", 654, nyuv2.read, "cs.nyu.edu/~silberman: nyu_depth_v2_labeled.mat"),
        Benchmark("sintel", "Sintel", "sintel", 1064, sintel.read, "sintel.is.tue.mpg.de: training images, depth"),
        Benchmark("ddad", "DDAD", "ddad", 3950, ddad.read, "github.com/TRI-ML/DDAD: train+val archive"),
        Benchmark("eth3d", "ETH3D", "eth3d", 454, eth3d.read, "eth3d.net: multi-view training, dslr_jpg, dslr_depth"),
        Benchmark("diode", "DIODE", "diode", 771, diode.read, "diode-dataset.org: val.tar.gz"),
        Benchmark("diode-indoor", "DIODE indoor", "diode", 325, diode.read_indoor, "diode-dataset.org: val.tar.gz"),
        Benchmark("diode-outdoor", "DIODE outdoor", "diode", 446, diode.read_outdoor, "diode-dataset.org: val.tar.gz"),
        Benchmark("sunrgbd", "SUN RGB-D", "sunrgbd", 5050, sunrgbd.read, "rgbd.cs.princeton.edu: SUNRGBD.zip"),
        Benchmark("ibims", "iBims-1", "ibims", 100, ibims.read, "mediatum.ub.tum.de/1455541: ibims1_core_raw"),
        Benchmark("hypersim", "HyperSim", "hypersim", 7690, hypersim.read, "github.com/apple/ml-hypersim"),
        Benchmark("vkitti2", "Virtual KITTI 2", "vkitti2", 21260, vkitti2.read, "europe.naverlabs.com: vkitti 2.0.3"),
        *(
            Benchmark(name, f"{one.folder} (MoGe)", "moge", None, partial(moge.read, name=name), _BUNDLE)
            for name, one in moge.SETS.items()
        ),
    )
}
"""Every test set of measured depth by name. DA-2K has points instead of depth: see `da2k`."""


@dataclass(frozen=True)
class Contents:
    """What was found of a test set."""

    benchmark: Benchmark
    images: list[BenchmarkImage]
    expected: int
    """How many images the set has."""


def read_benchmark(name: str, root: Path, incomplete: bool = False) -> Contents:
    """The images of a test set below ROOT.

    Args:
        name: a key of BENCHMARKS.
        root: the folder with one folder per set.
        incomplete: accept an incomplete set. The result is then not comparable with published numbers.

    Raises:
        ValueError: an unknown set, nothing there, or, unless `incomplete`, fewer or more images than the set has: how
            many were found, where, and the first missing file.
    """
    if name not in BENCHMARKS:
        raise ValueError(f"no test set {name!r}; {one_of(name, BENCHMARKS)}")
    benchmark = BENCHMARKS[name]
    folder = root / benchmark.folder
    layout = f"layout: see {benchmark.layout}; source: {benchmark.obtain}"
    images = benchmark.read(folder)
    missing = next((file for image in images for file in image.files if not file.is_file()), None)
    present = [image for image in images if all(file.is_file() for file in image.files)]
    if not present:
        raise ValueError(f"{benchmark.title}: nothing found under {folder} ({layout})")
    expected = benchmark.images or len(images)
    if len(present) != expected and not incomplete:
        first = f"; the first missing file is {missing}" if missing else ""
        raise ValueError(
            f"{benchmark.title}: {len(present)} of {expected} images found under {folder}{first} ({layout}). "
            f"A mean over other images is another number; --partial accepts an incomplete set and marks the result"
        )
    return Contents(benchmark, present, expected)
