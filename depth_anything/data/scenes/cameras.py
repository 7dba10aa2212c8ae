"""Plausible cameras: position, direction and field of view as in people's photographs."""

from dataclasses import dataclass

import numpy as np

PHONE = (62.0, 74.0)
"""Horizontal fields of view in degrees about that of a phone's main lens, 26 mm equivalent."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with square pixels and the principal point in the middle.

    position (3,) in metres, z up. Angles in radians: yaw 0 looks along +y and positive yaw turns left; positive pitch
    looks up; hfov is the horizontal field of view.
    """

    position: np.ndarray
    yaw: float
    pitch: float
    roll: float
    hfov: float

    def axes(self) -> np.ndarray:
        """Rows: right, down, forward (3,3) in world coordinates."""
        c, s = np.cos(self.pitch), np.sin(self.pitch)
        forward = np.array([-np.sin(self.yaw) * c, np.cos(self.yaw) * c, s])
        right = np.array([np.cos(self.yaw), np.sin(self.yaw), 0.0])
        down = np.cross(forward, right)
        c, s = np.cos(self.roll), np.sin(self.roll)
        return np.stack([c * right + s * down, c * down - s * right, forward])

    def pose(self) -> np.ndarray:
        """Camera to world (4,4); camera axes x right, y down, z forward."""
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = self.axes().T, self.position
        return matrix

    def intrinsics(self, width: int, height: int) -> np.ndarray:
        """K (3,3) in pixels; the centre of the first pixel is (0, 0), as in camera.py."""
        K = self.corner_intrinsics(width, height)
        K[:2, 2] -= 0.5
        return K

    def corner_intrinsics(self, width: int, height: int) -> np.ndarray:
        """The same with the corner of the first pixel at (0, 0), as sampling wants it."""
        focal = width / 2 / np.tan(self.hfov / 2)
        return np.array([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])

    def rays(self, width: int, height: int) -> np.ndarray:
        """Directions (height*width, 3) through the pixel centres; their part along the camera axis is 1."""
        k = self.corner_intrinsics(width, height)
        v, u = np.mgrid[0:height, 0:width] + 0.5
        local = np.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], np.ones_like(u)], axis=-1)
        return local.reshape(-1, 3) @ self.axes()


def hand_held(
    rng: np.random.Generator, position: np.ndarray, target: np.ndarray, hfov_degrees: tuple[float, float]
) -> Camera:
    """A camera at position that looks roughly at target, a little askew."""
    away = np.asarray(target, float) - position
    yaw = np.arctan2(-away[0], away[1]) + rng.normal(0, 0.06)
    pitch = np.arctan2(away[2], np.hypot(away[0], away[1])) + rng.normal(0, 0.04)
    roll = rng.normal(0, 0.02) if rng.random() < 0.85 else rng.normal(0, 0.1)
    return Camera(
        np.asarray(position, float),
        float(yaw),
        float(pitch),
        float(roll),
        float(np.radians(rng.uniform(*hfov_degrees))),
    )
