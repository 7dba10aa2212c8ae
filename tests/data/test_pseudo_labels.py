"""How labels are stored: Pillow, OpenCV and tarfile read the same numbers; errors within what is stated."""

import io
import json
import re
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from sample_images import encode as encode_image

from depth_anything.data.pseudo_labels import PseudoLabels, decode, encode, png16, sample
from depth_anything.data.shards import decode_maps, write_shard
from depth_anything.train import batches

DOCS = Path(__file__).parents[2] / "docs"


@given(arrays.arrays(np.uint16, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40)))
@settings(max_examples=50, deadline=None)
def test_pillow_and_opencv_read_our_png(codes_HW: np.ndarray):
    content = png16(codes_HW)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), codes_HW)
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED), codes_HW)


def stored(disparity_HW: np.ndarray, encoding) -> tuple[np.ndarray, float]:
    """What a shard gives back, and the error that encoding it stated."""
    members, error = encode(disparity_HW, encoding)
    about = {"min": float(disparity_HW.min()), "max": float(disparity_HW.max())}
    return decode({**members, "json": json.dumps(about).encode()}), error


@given(
    st.floats(-1e4, 1e4, width=32),
    st.floats(2**-6, 1e4, width=32),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=50, deadline=None)
def test_png16_is_off_by_half_a_step_at_most(low: float, extent: float, seed: int):
    disparity_HW = np.float32(low) + np.float32(extent) * np.random.default_rng(seed).random((9, 11), np.float32)
    back_HW, error = stored(disparity_HW, "png16")
    reach = float(disparity_HW.max()) - float(disparity_HW.min())
    worst = np.abs(back_HW.astype(np.float64) - disparity_HW).max()
    assert worst <= reach / 131070 * 1.0001 + np.spacing(np.float32(abs(low) + extent))
    assert error == pytest.approx(worst / reach, rel=1e-3)
    assert back_HW.dtype == np.float32


def test_fp16_is_off_by_one_in_2048_at_most():
    disparity_HW = np.random.default_rng(0).uniform(0.01, 200, (50, 60)).astype(np.float32)
    back_HW, error = stored(disparity_HW, "fp16")
    np.testing.assert_array_equal(back_HW, disparity_HW.astype(np.float16).astype(np.float32))
    assert (np.abs(back_HW - disparity_HW) <= disparity_HW / 2048).all()
    assert error == pytest.approx(np.abs(back_HW - disparity_HW).max() / np.ptp(disparity_HW))
    with pytest.raises(ValueError, match="half floats: use the encoding png16"):
        encode(disparity_HW * 1000, "fp16")


def test_far_from_zero_fp16_loses_what_png16_keeps():
    """What docs/label.md says about when to take which."""
    disparity_HW = 1000 + np.random.default_rng(0).random((20, 20), np.float32)
    assert stored(disparity_HW, "png16")[1] < 1e-4
    assert stored(disparity_HW, "fp16")[1] > 0.1


@pytest.mark.parametrize("encoding", ["png16", "fp16"])
def test_constant_maps_and_equal_bytes(encoding):
    constant_HW = np.full((4, 5), 0.25, np.float32)
    back_HW, error = stored(constant_HW, encoding)
    np.testing.assert_array_equal(back_HW, constant_HW)
    assert error == 0
    ramp_HW = np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5)
    assert encode(ramp_HW, encoding) == encode(ramp_HW, encoding)


# -- by number -------------------------------------------------------------------------------------


def make_folder(folder: Path, counts: dict[str, int]) -> dict[str, np.ndarray]:
    """Shards as `label` writes them; returns the maps by key."""
    maps = {}
    for unit, count in counts.items():
        samples = []
        for number in range(count):
            key = f"{unit}/{number}"
            maps[key] = np.random.default_rng(len(maps)).random((14, 28), np.float32)
            members, _ = encode(maps[key], "fp16" if number % 2 else "png16")
            about = {"min": float(maps[key].min()), "max": float(maps[key].max())}
            jpg = encode_image(Image.new("RGB", (56, 28), (len(maps), 0, 0)), "JPEG", quality=100)
            samples.append((key, {"jpg": jpg, **members, "json": json.dumps(about).encode()}))
        write_shard(folder / f"labels/{unit}.tar", samples)
        (folder / "manifest").mkdir(exist_ok=True)
        (folder / f"manifest/{unit}.json").write_text(json.dumps({"shard": unit, "labelled": count}))
    return maps


def test_manifests_under_the_key_of_the_first_version_are_read(tmp_path: Path):
    make_folder(tmp_path, {"a": 2})
    (tmp_path / "manifest/a.json").write_text(json.dumps({"unit": "a", "labelled": 2}))
    assert len(PseudoLabels(tmp_path)) == 2
    (tmp_path / "manifest/a.json").write_text(json.dumps({"unit": "b", "labelled": 2}))
    with pytest.raises(ValueError, match="no manifest of this shard"):
        PseudoLabels(tmp_path)


def test_samples_by_number(tmp_path: Path):
    """Every sample of every finished shard, also next to an empty one; at the map's size."""
    maps = make_folder(tmp_path, {"a": 2, "b": 0, "c": 3})
    write_shard(tmp_path / "labels/d.tar", [("unfinished", {"jpg": b""})])
    labels = PseudoLabels(tmp_path)
    assert len(labels) == 5
    assert labels.ends.tolist() == [2, 2, 5]
    for number, (key, disparity_HW) in enumerate(maps.items()):
        sample = labels[number]
        assert sample.key == key
        assert sample.scale == "affine"
        assert sample.image_HW3.shape == (14, 28, 3)
        assert sample.image_HW3[..., 0] == pytest.approx(number + 1, abs=1)
        np.testing.assert_allclose(sample.disparity_HW, disparity_HW, atol=3e-4)
        assert sample.valid_HW.all()
        assert not sample.sky_HW.any()
    with pytest.raises(IndexError):
        labels[5]


def test_a_label_of_0_is_valid():
    """The sky's disparity (V1 section 3.1): a student learns it."""
    disparity_HW = np.array([[0, 0, 0.5], [0, 1, 2]], np.float32)
    members, _ = encode(disparity_HW, "fp16")
    jpeg = encode_image(Image.new("RGB", (3, 2)), "JPEG")
    found = sample("sky", {"jpg": jpeg, **members, "json": b"{}"})
    np.testing.assert_array_equal(found.disparity_HW, disparity_HW)
    assert found.valid_HW.all()


def test_tarfile_sees_the_designed_members(tmp_path: Path):
    make_folder(tmp_path, {"a": 2})
    with tarfile.open(tmp_path / "labels/a.tar") as tar:
        names = tar.getnames()
    assert names == [
        "a/0.jpg",
        "a/0.disparity.png",
        "a/0.json",
        "a/1.jpg",
        "a/1.disparity.npz",
        "a/1.json",
    ]


def test_damage_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match="no pseudo labels"):
        PseudoLabels(tmp_path)
    make_folder(tmp_path, {"a": 2, "b": 2, "c": 1})
    labels = PseudoLabels(tmp_path)
    (tmp_path / "labels/a.tar").unlink()
    with pytest.raises(ValueError, match=r"a\.tar: no such tar"):
        labels[0]
    content = (tmp_path / "labels/b.tar").read_bytes()
    (tmp_path / "labels/b.tar").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"b\.tar: "):
        labels[2]
    write_shard(tmp_path / "labels/c.tar", [("c/0", {"jpg": b"no image", "json": b"{}"})])
    with pytest.raises(ValueError, match=r"c\.tar: c/0: .*label again"):
        labels[4]


def test_a_run_survives_a_shard_that_disappears_while_it_is_read(tmp_path: Path, caplog):
    maps = make_folder(tmp_path, {"a": 2, "b": 3})
    labels = PseudoLabels(tmp_path)
    assert labels[0].key == next(iter(maps))  # now its index is known
    (tmp_path / "labels/a.tar").unlink()
    for number in range(5):
        assert batches.read(labels, number).key in list(maps)[2:]
    assert "a.tar: a/0: " in caplog.text and "No such file" in caplog.text and "a.tar: a/1: " in caplog.text


# -- by another library ----------------------------------------------------------------------------


@pytest.mark.parametrize("way", [0, 1])
def test_webdataset_reads_the_shards_as_the_document_says(tmp_path, monkeypatch, way):
    """The code of docs/label.md as it stands there, against PseudoLabels."""
    pytest.importorskip("webdataset")
    shape = 14, 28
    for unit in ("a", "b"):
        samples = []
        for number in range(3):
            random = np.random.default_rng([ord(unit), number])
            disparity_HW = random.normal(3, 2, shape).astype(np.float32)
            members, _ = encode(disparity_HW, "png16")
            about = {"min": float(disparity_HW.min()), "max": float(disparity_HW.max())}
            image = encode_image(Image.fromarray(random.integers(0, 256, (*shape, 3), np.uint8)), "JPEG")
            samples.append((f"{unit}/{number}", {"jpg": image, **members, "json": json.dumps(about).encode()}))
        write_shard(tmp_path / f"labels/labels/{unit}.tar", samples)
        manifest = tmp_path / f"labels/manifest/{unit}.json"
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_text(json.dumps({"shard": unit, "labelled": 3}))
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "label.md").read_text(), flags=re.DOTALL)
    found = []
    if way == 0:
        body = "    found.append((one.key, one.image_HW3, one.disparity_HW))\n"
        code = blocks[0] + body
    else:
        code = blocks[0].partition("for one")[0] + blocks[1]
        code += '    found.append((members["__key__"], image, disparity))\n'
    exec(code, {"found": found})
    expected = PseudoLabels(tmp_path / "labels")
    assert len(found) == len(expected) == 6
    for (key, image_HW3, disparity_HW), number in zip(found, range(6), strict=True):
        one = expected[number]
        assert key == one.key
        np.testing.assert_array_equal(image_HW3, one.image_HW3)
        np.testing.assert_allclose(disparity_HW, one.disparity_HW, atol=1e-6)
        assert len(np.unique(disparity_HW)) > 256


def test_webdataset_without_our_decoder_loses_the_map(tmp_path):
    """Why the document says so: if this changes, so may the document."""
    webdataset = pytest.importorskip("webdataset")
    members, _ = encode(np.random.default_rng(0).random((14, 28), np.float32), "png16")
    write_shard(tmp_path / "a.tar", [("0", {**members, "json": b"{}"})])
    (one,) = webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False).decode("rgb8")
    assert one["disparity.png"].dtype == np.uint8 and one["disparity.png"].shape == (14, 28, 3)


def test_the_maps_of_scenes_are_numbers_too(tmp_path):
    """Their PNGs have other names; an image and a table are left to the library."""
    webdataset = pytest.importorskip("webdataset")
    classes_HW = np.arange(6, dtype=np.uint8).reshape(2, 3)
    metres = io.BytesIO()
    np.savez_compressed(metres, disparity=classes_HW.astype(np.float32) / 7)
    png = encode_image(Image.fromarray(classes_HW), "PNG")
    files = {"rgb.jpg": encode_image(Image.new("RGB", (3, 2)), "JPEG"), "disparity.npz": metres.getvalue()}
    files |= {"valid.png": png, "sky.png": png, "class.png": png, "json": b"{}"}
    write_shard(tmp_path / "scenes.tar", [("000000001", files)])
    (one,) = webdataset.WebDataset(str(tmp_path / "scenes.tar"), shardshuffle=False).decode(decode_maps, "rgb8")
    for name in ("valid.png", "sky.png", "class.png"):
        np.testing.assert_array_equal(one[name], classes_HW)
    np.testing.assert_array_equal(one["disparity.npz"], classes_HW.astype(np.float32) / 7)
    assert one["rgb.jpg"].shape == (2, 3, 3) and one["json"] == {}
    assert decode_maps(".seg.png", png) is None and decode_maps(".disparity.json", b"{}") is None
