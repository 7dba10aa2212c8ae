"""Stereo pairs from an image and the shift of each of its pixels, for screens and for glasses.

The image is the left eye's view. In the right eye's view, a pixel is `shift` pixels further to the left: positive in
front of the screen, negative behind it. The shift is proportional to 1/distance, and so linear in disparity, with a
constant that moves the whole scene towards the screen or away from it.
"""

from __future__ import annotations

import numpy as np

SURFACE = 1.0
"""Neighbouring pixels whose shifts differ by less belong to one surface, which is stretched."""


def shifts(nearness_HW: np.ndarray, eye_distance: float) -> np.ndarray:
    """Shift of each pixel, float32 (H, W) in pixels.

    Args:
        nearness_HW: 0 farthest to 1 nearest, linear in 1/distance.
        eye_distance: difference between the shifts of 1 and 0, as a share of the width; the screen is halfway.
    """
    return (eye_distance * nearness_HW.shape[1] * (nearness_HW - 0.5)).astype(np.float32)


def second_view(image_HW3: np.ndarray, shift_HW: np.ndarray) -> np.ndarray:
    """The right eye's view, uint8 (H, W, 3): near pixels cover far ones, and no pixel is left empty.

    Regions that the left eye does not see, next to an object or at the border, are filled with the pixel at the
    farther edge, so that objects keep their outlines.
    """
    moved_HW = moved(shift_HW.astype(np.float32))
    hole_HW = np.isneginf(moved_HW)
    columns_W = np.arange(moved_HW.shape[1], dtype=np.float32)
    view_HW3 = sampled(image_HW3, columns_W + np.where(hole_HW, 0, moved_HW))
    rows, holes = np.nonzero(hole_HW)
    view_HW3[rows, holes] = view_HW3[rows, filling(moved_HW)[rows, holes]]
    return view_HW3


def moved(shift_HW: np.ndarray) -> np.ndarray:
    """The shifts at the pixels of the right eye's view: the nearest of those that meet there, -inf if there is none."""
    height, width = shift_HW.shape
    target_HW = np.arange(width, dtype=np.float32) - shift_HW
    seen = np.full(height * width, -np.inf, np.float32)
    row_starts_H1 = width * np.arange(height)[:, None]

    left, right = shift_HW[:, :-1], shift_HW[:, 1:]
    start, end = target_HW[:, :-1], target_HW[:, 1:]
    one_surface = np.abs(right - left) < SURFACE
    for step in range(3):  # a stretched pair of pixels covers three at most
        column = np.ceil(start) + step
        inside = one_surface & (column <= end) & (column >= 0) & (column < width)
        share = (column - start) / np.where(one_surface, end - start, 1)
        shift = left + share * (right - left)
        np.maximum.at(seen, (row_starts_H1 + column.astype(np.int64))[inside], shift[inside])
    # Single pixels: thin objects, and edges. A surface that is already there is more exact, unless it is behind.
    column = np.rint(target_HW)
    index = (row_starts_H1 + column.astype(np.int64)).clip(0, height * width - 1)
    alone = (column >= 0) & (column < width) & (shift_HW > seen[index] + SURFACE)
    np.maximum.at(seen, index[alone], shift_HW[alone])
    return seen.reshape(height, width)


def sampled(image_HW3: np.ndarray, column_HW: np.ndarray) -> np.ndarray:
    """The image at fractional columns, linear between two, uint8 (H, W, 3)."""
    width = image_HW3.shape[1]
    column_HW = column_HW.clip(0, width - 1)
    low_HW = np.floor(column_HW).astype(np.int64).clip(0, max(0, width - 2))
    share_HW1 = (column_HW - low_HW)[..., None].astype(np.float32)
    rows_H1 = np.arange(image_HW3.shape[0])[:, None]
    low_HW3 = image_HW3[rows_H1, low_HW].astype(np.float32)
    high_HW3 = image_HW3[rows_H1, (low_HW + 1).clip(0, width - 1)].astype(np.float32)
    return np.round(low_HW3 + share_HW1 * (high_HW3 - low_HW3)).astype(np.uint8)


def filling(moved_HW: np.ndarray) -> np.ndarray:
    """For each pixel the column of its row that fills it: its own, or in a hole the one at its farther edge."""
    width = moved_HW.shape[1]
    known_HW = ~np.isneginf(moved_HW)
    columns_HW = np.broadcast_to(np.arange(width), moved_HW.shape)
    before_HW = np.maximum.accumulate(np.where(known_HW, columns_HW, -1), axis=1)
    after_HW = np.minimum.accumulate(np.where(known_HW, columns_HW, width)[:, ::-1], axis=1)[:, ::-1]
    rows_H1 = np.arange(len(moved_HW))[:, None]
    shift_before = np.where(before_HW >= 0, moved_HW[rows_H1, before_HW.clip(0)], np.inf)
    shift_after = np.where(after_HW < width, moved_HW[rows_H1, after_HW.clip(0, width - 1)], np.inf)
    edge_HW = np.where(shift_after <= shift_before, after_HW, before_HW)
    return np.where(known_HW, columns_HW, edge_HW.clip(0, width - 1))


def side_by_side(image_HW3: np.ndarray, shift_HW: np.ndarray) -> np.ndarray:
    """Left and right eye's view in one image, uint8 (H, 2 W, 3), for parallel viewing, headsets and 3D screens."""
    return np.concatenate([image_HW3, second_view(image_HW3, shift_HW)], axis=1)


def anaglyph(image_HW3: np.ndarray, shift_HW: np.ndarray) -> np.ndarray:
    """Both views for red-cyan glasses, uint8 (H, W, 3): red of the left eye's, green and blue of the right eye's."""
    right_HW3 = second_view(image_HW3, shift_HW)
    right_HW3[..., 0] = image_HW3[..., 0]
    return right_HW3
