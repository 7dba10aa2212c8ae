"""Each format, written by us and read by somebody else: OpenCV, NumPy, OpenEXR, Pillow."""

import sys

import cv2
import numpy as np
import OpenEXR
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from depth_anything.images import map_files
from depth_anything.system import files

TEXT = {"model": "nano", "licence": "Apache-2.0", "quantity": "disparity", "notes": "ein Hügel, 山"}
RAMP = (np.random.default_rng(0).random((30, 50)) * 3 + 1).astype(np.float32)
finite = st.floats(-1e6, 1e6, width=32, allow_subnormal=False)


def test_png16_of_disparity_as_opencv_and_pillow_read_it(tmp_path):
    path = tmp_path / "a.png"
    map_files.write_png16_disparity(path, RAMP, TEXT)
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert stored is not None and stored.dtype == np.uint16 and stored.min() == 0 and stored.max() == 65535
    with Image.open(path) as image:
        text = image.text  # type: ignore[attr-defined]
    assert {key: text[key] for key in TEXT} == TEXT
    low, high = float(text["disparity_min"]), float(text["disparity_max"])
    assert (low, high) == (RAMP.min(), RAMP.max()), "the ends are exact"
    half_step = (high - low) / 65535 / 2
    assert np.abs(low + stored / 65535 * (high - low) - RAMP).max() <= half_step * 1.0001
    back, _ = map_files.read_png16(path)
    assert back.dtype == np.float32 and np.abs(back - RAMP).max() <= half_step * 1.01


@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=8), elements=finite))
def test_png16_is_off_by_half_a_step_at_most(tmp_path_factory, disparity):
    path = tmp_path_factory.mktemp("png") / "a.png"
    map_files.write_png16_disparity(path, disparity, {**TEXT, "quantity": "disparity"})
    back, _ = map_files.read_png16(path)
    low, high = float(disparity.min()), float(disparity.max())
    rounding = np.spacing(np.float32(max(abs(low), abs(high))))  # the answer is float32 again
    assert np.abs(back.astype(np.float64) - disparity).max() <= (high - low) / 65535 / 2 * 1.0001 + rounding


def test_png16_of_metres_is_millimetres(tmp_path):
    depth = np.array([[0, 0.0002, 0.001, 1.2346, 65.535, 65.54, 80.0]], np.float32)
    path = tmp_path / "a.png"
    map_files.write_png16_depth(path, depth, {"quantity": "depth_m"})
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert stored is not None and stored.tolist() == [[0, 1, 1, 1235, 65535, 65535, 65535]]
    with Image.open(path) as image:
        assert image.text["saturated_pixels"] == "2"  # type: ignore[attr-defined]
        assert image.text["unit"].startswith("millimetre")  # type: ignore[attr-defined]
    back, text = map_files.read_png16(path)
    np.testing.assert_allclose(back[0, :5], depth[0, :5], atol=0.0005 + 1e-6 + 0.0003)
    assert text["quantity"] == "depth_m"


def test_pfm_as_opencv_reads_it(tmp_path):
    path = tmp_path / "a.pfm"
    map_files.write_pfm(path, RAMP)
    np.testing.assert_array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), RAMP)
    np.testing.assert_array_equal(map_files.read_pfm(path), RAMP)
    big_endian = b"Pf\n50 30\n1.0\n" + RAMP[::-1].astype(">f4").tobytes()
    path.write_bytes(big_endian)
    np.testing.assert_array_equal(map_files.read_pfm(path), RAMP)


def test_npz_as_numpy_reads_it(tmp_path):
    path = tmp_path / "a.npz"
    K = np.diag([500.0, 500.0, 1.0])
    map_files.write_npz(path, {"disparity": RAMP, "K": K}, TEXT)
    with np.load(path, allow_pickle=False) as archive:
        assert sorted(archive.files) == sorted(["disparity", "K", *TEXT])
        np.testing.assert_array_equal(archive["disparity"], RAMP)
        assert archive["disparity"].dtype == np.float32 and str(archive["licence"]) == "Apache-2.0"
    found, text = map_files.read_npz(path)
    assert text == TEXT and set(found) == {"disparity", "K"}
    again = tmp_path / "b.npz"
    map_files.write_npz(again, {"disparity": RAMP, "K": K}, TEXT)
    assert again.read_bytes() == path.read_bytes(), "no clock in the file"


@pytest.mark.parametrize(
    ("channel", "quantity", "name"),
    [
        ("auto", "disparity", "disparity"),
        ("auto", "depth_m", "Z"),
        ("Z", "disparity", "Z"),
        ("Y", "depth_m", "Y"),
        ("R", "disparity", "R"),
    ],
)
def test_exr_as_openexr_reads_it(tmp_path, channel, quantity, name):
    path = tmp_path / "a.exr"
    text = {**TEXT, "quantity": quantity}
    map_files.write_exr(path, RAMP, text, channel)
    with OpenEXR.File(str(path)) as file:
        assert list(file.channels()) == [name]
        pixels = file.channels()[name].pixels
        assert pixels.dtype == np.float32
        np.testing.assert_array_equal(pixels, RAMP)
        assert file.header()["licence"] == "Apache-2.0" and file.header()["model"] == "nano"
    found, text = map_files.read_exr(path)
    np.testing.assert_array_equal(found, RAMP)
    assert {key: text[key] for key in TEXT} == {**TEXT, "quantity": quantity}


@pytest.mark.parametrize(("quantity", "name"), [("disparity", "disparity"), ("depth_m", "Z")])
def test_an_exr_with_the_image_as_openimageio_reads_it(tmp_path, quantity, name):
    oiio = pytest.importorskip("OpenImageIO")
    path = tmp_path / "a.exr"
    image = np.random.default_rng(0).integers(0, 256, (*RAMP.shape, 3), np.uint8)
    map_files.write_exr(path, RAMP, {**TEXT, "quantity": quantity}, "auto", image)
    file = oiio.ImageInput.open(str(path))
    spec = file.spec()
    assert spec.channelnames == ("R", "G", "B", name)
    assert [str(one) for one in spec.channelformats] == ["half", "half", "half", "float"]
    assert (spec.z_channel == 3) == (name == "Z") and spec.getattribute("quantity") == quantity
    pixels = file.read_image(format="float")
    np.testing.assert_array_equal(pixels[..., 3], RAMP)
    back = oiio.ImageBufAlgo.colorconvert(oiio.ImageBuf(pixels[..., :3].copy()), "lin_srgb", "sRGB")
    np.testing.assert_allclose(back.get_pixels() * 255, image, atol=0.5)
    np.testing.assert_array_equal(map_files.read_exr(path)[0], RAMP)


def test_images_carry_text(tmp_path):
    photograph = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    map_files.write_image(tmp_path / "a.png", photograph, TEXT)
    stored = cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_UNCHANGED)
    assert stored is not None
    np.testing.assert_array_equal(stored[:, :, ::-1], photograph)
    with Image.open(tmp_path / "a.png") as image:
        assert image.text == TEXT  # type: ignore[attr-defined]


def test_nothing_is_replaced_unasked(tmp_path):
    path = tmp_path / "deep/er/a.txt"
    with files.new_file(path) as part:
        part.write_text("first")
    with pytest.raises(ValueError, match="exists already; use --overwrite"), files.new_file(path) as part:
        part.write_text("second")
    assert path.read_text() == "first"
    with files.new_file(path, overwrite=True) as part:
        part.write_text("second")
    assert path.read_text() == "second" and [file.name for file in path.parent.iterdir()] == ["a.txt"]
    with pytest.raises(ValueError, match="er: is a folder"), files.new_file(path.parent, overwrite=True):
        pass


def test_what_is_not_ours_is_one_line(tmp_path):
    eight_bit, plain16 = tmp_path / "8.png", tmp_path / "16.png"
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(eight_bit)
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(plain16)
    for path in (eight_bit, plain16):
        with pytest.raises(ValueError, match="not a 16-bit map of this program"):
            map_files.read_png16(path)
    short = tmp_path / "a.pfm"
    map_files.write_pfm(short, RAMP)
    for content in (short.read_bytes()[:-1], b"PF\n1 1\n-1\n" + bytes(12), b"", b"Pf\n\xff \n", b"Pf\n0 4\n-1\n"):
        short.write_bytes(content)
        with pytest.raises(ValueError, match="not a whole greyscale PFM"):
            map_files.read_pfm(short)
    archive = tmp_path / "a.npz"
    np.savez(archive, disparity=np.array([{"code": "evil"}], dtype=object))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not an NPZ that can be read"):
        map_files.read_npz(archive)
    map_files.write_npz(tmp_path / "b.npz", {"disparity": RAMP}, TEXT)
    archive.write_bytes((tmp_path / "b.npz").read_bytes()[:-40])
    with pytest.raises(ValueError, match="not an NPZ that can be read"):
        map_files.read_npz(archive)
    exr = tmp_path / "a.exr"
    exr.write_bytes(b"v/1\x01 not an EXR")
    with pytest.raises(ValueError, match="not an EXR that can be read"):
        map_files.read_exr(exr)
    with pytest.raises(ValueError, match="'X': expected auto, Z, Y or R"):
        map_files.write_exr(tmp_path / "b.exr", RAMP, {}, "X")
    with pytest.raises(ValueError, match="'R': expected auto or Z, as R, G and B are the image's"):
        map_files.write_exr(tmp_path / "b.exr", RAMP, {}, "R", np.zeros((*RAMP.shape, 3), np.uint8))


def test_exr_without_openexr_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    with pytest.raises(ValueError, match=r'pip install "depth-anything\[3d\]"'):
        map_files.write_exr(tmp_path / "a.exr", RAMP, TEXT)
