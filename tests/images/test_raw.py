"""Raw camera files: the photograph, never the preview inside; or one line."""

import numpy as np
import pytest
import tiffs
from command import run
from PIL import Image

from depth_anything.images import raw
from depth_anything.images.inputs import find_images
from depth_anything.images.read import SUFFIXES, ImageError, image_info, read_image, stored_size

Y, X = np.mgrid[:96, :128]
SEEN = np.stack([50 + X, 40 + 2 * Y, 200 - X], -1).astype(np.uint8)
LINEAR = np.where(SEEN / 255 <= 0.04045, SEEN / 255 / 12.92, ((SEEN / 255 + 0.055) / 1.055) ** 2.4)


@pytest.fixture
def without_rawpy(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rawpy", None)


@pytest.mark.parametrize("name", ["photo.dng", "photo.nef", "photo.tif", "photo"])
@pytest.mark.parametrize("version", [True, False])
def test_without_rawpy_a_raw_file_is_refused_whatever_its_name(tmp_path, capsys, without_rawpy, name, version):
    """By its content: with DNG's version, or with a filter array below the thumbnail, as NEF and ARW have it."""
    path = tmp_path / name
    path.write_bytes(tiffs.dng(LINEAR, version=version))
    assert run("predict", path, "-o", tmp_path / "out") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert str(path) in line and 'pip install "depth-anything[raw]"' in line and "preview" in line
    for ask in (read_image, image_info, stored_size):
        with pytest.raises(ImageError, match="reading a raw camera file needs rawpy"):
            ask(path.read_bytes())


HEADS = {
    "raf": b"FUJIFILMCCD-RAW 0201",
    "orf": b"IIRO\x08\0\0\0",
    "rw2": b"IIU\0\x18\0\0\0",
    "cr3": b"\0\0\0\x18ftypcrx \0\0\0\1",
    "x3f": b"FOVb\0\0\2\0",
    "cr2": b"II*\0\x10\0\0\0CR\2\0",
    "crw": b"II\x1a\0\0\0HEAPCCDR",
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_other_makers_are_known_by_their_first_bytes(head, without_rawpy):
    with pytest.raises(ImageError, match="reading a raw camera file needs rawpy"):
        read_image(head + bytes(1000))


def test_an_image_is_not_taken_for_a_raw_file(tmp_path, without_rawpy):
    """A JPEG that somebody named so is read; a TIFF named so is a maker's."""
    Image.fromarray(SEEN).save(tmp_path / "photo.jpg", quality=95)
    (tmp_path / "photo.jpg").rename(tmp_path / "photo.nef")
    assert read_image(tmp_path / "photo.nef").shape == SEEN.shape
    (tmp_path / "photo.arw").write_bytes(tiffs.tiff(SEEN, 2))
    with pytest.raises(ImageError, match="raw camera file"):
        read_image(tmp_path / "photo.arw")


def test_folders_pass_over_raw_files_and_patterns_find_them(tmp_path):
    """Cameras write them beside their JPEGs."""
    for name in ("a.jpg", "a.dng", "b.NEF"):
        (tmp_path / name).write_bytes(b"x")
    assert [source.stem for source in find_images([tmp_path])] == ["a"]
    assert [source.path.name for source in find_images([tmp_path / "*.dng"])] == ["a.dng"]
    assert not raw.SUFFIXES & SUFFIXES


# -- with rawpy --------------------------------------------------------------------------------------------------------


def turned(orientation: int) -> np.ndarray:
    """What a camera that was held otherwise shows: SEEN is what its sensor saw."""
    return {1: SEEN, 3: SEEN[::-1, ::-1], 6: np.rot90(SEEN, -1), 8: np.rot90(SEEN)}[orientation]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_raw_file_is_developed_upright(tmp_path, orientation):
    pytest.importorskip("rawpy")
    path = tmp_path / "photo.dng"
    path.write_bytes(tiffs.dng(LINEAR, orientation))
    expected_HW3, image_HW3 = turned(orientation), read_image(path)
    assert image_HW3.shape == expected_HW3.shape
    about = image_info(path)
    assert (about.format, about.height, about.width) == ("RAW", *expected_HW3.shape[:2])
    assert stored_size(path.read_bytes()) == (about.width, about.height)
    # LibRaw chooses the brightness: the images agree but for one factor and the border of the filter array.
    inner = np.s_[4:-4, 4:-4]
    for channel in range(3):
        one, other = image_HW3[inner][..., channel].ravel(), expected_HW3[inner][..., channel].ravel()
        assert np.corrcoef(one, other)[0, 1] > 0.99, channel
    assert np.abs(image_HW3[inner].astype(float) - expected_HW3[inner]).mean() < 40


def test_a_raw_file_that_is_cut_short_is_one_line(tmp_path, capfd):
    pytest.importorskip("rawpy")
    data = tiffs.dng(LINEAR)
    for length in (600, len(data) // 2):
        with pytest.raises(ImageError, match="raw camera file"):
            read_image(data[:length])
    assert capfd.readouterr().err == ""


def test_compressed_sensor_data_that_end_too_early_are_noticed():
    """LibRaw answers them filled up. Lossless JPEG is what DNGs of phones and converters hold."""
    pytest.importorskip("rawpy")
    data = tiffs.dng(LINEAR, compression=7)
    with pytest.raises(ImageError, match="cut short: sensor data lie outside it"):
        read_image(data[:-100])


def test_the_lens_of_a_raw_file():
    """Its EXIF lies as in any TIFF."""
    pytest.importorskip("rawpy")
    assert image_info(tiffs.dng(LINEAR)).focal_35mm is None
    assert image_info(tiffs.dng(LINEAR, lens={0xA405: (tiffs.SHORT, [28])})).focal_35mm == 28
