"""TIFFs byte by byte (TIFF 6.0), in layouts that no library at hand writes; and a raw camera file (DNG 1.4)."""

import struct
from collections.abc import Sequence

import numpy as np

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, OFFSETS, ORIENTATION, SAMPLES = 256, 257, 258, 259, 262, 273, 274, 277
ROWS, COUNTS, PLANAR, SUB_IFDS, EXTRA, FORMAT, SUBSAMPLING, EXIF = 278, 279, 284, 330, 338, 339, 530, 0x8769
PACKBITS = 32773
BYTE, ASCII, SHORT, LONG, RATIONAL, SIGNED_RATIONAL = 1, 2, 3, 4, 5, 10
SIZES = {
    BYTE: (1, "B"),
    ASCII: (1, "B"),
    SHORT: (2, "H"),
    LONG: (4, "I"),
    RATIONAL: (8, "I"),
    SIGNED_RATIONAL: (8, "i"),
}
Tags = dict[int, tuple[int, Sequence[int]]]


def directory(tags: Tags, at: int, order: str) -> bytes:
    """An image file directory that lies at byte `at`, with its long values behind it."""
    entries, behind = b"", b""
    first = at + 2 + 12 * len(tags) + 4
    for tag, (kind, values) in sorted(tags.items()):
        size, letter = SIZES[kind]
        packed = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(packed) > 4:
            packed, behind = struct.pack(f"{order}I", first + len(behind)), behind + packed + bytes(len(packed) % 2)
        count = len(values) // (2 if size == 8 else 1)
        entries += struct.pack(f"{order}HHI", tag, kind, count) + packed.ljust(4, b"\0")
    return struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + behind


def file(
    tags: Tags,
    blocks: Sequence[bytes],
    order: str = "<",
    sub: tuple[Tags, bytes] | None = None,
    lens: Tags | None = None,
) -> bytes:
    """A TIFF of one image in strips or planes, perhaps with another below it (a SubIFD) in one strip, and EXIF."""
    if lens is not None:
        end = len(file({**tags, EXIF: (LONG, [0])}, blocks, order, sub))
        return file({**tags, EXIF: (LONG, [end])}, blocks, order, sub) + directory(lens, end, order)
    places = Places(tags, blocks, order, sub, start=0, below=0)
    start = 8 + len(places.outer)
    places = Places(tags, blocks, order, sub, start, start + len(places.inner))
    mark = b"II" if order == "<" else b"MM"
    pixels = b"".join(blocks) + (sub[1] if sub is not None else b"")
    return mark + struct.pack(f"{order}HI", 42, 8) + places.outer + places.inner + pixels


class Places:
    """Both directories, where the inner one begins at byte `start` and the pixels at byte `below`."""

    def __init__(self, tags: Tags, blocks: Sequence[bytes], order: str, sub, start: int, below: int):
        offsets = below + np.cumsum([0, *map(len, blocks)])
        own = {COUNTS: (LONG, [*map(len, blocks)]), OFFSETS: (LONG, offsets[:-1].tolist())}
        self.inner = b""
        if sub is not None:
            own[SUB_IFDS] = LONG, [start]
            about = {COUNTS: (LONG, [len(sub[1])]), OFFSETS: (LONG, [int(offsets[-1])])}
            self.inner = directory({**sub[0], **about}, start, order)
        self.outer = directory({**tags, **own}, 8, order)


def tiff(
    numbers: np.ndarray,
    photometric: int,
    *,
    order: str = "<",
    planes: bool = False,
    packed: bool = False,
    strips: int = 1,
    more: Tags | None = None,
    lens: Tags | None = None,
) -> bytes:
    """A TIFF of numbers (H, W) or (H, W, C), as wide as their type.

    Args:
        photometric: 0 white is 0, 1 black is 0, 2 RGB, 5 CMYK, 6 YCbCr.
        order: "<" Intel's, ">" Motorola's.
        planes: each channel on its own, instead of pixel by pixel.
        packed: PackBits; that is decoded by libtiff.
        strips: of equal height.
        more: tags that are added, or stand instead.
        lens: tags of its EXIF.
    """
    numbers_HWC = numbers.reshape(*numbers.shape[:2], -1)
    height, width, samples = numbers_HWC.shape
    kind = numbers.dtype.newbyteorder(order)
    layers = [numbers_HWC[..., channel] for channel in range(samples)] if planes else [numbers_HWC]
    blocks = []
    for layer in layers:
        for strip in np.split(layer, strips):
            rows = [np.ascontiguousarray(row, kind).tobytes() for row in strip]
            blocks.append(b"".join(map(packbits, rows) if packed else rows))
    tags: Tags = {
        WIDTH: (LONG, [width]), HEIGHT: (LONG, [height]), BITS: (SHORT, [8 * numbers.dtype.itemsize] * samples),
        COMPRESSION: (SHORT, [PACKBITS if packed else 1]), PHOTOMETRIC: (SHORT, [photometric]),
        SAMPLES: (SHORT, [samples]), ROWS: (LONG, [height // strips]), PLANAR: (SHORT, [2 if planes else 1]),
        FORMAT: (SHORT, [{"u": 1, "i": 2, "f": 3}[numbers.dtype.kind]] * samples),
    }  # fmt: skip
    return file({**tags, **(more or {})}, blocks, order, lens=lens)


def packbits(row: bytes) -> bytes:
    """A row in runs of literal bytes."""
    return b"".join(bytes([len(row[i : i + 128]) - 1]) + row[i : i + 128] for i in range(0, len(row), 128))


def dng(
    linear_HW3: np.ndarray, orientation: int = 1, version: bool = True, lens: Tags | None = None, compression: int = 1
) -> bytes:
    """A raw camera file whose sensor saw linear light in 0..1 through a red, green, green, blue filter array.

    Its first image is a black thumbnail of 16 x 12, as cameras write one; `lens` are tags of its EXIF,
    `compression` what the file says of its data, which are never compressed.
    """
    height, width = linear_HW3.shape[:2]
    y, x = np.mgrid[:height, :width]
    channel = np.where(y % 2 == 0, np.where(x % 2 == 0, 0, 1), np.where(x % 2 == 0, 1, 2))
    sensor_HW = np.take_along_axis(linear_HW3, channel[..., None], axis=2)[..., 0]
    words = np.round(sensor_HW * 65535).astype("<u2").tobytes()
    # ColorMatrix1 of a camera whose colours are sRGB's: XYZ (D65) to linear sRGB, IEC 61966-2-1.
    to_camera = [3.2406, -1.5372, -0.4986, -0.9689, 1.8758, 0.0415, 0.0557, -0.2040, 1.0570]
    outer: Tags = {
        254: (LONG, [1]), WIDTH: (LONG, [16]), HEIGHT: (LONG, [12]), BITS: (SHORT, [8, 8, 8]),
        COMPRESSION: (SHORT, [1]), PHOTOMETRIC: (SHORT, [2]), ORIENTATION: (SHORT, [orientation]),
        SAMPLES: (SHORT, [3]), ROWS: (LONG, [12]), 50721: (SIGNED_RATIONAL, rationals(to_camera)),
        50728: (RATIONAL, rationals([1, 1, 1])), 50778: (SHORT, [21]),
        271: (ASCII, b"Maker\0"), 272: (ASCII, b"Camera\0"),
    }  # fmt: skip
    if version:
        outer |= {50706: (BYTE, [1, 4, 0, 0]), 50707: (BYTE, [1, 1, 0, 0]), 50708: (ASCII, b"Maker Camera\0")}
    inner: Tags = {
        254: (LONG, [0]), WIDTH: (LONG, [width]), HEIGHT: (LONG, [height]), BITS: (SHORT, [16]),
        COMPRESSION: (SHORT, [compression]), PHOTOMETRIC: (SHORT, [32803]), SAMPLES: (SHORT, [1]),
        ROWS: (LONG, [height]),
        33421: (SHORT, [2, 2]), 33422: (BYTE, [0, 1, 1, 2]), 50714: (SHORT, [0]), 50717: (LONG, [65535]),
    }  # fmt: skip
    return file(outer, [bytes(16 * 12 * 3)], sub=(inner, words), lens=lens)


def rationals(numbers: Sequence[float]) -> list[int]:
    """Numerators and denominators, in turn."""
    return [part for number in numbers for part in (round(number * 10_000), 10_000)]
