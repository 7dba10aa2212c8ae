"""Divide a source of images into units of about a thousand images; each unit becomes one shard of pseudo-labels.

Nothing is unpacked: a unit has the paths of its images. Its name depends only on them, so that it is the same in every
process and changes when images are added or removed.
"""

import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from depth_anything.data.shards import TarIndex, cached_index
from depth_anything.data.storage import is_url
from depth_anything.images.source import SUFFIXES
from depth_anything.system.extras import EXTRA_OF, needs
from depth_anything.system.files import is_hidden, walk

SHARD_SIZE = 1000
"""Images per shard, if its source can be divided."""
VIDEOS = 8
"""Videos per shard: BDD100K's 40 seconds at 30 frames a second give 120 images each."""
LMDB_LOCK = threading.Lock()
VIDEO_SUFFIXES = frozenset((".mov", ".mp4", ".avi", ".mkv", ".webm"))


@dataclass(frozen=True)
class ImageShard:
    """The images of one shard."""

    name: str
    """Unique, and usable as a file name: the name of the shard."""
    form: Literal["tar", "files", "videos", "lmdb"]
    path: str
    """The archive, the database, or the folder of `members`; an archive may be a URL."""
    count: int | None = None
    """Number of images; None if it is known only after reading."""
    first: int = 0
    """tar: number of the first image; with `count` None the whole archive is read from end to end."""
    start: str = ""
    """lmdb: the first key, hexadecimal."""
    members: tuple[str, ...] = ()
    """files, videos: paths below `path`; one that ends with / is a folder, listed when it is read."""


def is_image(name: str) -> bool:
    """Whether a file has the suffix of an image and is not hidden."""
    return os.path.splitext(name)[1].lower() in SUFFIXES and not is_hidden(os.path.basename(name))


def stem(path: str) -> str:
    """A path as a part of a file name: without suffixes, separators and dots."""
    for suffix in (".gz", ".tgz", ".tar", ".txt"):
        path = path.removesuffix(suffix)
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in path.strip("./"))[-60:]


def named(path: str, number: int, *contents: object) -> str:
    """The name of a shard: of its source, its number there, and an eight-digit digest of its contents."""
    digest = hashlib.sha256("\n".join(str(content) for content in (path, *contents)).encode())
    return f"{stem(path)}-{number:05d}-{digest.hexdigest()[:8]}"


def tar_shards(path: str, label: str, size: int = SHARD_SIZE) -> Iterator[ImageShard]:
    """Slices of one archive. Without random access (compressed, or at a URL), it is one shard.

    Args:
        path: of the archive.
        label: its path below the source's root, which names the shards.
        size: images in a shard.
    """
    if is_url(path) or path.endswith((".gz", ".tgz")):
        yield ImageShard(named(label, 0), "tar", path)
        return
    bytes_in_all = os.stat(path).st_size
    try:
        images = image_numbers(cached_index(path))
    except ValueError:  # damaged: reported when it is read; the rest is labelled
        yield ImageShard(named(label, 0, bytes_in_all), "tar", path)
        return
    for number, first in enumerate(range(0, len(images), size)):
        count = min(size, len(images) - first)
        yield ImageShard(named(label, number, bytes_in_all, first, count), "tar", path, count, first)


def image_numbers(index: TarIndex) -> list[int]:
    """Which of a tar's files are images."""
    return [number for number, name in enumerate(index.names) if is_image(name)]


def file_shards(root: str, label: str, members: Sequence[str], size: int = SHARD_SIZE) -> Iterator[ImageShard]:
    """Slices of a listing of image files below `root`."""
    for number, first in enumerate(range(0, len(members), size)):
        part = tuple(members[first : first + size])
        yield ImageShard(named(label, number, *part), "files", root, len(part), members=part)


def folder_shard(root: str, folder: str) -> ImageShard:
    """One folder below `root` as one shard, listed when it is read: for sets of many folders of a fair size each."""
    return ImageShard(named(folder, 0), "files", root, members=(f"{folder}/",))


def expanded(shard: ImageShard) -> list[str]:
    """The members of a shard of files, with its folders listed now."""
    found: list[str] = []
    for member in shard.members:
        if member.endswith("/"):
            found += (member + name for name in list_files(os.path.join(shard.path, member)))
        else:
            found.append(member)
    return found


def video_shards(root: str, videos: Sequence[str]) -> Iterator[ImageShard]:
    """A few videos each."""
    for number, first in enumerate(range(0, len(videos), VIDEOS)):
        part = tuple(videos[first : first + VIDEOS])
        yield ImageShard(named(Path(root).name or "videos", number, *part), "videos", root, members=part)


def lmdb_shards(path: str, label: str, size: int = SHARD_SIZE) -> Iterator[ImageShard]:
    """Slices of an LSUN database, in the order of its keys."""
    with open_lmdb(path).begin() as transaction:
        entries = transaction.stat()["entries"]
        for position, key in enumerate(transaction.cursor().iternext(values=False)):
            if position % size == 0:
                count = min(size, entries - position)
                name = named(label, position // size, key.hex(), count)
                yield ImageShard(name, "lmdb", path, count, start=key.hex())


def list_files(folder: str | os.PathLike[str], suffixes: frozenset[str] = SUFFIXES) -> list[str]:
    """Files below a folder by their suffix, as paths below it, sorted folder by folder; hidden ones are left out."""
    return [path.relative_to(folder).as_posix() for path in walk(folder, suffixes)]


def open_lmdb(path: str) -> Any:
    """An LSUN database, to be read only: once per process, for all of its threads, which lmdb asks for.

    Raises:
        ValueError: none there, or no library to read it.
    """
    with LMDB_LOCK:
        return _opened_lmdb(os.path.realpath(path), os.getpid())


@cache
def _opened_lmdb(path: str, process: int) -> Any:
    """`process`: what was opened before a fork must not be used behind it."""
    with needs(EXTRA_OF["lmdb"], f"{path}: an lmdb"):
        import lmdb
    try:
        return lmdb.open(path, readonly=True, lock=False, readahead=False, subdir=os.path.isdir(path))
    except lmdb.Error as error:
        raise ValueError(f"{path}: no readable lmdb ({error}); fetch it again") from None
