"""The pinhole camera: intrinsics from what is known of a camera, and points from z-depth.

Camera axes: x to the right, y down, z forward, metres. Pixel (0, 0) is the centre of the image's upper left pixel, as
in OpenCV, so the middle of an image is ((width - 1) / 2, (height - 1) / 2). K is [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]
in pixels.
"""

import math
from collections.abc import Sequence

import numpy as np

from depth_anything.variants import Variant, get_variant

EDGE = 0.05
"""Relative change of depth from one pixel to the next above which they belong to different objects."""
_STRIP_PIXELS = 1_000_000
_FILM_DIAGONAL_MM = math.hypot(36.0, 24.0)


def from_fov(width: int, height: int, fov_degrees: float) -> np.ndarray:
    """K of a camera with a horizontal field of view, square pixels, and its centre in the middle of the image.

    Raises:
        ValueError: the angle is not between 0 and 180 degrees.
    """
    if not 0 < fov_degrees < 180:
        raise ValueError(f"field of view {fov_degrees:g}: expected degrees between 0 and 180, across the image's width")
    return _centred(width, height, width / 2 / math.tan(math.radians(fov_degrees) / 2))


def from_focal_35mm(width: int, height: int, focal_mm: float) -> np.ndarray:
    """K from a focal length as its 35 mm equivalent, as EXIF and phone makers state it (by the diagonal, CIPA DCG-001).

    Raises:
        ValueError: the focal length is not positive.
    """
    if not 0 < focal_mm < math.inf:
        raise ValueError(f"focal length {focal_mm:g}: expected millimetres above 0, as the 35 mm equivalent")
    return _centred(width, height, focal_mm * math.hypot(width, height) / _FILM_DIAGONAL_MM)


def from_numbers(numbers: Sequence[float]) -> np.ndarray:
    """K from `fx fy cx cy` in pixels of the upright image, or from the nine numbers of a matrix, row by row.

    Raises:
        ValueError: another count of numbers, or they describe no camera.
    """
    values = np.asarray(numbers, dtype=np.float64).ravel()
    if values.size == 9:
        K = values.reshape(3, 3)
    elif values.size == 4:
        K = np.array([[values[0], 0, values[2]], [0, values[1], values[3]], [0, 0, 1]])
    else:
        raise ValueError(f"intrinsics: got {values.size} numbers; expected fx,fy,cx,cy or the nine of a 3 x 3 matrix")
    check(K)
    return K


def intrinsics(
    width: int,
    height: int,
    *,
    fov: float | None = None,
    focal_mm: float | None = None,
    numbers: Sequence[float] | None = None,
    exif_focal_35mm: float | None = None,
) -> np.ndarray | None:
    """K from what is known: the numbers, the field of view, the focal length, or else EXIF; None if nothing is.

    Args:
        width, height: of the upright image.
        fov: horizontal field of view in degrees (`--fov`).
        focal_mm: 35 mm equivalent (`--focal-mm`).
        numbers: see `from_numbers` (`--intrinsics`).
        exif_focal_35mm: `image_info(...).focal_35mm`. An image that was cropped has lost its meaning.

    Raises:
        ValueError: more than one of the first three was given, or a value is out of range.
    """
    given = [
        name for name, value in (("fov", fov), ("focal_mm", focal_mm), ("intrinsics", numbers)) if value is not None
    ]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} describe the same camera: give one of them")
    if numbers is not None:
        return from_numbers(numbers)
    if fov is not None:
        return from_fov(width, height, fov)
    if focal_mm is not None or exif_focal_35mm is not None:
        return from_focal_35mm(width, height, focal_mm if focal_mm is not None else exif_focal_35mm or 0.0)
    return None


def check(K: np.ndarray) -> None:
    """Raises ValueError where K is not a pinhole camera in pixels without skew."""
    K = np.asarray(K)
    if K.shape != (3, 3) or not np.isfinite(K).all():
        raise ValueError(f"K: got shape {K.shape}; expected a finite 3 x 3 matrix")
    if K[0, 0] <= 0 or K[1, 1] <= 0 or K[0, 1] != 0 or K[1, 0] != 0 or not np.array_equal(K[2], [0, 0, 1]):
        raise ValueError(
            f"K: expected [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] with fx, fy above 0 in pixels, got {K.tolist()}"
        )


def mean_focal(K: np.ndarray) -> float:
    """The focal length in pixels as one number: the geometric mean of fx and fy, which a stretched image scales by
    the root of its area."""
    return math.sqrt(K[0, 0] * K[1, 1])


def seen_focal(focal: float, image: tuple[int, int], network: tuple[int, int]) -> float:
    """An image's focal length in pixels of the network's input, to which it is resized. Sizes are (height, width)."""
    return focal * math.sqrt(network[0] * network[1] / (image[0] * image[1]))


def assumed_focal(variant: Variant, height: int, width: int) -> float:
    """The focal length, in pixels of the image, that a camera-aware model assumes for an unknown camera.

    It is the canonical one where the network sees the image at its own size: the median training camera's.
    """
    assert variant.canonical_focal is not None
    return variant.canonical_focal * min(height, width) / get_variant(variant.name).input_size


def from_canonical(depth_m_HW: np.ndarray, seen: float, canonical_focal: float) -> np.ndarray:
    """Metres from those of the canonical camera: z = z_c f / f_c, with f as the network saw it (`seen_focal`).

    A thing of height h at depth z covers h f / z pixels. A network that sees pixels alone can know z / f, and so it
    learns z_c = z f_c / f: what a camera of focal length f_c would have to be away to see the same pixels (the label
    transformation of Metric3D, Yin et al. 2023, section 3.2).
    """
    return depth_m_HW * np.float32(seen / canonical_focal)


def fov_degrees(K: np.ndarray, width: int) -> float:
    """Horizontal field of view of K in degrees."""
    return math.degrees(2 * math.atan(width / 2 / K[0, 0]))


def unproject(depth_m_HW: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Points in camera axes: x = (u - cx) z / fx, y = (v - cy) z / fy. Depth is along the optical axis, not the ray.

    Args:
        depth_m_HW: metres, (H, W); 0 where unknown.
        K: (3, 3), pixels of this map.

    Returns:
        float32 (H, W, 3), metres; NaN where the depth is unknown.
    """
    check(K)
    height, width = depth_m_HW.shape
    z_HW = np.where(depth_m_HW > 0, depth_m_HW, np.nan).astype(np.float32)
    points_HW3 = np.empty((height, width, 3), np.float32)
    points_HW3[:, :, 0] = ((np.arange(width) - K[0, 2]) / K[0, 0]).astype(np.float32) * z_HW
    points_HW3[:, :, 1] = ((np.arange(height) - K[1, 2]) / K[1, 1]).astype(np.float32)[:, None] * z_HW
    points_HW3[:, :, 2] = z_HW
    return points_HW3


def normals(points_HW3: np.ndarray, is_panorama: bool = False) -> np.ndarray:
    """Surface normals that face the camera, in camera axes, from neighbouring points.

    Along each axis both neighbours decide, which halves the noise; beside an edge (EDGE) only the one whose depth
    changes less, so that the edge does not bend the surface. Points of a plane give its normal exactly.

    Args:
        points_HW3: camera axes, NaN where unknown.
        is_panorama: depth is the distance from the camera, and the first column follows the last one.

    Returns:
        float32 (H, W, 3), length 1; 0 where the point or its neighbours are unknown.
    """
    height, width = points_HW3.shape[:2]
    normals_HW3 = np.empty((height, width, 3), np.float32)
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):  # in strips, with their neighbouring rows, to bound memory
        first, last = max(top - 1, 0), min(top + rows + 1, height)
        strip_HW3 = points_HW3[first:last]
        if is_panorama:
            strip_HW3 = np.concatenate([strip_HW3[:, -1:], strip_HW3, strip_HW3[:, :1]], axis=1)
        depth_HW1 = np.linalg.norm(strip_HW3, axis=2, keepdims=True) if is_panorama else strip_HW3[:, :, 2:]
        strip_HW3 = _normals(strip_HW3, depth_HW1)[top - first : top - first + rows]
        normals_HW3[top : top + rows] = strip_HW3[:, 1:-1] if is_panorama else strip_HW3
    return normals_HW3


def _normals(points_HW3: np.ndarray, depth_HW1: np.ndarray) -> np.ndarray:
    across_HW3, down_HW3 = (_step(points_HW3, depth_HW1, axis) for axis in (1, 0))
    normal_HW3 = np.cross(down_HW3, across_HW3)
    length_HW1 = np.linalg.norm(normal_HW3, axis=2, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        normal_HW3 = np.where(length_HW1 > 0, normal_HW3 / length_HW1, 0)
        away_HW1 = np.sum(normal_HW3 * points_HW3, axis=2, keepdims=True) > 0
    return np.where(away_HW1, -normal_HW3, normal_HW3)


def _centred(width: int, height: int, focal_pixels: float) -> np.ndarray:
    return np.array([[focal_pixels, 0, (width - 1) / 2], [0, focal_pixels, (height - 1) / 2], [0, 0, 1]])


def _step(points_HW3: np.ndarray, depth_HW1: np.ndarray, axis: int) -> np.ndarray:
    """The direction of the surface along `axis`: from the previous to the next point, or half of that at an edge."""
    forward, backward = _both_ways(points_HW3, axis)
    size_forward, size_backward = (np.abs(change) for change in _both_ways(depth_HW1, axis))
    smooth = np.maximum(size_forward, size_backward) <= EDGE * depth_HW1  # False where either is unknown
    use_forward = (size_forward <= size_backward) | np.isnan(size_backward)
    return np.where(smooth, forward + backward, np.where(use_forward, forward, backward))


def _both_ways(values_HWC: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Differences to the next and from the previous pixel; NaN at the border."""
    step = np.diff(values_HWC, axis=axis)
    hole = np.full_like(values_HWC[:, :1] if axis == 1 else values_HWC[:1], np.nan)
    return np.concatenate([step, hole], axis=axis), np.concatenate([hole, step], axis=axis)
