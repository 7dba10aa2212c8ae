"""Equirectangular panoramas: the directions of their pixels, and perspective views of them.

Axes as in camera.py: x to the right, y down, z forward, where forward is the middle of the panorama. Longitude runs
from -180 degrees at the left edge to 180 at the right one, which is the same meridian; latitude from 90 degrees at the
top to -90 at the bottom. Distances of a panorama are along the ray, from the centre of the sphere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

TOLERANCE = 0.01
"""Largest relative difference from an aspect ratio of 2 : 1, for images that lack a few rows."""


def check_size(height: int, width: int) -> None:
    """Refuse an image that does not show the whole sphere.

    Raises:
        ValueError: not twice as wide as high.
    """
    if abs(width / (2 * height) - 1) > TOLERANCE:
        raise ValueError(
            f"a panorama of {width} x {height}: expected an equirectangular image of the whole sphere, twice as wide "
            "as high; pad an image of a part, or leave out --panorama"
        )


def directions(height: int, width: int) -> np.ndarray:
    """Unit vectors through the centres of the pixels of a panorama, float32 (H, W, 3)."""
    longitude_W = ((np.arange(width) + 0.5) / width - 0.5) * 2 * np.pi
    latitude_H1 = ((0.5 - (np.arange(height) + 0.5) / height) * np.pi)[:, None]
    rays_HW3 = np.empty((height, width, 3), np.float32)
    rays_HW3[..., 0] = np.cos(latitude_H1) * np.sin(longitude_W)
    rays_HW3[..., 1] = -np.sin(latitude_H1)
    rays_HW3[..., 2] = np.cos(latitude_H1) * np.cos(longitude_W)
    return rays_HW3


def even_directions(count: int) -> np.ndarray:
    """Unit vectors distributed evenly over the sphere, float32 (count, 3): a Fibonacci lattice."""
    index = np.arange(count) + 0.5
    y = 1 - 2 * index / count
    angle = np.pi * (1 + math.sqrt(5)) * index
    around = np.sqrt(1 - y * y)
    return np.stack([around * np.cos(angle), y, around * np.sin(angle)], axis=1).astype(np.float32)


def to_points(depth_m_HW: np.ndarray) -> np.ndarray:
    """Points of a panorama: distance along the ray times its direction.

    Args:
        depth_m_HW: metres along the ray, 0 where unknown.

    Returns:
        float32 (H, W, 3), metres; NaN where the distance is unknown.
    """
    points_HW3 = directions(*depth_m_HW.shape)
    points_HW3 *= np.where(depth_m_HW > 0, depth_m_HW, np.nan).astype(np.float32)[..., None]
    return points_HW3


@dataclass(frozen=True)
class View:
    """A square perspective view of a panorama."""

    axes: np.ndarray
    """Rows: the view's right, down, forward (3, 3) in the panorama's axes."""
    fov: float
    """Field of view in degrees, across and down."""

    @classmethod
    def towards(cls, longitude: float, latitude: float, fov: float) -> View:
        """A view with its centre at this longitude and latitude in degrees, without roll."""
        yaw, pitch = math.radians(longitude), math.radians(latitude)
        forward = np.array([math.sin(yaw) * math.cos(pitch), -math.sin(pitch), math.cos(yaw) * math.cos(pitch)])
        right = np.array([math.cos(yaw), 0.0, -math.sin(yaw)])
        return cls(np.stack([right, np.cross(forward, right), forward]), fov)

    @property
    def reach(self) -> float:
        """Tangent of half the field of view: x / z and y / z in the view are from -reach to reach."""
        return math.tan(math.radians(self.fov) / 2)

    @property
    def least_cosine(self) -> float:
        """Cosine of the angle between the view's axis and its corners."""
        return 1 / math.sqrt(1 + 2 * self.reach**2)

    def side(self, width: int) -> int:
        """Pixels along a side for which the view's centre has the resolution of a panorama of this width."""
        return max(2, round(width / np.pi * self.reach))

    def image(self, panorama_HW3: np.ndarray) -> np.ndarray:
        """The view, uint8 (N, N, 3), N = `side`: bilinear, also across the panorama's left and right edge."""
        height, width = panorama_HW3.shape[:2]
        side = self.side(width)
        offset_N = ((np.arange(side) + 0.5) / side * 2 - 1) * self.reach
        local_NN3 = np.stack([*np.meshgrid(offset_N, offset_N), np.ones((side, side))], axis=2)
        x, y, z = np.moveaxis(local_NN3 @ self.axes, 2, 0)
        across = (np.arctan2(x, z) / (2 * np.pi) + 0.5) * width - 0.5
        down = (0.5 + np.arctan2(y, np.hypot(x, z)) / np.pi) * height - 0.5
        return np.round(bilinear(panorama_HW3, across, down, wrap=True)).astype(np.uint8)

    def locate(self, rays_P3: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions of rays in the view.

        Args:
            rays_P3: unit vectors, any leading shape.

        Returns:
            Positions in the view, (..., 2), across and down from -1 to 1, and the cosine of the angle to the view's
            axis (...); positions outside, and rays behind the view, are beyond 1 or NaN.
        """
        local_P3 = rays_P3 @ self.axes.T.astype(rays_P3.dtype)
        cosine_P = local_P3[..., 2]
        ahead_P = np.where(cosine_P > 0, cosine_P, np.nan) * self.reach
        return local_P3[..., :2] / ahead_P[..., None], cosine_P


def bilinear(map_HW: np.ndarray, across: np.ndarray, down: np.ndarray, wrap: bool = False) -> np.ndarray:
    """Values of a map (H, W) or (H, W, C) between its pixels, whose centres are whole numbers; edges are repeated.

    Args:
        across, down: positions in pixels, of one shape.
        wrap: the left edge follows the right one.

    Returns:
        float32, of the positions' shape (and C).
    """
    height, width = map_HW.shape[:2]
    if not wrap:
        across = np.clip(across, 0, width - 1)
    down = np.clip(down, 0, height - 1)
    left, top = np.floor(across).astype(np.int64), np.floor(down).astype(np.int64)
    part_x, part_y = (across - left).astype(np.float32), (down - top).astype(np.float32)
    if map_HW.ndim == 3:
        part_x, part_y = part_x[..., None], part_y[..., None]
    right, bottom = left + 1, np.minimum(top + 1, height - 1)
    left, right = (left % width, right % width) if wrap else (left, np.minimum(right, width - 1))
    upper = map_HW[top, left] * (1 - part_x) + map_HW[top, right] * part_x
    lower = map_HW[bottom, left] * (1 - part_x) + map_HW[bottom, right] * part_x
    return upper * (1 - part_y) + lower * part_y
