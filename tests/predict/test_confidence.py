"""Confidence: a function of the disagreement, equal for the mirrored image, and low where two maps differ."""

import numpy as np
import pytest
from command import run
from PIL import Image

from depth_anything.predict.confidence import agreement, predict_with_confidence
from depth_anything.predict.prediction import Prediction, load
from depth_anything.predict.predictor import Predictor

X = np.tile(np.linspace(0, 1, 120, dtype=np.float32), (96, 1))
RANGE = np.subtract(*np.percentile(X, [98, 2]))


def test_maps_that_agree_up_to_scale_and_shift_are_sure():
    np.testing.assert_allclose(agreement(X, 7 * X - 3), 1, atol=1e-4)
    assert (agreement(np.full((20, 30), 2, np.float32), X[:20, :30]) == 1).all(), "a constant map"


@pytest.mark.parametrize("share", [0.01, 0.03])
def test_a_tenth_less_for_every_hundredth_of_the_range(share):
    """A chequerboard has no scale or shift of its own, so the fit leaves its difference as it is."""
    chequers = np.where(np.add.outer(np.arange(96), np.arange(120)) % 2, 1, -1)
    confidence = agreement(X, (X + share * RANGE * chequers).astype(np.float32))
    np.testing.assert_allclose(confidence, 1 - 10 * share, atol=0.02)


def test_it_is_low_only_where_the_maps_differ():
    other = X.copy()
    other[:24, :30] += 0.5
    confidence = agreement(X, other)
    assert confidence[5:16, 5:20].max() < 0.2 and confidence[60:].min() > 0.5
    assert confidence.min() == 0 and confidence.max() <= 1


def test_it_compares_with_the_mirrored_image(photo_HW3):
    predictor = Predictor("nano")
    found = predict_with_confidence(predictor, photo_HW3)
    mirrored = predictor(np.ascontiguousarray(photo_HW3[:, ::-1])).values
    np.testing.assert_allclose(found.confidence, agreement(found.values, mirrored[:, ::-1]), atol=1e-3)
    np.testing.assert_allclose(found.values, predictor(photo_HW3).values, atol=1e-3)
    assert 0 <= found.confidence.min() < 0.9 and found.confidence.max() <= 1, "nano is not symmetric"


def test_metres_are_compared_as_disparity():
    from depth_anything.predict.confidence import with_confidence

    metres = Prediction(depth_m=(1 / (X + 0.5)).astype(np.float32))
    same = Prediction(depth_m=(1 / (X[:, ::-1] + 0.5)).astype(np.float32))
    np.testing.assert_allclose(with_confidence(metres, same).confidence, 1, atol=1e-3)


def test_the_option(photo_HW3, tmp_path, capsys):
    Image.fromarray(photo_HW3).save(tmp_path / "photo.png")
    assert run("predict", tmp_path / "photo.png", "-o", tmp_path, "--save", "confidence,npz") == 0
    stored = load(tmp_path / "photo_disparity.npz").confidence
    with Image.open(tmp_path / "photo_confidence.png") as image:
        np.testing.assert_allclose(np.asarray(image) / 255, stored, atol=0.5 / 255 + 1e-6)
    for more in (["--tiles", "2"], ["--panorama"]):
        capsys.readouterr()
        assert run("predict", tmp_path / "photo.png", "-o", tmp_path / "b", "--save", "confidence", *more) == 2
        assert "confidence" in capsys.readouterr().err


def test_a_map_without_it_cannot_be_saved_as_one(tmp_path):
    with pytest.raises(ValueError, match="confidence: it was not computed"):
        Prediction(disparity=X).save(tmp_path / "a", ["confidence"])


@pytest.fixture(scope="module")
def photo_HW3() -> np.ndarray:
    from pathlib import Path

    return np.asarray(Image.open(Path(__file__).parents[2] / "examples/kodak_08.jpg").resize((180, 120)))
