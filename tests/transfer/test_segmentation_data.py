"""Class maps in their official layouts, what training does to them, and the measure against a count by hand."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from depth_anything.data.scenes.objects import CLASSES
from depth_anything.data.shards import write_shard
from depth_anything.evaluate.metrics import mean_iou
from depth_anything.transfer import segmentation_data
from depth_anything.transfer.segmentation_data import (
    ADE20K,
    CITYSCAPES_NAMES,
    IGNORE,
    Cityscapes,
    ClassSample,
    SceneClasses,
    confusion,
    open_classes,
    palette,
    training_crop,
)


def write(path, array: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


@pytest.fixture
def ade(tmp_path):
    base = tmp_path / "ade20k" / "ADEChallengeData2016"
    for split, stem in (("training", "ADE_train_00000001"), ("validation", "ADE_val_00000001")):
        write(base / "images" / split / f"{stem}.jpg", grey(4, 6))
        raw = np.array([[0, 1, 2, 3, 150, 149]] * 4, np.uint8)
        write(base / "annotations" / split / f"{stem}.png", raw)
    return tmp_path / "ade20k"


def test_ade20k_has_no_zero(ade):
    for held_out in (False, True):
        sample = open_classes("ade20k", ade, held_out)[0]
        assert sample.classes_HW[0].tolist() == [IGNORE, 0, 1, 2, 149, 148]
        assert sample.key == ("ADE_val_00000001" if held_out else "ADE_train_00000001")
    assert len(ADE20K(ade).names) == 150 and ADE20K(ade).names[0] == "class 1"


def test_ade20k_takes_its_names_from_its_own_list(ade):
    lines = ["Idx\tRatio\tTrain\tVal\tName", *(f"{n}\t0.1\t1\t1\tthing {n}, other word" for n in range(1, 151))]
    (ade / "ADEChallengeData2016" / "objectInfo150.txt").write_text("\n".join(lines))
    assert ADE20K(ade).names[2] == "thing 3"


def test_cityscapes_ids_become_train_ids(tmp_path):
    name = "aachen_000000_000019"
    write(tmp_path / "leftImg8bit" / "train" / "aachen" / f"{name}_leftImg8bit.png", grey(2, 8))
    raw = np.array([[7, 8, 23, 33, 26, 0, 29, 255]] * 2, np.uint8)
    write(tmp_path / "gtFine" / "train" / "aachen" / f"{name}_gtFine_labelIds.png", raw)
    sample = Cityscapes(tmp_path)[0]
    assert sample.classes_HW[0].tolist() == [0, 1, 10, 18, 13, IGNORE, IGNORE, IGNORE]
    assert len(CITYSCAPES_NAMES) == 19 and CITYSCAPES_NAMES[10] == "sky"
    assert len(palette(CITYSCAPES_NAMES)) == 19 and tuple(palette(CITYSCAPES_NAMES)[10]) == (70, 130, 180)


def test_scenes_bring_the_renderers_classes(tmp_path):
    def png(array: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, "PNG")
        return buffer.getvalue()

    numbers = io.BytesIO()
    np.savez_compressed(numbers, disparity=np.ones((4, 6), np.float32))
    classes_HW = np.arange(24, dtype=np.uint8).reshape(4, 6) % len(CLASSES)
    files = {
        "rgb.jpg": png(grey(4, 6)), "disparity.npz": numbers.getvalue(),
        "valid.png": png(np.full((4, 6), 255, np.uint8)),
        "sky.png": png(np.zeros((4, 6), np.uint8)), "class.png": png(classes_HW),
        "json": json.dumps({"K": np.eye(3).tolist()}).encode(),
    }  # fmt: skip
    write_shard(tmp_path / "training" / "scenes-00000.tar", [("000000001", files), ("000000002", files)])
    samples = open_classes("scenes", tmp_path)
    assert len(samples) == 2 and samples.names == CLASSES
    assert np.array_equal(samples[1].classes_HW, classes_HW)
    assert len(SceneClasses(tmp_path / "training", limit=1)) == 1


def test_what_is_missing_is_named(tmp_path, ade):
    with pytest.raises(ValueError, match="no images found; expected images/training"):
        ADE20K(tmp_path / "nothing")
    (ade / "ADEChallengeData2016" / "annotations" / "training" / "ADE_train_00000001.png").unlink()
    with pytest.raises(ValueError, match="1 class maps are missing"):
        ADE20K(ade)
    with pytest.raises(ValueError, match="expected one of ade20k, cityscapes, scenes"):
        open_classes("pascal", tmp_path)


def test_a_class_map_of_another_size_is_refused(ade):
    path = ade / "ADEChallengeData2016" / "annotations" / "training" / "ADE_train_00000001.png"
    write(path, np.zeros((3, 3), np.uint8))
    with pytest.raises(ValueError, match="fetch the pair again"):
        ADE20K(ade)[0]


ADE_MAP = "ADEChallengeData2016/annotations/training/ADE_train_00000001.png"


@pytest.mark.parametrize("form", [np.uint8, np.uint16])
def test_255_is_unlabelled_in_ade20k(ade, form):
    """As other tools write what they do not know; it is not class 254, nor the last one."""
    write(ade / ADE_MAP, np.array([[0, 255, 1, 150, 255, 2]] * 4, form))
    assert ADE20K(ade)[0].classes_HW[0].tolist() == [IGNORE, IGNORE, 0, 149, IGNORE, 1]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (np.array([[0, 1, 151, 200, 2, 3]] * 4, np.uint8), "holds 151, 200, no class of ADE20K; expected 0 to 150"),
        (np.array([[0, 1, 256 + 7, 300, 40000, 511]] * 4, np.uint16), "holds 263, 300, 511, ..., no class"),
        (
            np.full((4, 6, 3), 120, np.uint8),
            r"expected a PNG with one channel \(numbers of classes, or a mask\), got pixels RGB$",
        ),
        (
            np.full((4, 6, 4), 120, np.uint8),
            r"expected a PNG with one channel \(numbers of classes, or a mask\), got pixels RGBA$",
        ),
    ],
)
def test_what_is_no_class_map_is_refused_by_file_and_value(ade, raw, expected):
    write(ade / ADE_MAP, raw)
    with pytest.raises(ValueError, match=f"ADE_train_00000001.png: {expected}"):
        ADE20K(ade)[0]


@pytest.mark.parametrize("value", [34, 100, 254])
def test_cityscapes_knows_33_numbers(tmp_path, value):
    write(tmp_path / "leftImg8bit/train/ulm/a_leftImg8bit.png", grey(2, 3))
    write(tmp_path / "gtFine/train/ulm/a_gtFine_labelIds.png", np.array([[7, 33, value]] * 2, np.uint8))
    with pytest.raises(ValueError, match=f"a_gtFine_labelIds.png: holds {value}, no class of Cityscapes"):
        Cityscapes(tmp_path)[0]


# -- training crops --


def striped(height: int, width: int) -> ClassSample:
    """Every class in its own colour, so that a crop's image says what its classes must be."""
    classes_HW = np.broadcast_to((np.arange(width) * 4 // width).astype(np.uint8), (height, width)).copy()
    return ClassSample((np.eye(4, 3, dtype=np.uint8)[classes_HW] * 200).astype(np.uint8), classes_HW)


def test_a_crop_keeps_image_and_classes_together(monkeypatch):
    monkeypatch.setattr(segmentation_data, "distorted", lambda image_HW3, rng: image_HW3)
    for seed in range(12):
        part = training_crop(striped(60, 90), 40, (40, 60, 80), 0.75, np.random.default_rng(seed))
        assert part.image_HW3.shape == (*part.classes_HW.shape, 3) and max(part.classes_HW.shape) <= 40
        expected = np.eye(4, 3)[part.classes_HW] * 200
        assert np.mean(np.abs(part.image_HW3 - expected).max(-1) < 60) > 0.9  # but for blended edges


def test_one_class_does_not_fill_a_window_when_it_need_not():
    sample = striped(60, 400)
    most = []
    for seed in range(30):
        part = training_crop(sample, 60, (60,), 0.75, np.random.default_rng(seed))
        counts = np.bincount(part.classes_HW.ravel())
        most.append(counts.max() / counts.sum())
    alone = np.mean([np.ptp(sample.classes_HW[0, left : left + 60]) == 0 for left in range(341)])
    assert alone > 0.3 and np.mean(np.array(most) >= 0.75) < 0.1


def test_distortion_stays_an_image_and_sometimes_does_nothing():
    image_HW3 = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    found = [segmentation_data.distorted(image_HW3, np.random.default_rng(seed)) for seed in range(60)]
    assert all(one.dtype == np.uint8 and one.shape == image_HW3.shape for one in found)
    same = sum(np.array_equal(one, image_HW3) for one in found)
    assert 0 < same < 15  # one in sixteen draws changes nothing


# -- the measure --


def test_miou_equals_a_count_by_hand():
    ground_truth = np.array([[0, 0, 1, 1], [2, 2, IGNORE, IGNORE]], np.uint8)
    guess = np.array([[0, 1, 1, 1], [2, 0, 0, 2]], np.uint8)
    counts = confusion(guess, ground_truth, 4)
    assert counts.sum() == 6
    assert mean_iou(counts) == pytest.approx(np.mean([1 / 3, 2 / 3, 1 / 2]))  # class 3 occurs nowhere


def test_palettes_are_distinct():
    colours = palette(tuple(str(n) for n in range(150)))
    assert len(np.unique(colours, axis=0)) == 150
