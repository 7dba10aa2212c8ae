"""Read the pictures that people have: any common format and mode, upright, as RGB uint8.

One rule for every input, so that the network sees what a person sees:
- The EXIF or TIFF orientation is applied. Numpy arrays are taken as upright.
- Transparent parts lie on white.
- 16-bit grey: 65535 is white. Where the largest value fits in 12 bits or fewer, the file holds 8- to 12-bit data in
  16-bit words, as scanners and scientific cameras write it, and the top of that range is white. A declared 12-bit TIFF
  is believed. 32-bit integers outside 0..65535, and floats outside 0..1, go from their own minimum to their maximum.
- Of an animation, the first frame. Colour profiles are not applied, except that LAB becomes sRGB.
- A header that promises more than MAX_PIXELS is refused before anything is decoded. A file that is cut short is an
  error; it never becomes a half grey picture.
"""

import io
import logging
import os
import re
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from depth_anything.images import exif
from depth_anything.images.color_modes import converter, on_white, strips

MAX_PIXELS = 200_000_000
# fmt: off
SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".tif", ".tiff", ".webp", ".avif", ".heic", ".heif", ".gif",
    ".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".ico", ".qoi", ".pcx",
    ".psd", ".sgi",
))
# What Pillow may decode for us. Others that it knows (EPS, WMF, ...) start programs or only pretend to be pictures.
_FORMATS = frozenset((
    "AVIF", "BMP", "DIB", "GIF", "HEIF", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "PSD", "QOI", "SGI",
    "TGA", "TIFF", "WEBP",
))
# fmt: on
_TOO_LARGE = f"its header promises more than {MAX_PIXELS // 1_000_000} megapixels; make it smaller first"
_EXPECTED = "expected JPEG, PNG, TIFF, WebP, AVIF, GIF, BMP, PPM, JPEG 2000, TGA or ICO"
# Pillow's pixel limit, Python's warning filters and standard error belong to the whole process: one change at a time.
_PROCESS_LOCK = threading.Lock()
_LIBTIFF_LINE = re.compile(r"((?=\w*[a-z])(?=\w*[A-Z])\w+|tempfile\.tif): |  ")  # a function's or our stream's name
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_SILENT = logging.NullHandler()


class PictureError(ValueError):
    """A picture that cannot be read. The message is one line: which picture, what is wrong, what to do."""


@dataclass(frozen=True)
class Source:
    """One picture to process, found by `find_images`."""

    stem: str
    """Where its outputs go below the output folder: `<stem>_<kind>.<ext>`, with / between folders."""
    path: Path | None = None
    data: bytes | None = None
    """The bytes that came through standard input; None for a file."""

    @property
    def name(self) -> str:
        """How messages call it."""
        return str(self.path) if self.path is not None else "standard input"


PictureSource = str | os.PathLike | bytes | BinaryIO | Image.Image | np.ndarray | Source


@dataclass(frozen=True)
class PictureInfo:
    """What a picture says about itself before it is decoded."""

    width: int
    """Of the upright picture."""
    height: int
    format: str | None
    mode: str
    focal_35mm: float | None
    """EXIF focal length as its 35 mm equivalent, in millimetres; None where EXIF does not say."""


def read_image(source: PictureSource) -> np.ndarray:
    """Any picture as RGB, upright.

    Needs about 7 bytes of memory per pixel besides the file: the decoded picture and the answer.

    Args:
        source: a path, the bytes of a file, a binary file object, a PIL image, an item of `find_images`, or a numpy
            array uint8 (H, W), (H, W, 3) RGB or (H, W, 4) RGBA.

    Returns:
        uint8 (H, W, 3).

    Raises:
        PictureError: (a ValueError) not a picture, damaged, cut short, too large, or of a wrong type; one line.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    with _opened(source) as image:
        _decode(image)
        # After decoding: a PNG's EXIF may follow its pixels, and the TIFF decoder has turned the picture already.
        turn = exif.orientation(_read_exif(image))
        width, height = image.size
        upright_size = (width, height) if turn >= 5 else (height, width)
        upright_HW3 = np.empty((*upright_size, 3), np.uint8)
        stored_HW3 = exif.as_stored(upright_HW3, turn)
        to_rgb = converter(image)
        for top, strip in strips(image):
            stored_HW3[top : top + strip.height] = to_rgb(strip)
    return upright_HW3


def image_info(source: PictureSource) -> PictureInfo:
    """Size, format and focal length. Only PNG is decoded for it, whose EXIF may follow the pixels.

    Arguments and errors as in `read`.
    """
    if isinstance(source, np.ndarray):
        height, width = _from_array(source).shape[:2]
        return PictureInfo(width, height, None, "RGB", None)
    with _opened(source) as image:
        if image.format == "PNG":
            _decode(image)
        width, height = image.size
        tags = _read_exif(image)
        # Pillow's TIFF reader already answers the upright size.
        if exif.orientation(tags) >= 5 and image.format != "TIFF":
            width, height = height, width
        return PictureInfo(width, height, image.format, image.mode, exif.focal_35mm(tags))


def stored_size(source: PictureSource) -> tuple[int, int]:
    """(width, height) that the header promises, before any turn upright. Nothing is decoded.

    Arguments and errors as in `read`.
    """
    if isinstance(source, np.ndarray):
        height, width = _from_array(source).shape[:2]
        return width, height
    with _opened(source) as image:
        return image.size


# -- opening ---------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(source: PictureSource) -> Iterator[Image.Image]:
    """The picture with its header parsed and checked, not decoded. Every failure inside becomes one PictureError."""
    name = _name(source)
    try:
        if isinstance(source, Image.Image):
            _check_size(*source.size)
            yield source
            return
        with _stream(source, name) as stream:
            with _PROCESS_LOCK, warnings.catch_warnings():
                # Pillow refuses what has more than twice its limit; some of its readers make room before we can ask.
                pillow_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MAX_PIXELS // 2
                warnings.simplefilter("ignore")  # about odd metadata: no help to anybody who wants a depth map
                logging.getLogger("PIL").addHandler(_SILENT)  # a logger without any prints to standard error
                try:
                    image = Image.open(stream)
                finally:
                    Image.MAX_IMAGE_PIXELS = pillow_limit
            with image:
                if image.format not in _FORMATS:
                    raise PictureError(f"{name}: {image.format} is not a picture format that is read here; {_EXPECTED}")
                _check_size(*image.size)
                _check_complete(image, stream)
                yield image
    except PictureError as error:
        # Raised below without the name.
        raise error if str(error).startswith(name) else PictureError(f"{name}: {error}") from None
    except FileNotFoundError:
        raise PictureError(f"{name}: no such file; check the path") from None
    except PermissionError:
        raise PictureError(f"{name}: no permission to read it") from None
    except UnidentifiedImageError:
        raise PictureError(f"{name}: not a picture, or its header is damaged; {_EXPECTED}") from None
    except Image.DecompressionBombError:
        raise PictureError(f"{name}: {_TOO_LARGE}") from None
    except MemoryError:
        raise PictureError(f"{name}: not enough memory to decode it; make the picture smaller") from None
    except Exception as error:  # Pillow's decoders answer damaged files with nearly every type of exception
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise PictureError(
            f"{name}: damaged or cut short ({reason}); fetch it again, or save it anew with a picture editor"
        ) from error


def _name(source: PictureSource) -> str:
    """How messages call it, in one line."""
    if isinstance(source, (Source, str, os.PathLike)):
        name = source.name if isinstance(source, Source) else str(os.fspath(source))
        return name if name.isprintable() else repr(name)
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "") or "PIL image")
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "picture bytes"
    return str(getattr(source, "name", "") or "picture stream")


@contextmanager
def _stream(source: PictureSource, name: str) -> Iterator[BinaryIO]:
    """A seekable binary stream of the file's bytes, checked to be worth handing to a decoder."""
    if isinstance(source, Source):
        source = source.data if source.path is None else source.path  # type: ignore[assignment]
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.exists() and not path.is_file():
            what = "a folder, not a picture" if path.is_dir() else "not a regular file"
            raise PictureError(f"{name}: {what}")
        stream: BinaryIO = path.open("rb")
    elif isinstance(source, (bytes, bytearray, memoryview)):
        stream = io.BytesIO(source)
    elif hasattr(source, "read"):
        data = source.read()  # type: ignore[union-attr]
        if not isinstance(data, bytes):
            raise PictureError(f"{name}: read() gave {type(data).__name__}; open the file in binary mode ('rb')")
        stream = io.BytesIO(data)
    else:
        raise PictureError(
            f"{name}: cannot read a picture from {type(source).__name__}; "
            "expected a path, bytes, a binary file, a PIL image or a numpy array"
        )
    with stream:
        head = stream.read(64)
        stream.seek(0)
        if not head:
            raise PictureError(f"{name}: the file is empty")
        if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS and b"avif" not in head:
            _register_heif()
        yield stream


def _register_heif() -> None:
    """Teach Pillow to read HEIC (iPhone) photographs; its libraries carry patents and GPL parts, so it is an extra."""
    try:
        import pillow_heif  # type: ignore[import-not-found]
    except ImportError:
        raise PictureError(
            'HEIC photographs need one more package: pip install "depth-anything[heic]", or save it as JPEG'
        ) from None
    pillow_heif.register_heif_opener()


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise PictureError(_TOO_LARGE)
    if width < 1 or height < 1:
        raise PictureError(f"the picture is {width} x {height}: it has no pixels")


def _check_complete(image: Image.Image, stream: BinaryIO) -> None:
    """For the two formats whose decoders fill up what is cut off."""
    position = stream.tell()
    if image.format == "TIFF":
        size = stream.seek(0, io.SEEK_END)
        tags = image.tag_v2  # type: ignore[attr-defined]
        for offset_tag, count_tag in ((273, 279), (324, 325)):  # of strips, of tiles
            if offset_tag in tags and count_tag in tags:
                offsets, counts = (np.atleast_1d(tags[tag]).tolist() for tag in (offset_tag, count_tag))
                blocks = zip(offsets, counts, strict=False)
                if len(offsets) != len(counts) or any(count == 0 or start + count > size for start, count in blocks):
                    raise PictureError("the TIFF's pixels lie outside the file: damaged or cut short; fetch it again")
    if image.format == "JPEG2000":
        stream.seek(0)
        if b"\xff\xd9" not in stream.read():  # the end mark: no other bytes can look like it (ISO 15444-1, annex A)
            raise PictureError("the JPEG 2000 is cut short; fetch it again")
    stream.seek(position)


# -- decoding ------------------------------------------------------------------------------------------------------


def _read_exif(image: Image.Image) -> Image.Exif:
    """The picture's EXIF; empty where it is damaged, since the pixels may be well."""
    with _PROCESS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tags = image.getexif()
            tags.get_ifd(exif.IFD)
        except Exception:  # Pillow's EXIF parser answers damaged blocks with nearly every type of exception
            return Image.Exif()
    return tags


def _decode(image: Image.Image) -> None:
    """Decode all pixels. A TIFF about which libtiff complains is an error, even where it answers something."""
    if image.format != "TIFF":
        image.load()
        return
    with _PROCESS_LOCK, warnings.catch_warnings(), _libtiff_lines() as lines:
        warnings.simplefilter("ignore")
        image.load()
    complaints = [line for line in lines if not line.startswith("TIFFFetchNormalTag")]  # odd private tags harm nobody
    if complaints:
        raise OSError(complaints[0])


@contextmanager
def _libtiff_lines() -> Iterator[list[str]]:
    """What libtiff prints meanwhile, in a list that is filled at the end.

    libtiff writes to the standard error of the process and answers half a picture; nothing else tells what it met.
    """
    lines: list[str] = []
    with tempfile.TemporaryFile() as log:
        stderr = os.dup(2)
        os.dup2(log.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            log.seek(0)
            for line in log.read().decode(errors="replace").splitlines(keepends=True):
                if _LIBTIFF_LINE.match(line):
                    lines.append(line.strip())
                else:  # another thread wrote it
                    os.write(2, line.encode())


def _from_array(array: np.ndarray) -> np.ndarray:
    """A numpy picture as RGB uint8 (H, W, 3); the same memory where it already is."""
    grey = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    if array.dtype != np.uint8 or not (grey or (array.ndim == 3 and array.shape[2] in (3, 4))) or array.size == 0:
        raise PictureError(
            f"numpy picture: got {array.dtype} of shape {array.shape}; expected uint8 (height, width, 3) RGB, "
            "(height, width) grey or (height, width, 4) RGBA; floats of 0..1 need (255 * picture).astype('uint8')"
        )
    _check_size(array.shape[1], array.shape[0])
    if grey:
        return np.repeat(array.reshape(array.shape[0], array.shape[1], 1), 3, axis=2)
    return on_white(Image.fromarray(array)) if array.shape[2] == 4 else array
