"""Metrics against plain loops over the public formulas, worked numbers, and their own directions."""

from math import log, sqrt

import numpy as np
import pytest

from depth_anything.evaluate.metrics import METRICS, boundary_f1, coarse_boundary_f1, flicker, ordinal

GT = np.array([1.0, 2.0, 4.0])
PRED = np.array([1.1, 1.8, 4.4])


def loops(prediction, ground_truth):
    """Every pixel metric, one pixel at a time, in plain Python."""
    n = len(ground_truth)
    e = [log(p) - log(g) for p, g in zip(prediction, ground_truth, strict=True)]
    pairs = list(zip(prediction, ground_truth, strict=True))
    mean_e, mean_e2 = sum(e) / n, sum(x * x for x in e) / n
    return {
        "abs_rel": sum(abs(p - g) / g for p, g in pairs) / n,
        "sq_rel": sum((p - g) ** 2 / g for p, g in pairs) / n,
        "rmse": sqrt(sum((p - g) ** 2 for p, g in pairs) / n),
        "rmse_log": sqrt(mean_e2),
        "log10": sum(abs(x) / log(10) for x in e) / n,
        "silog": 100 * sqrt(mean_e2 - mean_e**2),
        "silog_half": sqrt(mean_e2 - 0.5 * mean_e**2),
        "delta1": sum(max(p / g, g / p) < 1.25 for p, g in pairs) / n,
        "delta2": sum(max(p / g, g / p) < 1.5625 for p, g in pairs) / n,
        "delta3": sum(max(p / g, g / p) < 1.953125 for p, g in pairs) / n,
    }


PIXEL = [name for name, metric in METRICS.items() if metric.of == "pixels"]


@pytest.mark.parametrize("name", PIXEL)
def test_pixel_metric_equals_loops(name):
    rng = np.random.default_rng(0)
    ground_truth = rng.uniform(0.5, 80, 400)
    prediction = ground_truth * np.exp(rng.normal(0.05, 0.3, 400))
    assert METRICS[name].compute(prediction, ground_truth) == pytest.approx(
        loops(prediction, ground_truth)[name], rel=1e-10
    )


def test_loops_cover_every_pixel_metric():
    assert set(loops(PRED, GT)) == set(PIXEL)


def test_worked_numbers():
    assert METRICS["silog"].compute(PRED, GT) == pytest.approx(9.4597068, abs=1e-6)
    assert METRICS["silog_half"].compute(PRED, GT) == pytest.approx(0.0967081, abs=1e-6)
    assert METRICS["abs_rel"].compute(PRED, GT) == pytest.approx(0.1)
    assert METRICS["sq_rel"].compute(PRED, GT) == pytest.approx((0.01 + 0.02 + 0.04) / 3)


def test_delta_bounds_are_strict():
    assert METRICS["delta1"].compute(np.array([1.25, 1.0]), np.array([1.0, 1.25])) == 0
    assert METRICS["delta1"].compute(np.array([1.2499]), np.array([1.0])) == 1


@pytest.mark.parametrize("name", PIXEL)
def test_direction_says_that_the_ground_truth_is_better_than_a_wrong_map(name):
    ground_truth = np.linspace(1, 10, 50)
    wrong = ground_truth[::-1] * 1.7
    metric = METRICS[name]
    right, poor = metric.compute(ground_truth, ground_truth), metric.compute(wrong, ground_truth)
    assert right < poor if metric.better == "lower" else right > poor


def test_silog_is_blind_to_a_common_factor():
    assert METRICS["silog"].compute(3 * GT, GT) == pytest.approx(0, abs=1e-6)


def test_ordinal_rules_of_da2k():
    near, far = np.array([5.0, 2.0, 3.0, 1.0]), np.array([1.0, 2.0, 4.0, 0.5])
    accuracy, ties = 0.5, 0.25
    assert ordinal(near, far) == accuracy
    assert ordinal(np.ones(4), np.ones(4)) == 0  # a constant map knows nothing
    assert ordinal(-near, -far) == 1 - accuracy - ties
    with pytest.raises(ValueError, match="as many closer"):
        ordinal(np.ones(0), np.ones(0))


def slow_boundary_f1(p, g, valid, step=1):
    """The published definition, one neighbour at a time; neighbours are `step` apart."""
    height, width = g.shape
    total = weight = 0.0
    for t in np.linspace(1.05, 1.25, 10):
        precision, recall = [], []
        for dy, dx in ((0, step), (0, -step), (step, 0), (-step, 0)):
            a = b = both = 0
            for y in range(height):
                for x in range(width):
                    y2, x2 = y + dy, x + dx
                    if not (0 <= y2 < height and 0 <= x2 < width) or not (valid[y, x] and valid[y2, x2]):
                        continue
                    in_p, in_g = p[y2, x2] / p[y, x] > t, g[y2, x2] / g[y, x] > t
                    a, b, both = a + in_p, b + in_g, both + (in_p and in_g)
            precision.append(both / max(a, 1))
            recall.append(both / max(b, 1))
        f_p, f_r = sum(precision) / 4, sum(recall) / 4
        total += t * (2 * f_p * f_r / (f_p + f_r) if f_p + f_r else 0)
        weight += t
    return total / weight


@pytest.mark.parametrize("step", [1, 3])
def test_boundary_f1_equals_loops(step):
    rng = np.random.default_rng(3)
    g = np.kron(rng.uniform(1, 2, (4, 5)), np.ones((3, 3)))
    p = g * np.exp(rng.normal(0, 0.1, g.shape))
    valid = rng.random(g.shape) < 0.9
    g[~valid] = np.nan  # unmeasured pixels are never read
    score = boundary_f1(p, g, valid, step)
    assert 0.1 < score < 1
    assert score == pytest.approx(slow_boundary_f1(p, g, valid, step), rel=1e-12)
    assert boundary_f1(7 * p, g, valid, step) == pytest.approx(score)
    assert boundary_f1(1 / p, 1 / g, valid, step) == pytest.approx(score)  # two disparities


def test_boundary_f1_of_a_perfect_a_flat_and_a_displaced_map():
    g = np.ones((12, 12))
    g[4:8, 4:8] = 2.0  # edges in all four directions, at every threshold
    assert boundary_f1(g, g) == pytest.approx(1)
    assert boundary_f1(np.ones_like(g), g) == 0
    assert boundary_f1(np.roll(g, 2, axis=(0, 1)), g) < 0.6
    with pytest.raises(ValueError, match="one size"):
        boundary_f1(g, g[:5])


@pytest.mark.parametrize("step", [1, 2, 4])
def test_boundary_f1_of_a_map_displaced_by_a_pixel_in_closed_form(step):
    """Of the `step` relations across a vertical outline all but one remain; of those across the block's other two
    outlines, all but one of its width."""
    g = np.ones((60, 60))
    g[20:40, 20:40] = 2.0
    displaced = np.roll(g, 1, axis=1)
    assert boundary_f1(displaced, g, step=step) == pytest.approx(((step - 1) / step + 19 / 20) / 2)


def test_coarse_boundary_f1_looks_a_120th_of_the_shorter_side_away():
    rng = np.random.default_rng(5)
    g = np.kron(rng.uniform(1, 2, (15, 20)), np.ones((24, 24)))  # 360 x 480
    p = np.roll(g, 1, axis=0)
    assert coarse_boundary_f1(p, g) == boundary_f1(p, g, step=3) > boundary_f1(p, g)
    assert coarse_boundary_f1(p[:100], g[:100]) == boundary_f1(p[:100], g[:100])


def test_flicker_of_known_clips():
    still = np.tile(np.linspace(0, 1, 101), (4, 3, 1))  # interquartile range 0.5
    assert flicker(still) == 0
    jumping = still + np.array([0, 0.1, 0, 0.1])[:, None, None]
    low, high = np.percentile(jumping, [25, 75])
    assert flicker(jumping) == pytest.approx(0.1 / (high - low))
    assert flicker(8 * jumping + 3) == pytest.approx(flicker(jumping))
    assert flicker(jumping, ground_truth_THW=jumping) == 0  # the scene itself moved
    only_first = np.zeros(still.shape, bool)
    only_first[0] = True
    with pytest.raises(ValueError, match="no pixel is valid in two"):
        flicker(still, valid_THW=only_first)
    with pytest.raises(ValueError, match="two frames"):
        flicker(still[:1])


def test_every_metric_names_its_source():
    assert all(metric.source and metric.label for metric in METRICS.values())
