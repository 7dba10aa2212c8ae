"""Metres from many measured points: the correction against closed forms, its choice, and points that are no points."""

import numpy as np
import pytest
from scipy.interpolate import RBFInterpolator

from depth_anything.geometry import calibrate, local_correction
from depth_anything.predict.prediction import Prediction

HEIGHT, WIDTH = 60, 80
Y, X = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
DEPTH_M = 3 + X / 40 + np.where((X - 40) ** 2 + (Y - 30) ** 2 < 300, -1.5, 0)
BENT = (1 / DEPTH_M * (1 + 0.3 * np.sin(X / 15) * np.cos(Y / 20))).astype(np.float32)
"""What a model sees: right up to a smooth factor of 0.7 to 1.3."""


def drawn(count: int, seed: int = 0, depth_m: np.ndarray = DEPTH_M) -> np.ndarray:
    flat = np.random.default_rng(seed).choice(depth_m.size, count, replace=False)
    return np.column_stack([flat % WIDTH, flat // WIDTH, depth_m.flat[flat]])


def abs_rel(depth_m: np.ndarray) -> float:
    return float(np.mean(np.abs(depth_m - DEPTH_M) / DEPTH_M))


def test_many_points_straighten_a_bent_map():
    relative = Prediction(disparity=5 * BENT + 2)
    plain, local = (relative.align_to(drawn(150), local=local) for local in (False, True))
    assert abs_rel(plain.values) > 0.09 and abs_rel(local.values) < 0.03
    assert local.notes[-1].startswith("At points kept out, metres with the local correction are off by")
    assert "fitted to 150 known distances" in local.describe()


def test_the_held_out_error_is_the_error_elsewhere():
    fitted = calibrate.many_known_distances(BENT, np.ones(BENT.shape, bool), drawn(150), 1000)
    elsewhere = np.expm1(np.abs(np.log(fitted.depth_m / DEPTH_M)).mean())
    assert fitted.held_out.local == pytest.approx(elsewhere, rel=0.3)
    assert fitted.held_out.fit == pytest.approx(0.15, abs=0.06)


def test_where_the_fit_is_exact_it_is_kept():
    exact = Prediction(disparity=(1 / DEPTH_M).astype(np.float32))
    points = drawn(40)
    points[:, 2] *= np.random.default_rng(1).choice([0.9, 1.1], 40)  # noise that no place explains
    plain, local = (exact.align_to(points, local=local) for local in (False, True))
    np.testing.assert_array_equal(local.values, plain.values)
    assert local.notes[-1].endswith("no local correction.")


def test_a_correction_keeps_to_its_side_of_an_outline():
    """Two walls, the right one far; the map has the left one 20 % too far. Points on the left leave the right alone."""
    depth_m = np.where(X < 40, 2.0, 8.0)
    disparity = np.where(X < 40, 1 / 2.4, 1 / 8.0) + 0.01 * np.sin(Y)
    spread = float(disparity.std())
    known = np.random.default_rng(0).choice(depth_m.size, 200, replace=False)
    x, y = known % WIDTH, known // WIDTH
    residual = np.log(depth_m * disparity).flat[known]
    correction = local_correction.fit_correction(
        local_correction.places(x, y, disparity.flat[known], WIDTH, spread), residual
    )
    assert correction is not None
    log_factor = local_correction.over_image(correction, disparity, spread)
    np.testing.assert_allclose(log_factor[:, 39].mean(), np.log(2 / 2.4), atol=0.02)
    np.testing.assert_allclose(log_factor[:, 40].mean(), 0, atol=0.02)


def test_a_correction_fades_out_where_no_point_is_near():
    places = np.array([[0.1, 0.1, 0], [0.12, 0.1, 0], [0.1, 0.12, 0]])
    correction = local_correction.fit_correction(places, np.array([0.2, 0.21, 0.19]))
    assert correction is not None
    assert correction(places[:1])[0] == pytest.approx(0.2, abs=0.03)
    assert abs(correction(np.array([[0.1, 0.1, 40.0]]))[0]) < 1e-4


def test_the_correction_is_scipys_kernel_interpolant():
    """The exponential kernel is not one of scipy's, its inverse multiquadric is: the same system with that kernel."""
    random = np.random.default_rng(0)
    places, residual, wanted = random.random((30, 3)), random.normal(size=30), random.random((7, 3))
    theirs = RBFInterpolator(places, residual, kernel="inverse_multiquadric", epsilon=1, smoothing=0.3, degree=-1)
    covariance = 1 / np.sqrt(1 + ((places[:, None] - places) ** 2).sum(-1)) + 0.3 * np.eye(30)
    across = 1 / np.sqrt(1 + ((wanted[:, None] - places) ** 2).sum(-1))
    np.testing.assert_allclose(across @ np.linalg.solve(covariance, residual), theirs(wanted), rtol=1e-9)


def test_leave_one_out_errors_are_those_of_leaving_one_out():
    random = np.random.default_rng(2)
    scaled, residual = random.random((12, 3)), random.normal(size=12)
    for noise, error in zip(local_correction.NOISES, local_correction.leave_one_out(scaled, residual), strict=True):
        errors = []
        for one in range(12):
            rest = np.arange(12) != one
            distances = np.linalg.norm(scaled[rest][:, None] - scaled[rest], axis=-1)
            weights = np.linalg.solve(np.exp(-distances) + noise * np.eye(11), residual[rest])
            errors.append(residual[one] - np.exp(-np.linalg.norm(scaled[one] - scaled[rest], axis=-1)) @ weights)
        assert error == pytest.approx(np.abs(errors).mean(), rel=1e-6)


def test_wrong_points_count_less():
    """A tenth of the residuals is off by a factor of e; the rest is smooth, with little noise."""
    random = np.random.default_rng(3)
    places = random.random((300, 3))
    smooth = 0.3 * np.sin(4 * places[:, 0]) + 0.2 * places[:, 1]
    residual = smooth + 0.01 * random.normal(size=300)
    wrong = random.random(300) < 0.1
    correction = local_correction.fit_correction(places, residual + wrong * random.choice([-1, 1], 300))
    assert correction is not None
    assert np.abs(correction(places) - smooth).mean() < 0.035
    assert np.abs(correction(places) - smooth)[wrong].mean() < 0.05
    assert (local_correction.distrust(places, residual, 0.1) < 4).all(), "with right points all count"
    assert (local_correction.distrust(places, np.zeros(300), 0.1) == 1).all()


def test_the_lattice_is_close_to_the_correction_itself():
    x, y, metres = drawn(100).T
    spread = float(BENT.std())
    places = local_correction.places(x, y, BENT[y.astype(int), x.astype(int)], WIDTH, spread)
    correction = local_correction.fit_correction(places, np.log(metres * BENT[y.astype(int), x.astype(int)]))
    assert correction is not None
    exact = correction(local_correction.places(X.ravel(), Y.ravel(), BENT.ravel(), WIDTH, spread))
    found = local_correction.over_image(correction, BENT, spread)
    assert np.abs(found.ravel() - exact).mean() < 0.1 * np.abs(exact).mean()


def test_of_several_points_on_a_pixel_the_nearest_counts():
    points = drawn(50)
    hidden = points[:5] * (1, 1, 3)  # behind the first five
    with_hidden = Prediction(disparity=BENT).align_to([*hidden, *points], local=True)
    np.testing.assert_array_equal(with_hidden.values, Prediction(disparity=BENT).align_to(points, local=True).values)
    assert "5 points share a pixel with a nearer one and were left out." in with_hidden.notes


def test_far_beyond_the_points_is_unknown_as_by_the_fit():
    bent = np.hstack([BENT, np.full((HEIGHT, 10), -3, np.float32)])
    local = Prediction(disparity=bent).align_to(drawn(100), local=True)
    assert not local.values[:, -10:].any() and local.valid[:, :-10].all()
    assert "unknown (0)" in local.notes[-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p[:9], "9 pixels with a known distance: a local correction needs 10 or more"),
        (lambda p: np.repeat(p[:9], 2, axis=0), "9 pixels with a known distance"),
        (lambda p: p + (70, 0, 0), r"at \(\d+, \d+\): outside the image of 80 x 60 \(\d+ of 20 points\)"),
        (lambda p: p * (1, 1, -1), r"got -\d.*expected metres above 0 \(20 of 20 points\)"),
        (lambda p: p * (1, 1, np.nan), "got nan; expected metres above 0"),
        (lambda p: p * (1, 1, 1000), "half of them are beyond .* divide millimetres by 1000"),
        (lambda p: np.column_stack([p[:, :2], 10 - p[:, 2]]), "contradict the map"),
    ],
)
def test_points_that_are_no_points(change, message):
    ask = Prediction(disparity=BENT).align_to
    with pytest.raises(ValueError, match=message) as error:
        ask(change(drawn(20)), local=True)
    assert "\n" not in str(error.value)
