"""One image under every protocol: affine maps score 0 and 1, known errors give known metrics, the traps are sprung."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from depth_anything.data.benchmarks.image import GroundTruth
from depth_anything.evaluate.crops import crop_mask
from depth_anything.evaluate.protocol import PROTOCOLS, Cut, Protocol, get_protocol
from depth_anything.evaluate.score import TooFewPixels, align, score, scored_pixels

PLAIN = Protocol(name="plain", default_cut=Cut(), source="test")
SHAPE = (375, 1242)  # large enough for every crop


def metric_ground_truth(seed=0, low=1.0, high=9.0, shape=SHAPE):
    rng = np.random.default_rng(seed)
    depth_m = np.broadcast_to(np.linspace(low, high, shape[1]), shape) + rng.uniform(0, 0.5, shape)
    return GroundTruth(depth_m, rng.random(shape) < 0.7, "metric_depth")


def run(map_HW, quantity, ground_truth, protocol, cut=None):
    aligned = align(map_HW, quantity, ground_truth, protocol, cut or Cut())
    return score(aligned, protocol.metrics)


def lost_to_the_floor(protocol, ground_truth):
    """The first-percentile floor cuts the farthest hundredth even off a perfect map: that much and no more."""
    if protocol.floor != "first_percentile":
        return 0
    z = ground_truth.values_HW[ground_truth.valid_HW]
    return np.mean(np.maximum(z - 1 / np.percentile(1 / z, 1), 0) / z)


CASES = [(p, s) for p in PROTOCOLS.values() for s in (list(p.cuts) or ["any"])]


@pytest.mark.parametrize(("protocol", "set_name"), CASES, ids=[f"{p.name}-{s}" for p, s in CASES])
def test_an_affine_map_of_the_ground_truth_is_perfect_under_every_protocol(protocol, set_name):
    cut = protocol.cut(set_name)
    ground_truth = metric_ground_truth(low=0.5 + cut.nearest_m, high=7.0)
    if protocol.align == "none":
        map_HW, quantity = ground_truth.values_HW.copy(), "depth_m"
    else:
        map_HW, quantity = 12 / ground_truth.values_HW + 3, "disparity"
    result = run(map_HW, quantity, ground_truth, protocol, cut)
    assert result["abs_rel"] == pytest.approx(lost_to_the_floor(protocol, ground_truth), abs=1e-9)
    assert result["delta1"] == 1
    if protocol.align != "none":
        upside_down = (
            align(5 - map_HW, quantity, ground_truth, protocol, cut) if not protocol.fit_positive_only else None
        )
        assert upside_down is None or upside_down.scale < 0  # least squares turns it round; the sign tells


@pytest.mark.parametrize("name", ["da-relative", "midas", "pairs", "moge", "marigold"])
def test_metres_of_a_metric_model_are_inverted_before_a_disparity_fit(name):
    protocol = get_protocol(name)
    cut = protocol.cuts.get("nyuv2", Cut())
    ground_truth = metric_ground_truth()
    result = run(2.5 * ground_truth.values_HW, "depth_m", ground_truth, protocol, cut)
    assert result["abs_rel"] == pytest.approx(lost_to_the_floor(protocol, ground_truth), abs=1e-9)


def test_known_error_gives_the_known_metric():
    ground_truth = metric_ground_truth()
    metric = get_protocol("zoedepth-metric")
    result = run(1.1 * ground_truth.values_HW, "depth_m", ground_truth, metric, Cut(nearest_m=1e-3, farthest_m=80))
    assert result["abs_rel"] == pytest.approx(0.1)
    assert result["rmse_log"] == pytest.approx(np.log(1.1))
    assert result["silog"] == pytest.approx(0, abs=1e-4)
    assert run(1.3 * ground_truth.values_HW, "depth_m", ground_truth, metric, Cut(farthest_m=80))["delta1"] == 0


@pytest.mark.parametrize(("how", "expected"), [("median", 1.0), ("scale", None)])
def test_scale_alignments(how, expected):
    ground_truth = GroundTruth(np.array([[1.0, 2.0, 3.0, 4.0, 6.0] * 4]), np.ones((1, 20), bool), "metric_depth")
    map_HW = ground_truth.values_HW + np.array([[1.0, 0.0, 0.0, 0.0, 0.0] * 4])
    result = align(map_HW, "depth_m", ground_truth, replace(PLAIN, align=how, space="depth"), Cut())
    least_squares = np.sum(map_HW * ground_truth.values_HW) / np.sum(map_HW**2)
    assert result.scale == pytest.approx(expected or least_squares)
    assert result.shift == 0


def plain_numpy(map_HW, ground_truth, mask, floor, cap):
    """Disparity least squares, floor, invert, measure: the public formulas of MiDaS and MoGe, written out."""
    p, z = map_HW[mask].astype(np.float64), ground_truth[mask].astype(np.float64)
    matrix = np.array([[np.sum(p * p), np.sum(p)], [np.sum(p), len(p)]])
    s, t = np.linalg.solve(matrix, np.array([np.sum(p / z), np.sum(1 / z)]))
    depth = np.minimum(1 / np.maximum(s * p + t, floor(z)), cap)
    ratio = np.maximum(depth / z, z / depth)
    return np.mean(np.abs(depth - z) / z), np.mean(ratio < 1.25)


@pytest.mark.parametrize(
    ("name", "floor"),
    [
        ("midas", lambda z: 1 / 10),
        ("moge", lambda z: 1 / z.max()),
        ("pairs", lambda z: np.percentile(1 / z, 1)),
    ],
)
def test_noisy_map_against_plain_numpy(name, floor):
    rng = np.random.default_rng(5)
    ground_truth = metric_ground_truth()
    map_HW = (4 / ground_truth.values_HW + rng.normal(0, 0.5, SHAPE)).astype(np.float32)
    protocol = get_protocol(name)
    result = run(map_HW, "disparity", ground_truth, protocol, protocol.cuts.get("nyuv2", Cut()))
    mask = ground_truth.valid_HW & (ground_truth.values_HW < (10 if name == "midas" else np.inf))
    abs_rel, delta1 = plain_numpy(map_HW, ground_truth.values_HW, mask, floor, np.inf)
    assert result["abs_rel"] == pytest.approx(abs_rel, rel=1e-9)
    assert result["delta1"] == pytest.approx(delta1, rel=1e-9)


def test_marigold_fits_where_the_prediction_is_positive_and_clips_twice():
    ground_truth = GroundTruth(np.linspace(1, 9, 400).reshape(20, 20), np.ones((20, 20), bool), "metric_depth")
    map_HW = 1 / ground_truth.values_HW - 0.15  # the far part is negative
    protocol, cut = get_protocol("marigold"), Cut(nearest_m=1e-3, farthest_m=10)
    z = ground_truth.values_HW.ravel()
    p = map_HW.ravel() + 0.02 * np.sin(np.arange(400))
    fitted = p > 0
    assert 0 < fitted.sum() < 400
    (s, t), *_ = np.linalg.lstsq(np.stack([p[fitted], np.ones(fitted.sum())], 1), 1 / z[fitted], rcond=None)
    depth = np.clip(1 / np.maximum(s * p + t, 1e-3), 1e-3, 10)
    result = run(p.reshape(20, 20), "disparity", ground_truth, protocol, cut)
    assert result["abs_rel"] == pytest.approx(np.mean(np.abs(depth - z) / z))


def test_without_a_floor_one_pixel_ruins_the_mean_and_with_it_does_not():
    ground_truth = GroundTruth(np.linspace(1, 60, 1000).reshape(20, 50), np.ones((20, 50), bool), "metric_depth")
    map_HW = 1 / ground_truth.values_HW
    map_HW[-1, -1] -= 0.03  # a slight error far away: aligned disparity falls below 0
    bare = run(map_HW, "disparity", ground_truth, PLAIN)
    floored = run(map_HW, "disparity", ground_truth, get_protocol("pairs"))
    assert bare["abs_rel"] > 1e6
    assert floored["abs_rel"] < 0.02


def test_measuring_in_disparity():
    ground_truth = metric_ground_truth()
    protocol = get_protocol("da-relative-disparity")
    cut = Cut(nearest_m=1e-3, farthest_m=80)
    rng = np.random.default_rng(1)
    map_HW = 1 / ground_truth.values_HW + rng.normal(0, 0.02, SHAPE)
    aligned = align(map_HW, "disparity", ground_truth, protocol, cut)
    d = 1 / ground_truth.values_HW[ground_truth.valid_HW]
    fitted = np.maximum(aligned.scale * map_HW[ground_truth.valid_HW] + aligned.shift, 1 / 80)
    assert score(aligned, ("abs_rel",))["abs_rel"] == pytest.approx(np.mean(np.abs(fitted - d) / d))


def test_ground_truth_of_kind_disparity_is_measured_as_disparity():
    disparity = np.linspace(0.2, 3, 300).reshape(15, 20)
    ground_truth = GroundTruth(disparity, np.ones((15, 20), bool), "disparity")
    aligned = align(7 * disparity - 2, "disparity", ground_truth, get_protocol("pairs"), Cut())
    assert aligned.measure == "disparity"
    low = np.percentile(disparity, 1)  # the floor cuts the farthest hundredth even off a perfect map
    assert np.allclose(aligned.prediction_HW, np.maximum(disparity, low))


@given(scale=st.floats(0.01, 100), shift=st.floats(-50, 50))
def test_no_affine_change_of_the_map_changes_a_number(scale, shift):
    rng = np.random.default_rng(7)
    ground_truth = GroundTruth(rng.uniform(1, 9, (12, 16)), rng.random((12, 16)) < 0.8, "relative_depth")
    map_HW = rng.random((12, 16))
    expected = run(map_HW, "disparity", ground_truth, get_protocol("pairs"))
    assert run(scale * map_HW + shift, "disparity", ground_truth, get_protocol("pairs")) == pytest.approx(
        expected, rel=1e-6
    )


def test_the_prediction_is_resized_to_the_ground_truth_never_the_reverse():
    ground_truth = metric_ground_truth(shape=(40, 60))
    aligned = align(np.ones((7, 11)), "disparity", ground_truth, get_protocol("pairs"), Cut())
    assert aligned.prediction_HW.shape == (40, 60)
    assert (
        aligned.ground_truth_HW[ground_truth.valid_HW].tolist()
        == ground_truth.values_HW[ground_truth.valid_HW].tolist()
    )


def test_broken_ground_truth_values_never_count():
    values = np.full((10, 10), 5.0)
    values[0, :5] = [np.nan, np.inf, 0.0, -3.0, 655.35]
    ground_truth = GroundTruth(values, np.ones((10, 10), bool), "metric_depth")
    for protocol in (PLAIN, replace(PLAIN, closed=True)):  # a closed range from 0 has no 0 either
        mask = scored_pixels(ground_truth, protocol, Cut(farthest_m=80))
        assert mask.sum() == 95
        assert not mask[0, :5].any()


def test_open_and_closed_ends():
    ground_truth = GroundTruth(np.array([[1.0, 2.0, 80.0] * 10]), np.ones((1, 30), bool), "metric_depth")
    cut = Cut(nearest_m=1.0, farthest_m=80.0)
    assert scored_pixels(ground_truth, PLAIN, cut).sum() == 10
    assert scored_pixels(ground_truth, replace(PLAIN, closed=True), cut).sum() == 30


def test_moge_leaves_out_ground_truth_a_thousand_times_beyond_the_near_end():
    values = np.full((10, 100), 2.0)
    values[0, 0], values[0, 1] = 1999.0, 2001.0
    ground_truth = GroundTruth(values, np.ones((10, 100), bool), "metric_depth")
    mask = scored_pixels(ground_truth, get_protocol("moge"), Cut())
    assert mask[0, 0]
    assert not mask[0, 1]


def test_moge_measures_from_the_near_end():
    """A thousand times the first percentile, however far the rest is."""
    values = np.linspace(500, 900, 1000).reshape(10, 100)
    values[0, :50], values[9, 98:] = 2.0, [1999.0, 2001.0]
    mask = scored_pixels(GroundTruth(values, np.ones((10, 100), bool), "metric_depth"), get_protocol("moge"), Cut())
    assert mask.sum() == 999 and not mask[9, 99]


@pytest.mark.parametrize("align_corners", [False, True])
def test_the_protocol_chooses_the_resize(align_corners):
    ground_truth, map_HW = metric_ground_truth(shape=(12, 20)), np.random.default_rng(0).uniform(1, 9, (6, 5))
    protocol = replace(PLAIN, align="none", space="depth", align_corners=align_corners)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(map_HW)[None, None], (12, 20), mode="bilinear", align_corners=align_corners
    )
    found = align(map_HW, "depth_m", ground_truth, protocol, Cut()).prediction_HW
    np.testing.assert_allclose(found, expected[0, 0].numpy())


def test_depth_is_clipped_to_the_cut():
    ground_truth = metric_ground_truth(shape=(12, 20))
    map_HW = np.where(np.arange(20) < 10, 200.0, 1e-5) * np.ones((12, 1))
    found = align(map_HW, "depth_m", ground_truth, get_protocol("zoedepth-metric"), Cut(nearest_m=1e-3, farthest_m=80))
    assert set(np.unique(found.prediction_HW)) == {1e-3, 80.0}


def test_crops_in_closed_form():
    # Garg and Eigen on KITTI's usual 375 x 1242, from the published fractions
    garg, eigen = crop_mask(375, 1242, "garg"), crop_mask(375, 1242, "eigen")
    assert garg[153:371, 44:1197].all()
    assert garg.sum() == (371 - 153) * (1197 - 44)
    assert eigen.sum() == (342 - 124) * (1197 - 44)
    assert eigen[124, 44]
    kb = crop_mask(375, 1242, "kb")
    assert kb[23:, 13:1229].all()
    assert kb.sum() == 352 * 1216
    inside = crop_mask(375, 1242, "kb+garg")
    assert inside[23 + 143, 13 + 43]
    assert not inside[23 + 142, 13 + 43]
    assert inside.sum() == crop_mask(352, 1216, "garg").sum() != (garg & kb).sum()
    nyu = crop_mask(480, 640, "eigen_rectangle")
    assert nyu.sum() == (471 - 45) * (601 - 41)
    assert crop_mask(768, 1024, "eigen_rectangle").sum() == nyu.sum()  # the released code's trap, kept
    assert crop_mask(5, 7, "none").all()
    with pytest.raises(ValueError, match="only 351 x 1226"):
        crop_mask(351, 1226, "kb")


@pytest.mark.parametrize(
    ("map_HW", "quantity", "protocol", "message"),
    [
        (np.full(SHAPE, np.nan), "disparity", "pairs", "NaN or infinite"),
        (np.zeros(SHAPE), "depth_m", "pairs", "not positive"),
        (np.ones(SHAPE), "disparity", "zoedepth-metric", "needs a metric model"),
        (np.ones((4, 4, 3)), "disparity", "pairs", "expected a map"),
    ],
)
def test_maps_that_cannot_be_scored(map_HW, quantity, protocol, message):
    with pytest.raises(ValueError, match=message):
        align(map_HW, quantity, metric_ground_truth(), get_protocol(protocol), Cut())


def test_what_has_no_metres_is_not_cut_in_metres():
    ground_truth = replace(metric_ground_truth(), kind="relative_depth")
    with pytest.raises(ValueError, match="cuts at metres, this truth is relative_depth"):
        align(np.ones(SHAPE), "disparity", ground_truth, get_protocol("midas"), get_protocol("midas").cut("nyuv2"))


def test_depth_protocols_refuse_disparity():
    with pytest.raises(ValueError, match="use a disparity protocol"):
        align(np.ones(SHAPE), "disparity", metric_ground_truth(), replace(PLAIN, space="depth"), Cut())


def test_under_ten_pixels_is_an_error_of_its_own():
    ground_truth = GroundTruth(np.ones((10, 10)), np.eye(10, dtype=bool) & (np.arange(10) < 9), "metric_depth")
    with pytest.raises(TooFewPixels, match="only 9 pixels"):
        align(np.ones((10, 10)), "disparity", ground_truth, get_protocol("pairs"), Cut())
