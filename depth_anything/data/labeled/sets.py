"""Every labelled set by name: its reader, its number of images, the source of its sky, its origin."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from depth_anything.data.labeled.blendedmvs import BlendedMVS
from depth_anything.data.labeled.diml import DIML
from depth_anything.data.labeled.hrwsi import HRWSI
from depth_anything.data.labeled.hypersim import Hypersim
from depth_anything.data.labeled.irs import IRS
from depth_anything.data.labeled.kitti import KITTI
from depth_anything.data.labeled.megadepth import MegaDepth
from depth_anything.data.labeled.nyuv2 import NYUv2
from depth_anything.data.labeled.rendered import PackedScenes
from depth_anything.data.labeled.tartanair import TartanAir
from depth_anything.data.labeled.vkitti2 import VKITTI2
from depth_anything.data.samples import OnlyUsable, Samples
from depth_anything.data.sky import SkyMode
from depth_anything.system.words import one_of


@dataclass(frozen=True)
class LabeledSet:
    """One labelled set."""

    name: str
    open: Callable[[Path], Samples]
    images: int | None
    """Number of training images: exact if known, else as printed in the papers; None for any number."""
    sky: SkyMode
    """How its sky is found by default. The papers do not state it per set."""
    obtain: str
    """Where it comes from."""
    needed_library: str | None = None
    """What its ground truth is read with, beside what every install has: a key of `system.extras.EXTRA_OF`."""


LABELED: dict[str, LabeledSet] = {
    one.name: one
    for one in (
        LabeledSet("blendedmvs", BlendedMVS, 115_000, "segformer", "github.com/YoYo000/BlendedMVS, all parts"),
        LabeledSet("diml", DIML, 927_000, "segformer", "dimlrgbd.github.io"),
        LabeledSet("hrwsi", HRWSI, 20_378, "segformer", "github.com/KexianHust/Structure-Guided-Ranking-Loss"),
        LabeledSet("irs", IRS, 103_316, "off", "github.com/HKBU-HPML/IRS", "OpenEXR"),
        LabeledSet("megadepth", MegaDepth, 128_228, "segformer", "cs.cornell.edu/projects/megadepth", "h5py"),
        LabeledSet("tartanair", TartanAir, 306_637, "renderer", "github.com/castacks/tartanair_tools"),
        LabeledSet("hypersim", Hypersim, 59_543, "off", "github.com/apple/ml-hypersim", "h5py"),
        LabeledSet("vkitti2", VKITTI2, 21_260, "renderer", "europe.naverlabs.com: vkitti 2.0.3"),
        LabeledSet("nyuv2", NYUv2, 24_231, "off", "github.com/cleinc/bts: sync.zip and its list"),
        LabeledSet("kitti", KITTI, 23_158, "off", "cvlibs.net/datasets/kitti: raw data, annotated depth"),
        LabeledSet("scenes", PackedScenes, None, "renderer", "depth-anything render"),
    )
}
"""By the name that recipes use."""


def open_labeled(name: str, root: str | Path) -> Samples:
    """A labelled set for training: `len(set)`, `set[number] -> Sample`; the sky as the files have it (`choose_sky`).

    For an image without a usable label (an ordered map of MegaDepth, an empty map) the next one is used.

    Args:
        name: a key of LABELED.
        root: the folder of this set.

    Raises:
        ValueError: an unknown set, or no image of it below the root; the message states the expected folders.
    """
    if name not in LABELED:
        raise ValueError(f"no labelled set {name!r}; {one_of(name, LABELED)}")
    return OnlyUsable(LABELED[name].open(Path(root)))
