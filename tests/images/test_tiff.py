"""TIFF layouts: the image, or a line that says what the file is; never another image."""

import io
import itertools

import numpy as np
import pytest
import tiffs
from PIL import Image
from tiffs import tiff

from depth_anything.images import tiff as layouts
from depth_anything.images.read import ImageError, read_image

Y, X = np.mgrid[:24, :32]
RGB = np.stack([X * 8, Y * 10, (X + Y) * 4], -1).astype(np.uint8)
GREY = RGB[..., 1]
OPACITY = np.where(Y < 8, 0, np.where(Y < 16, 128, 255)).astype(np.uint8)
NOISE = ((7 * X + 3 * Y) % 256).astype(np.uint8)
WAYS = [*itertools.product("<>", (False, True))]  # byte order; uncompressed, and through libtiff


def wide(numbers: np.ndarray) -> np.ndarray:
    """8 bits in 16."""
    return numbers.astype(np.uint16) * 257


def seen_as(data: bytes, expected: np.ndarray, tolerance: float = 1.0) -> None:
    expected = expected[..., None].repeat(3, axis=2) if expected.ndim == 2 else expected
    assert np.abs(read_image(data).astype(float) - expected).max() <= tolerance


def stretched(values: np.ndarray) -> np.ndarray:
    """From their own minimum to their maximum."""
    return (values.astype(float) - values.min()) / (float(values.max()) - values.min()) * 255


@pytest.mark.parametrize(("order", "packed"), WAYS)
@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("strips", [1, 3])
def test_channels_of_8_and_16_bits(order, packed, planes, strips):
    """RGB; with opacity; with a channel that means nothing, as satellites add one."""
    on_white = RGB * (OPACITY[..., None] / 255) + 255 * (1 - OPACITY[..., None] / 255)
    for numbers in (RGB, wide(RGB)):
        seen_as(tiff(numbers, 2, order=order, planes=planes, packed=packed, strips=strips), RGB)
    for numbers in (np.dstack([RGB, OPACITY]), wide(np.dstack([RGB, OPACITY]))):
        more = {tiffs.EXTRA: (tiffs.SHORT, [2])}
        seen_as(tiff(numbers, 2, order=order, planes=planes, packed=packed, strips=strips, more=more), on_white)
    more = {tiffs.EXTRA: (tiffs.SHORT, [0])}
    seen_as(
        tiff(wide(np.dstack([RGB, NOISE])), 2, order=order, planes=planes, packed=packed, strips=strips, more=more), RGB
    )


@pytest.mark.parametrize(("order", "packed"), WAYS)
def test_white_is_zero(order, packed):
    seen_as(tiff(255 - GREY, 0, order=order, packed=packed), GREY)
    seen_as(tiff((1 - GREY / 255).astype(np.float32), 0, order=order, packed=packed), GREY)
    if order == "<":
        seen_as(tiff(65535 - wide(GREY), 0, packed=packed), GREY)
    else:
        with pytest.raises(ImageError, match=r"a TIFF of 1 x 16 bits \(grey, white is 0\) is not read here"):
            read_image(tiff(65535 - wide(GREY), 0, order=order, packed=packed))


@pytest.mark.parametrize(("order", "packed"), WAYS)
def test_signed_integers_and_floats(order, packed):
    """From their own minimum to their maximum; negative ones are darker than 0, in every byte order."""
    heights = X * 9 - Y * 12  # -276 to 279
    for kind in (np.int16, np.int32, np.float32):
        seen_as(tiff(heights.astype(kind), 1, order=order, packed=packed), stretched(heights))
    seen_as(
        tiff((heights / 3).astype(np.int8), 1, order=order, packed=packed), stretched((heights / 3).astype(np.int8))
    )


@pytest.mark.parametrize("packed", [False, True])
def test_unsigned_words_beyond_two_to_the_31(packed):
    seen_as(tiff(GREY.astype(np.uint32) * 16843009, 1, packed=packed), stretched(GREY))


@pytest.mark.parametrize(
    ("numbers", "photometric", "expected"),
    [
        (RGB.astype(np.float32) / 255, 2, r"3 x 32 bits float \(RGB\)"),
        (RGB.astype(np.float16), 2, r"3 x 16 bits float \(RGB\)"),
        (RGB.astype(np.uint32), 2, r"3 x 32 bits \(RGB\)"),
        (RGB.astype(np.int16), 2, r"3 x 16 bits signed \(RGB\)"),
        (GREY.astype(np.float64), 1, r"1 x 64 bits float \(grey\)"),
        (GREY.astype(np.uint64), 1, r"1 x 64 bits \(grey\)"),
        (np.dstack([RGB, RGB]), 1, r"6 x 8 bits \(grey\)"),
        (wide(np.dstack([RGB, RGB, RGB])), 2, r"9 x 16 bits \(RGB\)"),
        (wide(np.dstack([GREY, OPACITY])), 1, r"2 x 16 bits \(grey\)"),
    ],
)
@pytest.mark.parametrize("planes", [False, True])
def test_unsupported_layouts_are_named(numbers, photometric, expected, planes):
    if planes and numbers.ndim == 3:
        expected += ", in planes"
    with pytest.raises(ImageError, match=f"a TIFF of {expected} is not read here; expected 1 to 4 channels"):
        read_image(tiff(numbers, photometric, planes=planes))


def test_bigtiff_in_motorolas_order_is_named():
    with pytest.raises(ImageError, match="a BigTIFF in Motorola's byte order is not read here"):
        read_image(b"MM\0+\0\x08\0\0" + (16).to_bytes(8, "big") + bytes(200))


def test_a_compression_that_is_not_known_is_named():
    with pytest.raises(ImageError, match=r"a TIFF of 3 x 8 bits \(RGB\), compression 34712 is not read here"):
        read_image(tiff(RGB, 2, more={tiffs.COMPRESSION: (tiffs.SHORT, [34712])}))  # JPEG 2000


def test_a_compression_that_libtiff_was_built_without_is_named(monkeypatch):
    """Such a file is whole: it is not called damaged."""
    webp = io.BytesIO()
    Image.fromarray(RGB).save(webp, "WEBP", lossless=True)
    tags = {
        tiffs.WIDTH: (tiffs.SHORT, [RGB.shape[1]]),
        tiffs.HEIGHT: (tiffs.SHORT, [RGB.shape[0]]),
        tiffs.BITS: (tiffs.SHORT, [8, 8, 8]),
        tiffs.COMPRESSION: (tiffs.LONG, [50001]),
        tiffs.PHOTOMETRIC: (tiffs.SHORT, [2]),
        tiffs.SAMPLES: (tiffs.SHORT, [3]),
        tiffs.ROWS: (tiffs.SHORT, [RGB.shape[0]]),
    }
    data = tiffs.file(tags, [webp.getvalue()])
    save = Image.Image.save

    def without(image, *args, **options):
        if options.get("compression") == "webp":
            raise OSError("encoder error -2 when writing image file")
        save(image, *args, **options)

    monkeypatch.setattr(Image.Image, "save", without)
    layouts._has_codec.cache_clear()
    with pytest.raises(ImageError, match=r"a TIFF of 3 x 8 bits \(RGB\), compression webp is not read here; expected"):
        read_image(data)
    layouts._has_codec.cache_clear()


@pytest.mark.parametrize(("order", "packed"), WAYS)
@pytest.mark.parametrize(
    ("numbers", "photometric", "extra"),
    [
        (np.dstack([GREY, OPACITY]), 1, [2]),  # Pillow takes the planes apart wrongly
        (np.dstack([RGB, OPACITY]), 2, []),  # a fourth plane that says nothing about itself
        (np.dstack([RGB, OPACITY]), 2, [1]),
        (np.dstack([RGB, OPACITY, NOISE]), 2, [2, 0]),
    ],
)
def test_planes_are_the_image_or_refused(order, packed, numbers, photometric, extra):
    more = {tiffs.EXTRA: (tiffs.SHORT, extra)} if extra else {}
    for values in (numbers, wide(numbers)):
        with pytest.raises(ImageError, match="in planes is not read here"):
            read_image(tiff(values, photometric, order=order, planes=True, packed=packed, more=more))


def test_subsampled_colours_without_compression_are_refused():
    """Four brightnesses share two colours there: read pixel by pixel they are another image."""
    numbers = np.zeros((24, 32, 3), np.uint8)
    more = {tiffs.SUBSAMPLING: (tiffs.SHORT, [2, 2])}
    with pytest.raises(ImageError, match=r"\(YCbCr\), subsampled is not read here"):
        read_image(tiff(numbers, 6, more=more))
    read_image(tiff(numbers, 6, more={tiffs.SUBSAMPLING: (tiffs.SHORT, [1, 1])}))


@pytest.mark.parametrize(("tag", "values"), [(529, (0.2126, 0.7152, 0.0722)), (532, (16, 235, 128, 240, 128, 240))])
def test_ycbcr_of_another_matrix_or_range_is_refused(tag, values):
    """Pillow converts what is not compressed as BT.601's in full range, whatever the tags say."""
    usual = {529: (0.299, 0.587, 0.114), 532: (0, 255, 128, 255, 128, 255)}[tag]
    numbers, pixelwise = np.full((24, 32, 3), 128, np.uint8), {tiffs.SUBSAMPLING: (tiffs.SHORT, [1, 1])}

    def stating(values: tuple[float, ...]) -> bytes:
        ratios = [part for value in values for part in (round(value * 10_000), 10_000)]
        return tiff(numbers, 6, more=pixelwise | {tag: (tiffs.RATIONAL, ratios)})

    with pytest.raises(ImageError, match=r"\(YCbCr\), not BT.601's in full range is not read here"):
        read_image(stating(values))
    assert read_image(stating(usual)).tolist() == numbers.tolist()


def test_a_thumbnail_is_not_the_image():
    with pytest.raises(ImageError, match="the first image of this TIFF is a thumbnail of another"):
        read_image(tiff(RGB, 2, more={254: (tiffs.LONG, [1])}))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_planes_are_turned_upright(orientation, tmp_path):
    """Against Pillow's reading of the same pixels in a PNG."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(tmp_path / "same.png", exif=exif)
    more = {tiffs.ORIENTATION: (tiffs.SHORT, [orientation])}
    np.testing.assert_array_equal(
        read_image(tiff(wide(RGB), 2, planes=True, more=more)), read_image(tmp_path / "same.png")
    )
