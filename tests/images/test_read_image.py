"""Reading images: against the EXIF standard, colour formulas, OpenCV, and odd files from the wild."""

import io
import math
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiffs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile
from sample_images import encode, photo, seeds

from depth_anything.images import read
from depth_anything.images.read import (
    MAX_PIXELS,
    ImageError,
    Source,
    image_info,
    read_image,
    read_image_with_info,
)

# EXIF 2.32, tag Orientation: which side of the upright image the stored 0th row and 0th column are
FIRST_ROW_AND_COLUMN = {
    1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
    5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
}  # fmt: skip


def as_stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels as a camera with this orientation stores them, one pixel at a time from the standard's words."""
    height, width = upright.shape[:2]
    stored = np.empty((width, height, 3) if orientation >= 5 else (height, width, 3), np.uint8)
    from_side = {
        "top": lambda n: ("y", n), "bottom": lambda n: ("y", height - 1 - n),
        "left": lambda n: ("x", n), "right": lambda n: ("x", width - 1 - n),
    }  # fmt: skip
    row_side, column_side = FIRST_ROW_AND_COLUMN[orientation]
    for i in range(stored.shape[0]):
        for j in range(stored.shape[1]):
            at = dict([from_side[row_side](i), from_side[column_side](j)])
            stored[i, j] = upright[at["y"], at["x"]]
    return stored


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fmt", ["PNG", "TIFF", "WEBP", "MPO", "JPEG", "AVIF"])
def test_every_orientation_comes_upright(fmt, orientation):
    upright = photo(30, 46)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if fmt == "WEBP" else {}
    data = encode(Image.fromarray(as_stored(upright, orientation)), fmt, exif=exif, **options)
    photograph = read_image(data)
    assert photograph.shape == upright.shape
    lossy = fmt in ("JPEG", "MPO", "AVIF")
    # a wrong turn changes the mean by 40 and more
    assert np.abs(photograph.astype(int) - upright).mean() < (12 if lossy else 1e-9)
    about = image_info(data)
    assert (about.height, about.width) == upright.shape[:2]
    if fmt == "JPEG":
        by_opencv = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)  # type: ignore[arg-type]
        assert np.abs(photograph.astype(int) - by_opencv).max() <= 3  # two JPEG decoders, same turn


def test_every_format_reads_the_same_from_path_bytes_stream_and_pil(tmp_path):
    for name, data in seeds().items():
        path = tmp_path / name
        path.write_bytes(data)
        photograph = read_image(path)
        assert photograph.dtype == np.uint8 and photograph.shape == (40, 48, 3), name
        with Image.open(io.BytesIO(data)) as opened, path.open("rb") as stream:
            for source in (str(path), data, stream, opened, Source("x", path), Source("stdin", None, data)):
                np.testing.assert_array_equal(read_image(source), photograph, err_msg=name)
        if name not in ("fax.tif", "grey16.png", "float.tif", "palette.png"):
            assert np.abs(photograph.astype(int) - photo()).mean() < 25, name


def test_no_file_that_was_cut_short_passes_for_an_image():
    """At every length: an error, or (where only padding or later frames are gone) exactly the whole image."""
    for name, data in seeds().items():
        whole = read_image(data)
        step = max(1, len(data) // 60)
        for length in [*range(0, len(data), step), *range(len(data) - 8, len(data))]:
            try:
                photograph = read_image(data[:length])
            except ImageError as error:
                assert "\n" not in str(error)
            else:
                np.testing.assert_array_equal(photograph, whole, err_msg=f"{name} cut to {length} of {len(data)} bytes")


# -- grey, colour, transparency ----------------------------------------------------------------------------------------


def test_16_bit_grey_is_scaled_to_8_bits():
    values = np.linspace(0, 65535, 48 * 40).reshape(40, 48).astype(np.uint16)
    expected = np.round(values / 257).astype(int)
    big_endian_pgm = b"P5 48 40 65535\n" + values.astype(">u2").tobytes()
    for data in (encode(Image.fromarray(values), "PNG"), encode(Image.fromarray(values), "TIFF"), big_endian_pgm):
        photograph = read_image(data)
        np.testing.assert_array_equal(photograph[:, :, 0], expected)
        assert (photograph == photograph[:, :, :1]).all()


@pytest.mark.parametrize(("largest", "white"), [(255, 255), (700, 1023), (4095, 4095), (5000, 65535), (200, 255)])
def test_data_of_few_bits_in_16_bit_words_is_not_black(largest, white):
    values = np.linspace(0, largest, 48 * 40).reshape(40, 48).astype(np.uint16)
    np.testing.assert_array_equal(
        read_image(encode(Image.fromarray(values), "PNG"))[:, :, 1], np.round(values / white * 255)
    )


def test_floats_and_wide_integers():
    ramp = np.linspace(0, 1, 48 * 40).reshape(40, 48)
    for values, expected in (
        (ramp.astype(np.float32), ramp),
        ((0.5 * ramp).astype(np.float32), 0.5 * ramp),
        ((ramp * 7 - 3).astype(np.float32), ramp),
        ((ramp * 1e6 - 5e5).astype(np.int32), ramp),
    ):
        np.testing.assert_allclose(
            read_image(encode(Image.fromarray(values), "TIFF"))[:, :, 2], expected * 255, atol=0.51
        )
    holes = (ramp * 7).astype(np.float32)
    holes[3, 4], holes[5, 6], holes[7, 8] = np.nan, np.inf, -np.inf
    photograph = read_image(encode(Image.fromarray(holes), "TIFF"))
    assert (
        photograph[3, 4, 0] == 0
        and photograph[5, 6, 0] == 255
        and photograph[7, 8, 0] == 0
        and photograph[39, 47, 0] == 255
    )
    assert not read_image(encode(Image.fromarray(np.full((4, 5), np.nan, np.float32)), "TIFF")).any()


def test_transparent_parts_lie_on_white():
    color = photo()
    alpha = np.arange(48 * 40, dtype=np.uint8).reshape(40, 48)
    expected = color * (alpha[:, :, None] / 255) + 255 * (1 - alpha[:, :, None] / 255)
    rgba = Image.fromarray(np.dstack([color, alpha]))
    for data in (encode(rgba, "PNG"), encode(rgba, "TIFF"), encode(rgba, "WEBP", lossless=True, exact=True)):
        assert np.abs(read_image(data) - expected).max() <= 1
    assert np.abs(read_image(np.dstack([color, alpha])) - expected).max() <= 1
    grey = Image.fromarray(color[:, :, 0]).convert("LA")
    grey.putalpha(Image.fromarray(alpha))
    assert np.abs(read_image(encode(grey, "PNG"))[:, :, 1] - expected[:, :, 0]).max() <= 1
    palette = Image.fromarray(color).quantize(16)
    opaque = read_image(encode(palette, "PNG"))
    keyed = read_image(encode(palette, "PNG", transparency=5))
    there = np.asarray(palette) == 5
    assert there.any() and (keyed[there] == 255).all()
    np.testing.assert_array_equal(keyed[~there], opaque[~there])
    key16 = read_image(encode(Image.fromarray(np.array([[0, 9, 65535]], np.uint16)), "PNG", transparency=0))
    assert key16[0, :, 0].tolist() == [255, 0, 255]


def test_lab_becomes_srgb():
    """Against CIE 15 and IEC 61966-2-1, for a few colours inside sRGB."""
    lab = np.array([[[50, 20, 30], [80, -30, 40], [30, 10, -40], [70, 0, 0], [100, 0, 0], [0, 0, 0]]], float)
    lightness, a, b = np.moveaxis(lab, 2, 0)
    fy = (lightness + 16) / 116
    f = np.stack([fy + a / 500, fy, fy - b / 200], axis=2)
    xyz_d50 = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.9642, 1.0, 0.8249]
    # Bradford-adapted XYZ (D50) to linear sRGB, as the ICC's sRGB profile has it
    linear = xyz_d50 @ np.linalg.inv(
        [[0.4360747, 0.2225045, 0.0139322], [0.3850649, 0.7168786, 0.0971045], [0.1430804, 0.0606169, 0.7141733]]
    )
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055) * 255
    stored = np.stack([lightness * 255 / 100, a % 256, b % 256], axis=2).round().astype(np.uint8)
    image = Image.frombytes("LAB", (6, 1), stored.tobytes())
    photograph = read_image(encode(image, "TIFF"))
    assert np.abs(photograph - srgb).max() < 3


def test_cmyk_and_grey_have_the_colours_that_they_name():
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    for data in (encode(cmyk, "TIFF"), encode(cmyk, "JPEG")):
        assert np.abs(read_image(data).astype(int) - [255, 0, 0]).max() <= 3
    np.testing.assert_array_equal(read_image(photo()[:, :, 0]), np.repeat(photo()[:, :, :1], 3, axis=2))
    np.testing.assert_array_equal(read_image(photo()), photo())


# -- properties --------------------------------------------------------------------------------------------------------

MODES = {
    "1": ("PNG", "TIFF", "BMP"), "L": ("PNG", "TIFF", "WEBP", "JPEG", "GIF"), "P": ("PNG", "GIF", "BMP", "TIFF"),
    "RGB": ("PNG", "TIFF", "WEBP", "JPEG", "PPM", "JPEG2000", "QOI"), "RGBA": ("PNG", "TIFF", "WEBP", "TGA", "ICO"),
    "LA": ("PNG", "TIFF"), "CMYK": ("TIFF", "JPEG"), "YCbCr": ("TIFF", "JPEG"), "LAB": ("TIFF",),
    "I;16": ("PNG", "TIFF"), "I": ("TIFF",), "F": ("TIFF",),
    "HSV": (), "PA": (), "La": (), "RGBa": (), "RGBX": (), "I;16B": (),
}  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_mode_any_size_any_orientation_gives_the_upright_size(data):
    mode = data.draw(st.sampled_from(sorted(MODES)))
    fmt = data.draw(st.sampled_from([*MODES[mode], "PIL"]))
    width, height = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    orientation = data.draw(st.integers(0, 9))
    bytes_per_pixel = {"1": 1, "F": 4, "I": 4, "I;16": 2, "I;16B": 2, "LA": 4, "PA": 4, "La": 4, "L": 1, "P": 1}.get(
        mode, 4
    )
    pixels = np.random.default_rng(data.draw(st.integers(0, 99))).bytes(width * height * bytes_per_pixel)
    if mode in ("1", "P", "L", "PA", "LA", "La"):
        image = Image.frombytes("L", (width, height), pixels[: width * height])
        image = image.convert(mode) if mode != "La" else image.convert("LA").convert("La")
    elif mode in ("I;16", "I;16B", "I", "F"):
        image = Image.frombytes(mode, (width, height), pixels)
    else:
        base = Image.frombytes("RGBA", (width, height), pixels)
        modes = {"RGBA": "RGBA", "RGBa": "RGBA", "LAB": "RGB", "RGBX": "RGB"}
        image = base.convert(modes.get(mode, "RGB"))
        image = Image.frombytes("LAB", image.size, image.tobytes()) if mode == "LAB" else image.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = orientation in (5, 6, 7, 8)
    if fmt == "PIL":
        image.getexif()[0x0112] = orientation
        source = image
    else:
        source = encode(image, fmt, **({"exif": exif} if fmt in ("PNG", "TIFF", "WEBP", "JPEG") else {}))
        turned = turned and fmt in ("PNG", "TIFF", "WEBP", "JPEG")
        if fmt == "ICO":
            width, height = Image.open(io.BytesIO(source)).size
    photograph = read_image(source)
    assert photograph.dtype == np.uint8
    assert photograph.shape == ((width, height, 3) if turned else (height, width, 3))
    assert (image_info(source).height, image_info(source).width) == photograph.shape[:2]


# -- what is refused ---------------------------------------------------------------------------------------------------


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header promises this size and whose pixels are 16 bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0" * 16)) + chunk(b"IEND", b"")
    )


def test_a_bomb_is_refused_by_its_header(monkeypatch):
    def decoding(*_):
        raise AssertionError("a bomb was decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decoding)
    gif = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6)
    gif += b"," + struct.pack("<HHHHB", 0, 0, 65535, 65535, 0) + b"\x02\x02L\x01\x00;"
    for data in (png_of_size(20_000, 20_000), png_of_size(1, 2**31 - 1), gif):
        with pytest.raises(ImageError, match=r"more than 200 megapixels") as error:
            read_image(data)
        assert "\n" not in str(error.value)
    assert Image.MAX_IMAGE_PIXELS is not None, "Pillow's own limit must be as it was"


def test_text_bombs_are_refused():
    text = zlib.compress(bytes(100_000_000))
    body = b"comment\0\0" + text
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    whole = encode(Image.fromarray(photo()), "PNG")
    with pytest.raises(ImageError, match="too large"):
        read_image(whole[:33] + chunk + whole[33:])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", "empty"),
        (b"hello, this is no image at all", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "EPS is not an image format"),
        ("/no/such/file.jpg", "/no/such/file.jpg: no such file"),
        ("/no/such\nfile.jpg", r"'/no/such\\nfile.jpg': no such file"),
        ("/no/such\0file.jpg", "null"),
        (str(Path(__file__).parent), "a folder"),
        (7, "cannot read an image from int"),
        (None, "cannot read an image from NoneType"),
        (np.zeros((4, 4, 3)), "float64"),
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\)"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
        (io.StringIO("text"), "binary mode"),
    ],
)
def test_what_is_no_image_gets_one_line(source, message):
    with pytest.raises(ValueError, match=message) as error:
        read_image(source)
    assert "\n" not in str(error.value)


def test_heic_names_its_package(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    with pytest.raises(ImageError, match=r'IMG_0001.HEIC: .*pip install "depth-anything\[heic\]"'):
        read_image(path)


def test_heic_is_read_upright():
    pillow_heif = pytest.importorskip("pillow_heif", reason='needs pip install "depth-anything[heic]"')
    image = pillow_heif.from_pillow(Image.fromarray(photo(48, 64)))
    stream = io.BytesIO()
    image.save(stream, quality=95)
    photograph = read_image(stream.getvalue())
    assert photograph.shape == (48, 64, 3) and np.abs(photograph.astype(int) - photo(48, 64)).mean() < 12
    with pytest.raises(ImageError, match="cut short"):
        read_image(stream.getvalue()[:-200])


def test_focal_length_from_exif():
    def focal(tags: dict) -> float | None:
        exif = Image.Exif()
        exif.get_ifd(0x8769).update(tags)
        return image_info(encode(Image.fromarray(photo()), "JPEG", exif=exif)).focal_35mm

    assert focal({0xA405: 28}) == 28
    assert focal({}) is None and focal({0xA405: 0}) is None and focal({0x920A: 50.0}) is None
    # a 36 x 24 mm sensor of 6000 x 4000 pixels: the equivalent is the focal length itself
    full_frame = {0x920A: 50.0, 0xA20E: 6000 / 3.6, 0xA210: 3, 0xA002: 6000, 0xA003: 4000}
    assert math.isclose(focal(full_frame) or 0, 50.0, rel_tol=1e-6)
    # half the sensor: crop factor 2, resolution in inches
    half = {0x920A: 25.0, 0xA20E: 6000 / 18 * 25.4, 0xA210: 2, 0xA002: 6000, 0xA003: 4000}
    assert math.isclose(focal(half) or 0, 50.0, rel_tol=1e-6)


@pytest.mark.parametrize("unit", [0, 1, 6, 7, 255, 65535])
def test_units_of_the_sensor_that_are_unknown_give_no_focal_length(unit):
    """EXIF 2.32 knows inches and centimetres, makers millimetres and micrometres; 1 means none."""

    def focal(more: dict) -> float | None:
        exif = Image.Exif()
        exif.get_ifd(0x8769).update({0x920A: 50.0, 0xA20E: 6000 / 3.6, 0xA002: 6000, 0xA003: 4000, **more})
        return image_info(encode(Image.fromarray(photo()), "JPEG", exif=exif)).focal_35mm

    assert focal({}) is not None  # inches, where nothing is said
    assert focal({0xA210: unit}) is None


@pytest.mark.parametrize(
    ("resolution", "unit"),
    [(6000 / 3.6, 5), (6000 / 36 / 1000, 3), (0.001, 2), (5e5, 4)],  # a lens of 5 km, of 0.5 mm, ...
)
def test_an_impossible_lens_gives_no_focal_length(resolution, unit):
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({0x920A: 50.0, 0xA20E: resolution, 0xA210: unit, 0xA002: 6000, 0xA003: 4000})
    assert image_info(encode(Image.fromarray(photo()), "JPEG", exif=exif)).focal_35mm is None
    for stated in (1, 65535):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0xA405] = stated
        assert image_info(encode(Image.fromarray(photo()), "JPEG", exif=exif)).focal_35mm is None


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_pixels_and_what_is_known_about_them_come_from_one_decoding(fmt, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0xA405] = 28
    if fmt == "TIFF":  # Pillow writes no EXIF block there
        data = tiffs.tiff(photo(12, 16), 2, more={0x0112: (tiffs.SHORT, [6])}, lens={0xA405: (tiffs.SHORT, [28])})
    else:
        data = encode(Image.fromarray(photo(12, 16)), fmt, exif=exif)
    decoded = []
    whole = read.decode
    monkeypatch.setattr(read, "decode", lambda image: decoded.append(image) or whole(image))
    image_HW3, info = read_image_with_info(data)
    assert len(decoded) == 1
    np.testing.assert_array_equal(image_HW3, read_image(data))
    assert info == image_info(data) and info.focal_35mm == 28 and info.format == fmt
    assert image_HW3.shape == (16, 12, 3) == (info.height, info.width, 3)


# -- odd files from the wild -------------------------------------------------------------------------------------------


def test_odd_but_good_files(shared):
    paths = sorted((shared / "data/odd_images/valid").iterdir())
    assert len(paths) == 26
    for path in paths:
        photograph = read_image(path)
        about = image_info(path)
        assert photograph.shape == (about.height, about.width, 3) and photograph.dtype == np.uint8, path.name
    upright = read_image(shared / "data/odd_images/valid/hopper_orientation_2.jpg").astype(int)
    for orientation in range(3, 9):  # the same portrait, turned by its author
        other = read_image(shared / f"data/odd_images/valid/hopper_orientation_{orientation}.jpg")
        assert np.abs(other - upright).mean() < 5
    key16 = read_image(shared / "data/odd_images/valid/i_trns.png")
    assert key16.std() > 30, "8-bit data in 16-bit words must not come out black"


def test_broken_files_give_one_line_each_and_nothing_else(shared):
    """In a process of its own: libtiff writes to standard error behind Python's back."""
    paths = sorted((shared / "data/odd_images/broken").iterdir())
    assert len(paths) == 12
    program = (
        "import sys; from depth_anything.images.read import read_image\n"
        "for path in sys.argv[1:]:\n"
        "    try: print('read', read_image(path).shape)\n"
        "    except ValueError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *map(str, paths)], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == [str(path) for path in paths]
    assert done.stderr == ""


@pytest.mark.slow
def test_100_megapixels_in_bounded_memory(tmp_path):
    """7 bytes per pixel and a turned image: 700 MB, and 150 MB for Python, its libraries and one strip."""
    path = tmp_path / "large.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (12_500, 8_000), (90, 120, 30)).save(path, exif=exif)
    program = (
        "import sys; from depth_anything.images.read import read_image\n"
        "shape = read_image(sys.argv[1]).shape\n"
        # not ru_maxrss, which is inherited from the process that started this one
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(*shape, int(peak.split()[1]) // 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    height, width, _, peak_mib = map(int, done.stdout.split())
    assert (height, width) == (12_500, 8_000)
    assert peak_mib * 1024 * 1024 < 7 * 100e6 + 150e6, f"{peak_mib} MiB"


def test_extreme_panoramas_are_read():
    for size in ((65_000, 1), (1, 65_000), (1, 1)):
        assert read_image(encode(Image.new("RGB", size), "PNG")).shape == (size[1], size[0], 3)
    assert MAX_PIXELS == 200_000_000
