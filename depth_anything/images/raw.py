"""Raw camera files (DNG, NEF, CR2, ARW, ...): the photograph itself through LibRaw, never the small preview inside."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
from PIL import Image

from depth_anything.images import exif, tiff
from depth_anything.system.extras import needs

# fmt: off
SUFFIXES = frozenset((
    ".dng", ".nef", ".nrw", ".cr2", ".cr3", ".crw", ".arw", ".sr2", ".srf", ".raf", ".orf", ".rw2", ".rwl", ".pef",
    ".srw", ".3fr", ".fff", ".iiq", ".mef", ".mos", ".mrw", ".erf", ".kdc", ".dcr", ".x3f", ".gpr",
))
# fmt: on
_STARTS = (
    b"FUJIFILMCCD-RAW",
    b"IIRO",
    b"IIRS",
    b"MMOR",
    b"IIU\0",
    b"FOVb",
    b"\0MRM",
)  # RAF, ORF (three), RW2, X3F, MRW


def is_raw(stream: BinaryIO, name: str) -> bool:
    """Whether a file is a camera's raw one, by its content, or else by its name."""
    head = stream.read(16)
    stream.seek(0)
    if head.startswith(_STARTS) or head[4:12] == b"ftypcrx " or head[6:14] == b"HEAPCCDR" or head[8:10] == b"CR":
        return True
    try:
        return tiff.is_raw(stream) or (head[:4] in tiff.MAGIC and name.lower().endswith(tuple(SUFFIXES)))
    except Exception:  # Pillow's tag reader raises nearly every type of exception for damaged tags
        return name.lower().endswith(tuple(SUFFIXES))
    finally:
        stream.seek(0)


class RawError(ValueError):
    """A raw file that cannot be read, in one line without its name."""


class Raw:
    """A raw file whose header has been read; a context manager that closes it.

    Args:
        stream: of the file; it stays open meanwhile.

    Raises:
        RawError: no rawpy, or LibRaw cannot read it.
    """

    def __init__(self, stream: BinaryIO):
        otherwise = ", or develop it to JPEG or TIFF (the preview inside is not the photograph)"
        try:
            with needs("raw", "reading a raw camera file", otherwise):
                import rawpy  # type: ignore[import-not-found]
        except ValueError as error:
            raise RawError(str(error)) from None
        self.stream, self.error = stream, rawpy.LibRawError
        if tiff.is_cut_raw(stream):  # LibRaw fills up compressed data that end too early
            raise RawError("a raw camera file that is damaged or cut short: sensor data lie outside it; fetch it again")
        stream.seek(0)
        try:
            self.raw = rawpy.imread(stream)
        except self.error as error:
            raise RawError(
                f"a raw camera file that LibRaw cannot read ({_reason(error)}); develop it to JPEG"
            ) from None

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.raw.close()

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) upright."""
        sizes = self.raw.sizes
        return (sizes.iheight, sizes.iwidth) if sizes.flip in (5, 6) else (sizes.iwidth, sizes.iheight)

    def developed(self) -> np.ndarray:
        """uint8 (H, W, 3), sRGB: upright, with the white balance that the camera set.

        Raises:
            RawError: damaged or cut short.
        """
        try:
            return self.raw.postprocess(use_camera_wb=True)
        except self.error as error:
            raise RawError(f"a raw camera file that is damaged or cut short ({_reason(error)})") from None

    def exif(self) -> Image.Exif | None:
        """Its EXIF, where it is stored as in a TIFF (DNG, NEF, CR2, ARW); None elsewhere."""
        self.stream.seek(0)
        try:
            with Image.open(self.stream, formats=["TIFF"]) as preview:
                tags = preview.getexif()
                tags.get_ifd(exif.IFD)
                return tags
        except Exception:  # Pillow's readers raise nearly every type of exception for unknown data
            return None


def _reason(error: Exception) -> str:
    """LibRaw's description of the error."""
    text = error.args[0] if error.args else type(error).__name__
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)
