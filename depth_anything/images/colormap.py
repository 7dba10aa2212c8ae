"""Nearness to colour. Near is the top of every map: red in `Spectral_r` and `turbo`, bright in `inferno` and `gray`.

The maps are kept as a few published anchor colours (colormaps.json) with linear interpolation between them:
- Spectral: ColorBrewer's 11-class diverging scheme (C. Brewer, M. Harrower, Pennsylvania State University; Apache-2.0).
- inferno: every fifth colour of the 256 by S. van der Walt and N. Smith (CC0).
- turbo: every fifth colour of the 256 by A. Mikhailov, Google (Apache-2.0).
- gray: the control image of the released ControlNet.

V1 shows disparity in inferno; V2 disparity in Spectral_r and metres in Spectral: near is red in both, as here.
"""

import json

import numpy as np

from depth_anything.system.files import package_text
from depth_anything.system.words import one_of

_ANCHORS: dict[str, list[str]] = json.loads(package_text("images/colormaps.json"))
COLORMAPS = tuple(_ANCHORS)


def min_max(
    values_HW: np.ndarray, valid_HW: np.ndarray, percentile: tuple[float, float] | None = None
) -> np.ndarray | None:
    """Valid values from 0 at their minimum (or a percentile) to 1 at their maximum; None if they are constant.

    Returns:
        float32 (H, W), 0 where not valid.
    """
    if percentile is not None and not 0 <= percentile[0] < percentile[1] <= 100:
        raise ValueError(f"percentiles {percentile}: expected 0 <= low < high <= 100")
    known = values_HW if valid_HW.all() else values_HW[valid_HW]
    if known.size == 0:
        return None
    low, high = (known.min(), known.max()) if percentile is None else np.percentile(known, percentile)
    if not high > low:
        return None
    scaled_HW = values_HW - np.float32(low)
    scaled_HW /= np.float32(high - low)
    np.clip(scaled_HW, 0, 1, out=scaled_HW)
    scaled_HW[~valid_HW] = 0
    return scaled_HW


def table(name: str) -> np.ndarray:
    """The 256 colours of map `name` as uint8 (256, 3), farthest first, nearest last.

    Raises:
        ValueError: `name` is not one of COLORMAPS.
    """
    if name not in _ANCHORS:
        raise ValueError(f"unknown colour map {name!r}: {one_of(name, COLORMAPS)}")
    anchors_A3 = np.frombuffer(bytes.fromhex("".join(_ANCHORS[name])), np.uint8).reshape(-1, 3)
    position = np.linspace(0, len(anchors_A3) - 1, 256)
    channels = [np.interp(position, np.arange(len(anchors_A3)), anchors_A3[:, c]) for c in range(3)]
    return np.round(np.stack(channels, axis=1)).astype(np.uint8)


def colored(nearness_HW: np.ndarray, name: str = "Spectral_r") -> np.ndarray:
    """Colour a map of nearness: 0 farthest, 1 nearest; values outside are clipped.

    Returns:
        uint8 (H, W, 3) RGB.
    """
    colors = table(name)
    colored_HW3 = np.empty((*nearness_HW.shape, 3), np.uint8)
    for row, nearness_W in enumerate(nearness_HW):
        colored_HW3[row] = colors[np.round(np.clip(nearness_W, 0, 1) * 255).astype(np.uint8)]
    return colored_HW3
