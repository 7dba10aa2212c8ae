"""Evaluation protocols by name, as data (protocols.json). Columns of different ones are different numbers: never mix.

Published numbers for "AbsRel on KITTI" differ by alignment space, crop, cap and the floor under small
disparities; on far outdoor scenes the floor alone moves AbsRel by a factor of two. `score.py` carries a protocol out.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Literal

from depth_anything.system.files import package_text
from depth_anything.system.words import one_of

Align = Literal["none", "median", "scale", "scale_shift"]
Space = Literal["disparity", "depth", "own"]
Crop = Literal["none", "garg", "eigen", "eigen_rectangle", "kb", "kb+garg", "kb+eigen"]
Floor = Literal["none", "cap", "farthest_truth", "first_percentile"]


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Which pixels of a data set count. The same set is cut differently by different protocols."""

    nearest_m: float = 0.0
    """Ground truth below is left out; also the smallest depth a clipped prediction may take."""
    farthest_m: float = inf
    """The cap: ground truth beyond is left out; also the largest depth a clipped prediction may take."""
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
    """Where the metrics are taken. A ground truth of kind `disparity` is always measured as disparity."""
    floor: Floor | float = "none"
    """Smallest aligned disparity: 1/cap, 1/(farthest true depth), 1st percentile of the true disparity, or a number."""
    clip: bool = False
    """Clip the depth to be measured to the cut's [nearest_m, farthest_m]."""
    closed: bool = False
    """Whether ground truth equal to nearest_m or farthest_m counts."""
    far_outlier: float = inf
    """Ground truth farther than this many times its 1st percentile is left out."""
    fit_positive_only: bool = False
    """Fit only where the prediction is above 0."""
    align_corners: bool = False
    """Rule of the bilinear resize to the ground truth's size."""
    flip_average: bool = False
    """Average the prediction with that of the mirrored image."""
    min_valid: int = 10
    """Minimum number of pixels to score; an image with fewer is an error, or skipped and named, as in `few_valid`."""
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


def _read_protocols() -> dict[str, Protocol]:
    """protocols.json: the fields of each that differ from the defaults, or from those of the protocol `like`."""
    found: dict[str, Protocol] = {}
    for fields in json.loads(package_text("evaluate/protocols.json")):
        fields["cuts"] = {name: Cut(**cut) for name, cut in fields.get("cuts", {}).items()}
        if "default_cut" in fields:
            fields["default_cut"] = Cut(**fields["default_cut"])
        if "metrics" in fields:
            fields["metrics"] = tuple(fields["metrics"])
        base = fields.pop("like", None)
        if base:
            fields["cuts"] = fields["cuts"] or found[base].cuts
        found[fields["name"]] = replace(found[base], **fields) if base else Protocol(**fields)
    return found


PROTOCOLS: dict[str, Protocol] = _read_protocols()
"""Every protocol by name."""
PAIRS = PROTOCOLS["pairs"]


def get_protocol(name: str) -> Protocol:
    """A protocol by name.

    Raises:
        ValueError: no such protocol; the line names those that exist.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"no protocol {name!r}; {one_of(name, PROTOCOLS)}")
    return PROTOCOLS[name]
