"""Read the images that people have: any common format and mode, upright, as RGB uint8.

The same rules for every input, so that the network sees what a person sees:
- The EXIF or TIFF orientation is applied. Numpy arrays are taken as upright.
- Transparent parts are composited on white.
- 16-bit grey: 65535 is white, or 0 where a TIFF says so. Where the largest value fits in 12 bits or fewer, the file
  holds 8- to 12-bit data in 16-bit words, as scanners and scientific cameras write it, and the top of that range is
  white. A declared 12-bit TIFF is believed. Signed integers, 32-bit integers outside 0..65535, and floats outside 0..1,
  go from their own minimum to their maximum.
- Of an animation, the first frame. Colour profiles are not applied, except that LAB becomes sRGB.
- HDR (AVIF, HEIC, PNG in PQ or HLG) becomes SDR (hdr.py). A PNG in narrow range (cICP) is brought to the full one.
- Raw camera files are developed (raw.py); the preview inside is not the photograph.
- A TIFF whose layout would come out as another image is refused (tiff.py).
- A header that promises more than MAX_PIXELS is refused before anything is decoded. A file that is cut short is an
  error; it never becomes a half grey image.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from depth_anything.images import cicp, exif, raw, tiff
from depth_anything.images.color_modes import COLORS, converter, on_white, strips
from depth_anything.images.decoders import decode, develop, quiet, read_exif
from depth_anything.images.source import SUFFIXES, ImageError, ImageSource, Source, name_of, opened_stream
from depth_anything.system.files import missing

__all__ = [
    "MAX_PIXELS",
    "SUFFIXES",
    "ImageError",
    "ImageInfo",
    "ImageSource",
    "Source",
    "image_info",
    "read_image",
    "read_image_with_info",
    "stored_size",
]

MAX_PIXELS = 200_000_000
# fmt: off
# Formats that Pillow may decode. Others (EPS, WMF, ...) start programs or are not images.
_FORMATS = frozenset((
    "AVIF", "BMP", "DIB", "GIF", "HEIF", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "PSD", "QOI", "SGI",
    "TGA", "TIFF", "WEBP",
))
# fmt: on
_TOO_LARGE = f"its header promises more than {MAX_PIXELS // 1_000_000} megapixels; make it smaller first"
_EXPECTED = "expected JPEG, PNG, TIFF, WebP, AVIF, GIF, BMP, PPM, JPEG 2000, TGA or ICO"


@dataclass(frozen=True)
class ImageInfo:
    """Metadata of an image."""

    width: int
    """Of the upright image."""
    height: int
    format: str | None
    """Pillow's name of it, such as JPEG; RAW for a camera's raw file; None for pixels in memory."""
    mode: str
    focal_35mm: float | None
    """EXIF focal length as its 35 mm equivalent, in millimetres; None if EXIF does not state it."""
    orientation: int = 1
    """EXIF orientation, 1 to 8, that was applied to the stored pixels; 1: none."""


def read_image(source: ImageSource) -> np.ndarray:
    """Any image as RGB, upright: the pixels of `read_image_with_info`.

    Returns:
        uint8 (H, W, 3).
    """
    return read_image_with_info(source)[0]


def read_image_with_info(source: ImageSource) -> tuple[np.ndarray, ImageInfo]:
    """Any image as upright RGB, and its metadata, from one decoding.

    Needs about 7 bytes of memory per pixel besides the file: the decoded image and the result.

    Args:
        source: a path, the bytes of a file, a binary file object, a PIL image, an item of `find_images`, or a numpy
            array uint8 (H, W), (H, W, 3) RGB or (H, W, 4) RGBA.

    Raises:
        ImageError: (a ValueError) not an image, damaged, cut short, too large, or of a wrong type; one line.
    """
    if isinstance(source, np.ndarray):
        image_HW3 = _from_array(source)
        return image_HW3, ImageInfo(image_HW3.shape[1], image_HW3.shape[0], None, "RGB", None)
    with _opened(source) as image:
        if isinstance(image, raw.Raw):
            image_HW3 = develop(image)
            return image_HW3, _raw_info(image, (image_HW3.shape[1], image_HW3.shape[0]))
        decode(image)
        # After decoding: a PNG's EXIF may follow its pixels, and the TIFF decoder has turned the image already.
        about = _info(image)
        upright_HW3 = np.empty((about.height, about.width, 3), np.uint8)
        stored_HW3 = exif.as_stored(upright_HW3, about.orientation)
        to_rgb = converter(image)
        for top, strip in strips(image):
            stored_HW3[top : top + strip.height] = to_rgb(strip)
    return upright_HW3, about


def image_info(source: ImageSource) -> ImageInfo:
    """Size, format and focal length. Only PNG is decoded for it, whose EXIF may follow the pixels.

    Arguments and errors as in `read_image_with_info`.
    """
    if isinstance(source, np.ndarray):
        return read_image_with_info(source)[1]
    with _opened(source) as image:
        if isinstance(image, raw.Raw):
            return _raw_info(image, image.size)
        if image.format == "PNG":
            decode(image)
        return _info(image)


def stored_size(source: ImageSource) -> tuple[int, int]:
    """(width, height) that the header promises, before any turn upright. Nothing is decoded.

    Arguments and errors as in `read_image_with_info`.
    """
    if isinstance(source, np.ndarray):
        about = read_image_with_info(source)[1]
        return about.width, about.height
    with _opened(source) as image:
        return image.size


def _info(image: Image.Image) -> ImageInfo:
    """Of an opened image; of a PNG, after it was decoded."""
    width, height = image.size
    tags = read_exif(image)
    orientation = exif.orientation(tags)
    if image.format == "TIFF":
        # Pillow's TIFF reader reports the upright size, and turns what it decodes.
        return ImageInfo(width, height, image.format, image.mode, exif.focal_35mm(tags))
    if orientation >= 5:
        width, height = height, width
    return ImageInfo(width, height, image.format, image.mode, exif.focal_35mm(tags), orientation)


def _raw_info(image: raw.Raw, size: tuple[int, int]) -> ImageInfo:
    tags = image.exif()
    return ImageInfo(*size, "RAW", "RGB", None if tags is None else exif.focal_35mm(tags))


# -- opening ---------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(source: ImageSource) -> Iterator[Image.Image | raw.Raw]:
    """The image with its header parsed and checked, not decoded. Every failure inside becomes one ImageError."""
    name = name_of(source)
    try:
        if isinstance(source, Image.Image):
            _check_size(*source.size)
            yield source
            return
        with opened_stream(source, name) as stream:
            with quiet():
                raw_image = raw.Raw(stream) if raw.is_raw(stream, name) else None
            if raw_image is not None:
                with raw_image:
                    _check_size(*raw_image.size)
                    yield raw_image
                return
            with quiet():
                # Pillow refuses what has more than twice its limit; some of its readers make room before we can ask.
                pillow_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, MAX_PIXELS // 2
                try:
                    image = Image.open(stream)
                except UnidentifiedImageError:
                    raise ImageError(_unidentified(stream)) from None
                finally:
                    Image.MAX_IMAGE_PIXELS = pillow_limit
            with image:
                if image.format not in _FORMATS:
                    raise ImageError(f"{name}: {image.format} is not an image format that is read here; {_EXPECTED}")
                _check_size(*image.size)
                _check_complete(image, stream)
                image.info[COLORS] = _colors(stream)
                if image.format == "TIFF":
                    if problem := tiff.problem(image):
                        raise ImageError(problem)
                    tiff.mend(image)
                yield image
    except ImageError as error:
        # Raised below without the name.
        raise error if str(error).startswith(name) else ImageError(f"{name}: {error}") from None
    except FileNotFoundError:
        raise ImageError(missing(name, "check the path")) from None
    except PermissionError:
        raise ImageError(f"{name}: no permission to read it") from None
    except raw.RawError as error:
        raise ImageError(f"{name}: {error}") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{name}: {_TOO_LARGE}") from None
    except MemoryError:
        raise ImageError(f"{name}: not enough memory to decode it; make the image smaller") from None
    except Exception as error:  # Pillow's decoders raise nearly every type of exception for damaged files
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise ImageError(
            f"{name}: damaged or cut short ({reason}); fetch it again, or save it anew with an image editor"
        ) from error


def _colors(stream: BinaryIO) -> cicp.Colors | None:
    """What the file states about its colours, if anything."""
    position = stream.tell()
    try:
        return cicp.read(stream)
    except Exception:  # damaged boxes; the pixels may be well
        return None
    finally:
        stream.seek(position)


def _unidentified(stream: BinaryIO) -> str:
    """What is wrong with a file that Pillow does not know."""
    stream.seek(0)
    try:
        layout = tiff.describe(stream)
    except Exception:  # as above
        layout = ""
    return layout or f"not an image, or its header is damaged; {_EXPECTED}"


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(_TOO_LARGE)
    if width < 1 or height < 1:
        raise ImageError(f"the image is {width} x {height}: it has no pixels")


def _check_complete(image: Image.Image, stream: BinaryIO) -> None:
    """For the two formats whose decoders pad truncated files."""
    position = stream.tell()
    if image.format == "TIFF":
        size = stream.seek(0, io.SEEK_END)
        if tiff.is_cut(image.tag_v2, size):  # type: ignore[attr-defined]
            raise ImageError("the TIFF's pixels lie outside the file: damaged or cut short; fetch it again")
    if image.format == "JPEG2000":
        stream.seek(0)
        if b"\xff\xd9" not in stream.read():  # the end mark: no other bytes can look like it (ISO 15444-1, annex A)
            raise ImageError("the JPEG 2000 is cut short; fetch it again")
    stream.seek(position)


def _from_array(array: np.ndarray) -> np.ndarray:
    """A numpy image as RGB uint8 (H, W, 3); the same memory where it already is."""
    grey = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    if array.dtype != np.uint8 or not (grey or (array.ndim == 3 and array.shape[2] in (3, 4))) or array.size == 0:
        raise ImageError(
            f"numpy image: got {array.dtype} of shape {array.shape}; expected uint8 (height, width, 3) RGB, "
            "(height, width) grey or (height, width, 4) RGBA; floats of 0..1 need (255 * image).astype('uint8')"
        )
    _check_size(array.shape[1], array.shape[0])
    if grey:
        return np.repeat(array.reshape(array.shape[0], array.shape[1], 1), 3, axis=2)
    return on_white(Image.fromarray(array)) if array.shape[2] == 4 else array
