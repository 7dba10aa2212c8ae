"""Correct metres locally, so that they meet many measured points (lidar, structure from motion).

A fit of scale and shift leaves a residual at every point: the logarithm of measured by fitted metres. Gaussian process
regression spreads the residuals over the image (Rasmussen and Williams 2006, chapter 2). A point counts for a pixel by
its distance in the image and in the map, so a correction keeps to its side of an outline that the map shows, and it
fades out where no point is near. How far it reaches, and how much the points are trusted, is chosen by leave-one-out
errors.

A place is x, y and disparity: x and y as shares of the image's longer side, disparity in standard deviations of the
map.
"""

from dataclasses import dataclass

import numpy as np

MOST_POINTS = 3000
"""Points that shape a correction: its time grows with their cube."""
TRIED_POINTS = 300
"""Points on which reach, step and noise are tried."""
REACHES = (0.1, 0.2, 0.4, 1.0)
"""Distances in the image, as shares of its longer side, over which the correction changes."""
STEPS = (0.25, 0.5, 1.0, 3.0)
"""Differences of disparity, in standard deviations of the map, over which it changes."""
NOISES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Variances of a point's own error, as multiples of the correction's."""
OUTLIER = 3.0
"""A point counts less if its error is beyond so many standard deviations."""
MEDIAN_TO_DEVIATION = 1.4826
"""Standard deviation over median absolute value of a normal distribution."""
CELLS = 160
"""Of the lattice on which a correction is computed for an image, along the longer side."""
LEVELS = 64
"""Of the lattice, from the smallest disparity to the largest."""


@dataclass(frozen=True)
class Correction:
    """A function of places: the mean of a Gaussian process, a sum over points."""

    scaled_P3: np.ndarray
    """The points' places, divided by `lengths_3`."""
    weights_P: np.ndarray
    lengths_3: np.ndarray
    """(reach, reach, step)."""

    def __call__(self, places_N3: np.ndarray) -> np.ndarray:
        """The logarithm of the factor for metres, (N,)."""
        parts = np.array_split(places_N3 / self.lengths_3, max(1, len(places_N3) // 2000))
        return np.concatenate([kernel(part, self.scaled_P3) @ self.weights_P for part in parts])


def places(x: np.ndarray, y: np.ndarray, disparity: np.ndarray, side: int, spread: float) -> np.ndarray:
    """(N, 3). `side`: pixels of the longer side; `spread`: the standard deviation of the map."""
    return np.column_stack([x / side, y / side, disparity / spread])


def kernel(a_N3: np.ndarray, b_P3: np.ndarray) -> np.ndarray:
    """exp(-distance), (N, P): the exponential covariance (Rasmussen and Williams 2006, Eq. 4.18). Of the kernels tried
    it was the best on photographs, whose residuals jump at outlines (benchmarks/results/sparse_depth.md)."""
    squared_NP = (a_N3**2).sum(1)[:, None] + (b_P3**2).sum(1) - 2 * a_N3 @ b_P3.T
    np.maximum(squared_NP, 0, out=squared_NP)
    np.sqrt(squared_NP, out=squared_NP)
    np.negative(squared_NP, out=squared_NP)
    return np.exp(squared_NP, out=squared_NP)


def fit_correction(places_P3: np.ndarray, residual_P: np.ndarray) -> Correction | None:
    """The correction of residuals at points; None where the leave-one-out errors are least without one.

    Of more than MOST_POINTS points the first so many are used.
    """
    places_P3, residual_P = places_P3[:MOST_POINTS], residual_P[:MOST_POINTS]
    least, best = float(np.abs(residual_P[:TRIED_POINTS]).mean()), None
    for reach in REACHES:
        for step in STEPS:
            lengths_3 = np.array([reach, reach, step])
            errors = leave_one_out(places_P3[:TRIED_POINTS] / lengths_3, residual_P[:TRIED_POINTS])
            if errors.min() < least:
                least, best = float(errors.min()), (lengths_3, NOISES[int(errors.argmin())])
    if best is None:
        return None
    lengths_3, noise = best
    scaled_P3 = places_P3 / lengths_3
    noise_P = noise * distrust(scaled_P3, residual_P, noise)
    return Correction(scaled_P3, weights(scaled_P3, residual_P, noise_P), lengths_3)


def weights(scaled_P3: np.ndarray, residual_P: np.ndarray, noise: float | np.ndarray) -> np.ndarray:
    """The weights of the points, (P,). `noise`: the variance of each point's own error."""
    covariance_PP = kernel(scaled_P3, scaled_P3)
    covariance_PP[np.diag_indices_from(covariance_PP)] += noise
    return np.linalg.solve(covariance_PP, residual_P)


def distrust(scaled_P3: np.ndarray, residual_P: np.ndarray, noise: float) -> np.ndarray:
    """Factor of each point's noise, 1 or more: the square of its error over OUTLIER robust standard deviations.

    A point's error is that of its residual as every second point predicts it, those that it is not among: two systems
    of half the size cost less than the errors of leaving out one.
    """
    error_P = np.empty(len(residual_P))
    for these, others in ((slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))):
        across = kernel(scaled_P3[these], scaled_P3[others])
        error_P[these] = residual_P[these] - across @ weights(scaled_P3[others], residual_P[others], noise)
    deviation = MEDIAN_TO_DEVIATION * np.median(np.abs(error_P))
    return np.maximum(1, np.abs(error_P) / max(OUTLIER * deviation, 1e-12)) ** 2


def leave_one_out(scaled_P3: np.ndarray, residual_P: np.ndarray) -> np.ndarray:
    """Mean absolute error at a point as the others predict it, for each of NOISES, (N,). Rasmussen and Williams 2006,
    Eq. 5.12: the error is [K^-1 y]_i / [K^-1]_ii."""
    values_P, vectors_PP = np.linalg.eigh(kernel(scaled_P3, scaled_P3))
    inverse_PN = 1 / (np.maximum(values_P, 0)[:, None] + np.array(NOISES))
    weights_PN = vectors_PP @ (inverse_PN * (vectors_PP.T @ residual_P)[:, None])
    return np.abs(weights_PN / (vectors_PP**2 @ inverse_PN)).mean(0)


def over_image(correction: Correction, disparity_HW: np.ndarray, spread: float) -> np.ndarray:
    """The correction at every pixel, float32 (H, W): computed on a lattice of places, linear in between.

    Most of the lattice is empty, as a part of the image has few disparities: only corners of cells with pixels count.
    """
    height, width = disparity_HW.shape
    side = max(height, width)
    low, high = float(disparity_HW.min()), float(disparity_HW.max())
    rows = np.linspace(0, height - 1, max(2, round(CELLS * height / side)))
    columns = np.linspace(0, width - 1, max(2, round(CELLS * width / side)))
    levels = np.linspace(low, high, LEVELS) if high > low else np.array([low, low + 1])
    top_H, y_part_H = _cell(np.arange(height), rows)
    left_W, x_part_W = _cell(np.arange(width), columns)
    lattice_YXL = np.zeros((len(rows), len(columns), len(levels)))
    full_YXL = np.zeros(lattice_YXL.shape, bool)
    for row, top in enumerate(top_H):
        below_W, _ = _cell(disparity_HW[row], levels)
        full_YXL[top, left_W, below_W] = True
    corners_YXL = _with_neighbours(full_YXL)
    y, x, level = np.nonzero(corners_YXL)
    lattice_YXL[corners_YXL] = correction(places(columns[x], rows[y], levels[level], side, spread))
    result_HW = np.empty(disparity_HW.shape, np.float32)
    for row, (top, y_part) in enumerate(zip(top_H, y_part_H, strict=True)):
        plane_XL = (1 - y_part) * lattice_YXL[top] + y_part * lattice_YXL[top + 1]
        below_W, part_W = _cell(disparity_HW[row], levels)
        left = (1 - part_W) * plane_XL[left_W, below_W] + part_W * plane_XL[left_W, below_W + 1]
        right = (1 - part_W) * plane_XL[left_W + 1, below_W] + part_W * plane_XL[left_W + 1, below_W + 1]
        result_HW[row] = (1 - x_part_W) * left + x_part_W * right
    return result_HW


def _with_neighbours(full_YXL: np.ndarray) -> np.ndarray:
    """True also at the next place along each axis: the corners of the cells that are True."""
    corners_YXL = full_YXL.copy()
    corners_YXL[1:] |= corners_YXL[:-1]
    corners_YXL[:, 1:] |= corners_YXL[:, :-1]
    corners_YXL[:, :, 1:] |= corners_YXL[:, :, :-1]
    return corners_YXL


def _cell(values: np.ndarray, line: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each value its cell on an even line of two or more, and the place in the cell, 0 to 1."""
    position = np.clip((values.astype(np.float64) - line[0]) / (line[1] - line[0]), 0, len(line) - 1)
    cell = np.minimum(position.astype(np.int64), len(line) - 2)
    return cell, position - cell
