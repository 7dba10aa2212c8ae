"""Losses against worked numbers, plain float64 loops, finite differences and their invariances."""

import ast
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depth_anything import losses

TRAIN = Path(losses.__file__).parent / "train"
LABELLED = {
    "affine_invariant": lambda *maps: losses.affine_invariant_pair(*maps)[0],
    "gradient_matching": lambda *maps: losses.affine_invariant_pair(*maps)[1],
    "range": lambda *maps: sum(losses.range_normalised_loss(*maps)),
}


def row(*values: float) -> torch.Tensor:
    """One image of one row, float64."""
    return torch.tensor(values, dtype=torch.float64)[None, None]


def everywhere(map_BHW: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(map_BHW, dtype=torch.bool)


def example(seed: int, size: tuple[int, int, int] = (3, 9, 11), invalid: float = 0.3):
    """Random prediction, truth and mask, float64."""
    generator = torch.Generator().manual_seed(seed)
    prediction, ground_truth = (torch.rand(size, generator=generator, dtype=torch.float64) for _ in range(2))
    return prediction, ground_truth, torch.rand(size, generator=generator) >= invalid


# -- plain loops in float64, written from the equations --


def loop_normalise(values: list[float]) -> list[float]:
    middle = sorted(values)[(len(values) - 1) // 2]
    spread = sum(abs(value - middle) for value in values) / len(values)
    return [(value - middle) / spread for value in values]


def loop_residual(prediction: np.ndarray, ground_truth: np.ndarray, valid: np.ndarray) -> np.ndarray:
    places = [(y, x) for y in range(valid.shape[0]) for x in range(valid.shape[1]) if valid[y, x]]
    p = loop_normalise([float(prediction[place]) for place in places])
    g = loop_normalise([float(ground_truth[place]) for place in places])
    residual = np.zeros(valid.shape)
    for place, a, b in zip(places, p, g, strict=True):
        residual[place] = a - b
    return residual


def loop_gradient(residual: np.ndarray, valid: np.ndarray) -> float:
    total = 0.0
    for stride in (1, 2, 4, 8):
        rows, columns = range(0, valid.shape[0], stride), range(0, valid.shape[1], stride)
        level, pixels = 0.0, 0
        for y in rows:
            for x in columns:
                pixels += bool(valid[y, x])
                for y2, x2 in ((y + stride, x), (y, x + stride)):
                    if y2 in rows and x2 in columns and valid[y, x] and valid[y2, x2]:
                        level += abs(residual[y2, x2] - residual[y, x])
        total += level / max(pixels, 1)
    return total


def loop_losses(prediction: np.ndarray, ground_truth: np.ndarray, valid: np.ndarray) -> dict[str, float]:
    """The losses of one image."""
    residual = loop_residual(prediction, ground_truth, valid)
    ordered = sorted(g := ground_truth[valid])
    low, high = (ordered[int((len(g) - 1) * part)] for part in (0.02, 0.98))
    free = np.where(valid, prediction - np.minimum((ground_truth - low) / (high - low), 2), 0)
    return {
        "affine_invariant": float(np.mean(abs(residual[valid]))),
        "gradient_matching": loop_gradient(residual, valid),
        "range": float(np.mean(abs(free[valid]))) + loop_gradient(free, valid),
    }


@pytest.mark.parametrize("name", LABELLED)
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_plain_loop(name, seed):
    prediction, ground_truth, valid = example(seed)
    expected = [
        loop_losses(p.numpy(), g.numpy(), m.numpy())[name]
        for p, g, m in zip(prediction, ground_truth, valid, strict=True)
    ]
    assert LABELLED[name](prediction, ground_truth, valid).item() == pytest.approx(np.mean(expected), rel=1e-10)


# -- worked numbers --


def test_median_and_deviation_of_the_worked_example():
    x, g = row(1, 2, 3, 4, 10), row(0.1, 0.2, 0.4, 0.5, 1)
    shift, scale = losses.shift_and_scale(x, everywhere(x))
    assert (shift.item(), scale.item()) == pytest.approx((3, 2.2))
    assert losses.normalised(x, everywhere(x)).flatten().tolist() == pytest.approx(
        [-0.909091, -0.454545, 0, 0.454545, 3.181818], abs=1e-6
    )
    assert losses.normalised(g, everywhere(g)).flatten().tolist() == pytest.approx(
        [-1.25, -0.833333, 0, 0.416667, 2.5], abs=1e-6
    )
    assert LABELLED["affine_invariant"](x, g, everywhere(x)).item() == pytest.approx(0.287879, abs=1e-6)


def test_the_median_leaves_invalid_pixels_out():
    x = row(0, 0, 0, 0, 5, 6, 7)
    assert losses.masked_median(x, x > 0).item() == 6


def test_gradient_matching_of_the_worked_example():
    residual = (torch.arange(16, dtype=torch.float64) / 10).reshape(1, 4, 4)
    assert losses.gradient_matching(residual, everywhere(residual)).item() == pytest.approx(0.875)


def test_gradient_matching_counts_outlines_as_often_as_asked():
    """Of the row's differences those from 1 to 2 and from 2 to the sky cross an outline; 2 and 2.1 are one surface."""
    truth = row(1, 2, 2.1, 2.1, 0)
    residual = row(0, 1, 3, 6, 10)  # differences of 1, 2, 3, 4; at stride 2: 3, 7; at stride 4: 10
    plain = losses.gradient_matching(residual, everywhere(residual)).item()
    assert plain == pytest.approx((1 + 2 + 3 + 4) / 5 + (3 + 7) / 3 + 10 / 2)
    weighted = losses.gradient_matching(residual, everywhere(residual), truth, 4.0).item()
    assert weighted == pytest.approx((4 * 1 + 2 + 3 + 4 * 4) / 5 + (4 * 3 + 4 * 7) / 3 + 4 * 10 / 2)
    down = losses.gradient_matching(*(x.transpose(1, 2) for x in (residual, everywhere(residual), truth)), 4.0).item()
    assert down == pytest.approx(weighted)
    assert losses.gradient_matching(residual, truth > 0, truth, 4.0).item() < weighted


@pytest.mark.parametrize("pair", [losses.affine_invariant_pair, losses.range_normalised_loss])
def test_outlines_change_gradient_matching_only(pair):
    prediction, truth, valid = example(2)
    (main, matching), (same, more) = pair(prediction, truth, valid), pair(prediction, truth, valid, 4.0)
    assert same == main and more > matching


def test_both_silogs_of_the_worked_example():
    depth, prediction = row(1, 2, 4), row(1.1, 1.8, 4.4)
    assert losses.silog_loss(prediction, depth, everywhere(depth)).item() == pytest.approx(0.0967081, rel=1e-5)
    assert losses.zoedepth_silog_loss(prediction, depth, everywhere(depth)).item() == pytest.approx(1.1637896, rel=1e-5)


def test_the_noisiest_tenth_of_each_image_is_left_out():
    prediction, ground_truth, valid = example(4, (2, 10, 10), invalid=0.2)
    kept = losses.without_noisiest(prediction, ground_truth, valid, 0.1)
    residual = losses.affine_invariant_residual(prediction, ground_truth, valid).abs()
    for image in range(2):
        dropped = valid[image] & ~kept[image]
        assert dropped.sum() == int(valid[image].sum() * 0.1) > 0
        assert residual[image][dropped].min() >= residual[image][kept[image]].max()
    assert not (kept & ~valid).any()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_nan_does_not_disappear_with_the_noisiest_tenth(value):
    """In the prediction, at the first pixel or in the middle; the other image is as before."""
    _, ground_truth, valid = example(4, (2, 10, 10), invalid=0.2)
    nowhere = torch.zeros_like(valid)
    for place in ((0, 0), (5, 5)):
        prediction = example(5, (2, 10, 10))[0]
        calm = losses.without_noisiest(prediction, ground_truth, valid, 0.1)
        valid[0][place] = True
        prediction[0][place] = value
        kept = losses.without_noisiest(prediction, ground_truth, valid, 0.1)
        assert torch.equal(kept[0], valid[0]) and torch.equal(kept[1], calm[1])
        pair = losses.cutmix_pair(prediction, ground_truth, ground_truth, nowhere, valid, valid, 0.1)
        assert not any(torch.isfinite(one) for one in pair)
        residual = losses.range_normalised_residual(prediction, ground_truth, valid)
        assert not losses.largest_residuals(residual, valid, 0.1)[0].any()


# -- CutMix and feature alignment --


def test_cutmix_without_a_box_is_the_plain_loss():
    prediction, b, valid = example(7)
    nowhere = torch.zeros_like(valid)
    mixed = losses.cutmix_pair(prediction, torch.rand_like(b), b, nowhere, valid, valid)
    for found, plain in zip(mixed, losses.affine_invariant_pair(prediction, b, valid), strict=True):
        assert found.item() == pytest.approx(plain.item())


@pytest.mark.parametrize("noisiest", [0.0, 0.1])
def test_without_boxes_one_region_gives_the_same_losses_and_gradients(noisiest):
    prediction, b, valid = example(7)
    found = []
    for box in (None, torch.zeros_like(valid)):
        leaf = prediction.clone().requires_grad_()
        pair = losses.cutmix_pair(leaf, torch.rand_like(b), b, box, valid, valid, noisiest)
        (pair[0] + 2 * pair[1]).backward()
        found.append((*pair, leaf.grad))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_the_noisiest_of_equal_residuals_are_the_first_ones():
    residual, valid = torch.ones(2, 4, 5), torch.ones(2, 4, 5, dtype=torch.bool)
    residual[1, 3, 4] = 2
    dropped = losses.largest_residuals(residual, valid, 0.1).flatten(1)
    assert [one.nonzero().flatten().tolist() for one in dropped] == [[0, 1], [0, 19]]


def cutmix_example(seed: int, noisiest: float = 0.0):
    """A prediction, both teachers' maps and masks, boxes; and the pair of losses."""
    prediction, a, valid_a = example(seed, (2, 8, 10))
    _, b, valid_b = example(seed + 100, (2, 8, 10))
    box = torch.zeros(2, 8, 10, dtype=torch.bool)
    box[0, 1:6, 2:9] = box[1, :5, :6] = True
    return (
        prediction,
        (a, b, box, valid_a, valid_b),
        lambda p: losses.cutmix_pair(p, a, b, box, valid_a, valid_b, noisiest),
    )


@pytest.mark.parametrize("noisiest", [0.0, 0.1])
@pytest.mark.parametrize("seed", [0, 1])
def test_cutmix_pair_equals_the_plain_loop(seed, noisiest):
    """Region by region: residuals over its own pixels, the noisiest tenth away, gradients inside, area as weight."""
    prediction, (a, b, box, valid_a, valid_b), pair = cutmix_example(seed, noisiest)
    pixel, matching = [], []
    for i in range(2):
        sums = [0.0, 0.0]
        for ground_truth, region, valid in ((a, box, valid_a), (b, ~box, valid_b)):
            inside = (region & valid)[i].numpy()
            maps = (prediction[i].numpy(), ground_truth[i].numpy())
            if noisiest:
                size = np.where(inside, abs(loop_residual(*maps, inside)), -1).ravel()
                inside.ravel()[np.argsort(-size)[: int(inside.sum() * noisiest)]] = False
            residual = loop_residual(*maps, inside)
            share = region[i].double().mean().item()
            sums[0] += share * float(np.mean(abs(residual[inside])))
            sums[1] += share * loop_gradient(residual, inside)
        pixel.append(sums[0])
        matching.append(sums[1])
    found = pair(prediction)
    assert found[0].item() == pytest.approx(np.mean(pixel), rel=1e-6)
    assert found[1].item() == pytest.approx(np.mean(matching), rel=1e-6)


def test_cutmix_gradients_equal_finite_differences():
    prediction, _, pair = cutmix_example(3)
    prediction.requires_grad_()
    for part in (0, 1):
        assert torch.autograd.gradcheck(lambda p, part=part: pair(p)[part], (prediction,), eps=1e-7, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(top=st.integers(0, 5), left=st.integers(0, 7), height=st.integers(1, 8), width=st.integers(1, 10))
def test_cutmix_weights_sum_to_one_and_each_region_has_its_own_scale_and_shift(top, left, height, width):
    prediction, a, valid = example(31, (1, 8, 10), invalid=0.1)
    box = torch.zeros(1, 8, 10, dtype=torch.bool)
    box[0, top : top + height, left : left + width] = True
    same = losses.cutmix_pair(a * 3 + 2, a, a, box, valid, valid)
    assert same[0].item() == pytest.approx(0, abs=1e-9) and same[1].item() == pytest.approx(0, abs=1e-9)
    other = torch.where(box, prediction * 5 + 7, prediction * 0.1 - 3)  # regions drift apart: nothing changes
    before = losses.cutmix_pair(prediction, a, a, box, valid, valid)[0].item()
    assert losses.cutmix_pair(other, a, a, box, valid, valid)[0].item() == pytest.approx(before, rel=1e-6, abs=1e-9)
    nothing = torch.zeros_like(valid)
    weights = []
    for region, masks in ((box, (valid, nothing)), (~box, (nothing, valid))):
        alone = LABELLED["affine_invariant"](prediction, a, region & valid).item()
        if alone > 0:
            weights.append(losses.cutmix_pair(prediction, a, a, box, *masks)[0].item() / alone)
    assert len(weights) < 2 or sum(weights) == pytest.approx(1)


def test_feature_alignment_equals_the_plain_loop_and_finite_differences():
    generator = torch.Generator().manual_seed(10)
    frozen = torch.rand(2, 6, 5, generator=generator)
    student = frozen + torch.rand(2, 6, 5, generator=generator) * torch.linspace(0, 3, 6)[None, :, None]
    kept: list[list[float]] = [[], []]
    for image, tokens in enumerate(zip(student.double().tolist(), frozen.double().tolist(), strict=True)):
        for f, g in zip(*tokens, strict=True):
            dot = sum(x * y for x, y in zip(f, g, strict=True))
            cosine = dot / math.sqrt(sum(x * x for x in f)) / math.sqrt(sum(y * y for y in g))
            if cosine <= 0.85:
                kept[image].append(1 - cosine)
    loss, share = losses.feature_alignment_loss(student, frozen, 0.85)
    counts = [len(one) for one in kept]
    assert 0 < min(counts) < max(counts) < 6, "to tell the mean within images from that over all tokens"
    assert share.item() == pytest.approx(sum(counts) / 12)
    assert loss.item() == pytest.approx(sum(sum(one) / len(one) for one in kept) / 2, rel=1e-5)
    moved = student.clone().requires_grad_()
    losses.feature_alignment_loss(moved, frozen, 0.85)[0].backward()
    assert moved.grad is not None
    for place in ((0, 5, 1), (1, 4, 3)):
        up, down = student.clone(), student.clone()
        up[place] += 1e-2
        down[place] -= 1e-2
        slope = (
            losses.feature_alignment_loss(up, frozen, 0.85)[0] - losses.feature_alignment_loss(down, frozen, 0.85)[0]
        ) / 2e-2
        assert moved.grad[place].item() == pytest.approx(slope.item(), rel=0.02, abs=1e-4)


def test_feature_alignment_leaves_close_tokens_out():
    frozen = torch.eye(4)[None]
    student = torch.tensor([[[1.0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]]], requires_grad=True)
    loss, share = losses.feature_alignment_loss(student, frozen, 0.85)
    assert loss.item() == pytest.approx(((1 - math.sqrt(0.5)) + 1) / 2)  # tokens 1 and 2; 0 and 3 are above the margin
    assert share.item() == 0.5
    loss.backward()
    assert student.grad is not None
    assert (student.grad[0, [0, 3]] == 0).all() and (student.grad[0, 1] != 0).any()


def test_feature_alignment_of_equal_tokens_is_zero_with_a_live_graph():
    student = torch.rand(2, 5, 8, requires_grad=True)
    loss, share = losses.feature_alignment_loss(student, student.detach(), 0.85)
    loss.backward()
    assert loss.item() == 0 and share.item() == 0
    assert student.grad is not None and (student.grad == 0).all()


# -- gradients --


@pytest.mark.parametrize("name", LABELLED)
def test_gradients_equal_finite_differences(name):
    prediction, ground_truth, valid = example(11, (2, 5, 6))
    prediction.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p: LABELLED[name](p, ground_truth, valid), (prediction,), eps=1e-7, atol=1e-5
    )


@pytest.mark.parametrize("loss", [losses.silog_loss, losses.zoedepth_silog_loss])
def test_silog_gradients_equal_finite_differences(loss):
    prediction, depth, valid = example(12, (2, 4, 5))
    prediction.requires_grad_()
    assert torch.autograd.gradcheck(lambda p: loss(p + 0.5, depth + 0.5, valid), (prediction,), eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("name", LABELLED)
def test_invalid_pixels_carry_nothing_even_where_they_are_nan(name):
    prediction, ground_truth, valid = example(13)
    spoiled = prediction.masked_fill(~valid, torch.nan).requires_grad_()
    loss = LABELLED[name](spoiled, ground_truth.masked_fill(~valid, torch.inf), valid)
    assert loss.item() == pytest.approx(LABELLED[name](prediction, ground_truth, valid).item())
    loss.backward()
    assert spoiled.grad is not None
    assert (spoiled.grad[~valid] == 0).all() and torch.isfinite(spoiled.grad).all() and (spoiled.grad != 0).any()


@pytest.mark.parametrize("name", LABELLED)
@pytest.mark.parametrize("case", ["empty", "constant truth", "all sky"])
def test_maps_that_say_nothing_give_zero_and_a_live_graph(name, case):
    prediction = torch.rand(2, 6, 6, requires_grad=True)
    ground_truth = torch.zeros(2, 6, 6) if case == "all sky" else torch.full((2, 6, 6), 0.7)
    valid = torch.full((2, 6, 6), case != "empty")
    loss = LABELLED[name](prediction, ground_truth, valid)
    assert loss.item() == 0
    loss.backward()
    assert prediction.grad is not None and (prediction.grad == 0).all()


@pytest.mark.parametrize("name", LABELLED)
def test_an_empty_image_does_not_dilute_the_others(name):
    prediction, ground_truth, valid = example(14, (2, 7, 7))
    valid[1] = False
    alone = LABELLED[name](prediction[:1], ground_truth[:1], valid[:1])
    assert LABELLED[name](prediction, ground_truth, valid).item() == pytest.approx(alone.item())


def test_a_dead_prediction_gives_finite_gradients():
    prediction = torch.zeros(1, 6, 6, requires_grad=True)
    LABELLED["affine_invariant"](prediction, torch.rand(1, 6, 6), torch.ones(1, 6, 6, dtype=torch.bool)).backward()
    assert prediction.grad is not None and torch.isfinite(prediction.grad).all()


def gradient_of(prediction: torch.Tensor, ground_truth: torch.Tensor) -> torch.Tensor:
    """Of L_ssi + 2 L_gm."""
    leaf = prediction.clone().requires_grad_()
    pixel, matching = losses.affine_invariant_pair(leaf, ground_truth, everywhere(ground_truth))
    (pixel + 2 * matching).backward()
    assert leaf.grad is not None
    return leaf.grad


def test_a_constant_prediction_does_not_decide_a_step():
    """Its gradient is at most that of a random network's maps times six; theirs (a spread of 4e-3) is as it is."""
    generator = torch.Generator().manual_seed(0)
    ground_truth, shape = (torch.rand(1, 56, 56, generator=generator) for _ in range(2))
    random = 0.5 + 0.016 * shape
    assert losses.shift_and_scale(random, everywhere(random))[1].item() == pytest.approx(4e-3, rel=0.05)
    ordinary = gradient_of(random, ground_truth).abs().sum()
    for flat in (torch.full_like(ground_truth, 0.5), 0.5 + 1e-7 * shape, torch.zeros_like(ground_truth)):
        assert 0 < gradient_of(flat, ground_truth).abs().sum() < 6 * ordinary


@pytest.mark.parametrize("spread", [0.016, 1.0, 100.0])
def test_gradients_of_ordinary_maps_are_those_of_equation_3(spread, monkeypatch):
    """To the bit: the bound on constant maps does not touch them."""
    prediction, ground_truth, _ = example(16, (2, 20, 20))
    bounded = gradient_of(spread * prediction, ground_truth)
    monkeypatch.setattr(losses, "SMALLEST_PREDICTED_SPREAD", 1e-6)
    assert torch.equal(gradient_of(spread * prediction, ground_truth), bounded)


@pytest.mark.parametrize("loss", [losses.silog_loss, losses.zoedepth_silog_loss])
def test_silog_of_a_prediction_of_zero_is_finite(loss):
    """A sigmoid underflows to it."""
    depth = torch.rand(1, 6, 6) + 0.5
    for prediction in (torch.zeros(1, 6, 6), torch.eye(6)[None]):
        leaf = prediction.clone().requires_grad_()
        found = loss(leaf, depth, everywhere(depth))
        found.backward()
        assert leaf.grad is not None
        assert torch.isfinite(found) and found > 1 and torch.isfinite(leaf.grad).all()


@pytest.mark.parametrize("size", [1e20, 1e30])
def test_huge_maps_have_finite_losses(size):
    prediction, ground_truth, valid = (one if one.dtype == torch.bool else one.float() for one in example(17))
    for maps in (
        (size * prediction, ground_truth),
        (prediction, size * ground_truth),
        (size * prediction, size * ground_truth),
    ):
        pair = losses.affine_invariant_pair(*maps, valid)
        calm = losses.affine_invariant_pair(prediction, ground_truth, valid)
        for found, expected in zip(pair, calm, strict=True):
            assert found.item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("name", LABELLED)
def test_losses_are_float32_inside_autocast(name):
    prediction, ground_truth, valid = example(15)
    with torch.autocast("cpu", torch.bfloat16):
        loss = LABELLED[name](prediction.bfloat16(), ground_truth.float(), valid)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(
        LABELLED[name](prediction.bfloat16().double(), ground_truth, valid).item(), rel=1e-5
    )


# -- invariances --


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(["affine_invariant", "gradient_matching"]),
    factors=st.tuples(st.floats(0.01, 100), st.floats(0.01, 100)),
    offsets=st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
)
def test_scale_and_shift_of_either_side_change_nothing(name, factors, offsets):
    prediction, ground_truth, valid = example(21)
    before = LABELLED[name](prediction, ground_truth, valid).item()
    after = LABELLED[name](prediction * factors[0] + offsets[0], ground_truth * factors[1] + offsets[1], valid).item()
    assert after == pytest.approx(before, rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(factor=st.floats(0.01, 100), offset=st.floats(-50, 50))
def test_the_range_loss_does_not_see_the_scale_and_shift_of_the_ground_truth(factor, offset):
    prediction, ground_truth, valid = example(22)
    assert LABELLED["range"](prediction, ground_truth * factor + offset, valid).item() == pytest.approx(
        LABELLED["range"](prediction, ground_truth, valid).item(), rel=1e-6
    )


# -- what training runs --


def names_in(node: ast.AST) -> set[str]:
    """Every name that the code below a node reads."""
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def test_training_runs_every_function_of_the_module():
    """From what the code below train/ takes from `losses`, call by call: nothing is here for tests alone."""
    functions = {node.name: node for node in ast.parse(Path(losses.__file__).read_text()).body if hasattr(node, "args")}
    reached, next_ones = set(), {
        node.attr
        for path in TRAIN.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "losses"
    }  # fmt: skip
    while next_ones := next_ones & set(functions) - reached:
        reached |= next_ones
        next_ones = set().union(*(names_in(functions[name]) for name in next_ones))
    assert reached == set(functions), f"only tests call {', '.join(sorted(set(functions) - reached))}"
