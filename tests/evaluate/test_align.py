"""The one fit, against numpy's least squares, worked numbers and hypothesis; the resize, against torch."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from depth_anything.evaluate.align import fit_median, fit_scale, fit_scale_shift, resize_bilinear


def test_fit_of_worked_numbers():
    # facts worked out by hand with the 2 x 2 system: p = 1 2 3 5, d = .1 .25 .3 .6
    scale, shift = fit_scale_shift(np.array([1, 2, 3, 5]), np.array([0.1, 0.25, 0.3, 0.6]))
    assert scale == pytest.approx(0.121428571, abs=1e-9)
    assert shift == pytest.approx(-0.021428571, abs=1e-9)


@pytest.mark.parametrize("offset", [0.0, 3.0, 1e6])
def test_fit_equals_lstsq_with_mask_and_weights(offset):
    rng = np.random.default_rng(0)
    prediction = rng.normal(size=(20, 30)) + offset
    target = 0.3 * prediction + rng.normal(size=(20, 30))
    valid = rng.random((20, 30)) < 0.6
    weights = rng.random((20, 30))
    prediction[~valid], target[~valid] = np.nan, np.inf  # what is not valid is never read

    root = np.sqrt(weights[valid])
    system = np.stack([prediction[valid] - offset, np.ones(valid.sum())], axis=1)
    (a, b), *_ = np.linalg.lstsq(system * root[:, None], target[valid] * root, rcond=None)

    scale, shift = fit_scale_shift(prediction, target, valid, weights)
    assert scale == pytest.approx(a, rel=1e-8)
    assert scale * offset + shift == pytest.approx(b, rel=1e-6, abs=1e-8)
    assert fit_scale(prediction, target, valid, weights) == pytest.approx(
        np.sum(weights[valid] * prediction[valid] * target[valid]) / np.sum(weights[valid] * prediction[valid] ** 2)
    )


def test_fit_keeps_its_digits_where_the_textbook_determinant_loses_them():
    true = np.linspace(0, 1, 1000)
    prediction = 1e8 + true  # sum p^2 * n - (sum p)^2 has no correct digit here
    scale, shift = fit_scale_shift(prediction, true)
    assert np.abs(scale * prediction + shift - true).max() < 1e-6


def test_integer_weights_are_repetitions():
    rng = np.random.default_rng(1)
    p, g, times = rng.normal(size=12), rng.normal(size=12), rng.integers(0, 4, size=12)
    assert fit_scale_shift(p, g, weights=times) == pytest.approx(
        fit_scale_shift(np.repeat(p, times), np.repeat(g, times))
    )


@given(
    scale=st.floats(-1e3, 1e3),
    shift=st.floats(-1e3, 1e3),
    seed=st.integers(0, 2**32 - 1),
)
def test_fit_undoes_any_affine_map(scale, shift, seed):
    assume(abs(scale) > 1e-3)
    true = np.random.default_rng(seed).random((7, 5))
    a, b = fit_scale_shift(scale * true + shift, true)
    assert np.abs(a * (scale * true + shift) + b - true).max() < 1e-7


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e20])
@pytest.mark.parametrize("points", [1, 2, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_prediction_without_spread_gets_the_mean_target(value, points, dtype):
    """Of float64 values the mean is not exact: their distance from it is rounding, and no spread."""
    target = np.arange(points) * 0.1
    assert fit_scale_shift(np.full(points, value, dtype), target) == (0.0, pytest.approx(target.mean()))


@pytest.mark.parametrize("factor", [1e-200, 1e200])
def test_extreme_values_neither_vanish_nor_overflow(factor):
    true = np.linspace(1, 2, 50)
    scale, shift = fit_scale_shift(true * factor, true)
    assert np.allclose(scale * true * factor + shift, true)
    assert fit_scale(true * factor, true) == pytest.approx(1 / factor)


def test_median_fit():
    assert fit_median(np.array([1.0, 2.0, 30.0]), np.array([10.0, 8.0, 0.0])) == 4.0
    assert fit_scale(np.zeros(3), np.ones(3)) == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones(3), np.ones(4)), "resize the prediction first"),
        ((np.ones(3), np.ones(3), np.zeros(3, bool)), "no valid point"),
        ((np.ones(3), np.ones(3), np.ones(2, bool)), "valid has shape"),
        ((np.array([1, np.nan, 2]), np.ones(3)), "prediction is NaN or infinite at 1 of 3"),
        ((np.ones(3), np.array([1, np.inf, 2])), "target is NaN or infinite at 1"),
        ((np.ones(3), np.ones(3), None, np.zeros(3)), "not all zero"),
        ((np.ones(3), np.ones(3), None, np.array([1, -1, 1])), "not negative"),
        ((np.ones(3), np.ones(3), None, np.ones(2)), "weights have shape"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        fit_scale_shift(*arguments)


def test_median_of_a_negative_map_is_refused():
    with pytest.raises(ValueError, match="positive median"):
        fit_median(np.array([-1.0, -2.0]), np.ones(2))


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(
    ("old", "new"), [((5, 7), (11, 13)), ((20, 31), (6, 9)), ((4, 4), (1, 1)), ((1, 6), (3, 12)), ((8, 8), (8, 8))]
)
def test_resize_gives_torchs_numbers(old, new, align_corners):
    torch = pytest.importorskip("torch")
    map_HW = np.random.default_rng(2).normal(size=old)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(map_HW)[None, None], new, mode="bilinear", align_corners=align_corners
    )[0, 0].numpy()
    assert np.abs(resize_bilinear(map_HW, *new, align_corners=align_corners) - expected).max() < 1e-12


def test_resize_refuses_what_is_no_map():
    with pytest.raises(ValueError, match="shape"):
        resize_bilinear(np.zeros((2, 2, 3)), 4, 4)
    with pytest.raises(ValueError, match="4 x 0"):
        resize_bilinear(np.zeros((2, 2)), 0, 4)
