"""Colour signalling of still images by the code points of ITU-T H.273 (CICP): whether an image is HDR, and its range.

AVIF and HEIC keep them in a box of their primary item (`colr` of type `nclx`, ISO 23008-12), PNG in a chunk (`cICP`).
The range of AVIF and HEIC is that of their Y'CbCr, which their decoders convert; that of a PNG is of its pixels.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from depth_anything.images import hdr

_TRANSFERS: dict[int, hdr.Transfer] = {16: "PQ", 18: "HLG"}
_BT709 = 1


@dataclass(frozen=True)
class Colors:
    """How the R'G'B' of an image is to be read."""

    primaries: int
    transfer: int
    """Transfer characteristics."""
    narrow: bool = False
    """Black and white are 16 and 235 of 8 bits, 4096 and 60160 of 16."""

    @property
    def hdr_transfer(self) -> hdr.Transfer | None:
        """The transfer function of an HDR image; None for an SDR image."""
        return _TRANSFERS.get(self.transfer)

    @property
    def wide(self) -> bool:
        """Whether the primaries of an HDR image are BT.2020's; otherwise they are sRGB's."""
        return self.primaries != _BT709


def read(stream: BinaryIO) -> Colors | None:
    """What an AVIF, HEIC or PNG states; None if it states nothing.

    Raises:
        Exception: of any type, where the file is damaged.
    """
    stream.seek(0)
    head = stream.read(12)
    if head.startswith(b"\x89PNG"):
        return _of_png(stream)
    return _of_heif(stream) if head[4:8] == b"ftyp" else None


def _of_png(stream: BinaryIO) -> Colors | None:
    """From the chunk cICP, which precedes the pixels."""
    stream.seek(8)
    while len(head := stream.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
        content = stream.read(int.from_bytes(head[:4], "big"))
        if head[4:] == b"cICP":
            return Colors(content[0], content[1], content[3] == 0) if len(content) == 4 else None
        stream.seek(4, 1)
    return None


def _of_heif(stream: BinaryIO) -> Colors | None:
    """From the properties of the primary item."""
    stream.seek(0)
    while len(head := stream.read(8)) == 8:
        size = int.from_bytes(head[:4], "big")
        if head[4:] == b"meta" and size >= 12:
            return _of_meta(stream.read(size - 8)[4:])
        if size < 8:  # to the end of the file, or of 64 bits: pixels
            return None
        stream.seek(size - 8, 1)
    return None


def _of_meta(meta: bytes) -> Colors | None:
    inside = dict(_boxes(meta))
    item = inside[b"pitm"]
    primary = int.from_bytes(item[4:6] if item[0] == 0 else item[4:8], "big")
    properties = dict(_boxes(inside[b"iprp"]))
    every = list(_boxes(properties[b"ipco"]))
    for index in _associated(properties[b"ipma"], primary):
        kind, content = every[index - 1]
        if kind == b"colr" and content[:4] == b"nclx":
            return Colors(*struct.unpack(">HH", content[4:8]))
    return None


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, content) of the boxes that follow each other."""
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big") or len(data) - at
        if size < 8:
            return
        yield data[at + 4 : at + 8], data[at + 8 : at + size]
        at += size


def _associated(ipma: bytes, item: int) -> list[int]:
    """Numbers, from 1, of the properties that an item has."""
    version, wide_numbers = ipma[0], ipma[3] & 1
    name_size, number_size = (2 if version == 0 else 4), (2 if wide_numbers else 1)
    at = 8
    for _ in range(int.from_bytes(ipma[4:8], "big")):
        name, count = int.from_bytes(ipma[at : at + name_size], "big"), ipma[at + name_size]
        at += name_size + 1
        numbers = [ipma[at + number_size * i : at + number_size * (i + 1)] for i in range(count)]
        at += number_size * count
        if name == item:
            mask = 0x7FFF if wide_numbers else 0x7F  # the first bit: whether a reader must understand the property
            return [number for one in numbers if (number := int.from_bytes(one, "big") & mask)]
    return []
