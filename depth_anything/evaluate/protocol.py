"""Evaluation protocols by name, as data. Columns of different protocols are different numbers: never mix them.

Published numbers for "AbsRel on KITTI" differ by alignment space, crop, cap and the floor under small
disparities; on far outdoor scenes the floor alone moves AbsRel by a factor of two. `score.py` carries a protocol out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Literal

Align = Literal["none", "median", "scale", "scale_shift"]
Space = Literal["disparity", "depth", "own"]
Crop = Literal["none", "garg", "eigen", "eigen_rectangle", "kb", "kb+garg", "kb+eigen"]
Floor = Literal["none", "cap", "farthest_truth", "first_percentile"]


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Which pixels of a data set count. The same set is cut differently by different protocols."""

    nearest_m: float = 0.0
    """Truth below is left out; also the smallest depth a clipped prediction may take."""
    farthest_m: float = inf
    """The cap: truth beyond is left out; also the largest depth a clipped prediction may take."""
    crop: Crop = "none"


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a prediction becomes a number. Every field changes the number."""

    name: str
    align: Align = "scale_shift"
    space: Space = "disparity"
    """Where the fit is made; `own`: disparity for a model that predicts disparity, depth for one that predicts
    metres."""
    measure: Literal["depth", "disparity"] = "depth"
    """Where the metrics are taken. A truth of kind `disparity` is always measured as disparity."""
    floor: Floor | float = "none"
    """Smallest aligned disparity: 1/cap, 1/(farthest true depth), 1st percentile of the true disparity, or a number."""
    clip: bool = False
    """Clip the depth to be measured to the cut's [nearest_m, farthest_m]."""
    closed: bool = False
    """Whether truth equal to nearest_m or farthest_m counts."""
    far_outlier: float = inf
    """Truth farther than this many times its 1st percentile is left out."""
    fit_positive_only: bool = False
    """Fit only where the prediction is above 0."""
    align_corners: bool = False
    """Rule of the bilinear resize to the truth's size."""
    flip_average: bool = False
    """Average the prediction with that of the mirrored picture."""
    min_valid: int = 10
    """An image with fewer pixels to score is an error, or is left out and named where `few_valid` says so."""
    few_valid: Literal["error", "skip"] = "error"
    averaging: Literal["image", "scene_group"] = "image"
    """image: mean over images. scene_group: mean within a scene, then over scenes."""
    metrics: tuple[str, ...] = ("abs_rel", "delta1")
    cuts: Mapping[str, Cut] = field(default_factory=dict)
    """By data set."""
    default_cut: Cut | None = None
    """For sets that are not named; None: the protocol is not defined for them."""
    source: str

    def cut(self, set_name: str) -> Cut:
        """The cut of a data set.

        Raises:
            ValueError: the protocol defines no crop for this set.
        """
        cut = self.cuts.get(set_name, self.default_cut)
        if cut is None:
            raise ValueError(f"protocol {self.name} is not defined for {set_name}; it covers: {', '.join(self.cuts)}")
        return cut


PAIRS = Protocol(
    name="pairs",
    floor="first_percentile",
    averaging="scene_group",
    default_cut=Cut(),
    source="this project: robust against a few far pixels, usable where depth has no unit",
)

_MIDAS_CUTS = {
    "nyuv2": Cut(farthest_m=10),
    "kitti": Cut(farthest_m=80),
    "sintel": Cut(farthest_m=72),
    "eth3d": Cut(farthest_m=72),
}
MIDAS = Protocol(
    name="midas",
    floor="cap",
    cuts=_MIDAS_CUTS,
    source="Ranftl et al. 2020, section 7, and its published NYU and KITTI scripts; caps of ETH3D and Sintel from the "
    "paper's text, unconfirmed by code",
)

DA_RELATIVE = Protocol(
    name="da-relative",
    floor="cap",
    clip=True,
    metrics=("abs_rel", "delta1"),
    cuts={
        "kitti": Cut(nearest_m=1e-3, farthest_m=80, crop="garg"),
        "nyuv2": Cut(nearest_m=1e-3, farthest_m=10, crop="eigen_rectangle"),
        "sintel": Cut(nearest_m=1e-3, farthest_m=72),
        "ddad": Cut(nearest_m=1e-3, farthest_m=80, crop="garg"),
        "eth3d": Cut(nearest_m=1e-3, farthest_m=72),
        "diode-indoor": Cut(nearest_m=1e-3, farthest_m=50),
    },
    source="V1 supplement section 1 (align as MiDaS, original resolution); no code was published. Crops and caps are "
    "those with which others reproduced KITTI, NYUv2 and DIODE indoor from the official weights",
)

MARIGOLD = Protocol(
    name="marigold",
    space="own",
    floor=1e-3,
    clip=True,
    fit_positive_only=True,
    cuts={
        "nyuv2": Cut(nearest_m=1e-3, farthest_m=10, crop="eigen_rectangle"),
        "kitti": Cut(nearest_m=1e-5, farthest_m=80, crop="kb+eigen"),
        "eth3d": Cut(nearest_m=1e-5),
        "diode": Cut(nearest_m=0.6, farthest_m=350),
    },
    source="Marigold (Ke et al. 2024), released evaluation: disparity models are fitted to 1/z, depth models to z",
)

MOGE = Protocol(
    name="moge",
    floor="farthest_truth",
    far_outlier=1000,
    default_cut=Cut(),
    source="MoGe (Wang et al. 2025), released evaluation, affine-invariant disparity",
)

_METRIC = ("delta1", "delta2", "delta3", "abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog")
_ZOE_OUTDOOR = Cut(nearest_m=1e-3, farthest_m=80, crop="kb+garg")
ZOEDEPTH_METRIC = Protocol(
    name="zoedepth-metric",
    align="none",
    space="depth",
    clip=True,
    align_corners=True,
    flip_average=True,
    metrics=_METRIC,
    cuts={
        "nyuv2": Cut(nearest_m=1e-3, farthest_m=10, crop="eigen_rectangle"),
        "kitti": _ZOE_OUTDOOR,
        "sunrgbd": Cut(farthest_m=8, crop="eigen_rectangle"),
        "ibims": Cut(farthest_m=10, crop="eigen_rectangle"),
        "hypersim": Cut(nearest_m=1e-3, farthest_m=80, crop="eigen_rectangle"),
        "vkitti2": _ZOE_OUTDOOR,
        "diode-indoor": Cut(nearest_m=1e-3, farthest_m=10, crop="eigen_rectangle"),
        "diode-outdoor": Cut(nearest_m=1e-3, farthest_m=80, crop="garg"),
        "ddad": Cut(nearest_m=1e-3, farthest_m=80, crop="garg"),
    },
    source="ZoeDepth (Bhat et al. 2023), released evaluation, as V1 section 4.3 uses it",
)

V2_METRIC = Protocol(
    name="v2-metric",
    align="none",
    space="depth",
    align_corners=True,
    closed=True,
    few_valid="skip",
    metrics=("delta1", "delta2", "delta3", "abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog_half"),
    cuts={
        "kitti": Cut(nearest_m=1e-3, farthest_m=80),
        "vkitti2": Cut(nearest_m=1e-3, farthest_m=80),
        "hypersim": Cut(nearest_m=1e-3, farthest_m=20),
    },
    source="V2 released metric training code: its validation, full frame, without crop",
)

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        PAIRS,
        MIDAS,
        DA_RELATIVE,
        replace(
            DA_RELATIVE,
            name="da-relative-disparity",
            measure="disparity",
            clip=False,
            source="the same, measured in disparity: the first author says both (Depth-Anything issues 174 and 157)",
        ),
        MARIGOLD,
        MOGE,
        ZOEDEPTH_METRIC,
        V2_METRIC,
    )
}
"""Every protocol by name."""


def get_protocol(name: str) -> Protocol:
    """A protocol by name.

    Raises:
        ValueError: no such protocol; the line names those that exist.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"no protocol {name!r}; choose one of: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
