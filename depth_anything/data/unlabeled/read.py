"""Read the encoded images of a shard from a tar, files, a database or videos."""

import gzip
import hashlib
import io
import os
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from depth_anything.data.shards import BLOCK, TarStream, cached_index, refuse_huge
from depth_anything.data.storage import is_url
from depth_anything.data.unlabeled.image_shards import ImageShard, expanded, image_numbers, is_image, open_lmdb
from depth_anything.video.decode import file_frames, open_clip

EVERY = 10
"""Of a video's frames, one in ten is taken (the authors, about BDD100K)."""
QUALITY = 95
"""JPEG quality of what has no JPEG of its own."""
LONGEST_KEY = 80
GZIPPED = (".gz", ".tgz")

OnError = Callable[[str, Exception], None]


def read_images(shard: ImageShard, on_error: OnError | None = None) -> Iterator[tuple[str, bytes]]:
    """The images of a shard as (key, bytes of an image file), in one order.

    The key is the image's path in its source, without suffix and dots; no two of a shard are equal. The bytes are as
    they lie there, not decoded; frames of videos become JPEGs.

    Args:
        on_error: called with the key and the error of a single file or frame that cannot be read, after which the rest
            follows. Without it, that error is raised.

    Raises:
        ValueError: the archive, database or video is missing, damaged or cut short; one line that names it.
    """
    readers = {"tar": read_tar, "files": read_files, "lmdb": read_lmdb, "videos": read_videos}
    used: set[str] = set()
    for name, content in readers[shard.form](shard):
        key = unique_key(name, used)
        if isinstance(content, bytes):
            yield key, content
        elif on_error is None:
            raise content
        else:
            on_error(key, content)


def unique_key(name: str, used: set[str]) -> str:
    """A key from an image's name: no suffix, no dots (they end a key), short enough for a tar, not used before."""
    path = re.sub(r"^(\.?/)+", "", name.replace("\\", "/"))
    key = str(PurePosixPath(path).with_suffix("")).replace(".", "_") or "picture"
    if not key.isascii() or len(key) > LONGEST_KEY:
        readable = re.sub(r"[^\w/-]", "_", key, flags=re.ASCII)[-40:].strip("/")
        key = f"{readable}-{hashlib.sha256(path.encode(errors='surrogateescape')).hexdigest()[:16]}"
    number, first = 2, key
    while key in used:
        key = f"{first}-{number}"
        number += 1
    used.add(key)
    return key


def read_tar(shard: ImageShard) -> Iterator[tuple[str, bytes | ValueError]]:
    """A slice of an archive through its index, or all of it as a stream."""
    if shard.count is None:
        yield from stream_tar(shard.path)
        return
    index = cached_index(shard.path)
    try:
        with open(shard.path, "rb") as file:
            for number in image_numbers(index)[shard.first : shard.first + shard.count]:
                try:
                    content = index.read(file, number)
                except ValueError as error:
                    yield index.names[number], error
                    continue
                yield index.names[number], content
    except OSError as error:
        raise ValueError(f"{shard.path}: cannot be read ({error}); fetch it again") from None


def stream_tar(path: str) -> Iterator[tuple[str, bytes | ValueError]]:
    """All images of an archive, compressed or not, on a disk or at a URL, read once from front to end."""
    try:
        with open_stream(path) as file, (stream := TarStream(unzipped(file, path))).open() as tar:
            for info in tar:
                if info.isreg() and is_image(info.name):
                    content = tar.extractfile(info)
                    assert content is not None
                    try:
                        refuse_huge(info.size, f"{path}: {info.name}")
                    except ValueError as error:
                        yield info.name, error
                        continue
                    yield info.name, content.read()
            stream.check_end(tar.offset)
        check_end(path)
    except (tarfile.TarError, EOFError, OSError, OverflowError, zlib.error) as error:
        raise ValueError(f"{path}: cut short, damaged or no tar ({error}); fetch it again") from None


def open_stream(path: str) -> Any:
    """A file on a disk or at a URL, for reading."""
    if not is_url(path):
        return open(path, "rb")
    import fsspec

    system, name = fsspec.core.url_to_fs(path)
    return system.open(name, "rb")


def unzipped(file: Any, path: str) -> Any:
    """What an archive holds; the gzip module notices a cut stream, tarfile's own reader does not always."""
    return gzip.open(file) if path.endswith(GZIPPED) else file


def check_end(path: str) -> None:
    """A tar truncated between two files looks complete to Python's reader: it must end with a block of zeros.

    Raises:
        tarfile.ReadError: it does not.
    """
    if path.endswith(GZIPPED):
        return
    with open_stream(path) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - BLOCK))
        if size % BLOCK or file.read().strip(b"\0"):
            raise tarfile.ReadError("no end mark")


def read_files(shard: ImageShard) -> Iterator[tuple[str, bytes | OSError]]:
    """Files of a folder or a list."""
    for member in expanded(shard):
        try:
            with open(os.path.join(shard.path, member), "rb") as file:
                yield member, file.read()
        except OSError as error:
            yield member, error


def read_lmdb(shard: ImageShard) -> Iterator[tuple[str, bytes]]:
    """Values of a database, images in whatever format; their names are the keys."""
    with open_lmdb(shard.path).begin() as transaction:
        cursor = transaction.cursor()
        if not cursor.set_range(bytes.fromhex(shard.start)):
            raise ValueError(f"{shard.path}: the database became shorter since it was planned; plan it again")
        for _, (key, value) in zip(range(shard.count or 0), cursor, strict=False):
            yield key.decode("ascii", errors="backslashreplace"), value


def read_videos(shard: ImageShard) -> Iterator[tuple[str, bytes | Exception]]:
    """One frame in ten of each video, upright, as JPEG; a frame's name is the video's with its number.

    Broken pieces of a video are passed over; a video that gave fewer frames than it promises is reported once.
    """
    for member in shard.members:
        path, index = os.path.join(shard.path, member), 0
        try:
            clip = open_clip(path)
            for frame in file_frames(clip, every=EVERY):
                index = frame.index
                yield frame_name(member, index), as_jpeg(frame.image_HW3)
            if lacking := clip.lacking(index + EVERY):
                raise ValueError(lacking)
        except (ValueError, OSError) as error:
            yield frame_name(member, index, "-broken"), error


def frame_name(video: str, number: int, more: str = "") -> str:
    """Of a frame of a video."""
    return f"{os.path.splitext(video)[0]}-{number:06d}{more}.jpg"


def as_jpeg(image_HW3: np.ndarray) -> bytes:
    """An image of QUALITY."""
    stream = io.BytesIO()
    Image.fromarray(image_HW3).save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue()
