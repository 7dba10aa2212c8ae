"""Convert disparity to metres with known distances. 1/metres = scale * disparity + shift (V1 section 3.1)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from depth_anything.evaluate.align import fit_scale_shift
from depth_anything.geometry import local_correction

FEWEST_LOCAL = 10
"""Points for a local correction: with fewer, two in each fold, nobody can tell whether it helps."""
FOLDS = 5
"""Parts of the points; each is kept out once, to measure the error that the others leave there."""


@dataclass(frozen=True)
class HeldOut:
    """Errors at points that were kept out: exp(mean |log(metres / measured)|) - 1, about the mean relative error."""

    fit: float
    """Of scale and shift alone."""
    local: float
    """With the local correction."""


@dataclass(frozen=True)
class Fitted:
    """Metres by a fit to known distances."""

    depth_m: np.ndarray
    """float32 (H, W); 0 where unknown."""
    scale: float
    shift: float
    count: int
    """Of known distances."""
    notes: tuple[str, ...]
    """Error of the fit, and the share of the image that becomes unknown."""
    held_out: HeldOut | None = None
    """Where a local correction was asked for."""


@dataclass(frozen=True)
class _Points:
    """Known distances that passed the checks."""

    x_P: np.ndarray
    y_P: np.ndarray
    """int64, pixels."""
    disparity_P: np.ndarray
    """float64, of the map at these pixels."""
    metres_P: np.ndarray

    def __getitem__(self, index: np.ndarray) -> "_Points":
        return _Points(self.x_P[index], self.y_P[index], self.disparity_P[index], self.metres_P[index])

    def __len__(self) -> int:
        return len(self.metres_P)


def near_far(disparity_HW: np.ndarray, near: float, far: float) -> np.ndarray:
    """Metres, float32 (H, W): the largest disparity is `near`, the smallest `far`, 1/metres is linear between.

    Raises:
        ValueError: not 0 < near < far, or the disparity is the same everywhere.
    """
    if not (0 < near < far < np.inf):
        raise ValueError(f"near {near:g} and far {far:g}: expected metres with 0 < near < far")
    low, high = float(disparity_HW.min()), float(disparity_HW.max())
    if not high > low:
        raise ValueError("the disparity is the same everywhere: near and far cannot be placed on it")
    scale = (1 / near - 1 / far) / (high - low)
    return _metres(disparity_HW, np.ones(disparity_HW.shape, bool), scale, 1 / far - scale * low, np.inf)


def known_distances(
    disparity_HW: np.ndarray, valid_HW: np.ndarray, points: Iterable[Sequence[float]], max_depth_m: float
) -> Fitted:
    """Metres whose inverse fits the known distances best: least squares in 1/metres, the fit of `evaluate.align`.

    Args:
        disparity_HW: larger is nearer, any scale and shift.
        valid_HW: bool, where it is known.
        points: two or more (x, y, metres), pixels from the upper left one, which is (0, 0).
        max_depth_m: pixels farther than this by the fit, or beyond infinity, become unknown.

    Raises:
        ValueError: fewer than two points, one outside the image, without a distance or on an unknown pixel; or
            distances that contradict the map (all at one value, or nearer where the map is farther), or that are no
            metres (most are beyond max_depth_m).
    """
    known = _checked(disparity_HW, valid_HW, points, max_depth_m)
    scale, shift = _fit(known)
    depth_m_HW = _metres(disparity_HW, valid_HW, scale, shift, max_depth_m)
    off = np.abs(1 / np.maximum(scale * known.disparity_P + shift, 1 / max_depth_m) / known.metres_P - 1).max()
    notes = [f"At the known distances these metres are off by {off:.1%} at most.", *_lost(depth_m_HW, max_depth_m)]
    return Fitted(depth_m_HW, scale, shift, len(known), tuple(notes))


def many_known_distances(
    disparity_HW: np.ndarray, valid_HW: np.ndarray, points: Iterable[Sequence[float]], max_depth_m: float
) -> Fitted:
    """`known_distances`, then corrected locally (`local_correction`) where that is better at points kept out.

    The points are divided into FOLDS parts at random (the same for the same points). Each part is predicted from the
    others, with the correction and by scale and shift alone. Where the correction is not better, the metres are those
    of `known_distances`, and a note says so. Of several points on one pixel the nearest counts: it hides the others.

    Args:
        as `known_distances`, with FEWEST_LOCAL points or more.

    Raises:
        ValueError: as `known_distances`, or too few points.
    """
    points = [tuple(point) for point in points]
    plain = known_distances(disparity_HW, valid_HW, points, max_depth_m)
    known = _nearest_of_pixels(_checked(disparity_HW, valid_HW, points, max_depth_m))
    if len(known) < FEWEST_LOCAL:
        raise ValueError(
            f"{len(known)} pixels with a known distance: a local correction needs {FEWEST_LOCAL} or more; without it "
            "(no --local) two suffice"
        )
    notes = []
    if len(known) < len(points):
        notes.append(f"{len(points) - len(known)} points share a pixel with a nearer one and were left out.")
    known = known[np.random.default_rng(0).permutation(len(known))]
    side, spread = max(disparity_HW.shape), float(disparity_HW[valid_HW].std())
    held_out = _held_out(known, side, spread)
    correction = _correct(known, *_fit(known), side, spread) if held_out.local < held_out.fit else None
    if correction is None:
        notes.append(
            f"At points kept out, scale and shift alone are off by {held_out.fit:.1%} on average, a local correction "
            f"by {held_out.local:.1%}: no local correction."
        )
        return Fitted(plain.depth_m, plain.scale, plain.shift, len(known), (*plain.notes, *notes), held_out)
    scale, shift = _fit(known)
    log_factor_HW = local_correction.over_image(correction, disparity_HW, spread)
    depth_m_HW = np.zeros(disparity_HW.shape, np.float32)
    for depth_m_W, disparity_W, valid_W, log_W in zip(depth_m_HW, disparity_HW, valid_HW, log_factor_HW, strict=True):
        metres_W = np.exp(log_W - np.log(_positive(scale * disparity_W.astype(np.float64) + shift, known)))
        known_W = valid_W & (metres_W <= max_depth_m)
        depth_m_W[known_W] = metres_W[known_W]
    notes.append(
        f"At points kept out, metres with the local correction are off by {held_out.local:.1%} on average, scale and "
        f"shift alone by {held_out.fit:.1%}."
    )
    return Fitted(depth_m_HW, scale, shift, len(known), (*notes, *_lost(depth_m_HW, max_depth_m)), held_out)


def _checked(
    disparity_HW: np.ndarray, valid_HW: np.ndarray, points: Iterable[Sequence[float]], max_depth_m: float
) -> _Points:
    rows = [tuple(point) for point in points]
    if len(rows) < 2 or any(len(row) != 3 for row in rows):
        raise ValueError("known distances: expected two or more of (x, y, metres)")
    if not max_depth_m > 0:
        raise ValueError(f"max_depth_m {max_depth_m:g}: expected metres above 0")
    height, width = disparity_HW.shape
    points_P3 = np.array(rows, dtype=np.float64)
    x_P, y_P, metres_P = points_P3.T
    inside_P = (x_P >= -0.5) & (x_P < width - 0.5) & (y_P >= -0.5) & (y_P < height - 0.5)
    _refuse(points_P3, ~inside_P, f"outside the image of {width} x {height}")
    _refuse(points_P3, ~((metres_P > 0) & (metres_P < np.inf)), "got {metres:g}; expected metres above 0")
    x_P, y_P = np.rint(x_P).astype(int), np.rint(y_P).astype(int)
    _refuse(points_P3, ~valid_HW[y_P, x_P], "the map is unknown (0) there; give another point")
    if np.median(metres_P) > max_depth_m:
        raise ValueError(
            f"known distances: half of them are beyond {np.median(metres_P):g}, and max_depth_m is {max_depth_m:g}: "
            "expected metres; divide millimetres by 1000"
        )
    return _Points(x_P, y_P, disparity_HW[y_P, x_P].astype(np.float64), metres_P)


def _refuse(points_P3: np.ndarray, wrong_P: np.ndarray, what: str) -> None:
    """The first wrong point in one line, with the number of them where there are more."""
    if wrong_P.any():
        x, y, metres = points_P3[wrong_P][0]
        more = f" ({np.count_nonzero(wrong_P)} of {len(points_P3)} points)" if np.count_nonzero(wrong_P) > 1 else ""
        raise ValueError(f"known distance at ({x:g}, {y:g}): {what.format(metres=metres)}{more}")


def _nearest_of_pixels(known: _Points) -> _Points:
    order = np.lexsort((known.metres_P, known.x_P, known.y_P))
    known = known[order]
    first_P = np.ones(len(known), bool)
    first_P[1:] = (np.diff(known.x_P) != 0) | (np.diff(known.y_P) != 0)
    return known[first_P]


def _fit(known: _Points) -> tuple[float, float]:
    """Scale and shift of 1/metres."""
    if np.ptp(known.disparity_P) == 0:
        raise ValueError("the known distances lie on one value of the map: give points at different distances")
    scale, shift = fit_scale_shift(known.disparity_P, 1 / known.metres_P)
    if scale <= 0:
        raise ValueError(
            "the known distances contradict the map: it is nearer where they are farther; check the points (x to the "
            "right, y down, metres)"
        )
    return scale, shift


def _positive(inverse: np.ndarray, known: _Points) -> np.ndarray:
    """1/metres above 0, whose logarithm can be corrected: itself where it is clearly nearer than the farthest point,
    and falling to 0 instead of below it (softplus, in units of the farthest point's 1/metres)."""
    unit = 1 / known.metres_P.max()
    return unit * np.logaddexp(0, inverse / unit)


def _correct(
    known: _Points, scale: float, shift: float, side: int, spread: float
) -> local_correction.Correction | None:
    residual_P = np.log(known.metres_P * _positive(scale * known.disparity_P + shift, known))
    return local_correction.fit_correction(_places(known, side, spread), residual_P)


def _places(known: _Points, side: int, spread: float) -> np.ndarray:
    return local_correction.places(known.x_P, known.y_P, known.disparity_P, side, spread)


def _held_out(known: _Points, side: int, spread: float) -> HeldOut:
    """Each fold as the others predict it."""
    fold_P = np.arange(len(known)) % FOLDS
    errors: list[np.ndarray] = []
    for fold in range(FOLDS):
        others, kept_out = known[fold_P != fold], known[fold_P == fold]
        scale, shift = fit_scale_shift(others.disparity_P, 1 / others.metres_P)
        inverse_P = scale * kept_out.disparity_P + shift
        of_fit_P = np.log(kept_out.metres_P * np.maximum(inverse_P, 1 / others.metres_P.max()))
        correction = _correct(others, scale, shift, side, spread)
        if correction is None:
            errors.append(np.stack([of_fit_P, of_fit_P]))
            continue
        of_local_P = np.log(kept_out.metres_P * _positive(inverse_P, others))
        errors.append(np.stack([of_fit_P, of_local_P - correction(_places(kept_out, side, spread))]))
    fit, local = np.expm1(np.abs(np.concatenate(errors, axis=1)).mean(1))
    return HeldOut(float(fit), float(local))


def _lost(depth_m_HW: np.ndarray, max_depth_m: float) -> list[str]:
    lost = 1 - np.count_nonzero(depth_m_HW) / depth_m_HW.size
    if lost == 0:
        return []
    return [f"{lost:.1%} of the image is farther than {max_depth_m:g} m by these distances: unknown (0)."]


def _metres(
    disparity_HW: np.ndarray, valid_HW: np.ndarray, scale: float, shift: float, max_depth_m: float
) -> np.ndarray:
    """1 / (scale * disparity + shift), float32 (H, W): 0 where not valid, beyond max_depth_m, or behind infinity."""
    depth_m_HW = np.zeros(disparity_HW.shape, np.float32)
    for depth_m_W, disparity_W, valid_W in zip(depth_m_HW, disparity_HW, valid_HW, strict=True):
        inverse_W = scale * disparity_W.astype(np.float64) + shift
        known_W = valid_W & (inverse_W > 0) & (inverse_W >= 1 / max_depth_m)
        depth_m_W[known_W] = 1 / inverse_W[known_W]
    return depth_m_HW
