"""Pillow, libtiff and LibRaw without their messages: what they would print becomes an error or is dropped.

Pillow's pixel limit, Python's warning filters and standard error are global to the process, so a lock guards them.
"""

import logging
import os
import re
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image

from depth_anything.images import exif, raw, tiff
from depth_anything.images.source import ImageError

_PROCESS_LOCK = threading.Lock()
# libtiff: a function's or our stream's name; LibRaw: always the same.
_DECODER_LINE = re.compile(r"((?=\w*[a-z])(?=\w*[A-Z])\w+|tempfile\.tif|unknown file): |  ")
_SILENT = logging.NullHandler()


@contextmanager
def quiet() -> Iterator[None]:
    """One thread at a time, and no warnings from Pillow about odd metadata, which does not matter for depth."""
    with _PROCESS_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("PIL").addHandler(_SILENT)  # a logger without any prints to standard error
        yield


def read_exif(image: Image.Image) -> Image.Exif:
    """The image's EXIF; empty where it is damaged, since the pixels may be well."""
    with quiet():
        try:
            tags = image.getexif()
            tags.get_ifd(exif.IFD)
        except Exception:  # Pillow's EXIF parser raises nearly every type of exception for damaged blocks
            return Image.Exif()
    return tags


def decode(image: Image.Image) -> None:
    """Decode all pixels. A TIFF about which libtiff complains is an error, even if it returns pixels."""
    if image.format != "TIFF":
        image.load()
        return
    with quiet(), _decoder_lines() as lines:
        try:
            image.load()
        except ValueError as error:
            if "raw mode" in str(error):
                raise ImageError(tiff.unread(image)) from None
            raise
    complaints = [line for line in lines if not line.startswith("TIFFFetchNormalTag")]  # harmless
    if complaints:
        raise OSError(complaints[0])


@contextmanager
def _decoder_lines() -> Iterator[list[str]]:
    """What libtiff and LibRaw print meanwhile, in a list that is filled at the end.

    They write to the standard error of the process and return half an image; nothing else reports the error.
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
                if _DECODER_LINE.match(line):
                    lines.append(line.strip())
                else:  # another thread wrote it
                    os.write(2, line.encode())


def develop(image: raw.Raw) -> np.ndarray:
    """uint8 RGB (H, W, 3) of a raw camera file, upright. One about which LibRaw complains is an error."""
    with quiet(), _decoder_lines() as complaints:
        image_HW3 = image.developed()
    if complaints:
        raise OSError(complaints[0])
    return image_HW3
