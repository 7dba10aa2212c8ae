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
import math
import os
import re
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

MAX_PIXELS = 200_000_000
# fmt: off
SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".tif", ".tiff", ".webp", ".avif", ".heic", ".heif", ".gif",
    ".bmp", ".dib", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".ico", ".qoi",
))
# What Pillow may decode for us. Others that it knows (EPS, WMF, ...) start programs or only pretend to be pictures.
_FORMATS = frozenset((
    "AVIF", "BMP", "DIB", "GIF", "HEIF", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "PSD", "QOI", "SGI",
    "TGA", "TIFF", "WEBP",
))
# fmt: on
_EXPECTED = "expected JPEG, PNG, TIFF, WebP, AVIF, GIF, BMP, PPM, JPEG 2000, TGA or ICO"
_STRIP_PIXELS = 4_000_000
_ORIENTATION, _EXIF_IFD = 0x0112, 0x8769
# Pillow's pixel limit, Python's warning filters and standard error belong to the whole process: one change at a time.
_PROCESS_LOCK = threading.Lock()
_LIBTIFF_LINE = re.compile(
    r"_?(TIFF|Fax|LZW|ZIP|Zip|Deflate|JPEG|OJPEG|PackBits|PixarLog|LogLuv|SGILog|Thunder|LERC|ZSTD)\w*: "
)


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


def read(source: PictureSource) -> np.ndarray:
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
        orientation = _orientation(_exif(image))
        width, height = image.size
        upright_size = (width, height) if orientation >= 5 else (height, width)
        upright_HW3 = np.empty((*upright_size, 3), np.uint8)
        stored_HW3 = _as_stored(upright_HW3, orientation)
        to_rgb = _converter(image)
        for top, strip in _strips(image):
            stored_HW3[top : top + strip.height] = to_rgb(strip)
    return upright_HW3


def info(source: PictureSource) -> PictureInfo:
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
        exif = _exif(image)
        # Pillow's TIFF reader already answers the upright size.
        if _orientation(exif) >= 5 and image.format != "TIFF":
            width, height = height, width
        return PictureInfo(width, height, image.format, image.mode, _focal_35mm(exif))


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
                # The limit is ours (MAX_PIXELS). Warnings about odd EXIF blocks help nobody who wants a depth map.
                warnings.simplefilter("ignore")
                pillow_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
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
    except MemoryError:
        raise PictureError(f"{name}: not enough memory to decode it; make the picture smaller") from None
    except Exception as error:  # Pillow's decoders answer damaged files with nearly every type of exception
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise PictureError(
            f"{name}: damaged or cut short ({reason}); fetch it again, or save it anew with a picture editor"
        ) from error


def _name(source: PictureSource) -> str:
    if isinstance(source, Source):
        return source.name
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)  # type: ignore[return-value]
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
        head = stream.read(16)
        stream.seek(0)
        if not head:
            raise PictureError(f"{name}: the file is empty")
        if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"):
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
        raise PictureError(
            f"{width} x {height} is {width * height / 1e6:.0f} megapixels; "
            f"expected at most {MAX_PIXELS // 1_000_000}: make it smaller first"
        )
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


# -- EXIF ------------------------------------------------------------------------------------------------------------


def _exif(image: Image.Image) -> Image.Exif:
    """The picture's EXIF; empty where it is damaged, since the pixels may be well."""
    with _PROCESS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exif = image.getexif()
            exif.get_ifd(_EXIF_IFD)
        except Exception:  # Pillow's EXIF parser answers damaged blocks with nearly every type of exception
            return Image.Exif()
    return exif


def _orientation(exif: Image.Exif) -> int:
    """EXIF orientation 1 to 8; 1 where it is absent or nonsense."""
    value = exif.get(_ORIENTATION, 1)
    return value if value in range(1, 9) else 1


def _as_stored(upright_HW3: np.ndarray, orientation: int) -> np.ndarray:
    """The same memory, indexed as the file stores its rows (EXIF 2.32, tag Orientation)."""
    transposed = upright_HW3.transpose(1, 0, 2)
    return {
        1: upright_HW3,
        2: upright_HW3[:, ::-1],
        3: upright_HW3[::-1, ::-1],
        4: upright_HW3[::-1],
        5: transposed,
        6: transposed[::-1],
        7: transposed[::-1, ::-1],
        8: transposed[:, ::-1],
    }[orientation]


def _focal_35mm(exif: Image.Exif) -> float | None:
    """The 35 mm equivalent that EXIF states, or the one that focal length and sensor size give."""
    tags = exif.get_ifd(_EXIF_IFD)

    def number(tag: int) -> float | None:
        try:
            value = float(tags[tag])
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            return None
        return value if 0 < value < 1e6 else None

    stated = number(0xA405)  # FocalLengthIn35mmFilm
    if stated is not None:
        return stated
    focal_mm, pixels_per_unit = number(0x920A), number(0xA20E)  # FocalLength, FocalPlaneXResolution
    width, height = number(0xA002), number(0xA003)  # of the picture as it was taken, not as it may have been resized
    if focal_mm is None or pixels_per_unit is None or width is None or height is None:
        return None
    unit_mm = {3: 10.0, 4: 1.0}.get(int(number(0xA210) or 2), 25.4)  # FocalPlaneResolutionUnit
    sensor_diagonal_mm = math.hypot(width, height) / pixels_per_unit * unit_mm
    return focal_mm * math.hypot(36, 24) / sensor_diagonal_mm


# -- decoding ------------------------------------------------------------------------------------------------------


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


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The picture in bands of whole rows, so that conversions need little memory beside it."""
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _converter(image: Image.Image) -> Callable[[Image.Image], np.ndarray]:
    """The function that turns a strip of `image` into uint8 (rows, W, 3)."""
    if image.mode.startswith("I") or image.mode == "F":
        return _grey_converter(image)
    if image.mode == "LAB":
        lab_to_srgb = ImageCms.buildTransform(
            ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
        )
        return lambda strip: np.asarray(ImageCms.applyTransform(strip, lab_to_srgb))
    if image.has_transparency_data or image.mode in ("La", "RGBa"):
        return _on_white
    return lambda strip: np.asarray(strip.convert("RGB"))


def _on_white(strip: Image.Image) -> np.ndarray:
    rgba = strip.convert("LA").convert("RGBA") if strip.mode == "La" else strip.convert("RGBA")
    result = Image.new("RGB", strip.size, "white")
    result.paste(rgba, mask=rgba.getchannel("A"))
    return np.asarray(result)


def _grey_converter(image: Image.Image) -> Callable[[Image.Image], np.ndarray]:
    """16-bit, 32-bit and float grey to 8 bits by the rule at the top of this file."""
    low, high = np.inf, -np.inf
    for _, strip in _strips(image):
        values = np.asarray(strip)
        values = values[np.isfinite(values)] if image.mode == "F" else values
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    if low > high:  # nothing finite
        low, high = 0.0, 1.0
    if image.mode == "F":
        black, white = (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
    elif low >= 0 and high <= 65535:
        declared_12bit = image.format == "TIFF" and image.tag_v2.get(258) == (12,)  # type: ignore[attr-defined]
        bits = max(8, int(high).bit_length())
        black, white = 0.0, 4095.0 if declared_12bit else float(2**bits - 1) if bits <= 12 else 65535.0
    else:
        black, white = low, high
    scale = 255.0 / (white - black) if white > black else 0.0
    transparent = image.info.get("transparency")

    def to_rgb(strip: Image.Image) -> np.ndarray:
        values_HW = np.asarray(strip)
        with np.errstate(invalid="ignore"):  # NaN
            grey_HW = np.nan_to_num((values_HW.astype(np.float64) - black) * scale, nan=0, posinf=255, neginf=0)
        grey_HW = np.round(np.clip(grey_HW, 0, 255)).astype(np.uint8)
        if isinstance(transparent, int):
            grey_HW[values_HW == transparent] = 255
        return np.repeat(grey_HW[:, :, None], 3, axis=2)

    return to_rgb


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
    return _on_white(Image.fromarray(array)) if array.shape[2] == 4 else array
