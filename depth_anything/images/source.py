"""Sources of images: the accepted types, their names in messages, and the streams of their bytes."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from depth_anything.system.extras import needs

# fmt: off
SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".tif", ".tiff", ".webp", ".avif", ".heic", ".heif", ".gif",
    ".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".ico", ".qoi", ".pcx",
    ".psd", ".sgi",
))
# fmt: on
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


class ImageError(ValueError):
    """An image that cannot be read. The message is one line: which image, what is wrong, what to do."""


@dataclass(frozen=True)
class Source:
    """One image to process, found by `find_images`."""

    stem: str
    """Where its outputs go below the output folder: `<stem>_<kind>.<ext>`, with / between folders."""
    path: Path | None = None
    data: bytes | None = None
    """The bytes that came through standard input; None for a file."""

    @property
    def name(self) -> str:
        """How messages call it."""
        return str(self.path) if self.path is not None else "standard input"


ImageSource = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | np.ndarray | Source


def name_of(source: ImageSource) -> str:
    """How messages call it, in one line."""
    if isinstance(source, (Source, str, os.PathLike)):
        name = source.name if isinstance(source, Source) else str(os.fspath(source))
        return name if name.isprintable() else repr(name)
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "") or "PIL image")
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "image bytes"
    return str(getattr(source, "name", "") or "image stream")


@contextmanager
def opened_stream(source: ImageSource, name: str) -> Iterator[BinaryIO]:
    """A seekable binary stream of the file's bytes, checked to be worth handing to a decoder."""
    if isinstance(source, Source):
        source = source.data if source.path is None else source.path  # type: ignore[assignment]
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.exists() and not path.is_file():
            what = "a folder, not an image" if path.is_dir() else "not a regular file"
            raise ImageError(f"{name}: {what}")
        stream: BinaryIO = path.open("rb")
    elif isinstance(source, (bytes, bytearray, memoryview)):
        stream = io.BytesIO(source)
    elif hasattr(source, "read"):
        data = source.read()  # type: ignore[union-attr]
        if not isinstance(data, bytes):
            raise ImageError(f"{name}: read() gave {type(data).__name__}; open the file in binary mode ('rb')")
        stream = io.BytesIO(data)
    else:
        raise ImageError(
            f"{name}: cannot read an image from {type(source).__name__}; "
            "expected a path, bytes, a binary file, a PIL image or a numpy array"
        )
    with stream:
        head = stream.read(64)
        stream.seek(0)
        if not head:
            raise ImageError(f"{name}: the file is empty")
        if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS and b"avif" not in head:
            _register_heif()
        yield stream


def _register_heif() -> None:
    """Teach Pillow to read HEIC (iPhone) photographs; its libraries carry patents and GPL parts, so it is an extra."""
    try:
        with needs("heic", "reading a HEIC photograph", ", or save it as JPEG"):
            import pillow_heif  # type: ignore[import-not-found]
    except ValueError as error:
        raise ImageError(str(error)) from None
    pillow_heif.register_heif_opener()
