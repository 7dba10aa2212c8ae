"""HDR still images look as the same scene does in SDR; SDR ones stay what they were."""

import io
import struct
import sys
import zlib
from fractions import Fraction

import numpy as np
import pytest
from benchmark_scripts import BENCHMARKS, script
from PIL import Image, features

from depth_anything.images import cicp, hdr
from depth_anything.images.read import read_image

sys.path.insert(0, str(BENCHMARKS))


@pytest.fixture(scope="module")
def video_pixels():
    pytest.importorskip("av")
    return script("video_pixels")


def with_chunk(png: bytes, content: bytes) -> bytes:
    """A PNG with a chunk cICP behind its header (33 bytes)."""
    chunk = b"cICP" + content
    return png[:33] + struct.pack(">I", len(content)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[33:]


def png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(("transfer", "number"), [("PQ", 16), ("HLG", 18)])
def test_png_in_hdr(video_pixels, transfer, number):
    rgb_HW3, alpha_HW = video_pixels.scene()
    signal_HW3 = (video_pixels.signal(rgb_HW3, transfer) >> 8).astype(np.uint8)
    found = read_image(with_chunk(png(signal_HW3), bytes([9, number, 0, 1])))
    assert np.abs(found.astype(float) - rgb_HW3).mean() < 2.5  # 8 bits of PQ are coarse
    transparent = read_image(with_chunk(png(np.dstack([signal_HW3, alpha_HW])), bytes([9, number, 0, 1])))
    share = alpha_HW[..., None] / 255
    assert np.abs(transparent - (rgb_HW3 * share + 255 * (1 - share))).mean() < 2.5
    # the same pixels as SDR, and in sRGB's own primaries
    np.testing.assert_array_equal(read_image(with_chunk(png(signal_HW3), bytes([1, 13, 0, 1]))), signal_HW3)
    assert np.abs(read_image(with_chunk(png(signal_HW3), bytes([1, number, 0, 1]))).astype(int) - found).mean() > 2


@pytest.mark.parametrize(("transfer", "number"), [("PQ", 16), ("HLG", 18)])
def test_a_grey_png_in_hdr(video_pixels, transfer, number):
    """Of 8 and of 16 bits, with opacity, with one value that is transparent."""
    colours_HW3, alpha_HW = video_pixels.scene()
    grey_HW = np.asarray(Image.fromarray(colours_HW3).convert("L"))
    expected_HW3 = np.repeat(grey_HW[:, :, None], 3, axis=2)
    signal_HW, chunk = video_pixels.signal(expected_HW3, transfer)[..., 0], bytes([9, number, 0, 1])

    def difference(data: bytes, expected_HW3: np.ndarray) -> float:
        return np.abs(read_image(with_chunk(data, chunk)).astype(float) - expected_HW3).mean()

    assert difference(png(signal_HW), expected_HW3) < 1
    assert difference(png((signal_HW >> 8).astype(np.uint8)), expected_HW3) < 2.5
    share = alpha_HW[..., None] / 255
    grey_and_alpha = np.dstack([(signal_HW >> 8).astype(np.uint8), alpha_HW])
    assert difference(png(grey_and_alpha), expected_HW3 * share + 255 * (1 - share)) < 2.5
    stream, clear = io.BytesIO(), int(signal_HW[3, 4])
    Image.fromarray(signal_HW).save(stream, "PNG", transparency=clear)
    assert difference(stream.getvalue(), np.where(signal_HW[..., None] == clear, 255, expected_HW3)) < 1


@pytest.mark.parametrize(("number", "transfer"), [(1, None), (16, "PQ"), (18, "HLG")])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "I;16"])
def test_a_png_in_narrow_range(mode, number, transfer):
    """BT.2100, table 9: the signal is (value - 16) / 219 or (value - 4096) / 56064; opacity is not in it."""
    value_HW, opacity_HW = np.arange(256).reshape(8, 32), np.full((8, 32), 255)
    if mode == "I;16":
        image = Image.fromarray((value_HW << 8).astype(np.uint16))
    else:
        image = Image.fromarray(value_HW.astype(np.uint8)).convert(mode)
    if mode in ("RGBA", "LA"):
        opacity_HW = np.arange(256).reshape(32, 8).T
        image.putalpha(Image.fromarray(opacity_HW.astype(np.uint8)))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    signal_HW3 = np.clip((value_HW - 16) / 219, 0, 1)[..., None].repeat(3, axis=2)
    expected_HW3 = np.round(signal_HW3 * 255)
    if transfer:
        expected_HW3 = hdr.to_sdr(np.round(signal_HW3 * 65535).astype(np.uint16), transfer)
    share = opacity_HW[..., None] / 255
    expected_HW3 = expected_HW3 * share + 255 * (1 - share)
    found_HW3 = read_image(with_chunk(stream.getvalue(), bytes([9, number, 0, 0])))
    assert np.abs(found_HW3 - expected_HW3).max() < 1
    assert np.abs(read_image(with_chunk(stream.getvalue(), bytes([9, number, 0, 1]))) - expected_HW3).max() > 4


@pytest.mark.parametrize("content", [b"", b"\x09", bytes([9, 16, 0]), bytes([9, 16, 0, 1] * 3)])
def test_a_chunk_of_another_length_states_nothing(content):
    rgb_HW3 = np.arange(144, dtype=np.uint8).reshape(6, 8, 3)
    np.testing.assert_array_equal(read_image(with_chunk(png(rgb_HW3), content)), rgb_HW3)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
@pytest.mark.parametrize("transfer", ["SDR", "PQ", "HLG"])
def test_avif_in_hdr(video_pixels, transfer, tmp_path):
    import av

    rgb_HW3, _ = video_pixels.scene()
    path = tmp_path / "photo.avif"
    matrix, primaries, trc = {"SDR": (1, 1, 13), "PQ": (9, 9, 16), "HLG": (9, 9, 18)}[transfer]
    with av.open(str(path), "w", format="avif") as container:
        stream = container.add_stream("libsvtav1", rate=1, options={"crf": "6", "svtav1-params": "pred-struct=1"})
        stream.width, stream.height, stream.pix_fmt = *video_pixels.SIZE, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = matrix, primaries, trc, 1
        frame = av.VideoFrame.from_ndarray(video_pixels.signal(rgb_HW3, transfer), format="rgb48le")
        frame = frame.reformat(format="yuv420p10le", dst_colorspace=matrix, dst_color_range=1)
        frame.pts, frame.time_base = 0, Fraction(1)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with path.open("rb") as file:
        assert cicp.read(file) == cicp.Colors(primaries, trc)
    assert np.abs(read_image(path).astype(float) - rgb_HW3).mean() < 5


@pytest.mark.parametrize("transfer", [13, 16])
def test_heic_in_hdr(video_pixels, transfer):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    rgb_HW3, _ = video_pixels.scene()
    seen = rgb_HW3 if transfer == 13 else (video_pixels.signal(rgb_HW3, "PQ") >> 8).astype(np.uint8)
    stream = io.BytesIO()
    primaries = 1 if transfer == 13 else 9
    Image.fromarray(seen).save(
        stream, "HEIF", quality=95, color_primaries=primaries, transfer_characteristics=transfer, matrix_coefficients=1
    )
    assert cicp.read(stream) == cicp.Colors(primaries, transfer)
    assert np.abs(read_image(stream.getvalue()).astype(float) - rgb_HW3).mean() < 6


def test_only_the_primary_item_counts():
    """Images with a gain map hold an HDR item beside the SDR image that everybody shows."""

    def box(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", 8 + len(content)) + kind + content

    colours = [box(b"colr", b"nclx" + struct.pack(">HHHB", *numbers, 0)) for numbers in ((9, 16, 9), (1, 13, 1))]
    for primary, expected in ((1, (9, 16)), (2, (1, 13)), (3, None)):
        items = struct.pack(">IHBBHBB", 2, 1, 1, 0x81, 2, 1, 0x82)
        meta = box(b"pitm", bytes(4) + struct.pack(">H", primary))
        meta += box(b"iprp", box(b"ipco", b"".join(colours)) + box(b"ipma", bytes(4) + items))
        file = box(b"ftyp", b"avif" + bytes(4)) + box(b"free", b"x" * 5) + box(b"meta", bytes(4) + meta)
        assert cicp.read(io.BytesIO(file)) == (expected and cicp.Colors(*expected))
