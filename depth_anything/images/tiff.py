"""TIFF layouts that Pillow decodes into another image, and layouts that it cannot read."""

import io
from collections.abc import Iterator
from functools import cache
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin

EXPECTED = "expected 1 to 4 channels of 8 or 16 bits, or one of up to 32, in a usual compression; save it so, or as PNG"
MAGIC = (b"II*\0", b"MM\0*", b"II+\0")  # TIFF 6.0, and BigTIFF in Intel's byte order
_BIG_ENDIAN_BIGTIFF = b"MM\0+"
# Tags, TIFF 6.0 and DNG 1.4
_SUBFILE, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR = 254, 258, 259, 262, 277, 284
_SUB_IFDS, _EXTRA, _FORMAT, _SUBSAMPLING, _DNG_VERSION = 330, 338, 339, 530, 50706
_WHITE_IS_ZERO, _RGB, _CMYK, _YCBCR, _FILTER_ARRAY, _LINEAR_RAW = 0, 2, 5, 6, 32803, 34892
_USUAL_YCBCR = {529: (0.299, 0.587, 0.114), 532: (0, 255, 128, 255, 128, 255)}
"""Coefficients, and the values of black and white."""
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_SEPARATE = 2
_COLOURS = {0: "grey, white is 0", 1: "grey", _RGB: "RGB", 3: "palette", _CMYK: "CMYK", _YCBCR: "YCbCr", 8: "LAB"}
_KINDS = {_UNSIGNED: "", _SIGNED: " signed", _FLOAT: " float", 5: " complex integer", 6: " complex"}
_OPTIONAL = {34925: "lzma", 50000: "zstd", 50001: "webp"}
"""Compressions that libtiff may lack, as Pillow names them."""


def directories(stream: BinaryIO, most: int = 16) -> Iterator[Any]:
    """The tags of a TIFF's first image and of what hangs below it (SubIFDs), `most` at most; nothing of other files.

    Raises:
        Exception: of any type, where the file is damaged.
    """
    header = stream.read(8)
    if header[:4] not in MAGIC:
        return
    if header[2:3] == b"+":
        header += stream.read(8)
    first = TiffImagePlugin.ImageFileDirectory_v2(header)
    waiting = [first.next]
    for _ in range(most):
        if not waiting:
            return
        tags = TiffImagePlugin.ImageFileDirectory_v2(header)
        stream.seek(waiting.pop(0))
        tags.load(stream)
        waiting += np.atleast_1d(tags.get(_SUB_IFDS, ())).astype(int).tolist()
        yield tags


def is_raw(stream: BinaryIO) -> bool:
    """Whether a TIFF is a camera's raw file: its first image is then a thumbnail of the sensor's data."""
    return any(
        _DNG_VERSION in tags or tags.get(_PHOTOMETRIC) in (_FILTER_ARRAY, _LINEAR_RAW) for tags in directories(stream)
    )


def is_cut(tags: Any, size: int) -> bool:
    """Whether pixels of a directory are outside a file of `size` bytes."""
    for offset_tag, count_tag in ((273, 279), (324, 325)):  # of strips, of tiles
        if offset_tag in tags and count_tag in tags:
            offsets, counts = (np.atleast_1d(tags[tag]).tolist() for tag in (offset_tag, count_tag))
            blocks = zip(offsets, counts, strict=False)
            if len(offsets) != len(counts) or any(count == 0 or start + count > size for start, count in blocks):
                return True
    return False


def is_cut_raw(stream: BinaryIO) -> bool:
    """Whether a camera's raw file is truncated: sensor data are outside it."""
    size = stream.seek(0, 2)
    stream.seek(0)
    sensors = [tags for tags in directories(stream) if tags.get(_PHOTOMETRIC) in (_FILTER_ARRAY, _LINEAR_RAW)]
    return any(is_cut(tags, size) for tags in sensors)


def describe(stream: BinaryIO) -> str:
    """The layout of a TIFF that Pillow does not know, and what is expected instead; empty for what is no TIFF."""
    tags = next(directories(stream), None)
    if tags is None:
        stream.seek(0)
        big = stream.read(4) == _BIG_ENDIAN_BIGTIFF
        return "a BigTIFF in Motorola's byte order is not read here; save it as an ordinary TIFF" if big else ""
    return f"a TIFF of {_layout(tags)} is not read here; {EXPECTED}"


def problem(image: Image.Image) -> str | None:
    """One line that states why Pillow would decode an opened TIFF incorrectly; None if it would not."""
    tags = image.tag_v2  # type: ignore[attr-defined]
    if tags.get(_SUBFILE, 0) & 1:
        return "the first image of this TIFF is a thumbnail of another; save the full image as a file of its own"
    if tags.get(_PLANAR, 1) == _SEPARATE and tags.get(_SAMPLES, 1) > 1:
        bands, extra = image.getbands(), tags.get(_EXTRA, ())
        meant = len(bands) + (0 if any(extra) else len(extra))
        if image.mode not in ("RGB", "RGBA", "CMYK") or meant != tags[_SAMPLES] or ("A" in bands and extra[:1] != (2,)):
            return unread(image)
    if not _has_codec(tags.get(_COMPRESSION, 1)):
        return unread(image)
    return unread(image) if _unusual_ycbcr(tags) and tags.get(_COMPRESSION, 1) == 1 else None


def _unusual_ycbcr(tags: Any) -> str:
    """In what Y'CbCr differs from BT.601's in full range, pixel by pixel, which alone Pillow converts itself."""
    if tags.get(_PHOTOMETRIC) != _YCBCR:
        return ""
    if tuple(tags.get(_SUBSAMPLING, (2, 2))) != (1, 1):
        return ", subsampled"
    for tag, usual in _USUAL_YCBCR.items():
        if not np.allclose(np.asarray(tags.get(tag, usual), float), usual, atol=1e-3):
            return ", not BT.601's in full range"
    return ""


@cache
def _has_codec(compression: int) -> bool:
    """Whether Pillow's libtiff was built with a compression of `_OPTIONAL`: it is tried. Of others, True."""
    try:
        if name := _OPTIONAL.get(compression):
            Image.new("RGB", (16, 16)).save(io.BytesIO(), "TIFF", compression=name)
    except (OSError, RuntimeError, ValueError):
        return False
    return True


def unread(image: Image.Image) -> str:
    """A line about a TIFF that Pillow opened and cannot decode."""
    return f"a TIFF of {_layout(image.tag_v2)} is not read here; {EXPECTED}"  # type: ignore[attr-defined]


def mend(image: Any) -> None:
    """Have Pillow's decoder read what it would misread: before the pixels are loaded.

    Uncompressed planes of 16 bits are taken for 8, and planes beyond the image's for parts of it; words that libtiff
    has put into the machine's order are turned round once more.
    """
    tags = image.tag_v2
    wide = ";16L" if tags.prefix == b"II" else ";16B"
    native = {"F;32BF": "F;32NF", "I;32BS": "I;32NS", "I;16BS": "I;16NS"}
    planes = tags.get(_SAMPLES, 1) if tags.get(_PLANAR, 1) == _SEPARATE else 1
    tiles = []
    for number, tile in enumerate(image.tile):
        codec, box, offset, args = tile
        raw_mode = args[0] if isinstance(args, tuple) else args
        if codec == "libtiff":
            raw_mode = native.get(raw_mode, raw_mode)
        elif codec == "raw" and planes > 1 and max(tags[_BITS]) == 16:
            plane = number * planes // len(image.tile)
            if plane >= len(image.getbands()):
                continue
            raw_mode = image.getbands()[plane] + wide
        if raw_mode != args[0]:
            tile = type(tile)(codec, box, offset, (raw_mode, *args[1:]))
        tiles.append(tile)
    image.tile = tiles


def values(image: Image.Image, strip: Image.Image) -> np.ndarray:
    """The numbers (H, W) of a strip of one channel, as the file means them: unsigned, signed or floats."""
    numbers_HW = np.asarray(strip)
    kind = sample_format(image)
    if image.mode == "I" and kind == _UNSIGNED:
        return numbers_HW.view(np.uint32)
    if image.mode == "L" and kind == _SIGNED:
        return numbers_HW.view(np.int8)
    return numbers_HW


def is_signed(image: Image.Image) -> bool:
    """Whether an opened image holds signed integers."""
    return sample_format(image) == _SIGNED


def sample_format(image: Image.Image) -> int:
    """1 unsigned, 2 signed, 3 float; 0 where it is no TIFF."""
    return image.tag_v2.get(_FORMAT, (_UNSIGNED,))[0] if image.format == "TIFF" else 0  # type: ignore[attr-defined]


def white_is_zero(image: Image.Image) -> bool:
    """Whether 0 is white and Pillow left it so: it turns only images of 8 bits and fewer."""
    wide = image.mode.startswith("I") or image.mode == "F"
    return wide and image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO  # type: ignore[attr-defined]


def _layout(tags: Any) -> str:
    """For example: 3 x 32 bits float (RGB), in planes, compression 34712."""
    bits = tuple(np.atleast_1d(tags.get(_BITS, (1,))).tolist())
    samples = int(tags.get(_SAMPLES, len(bits)))
    kind = _KINDS.get(np.atleast_1d(tags.get(_FORMAT, (_UNSIGNED,))).tolist()[0], " of an unknown type")
    each = "/".join(map(str, sorted(set(bits))[:4]))
    colours = _COLOURS.get(tags.get(_PHOTOMETRIC, 0), f"photometric interpretation {tags.get(_PHOTOMETRIC)}")
    planes = ", in planes" if tags.get(_PLANAR, 1) == _SEPARATE and samples > 1 else ""
    compression = tags.get(_COMPRESSION, 1)
    usual = compression in TiffImagePlugin.COMPRESSION_INFO and _has_codec(compression)
    packed = "" if usual else f", compression {_OPTIONAL.get(compression, compression)}"
    return f"{samples} x {each} bits{kind} ({colours}){planes}{_unusual_ycbcr(tags)}{packed}"
