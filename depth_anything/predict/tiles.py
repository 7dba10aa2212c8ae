"""Add detail to the map of a large image: predict the whole image, then tiles of it.

The network's input has a few hundred pixels per side, whatever the size of the image. A tile shows finer edges but has
less context: from a part of a wall alone, its distance cannot be estimated. So the map of the whole image determines
distances, and tiles only add detail: each tile is aligned with the whole-image map by scale and shift (the least
squares of evaluate/align.py); the part that a local scale and shift of the whole-image map explains is subtracted; of
the rest only the fine part is added, weighted by the agreement of tile and whole-image map, and less towards the tile's
border.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from depth_anything.evaluate.align import fit_scale_shift
from depth_anything.images.read import ImageSource, read_image
from depth_anything.network.resize import coarse
from depth_anything.predict.prediction import Prediction
from depth_anything.predict.predictor import Predictor

FINE = 20
"""Cells along a tile's shorter side; structure that is coarser than a cell comes from the whole-image map."""
AROUND = 8
"""Cells along it for the local scale and shift of `explained`."""
FITTED = 1000
"""Largest number of pixels along it for the fit of scale and shift: the network's input has fewer."""
BATCH_PIXELS = 8_000_000
"""Largest number of pixels in a batch of tiles; larger tiles run alone."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of an image, and its weights: those of all tiles sum to 1 at every pixel."""

    top: int
    left: int
    weight_h: np.ndarray
    """float32 (h,): the weight of a pixel is the product of `weight_h` and `weight_w`."""
    weight_w: np.ndarray

    @property
    def window(self) -> tuple[slice, slice]:
        """Index of the tile in an array (H, W)."""
        return slice(self.top, self.top + len(self.weight_h)), slice(self.left, self.left + len(self.weight_w))


def cover(height: int, width: int, count: int) -> list[Tile]:
    """Square tiles that overlap by half, `count` of them along the shorter side.

    Raises:
        ValueError: `count` is below 2, or tiles would be smaller than 32 pixels.
    """
    if count < 2 or (side := round(2 * min(height, width) / (count + 1))) < 32:
        raise ValueError(
            f"{count} tiles along the shorter side of {width} x {height} pixels: expected 2 to "
            f"{max(2, min(height, width) // 16 - 1)}, so that each has 32 pixels or more"
        )
    return [
        Tile(top, left, weight_h, weight_w)
        for top, weight_h in _line(height, side)
        for left, weight_w in _line(width, side)
    ]


def _line(length: int, side: int) -> Iterator[tuple[int, np.ndarray]]:
    """Starts of intervals of `side` pixels along a line, which overlap by half, and their weights, which sum to 1."""
    count = max(1, round(2 * length / side - 1))
    starts = np.round(np.linspace(0, length - side, count)).astype(int) if count > 1 else np.zeros(1, int)
    bell = np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2
    total = np.zeros(length)
    bells = []
    for index, start in enumerate(starts):
        own = bell.copy()
        if index == 0:
            own[: side // 2] = 1  # no neighbouring tile
        if index == count - 1:
            own[side // 2 :] = 1
        total[start : start + side] += own
        bells.append(own)
    for start, own in zip(starts, bells, strict=True):
        yield int(start), (own / total[start : start + side]).astype(np.float32)


def predict_tiles(predictor: Predictor, image: ImageSource, count: int) -> Prediction:
    """The map of one image with the detail of its tiles.

    Needs 8 bytes of memory per pixel more than the map of the whole image, and 60 per pixel of a tile.

    Args:
        predictor: the model; tiles have its input size at the network.
        image: as for `Predictor`.
        count: tiles along the shorter side, which overlap by half; the network runs about 1.5 count^2 times.

    Raises:
        ValueError: the image cannot be read, or tiles would be smaller than 32 pixels.
    """
    image_HW3 = read_image(image)
    height, width = image_HW3.shape[:2]
    tiles = cover(height, width, count)
    whole = predictor(image_HW3)
    whole_HW = whole.as_disparity()
    detail_HW = np.zeros_like(whole_HW)
    waiting = iter(tiles)
    together = max(1, min(predictor.batch_size, BATCH_PIXELS // len(tiles[0].weight_h) ** 2))
    while batch := list(islice(waiting, together)):
        images = [np.ascontiguousarray(image_HW3[tile.window]) for tile in batch]
        for tile, seen in zip(batch, predictor.predict(images), strict=True):
            weights_hw = tile.weight_h[:, None] * tile.weight_w
            detail_HW[tile.window] += weights_hw * fine_detail(seen.as_disparity(), whole_HW[tile.window])
    detail_HW += whole_HW
    disparity_HW = detail_HW
    note = f"Detail from {len(tiles)} tiles, {count} along the shorter side."
    if whole.depth_m is None:
        return replace(whole, disparity=disparity_HW, notes=(*whole.notes, note))
    # Metres: the detail may at most double the distance of a point.
    nearest_HW = np.maximum(disparity_HW, whole_HW / 2)
    depth_m_HW = np.where(whole_HW > 0, 1 / np.where(nearest_HW > 0, nearest_HW, 1), 0).astype(np.float32)
    return replace(whole, depth_m=depth_m_HW, notes=(*whole.notes, note))


def fine_detail(tile_hw: np.ndarray, whole_hw: np.ndarray) -> np.ndarray:
    """The detail that a tile adds to its part of the whole-image map: float32 (h, w), with a mean of 0 over every cell.

    Weighted by the squared correlation of tile and whole-image map. A tile that is flat, or in which near and far are
    reversed, adds nothing.
    """
    few = (slice(None, None, max(1, min(tile_hw.shape) // FITTED)),) * 2
    scale, shift = fit_scale_shift(tile_hw[few], whole_hw[few])
    back, _ = fit_scale_shift(whole_hw[few], tile_hw[few])
    if scale <= 0:
        return np.zeros_like(whole_hw)
    rest_hw = np.float32(scale) * tile_hw + np.float32(shift)
    rest_hw -= explained(rest_hw, whole_hw)
    rest_hw -= coarse(rest_hw, FINE)
    return np.float32(scale * back) * rest_hw


def explained(tile_hw: np.ndarray, whole_hw: np.ndarray) -> np.ndarray:
    """The part of a tile that the whole-image map explains, by the best local scale and shift: float32 (h, w).

    The local linear model of the guided filter (He et al. 2013, Eq. 4 to 6) with the whole-image map as the guide. If
    both have an edge of different heights, the remainder is the shape of the edge, not the difference of the heights;
    structure that the whole-image map lacks remains unchanged.
    """
    flat = 1e-6 * float(np.var(whole_hw)) + 1e-30  # Eq. 5's epsilon: a thousandth of the spread counts as flat
    whole_mean_hw, tile_mean_hw = coarse(whole_hw, AROUND), coarse(tile_hw, AROUND)
    from_mean_hw = whole_hw - whole_mean_hw
    local_scale_hw = np.maximum(coarse(from_mean_hw * (tile_hw - tile_mean_hw), AROUND), 0)
    local_scale_hw /= coarse(from_mean_hw**2, AROUND) + flat
    return tile_mean_hw + local_scale_hw * from_mean_hw
