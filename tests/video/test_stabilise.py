"""The steady maps: closed-form clips whose truth is known."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from depth_anything.evaluate.align import fit_scale_shift
from depth_anything.video import stabilise
from depth_anything.video.stabilise import Stabiliser, fair_fit, find_again

cv2 = pytest.importorskip("cv2")
EXAMPLES = Path(__file__).parents[2] / "examples"
HEIGHT, WIDTH = 120, 160


def photograph(name: str = "kodak_08", shift: float = 0) -> np.ndarray:
    photo = Image.open(EXAMPLES / f"{name}.jpg").convert("RGB")
    moved = (2, 0, 2 * shift, 0, 2, 0)
    return np.asarray(
        photo.transform((WIDTH, HEIGHT), Image.Transform.AFFINE, moved, Image.Resampling.BILINEAR), np.uint8
    )


def ground_truth(shift: float = 0) -> np.ndarray:
    """A disparity that is fixed to the photograph: seen `shift` pixels further to the right."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    return (rows / HEIGHT + 0.3 * np.sin((columns + shift) / 9)).astype(np.float32)


def test_motion_is_found():
    grey = stabilise.small_grey
    position_hw2, found_hw = find_again(grey(photograph()), grey(photograph(shift=3)))
    moved = position_hw2[..., 0] - np.arange(WIDTH)
    assert np.median(moved) == pytest.approx(3, abs=0.1) and found_hw.mean() > 0.8


def test_scale_and_shift_of_every_frame_are_undone():
    """Each frame comes in another scale and shift; on a still image the answers are one map."""
    rng = np.random.default_rng(0)
    still, answers = photograph(), []
    make_steady = Stabiliser()
    for _ in range(12):
        scale, shift = rng.uniform(0.7, 1.4), rng.uniform(-0.3, 0.3)
        answers.append(make_steady(still, (scale * ground_truth() + shift).astype(np.float32)).values_HW)
    spread = np.ptp(answers[0])
    assert np.abs(np.diff(answers, axis=0)).max() < 0.02 * spread  # what leaning back to the model's own scale moves
    for answer in answers:
        scale, shift = fit_scale_shift(answer, ground_truth())
        assert np.abs(scale * answer + shift - ground_truth()).max() < 0.01 * np.ptp(ground_truth())


def test_noise_is_averaged_along_the_motion():
    rng = np.random.default_rng(1)
    make_steady, raw_changes, changes, last = Stabiliser(), [], [], None
    for index in range(24):
        shift = 2.0 * index
        noise = cv2.resize(rng.normal(0, 0.1, (9, 12)).astype(np.float32), (WIDTH, HEIGHT))
        raw = ground_truth(shift) + noise
        answer = make_steady(photograph(shift=shift), raw).values_HW
        if last is not None:
            at_last = np.s_[10:-10, 12:-10], np.s_[10:-10, 10:-12]  # 2 pixels to the left, away from the borders
            raw_changes.append(np.abs(raw[at_last[1]] - last[0][at_last[0]]).mean())
            changes.append(np.abs(answer[at_last[1]] - last[1][at_last[0]]).mean())
        last = raw, answer
    assert np.mean(raw_changes) > 3 * np.mean(changes)
    assert np.abs(last[1] - ground_truth(shift))[10:-10, 10:-10].mean() < 0.08


def test_range_does_not_shrink_over_a_long_clip():
    """Fitting noise to noise loses a little scale each time; 300 frames must not show it."""
    rng = np.random.default_rng(2)
    still, make_steady, spans = photograph(), Stabiliser(), []
    for _ in range(300):
        noise = cv2.resize(rng.normal(0, 0.15, (9, 12)).astype(np.float32), (WIDTH, HEIGHT))
        answer = make_steady(still, ground_truth() + noise).values_HW
        spans.append(fit_scale_shift(ground_truth(), answer)[0])
    assert np.mean(spans[-50:]) == pytest.approx(np.mean(spans[10:60]), rel=0.03)
    assert np.mean(spans[-50:]) == pytest.approx(1, rel=0.1)


def test_real_change_comes_through():
    """Something approaches by 3 % a frame: the answer stays behind by less than a mean of MEMORY frames would."""
    rng = np.random.default_rng(3)
    still, make_steady, region = photograph(), Stabiliser(), np.s_[50:100, 60:110]
    for index in range(30):
        real = ground_truth()
        real[region] = 0.6 * 1.03 ** max(0, index - 8)
        noise = cv2.resize(rng.normal(0, 0.03, (9, 12)).astype(np.float32), (WIDTH, HEIGHT))
        answer = make_steady(still, real + noise).values_HW
    inner = np.s_[62:88, 72:98]
    behind = 1 - answer[inner].mean() / real[inner].mean()
    plain_mean = 1 - np.mean(1.03 ** -np.arange(stabilise.MEMORY * 2 - 1.0))
    assert 0 <= behind < 0.8 * plain_mean


def test_a_cut_starts_anew():
    make_steady = Stabiliser()
    first = [make_steady(photograph(), 2 * ground_truth() + 1) for _ in range(3)]
    assert [frame.cut for frame in first] == [True, False, False]
    after = make_steady(photograph("kodak_12"), ground_truth())
    assert after.cut and (after.scale, after.shift) == (1, 0)
    np.testing.assert_array_equal(after.values_HW, ground_truth())


def test_metres_keep_their_scale():
    make_steady = Stabiliser(is_metric=True)
    make_steady(photograph(), 4 + ground_truth())
    for _ in range(40):
        answer = make_steady(photograph(), 2 * (4 + ground_truth()))
    assert (answer.scale, answer.shift) == (1, 0)
    assert np.median(answer.values_HW / (2 * (4 + ground_truth()))) == pytest.approx(1, abs=0.02)


def test_going_on_from_a_state_gives_the_same_frames():
    rng = np.random.default_rng(4)
    maps = [ground_truth(index) + rng.normal(0, 0.05, (HEIGHT, WIDTH)).astype(np.float32) for index in range(8)]
    whole, begun, resumed = Stabiliser(), Stabiliser(), Stabiliser()
    for index in range(4):
        whole(photograph(shift=index), maps[index])
        begun(photograph(shift=index), maps[index])
    resumed.restore(begun.state())
    for index in range(4, 8):
        expected = whole(photograph(shift=index), maps[index])
        got = resumed(photograph(shift=index), maps[index])
        np.testing.assert_array_equal(got.values_HW, expected.values_HW)
        assert (got.scale, got.shift) == (expected.scale, expected.shift)


def test_the_fit_is_fair_to_noise_on_both_sides_and_robust():
    rng = np.random.default_rng(5)
    signal = rng.normal(size=(60, 80))
    x = signal + rng.normal(0, 0.5, signal.shape)
    y = 2 * signal + 3 + rng.normal(0, 2 * 0.5 / np.sqrt(15), signal.shape)
    valid = np.ones(x.shape, bool)
    scale, shift = fair_fit(x, y, valid, 4 / 15) or (0, 0)
    assert scale == pytest.approx(2, rel=0.05) and shift == pytest.approx(3, abs=0.05)
    assert fit_scale_shift(x, y)[0] < 1.7  # what plain least squares makes of it
    y[:6] = 8.0  # a tenth is something else
    scale, shift = fair_fit(x, y, valid, 4 / 15) or (0, 0)
    assert scale == pytest.approx(2, rel=0.2) and shift == pytest.approx(3, abs=0.3)
    assert fair_fit(x, rng.normal(size=x.shape), valid, 1) is None
