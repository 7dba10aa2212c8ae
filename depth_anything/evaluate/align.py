"""Align a prediction with the ground truth: resize, then fit scale and shift. The only least-squares fit here.

A relative model predicts disparity up to an unknown scale and shift (V1 section 3.1), so every number about it, every
calibration, every tile and every video window starts with the same least squares: closed form, float64, centred.
"""

import numpy as np


def fit_scale_shift(
    prediction: np.ndarray, target: np.ndarray, valid: np.ndarray | None = None, weights: np.ndarray | None = None
) -> tuple[float, float]:
    """Scale s and shift t that minimise sum w (s * prediction + t - target)^2 over the valid points.

    Closed form of the 2 x 2 system of MiDaS (Ranftl et al. 2020, section 5), with both sides centred on their weighted
    means first: the textbook determinant loses its digits when the values are large against their spread.

    Defined for every non-empty input. A prediction without spread (a constant, or a single point) cannot be scaled:
    s = 0 and t = the mean target, which is a minimiser too.

    Args:
        prediction, target: arrays of one shape, any units. Only valid entries are read.
        valid: bool, same shape; None means all.
        weights: non-negative, same shape; None means 1.

    Returns:
        (scale, shift) as Python floats.

    Raises:
        ValueError: shapes differ, no valid point, a NaN or inf among the valid points, or unusable weights.
    """
    p, g, w = _points(prediction, target, valid, weights)
    total = w.sum()
    p_mean, g_mean = (w @ p) / total, (w @ g) / total
    p, g = p - p_mean, g - g_mean
    # Rounding leaves about 1e-16 of the mean behind; a spread below this is a constant.
    if np.abs(p).max() <= 1e-12 * abs(p_mean):
        return 0.0, float(g_mean)
    p_unit = p / np.abs(p).max()  # squares neither overflow nor vanish
    scale = (w @ (p_unit * g)) / (w @ (p_unit * p_unit)) / np.abs(p).max()
    return float(scale), float(g_mean - scale * p_mean)


def fit_scale(
    prediction: np.ndarray, target: np.ndarray, valid: np.ndarray | None = None, weights: np.ndarray | None = None
) -> float:
    """Scale s that minimises sum w (s * prediction - target)^2 over the valid points; 0 for an all-zero prediction.

    Arguments and errors as in `fit_scale_shift`.
    """
    p, g, w = _points(prediction, target, valid, weights)
    largest = np.abs(p).max()
    if largest == 0:
        return 0.0
    p_unit = p / largest
    return float((w @ (p_unit * g)) / (w @ (p_unit * p_unit)) / largest)


def fit_median(prediction: np.ndarray, target: np.ndarray, valid: np.ndarray | None = None) -> float:
    """Scale median(target) / median(prediction) over the valid points (Zhou et al. 2017, section 4.1).

    Raises:
        ValueError: as in `fit_scale_shift`, or the prediction's median is not positive.
    """
    p, g, _ = _points(prediction, target, valid, None)
    middle = np.median(p)
    if middle <= 0:
        raise ValueError(f"median scaling needs a prediction with a positive median, this one has {middle:g}")
    return float(np.median(g) / middle)


def resize_bilinear(map_HW: np.ndarray, height: int, width: int, align_corners: bool = False) -> np.ndarray:
    """A map at another size, float64: bilinear, no antialias, the numbers of torch's `interpolate`.

    Args:
        map_HW: (H, W), any real dtype.
        height, width: the size wanted, both at least 1.
        align_corners: False: pixel centres at half-integers, edges repeated. True: the corner pixels coincide.

    Raises:
        ValueError: not a two-dimensional, non-empty map, or a size below 1.
    """
    map_HW = np.asarray(map_HW)
    if map_HW.ndim != 2 or map_HW.size == 0:
        raise ValueError(f"expected a map of shape (height, width), got shape {map_HW.shape}")
    if height < 1 or width < 1:
        raise ValueError(f"cannot resize a map to {width} x {height} (width x height)")
    result = map_HW.astype(np.float64)
    if map_HW.shape == (height, width):
        return result
    low, high, part = _taps(map_HW.shape[0], height, align_corners)
    result = result[low] * (1 - part)[:, None] + result[high] * part[:, None]
    low, high, part = _taps(map_HW.shape[1], width, align_corners)
    return result[:, low] * (1 - part) + result[:, high] * part


def _taps(size_from: int, size_to: int, align_corners: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each new position along one side: the two old positions and the share of the second."""
    index = np.arange(size_to, dtype=np.float64)
    if align_corners:
        position = index * ((size_from - 1) / (size_to - 1)) if size_to > 1 else np.zeros(1)
    else:
        position = (index + 0.5) * (size_from / size_to) - 0.5
    position = np.clip(position, 0, size_from - 1)
    low = np.floor(position).astype(np.int64)
    return low, np.minimum(low + 1, size_from - 1), position - low


def _points(
    prediction: np.ndarray, target: np.ndarray, valid: np.ndarray | None, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The valid points of both sides and their weights, flat, float64, checked."""
    prediction, target = np.asarray(prediction), np.asarray(target)
    if prediction.shape != target.shape:
        raise ValueError(f"prediction has shape {prediction.shape}, target {target.shape}: resize the prediction first")
    if valid is None:
        keep = np.ones(prediction.shape, dtype=bool)
    else:
        keep = np.asarray(valid, dtype=bool)
        if keep.shape != prediction.shape:
            raise ValueError(f"valid has shape {keep.shape}, the maps {prediction.shape}")
    p, g = prediction[keep].astype(np.float64), target[keep].astype(np.float64)
    if p.size == 0:
        raise ValueError("no valid point to fit")
    if not np.isfinite(p).all():
        raise ValueError(f"the prediction is NaN or infinite at {np.sum(~np.isfinite(p))} of {p.size} valid points")
    if not np.isfinite(g).all():
        raise ValueError(f"the target is NaN or infinite at {np.sum(~np.isfinite(g))} points that are marked valid")
    if weights is None:
        return p, g, np.ones_like(p)
    weights = np.asarray(weights)
    if weights.shape != prediction.shape:
        raise ValueError(f"weights have shape {weights.shape}, the maps {prediction.shape}")
    w = weights[keep].astype(np.float64)
    if not np.isfinite(w).all() or (w < 0).any() or w.sum() == 0:
        raise ValueError("weights must be finite, not negative, and not all zero")
    return p, g, w
