"""Where each unlabelled set of V1's table 1 keeps its images, in its official layout; and any other source."""

import glob
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from depth_anything.data.storage import is_url
from depth_anything.data.unlabeled.image_shards import (
    SHARD_SIZE,
    VIDEO_SUFFIXES,
    ImageShard,
    file_shards,
    folder_shard,
    list_files,
    lmdb_shards,
    tar_shards,
    video_shards,
)
from depth_anything.system.files import is_hidden, read_text
from depth_anything.system.words import one_of

DEPTH = 4
"""Folders above which an archive is looked for, from the root that the user names."""


MANY = 100
"""If a set has more folders than this, each is one shard: listing them all would take too long."""


@dataclass(frozen=True)
class UnlabeledSet:
    """One set. The first pattern that matches describes the local copy."""

    tars: tuple[str, ...] = ()
    """Patterns of archives."""
    folders: tuple[str, ...] = ()
    """Patterns of unpacked folders; if there are many, each becomes a shard."""
    lmdbs: tuple[str, ...] = ()
    videos: tuple[str, ...] = ()

    @property
    def needed_library(self) -> str | None:
        """What its images are read with, beside what every install has: a key of `system.extras.EXTRA_OF`."""
        return "lmdb" if self.lmdbs else "av" if self.videos else None


UNLABELED = {
    "bdd100k": UnlabeledSet(videos=("train/*",)),
    "imagenet21k": UnlabeledSet(tars=("n????????.tar",), folders=("n????????",)),
    "landmarks": UnlabeledSet(tars=("train/images_???.tar", "images_???.tar"), folders=("train/?/?",)),
    "lsun": UnlabeledSet(lmdbs=("*_train_lmdb",)),
    "objects365": UnlabeledSet(
        tars=("train/patch*.tar", "train/patch*.tar.gz", "patch*.tar", "patch*.tar.gz"), folders=("train/patch*",)
    ),
    "openimages": UnlabeledSet(tars=("train_?.tar", "train_?.tar.gz"), folders=("train_?", "train")),
    "places365": UnlabeledSet(
        tars=("train_large_places365*.tar", "train_256_places365*.tar"), folders=("data_large/?/*", "data_256/?/*")
    ),
    "sa1b": UnlabeledSet(tars=("sa_??????.tar",), folders=("sa_??????",)),
}
"""The eight sets: 62M images. Test and validation parts are never used if the layout identifies them."""

OTHERS = ("folder", "list", "tars")


def shards(kind: str, root: str | os.PathLike[str], size: int = SHARD_SIZE) -> list[ImageShard]:
    """The shards of a source, in a fixed order.

    Args:
        kind: a name of UNLABELED; or `folder` (images at any depth), `list` (a .txt of paths), `tars` (WebDataset
            tars: a folder of them, a pattern, or one; also at a URL such as s3://bucket/part-*.tar); or `auto`, which
            tells the last three apart by what lies there.
        root: its path.
        size: images per shard, if the source can be divided.

    Raises:
        ValueError: no such kind, nothing there, or nothing of that kind.
    """
    if size < 1:
        raise ValueError(f"shards of {size} images: expected 1 or more")
    root = os.fspath(root)
    if kind == "auto":
        kind = recognise(root)
    if kind in UNLABELED:
        found = list(official(kind, root, size))
    elif kind == "folder":
        found = list(file_shards(root, Path(root).resolve().name, list_files(existing(root)), size))
    elif kind == "list":
        found = list(file_shards("", Path(root).stem, read_list(existing(root)), size))
    elif kind == "tars":
        found = [shard for path, label in find_tars(root) for shard in tar_shards(path, label, size)]
    else:
        known = ("auto", *OTHERS, *UNLABELED)
        raise ValueError(f"kind {kind!r}: {one_of(kind, known)}")
    if not found:
        raise ValueError(f"{root}: no image of kind {kind} there; see docs/label.md for the layouts")
    return found


def recognise(root: str) -> str:
    """folder, list or tars."""
    if is_url(root) or is_tar(root) or (is_pattern(root) and not os.path.exists(root)):
        return "tars"
    if root.endswith(".txt"):
        return "list"
    return "tars" if find_tars(existing(root)) else "folder"


def existing(root: str) -> str:
    if not os.path.exists(root):
        raise ValueError(f"{root}: no such file or folder; expected images, tars or a .txt list of images")
    return root


def official(kind: str, root: str, size: int) -> Iterator[ImageShard]:
    """The shards of one of the eight sets."""
    row = UNLABELED[kind]
    if is_url(root):
        for path, label in find_tars(root):
            yield from tar_shards(path, label, size)
        return
    existing(root)
    for path in look(root, row.lmdbs, os.path.isdir):
        yield from lmdb_shards(path, os.path.relpath(path, root), size)
    videos = look(root, row.videos, lambda path: os.path.splitext(path)[1].lower() in VIDEO_SUFFIXES)
    yield from video_shards(root, [os.path.relpath(path, root) for path in videos])
    archives = look(root, row.tars, os.path.isfile)
    for path in archives:
        yield from tar_shards(path, os.path.relpath(path, root), size)
    folders = [] if archives else look(root, row.folders, os.path.isdir)
    for folder in (os.path.relpath(path, root) for path in folders):
        if len(folders) > MANY:
            yield folder_shard(root, folder)
        else:
            names = list_files(os.path.join(root, folder))
            yield from file_shards(root, folder, [f"{folder}/{name}" for name in names], size)
    if not (archives or folders or row.lmdbs or row.videos):  # loose images: whatever the copy looks like
        yield from file_shards(root, kind, list_files(root), size)


def look(root: str, patterns: tuple[str, ...], fits: Callable[[str], bool]) -> list[str]:
    """What one of the patterns finds, as near to the root as it is found, sorted."""
    for depth in range(DEPTH):
        for pattern in patterns:
            found = sorted(glob.glob(os.path.join(glob.escape(root), *["*"] * depth, pattern)))
            found = [path for path in found if fits(path) and not is_hidden(os.path.basename(path))]
            if found:
                return found
    return []


def find_tars(root: str) -> list[tuple[str, str]]:
    """(path, label) of the archives that a folder, a pattern or a path names; the label is its path below the root."""
    if is_url(root):
        import fsspec

        system, path = fsspec.core.url_to_fs(root)
        if not (is_tar(path) or is_pattern(path)):
            path = f"{path.rstrip('/')}/**"
        found = [name for name in sorted(system.glob(path)) if is_tar(name)]
        return [(system.unstrip_protocol(name), below(name, path)) for name in found]
    if os.path.isdir(root):
        names = list_files(root, frozenset((".tar", ".tgz", ".gz")))
        return [(os.path.join(root, name), name) for name in names if is_tar(name)]
    found = sorted(glob.glob(root, recursive=True)) if is_pattern(root) and not os.path.isfile(root) else [root]
    return [(path, below(path, root)) for path in found if is_tar(path) and os.path.isfile(path)]


def is_tar(name: str) -> bool:
    return name.endswith((".tar", ".tar.gz", ".tgz")) and not is_hidden(os.path.basename(name))


def is_pattern(path: str) -> bool:
    return any(letter in path for letter in "*?[")


def below(path: str, pattern: str) -> str:
    """A path without the folders that the pattern fixes."""
    return path.removeprefix(re.split(r"[*?\[]", pattern)[0].rpartition("/")[0]).lstrip("/")


def read_list(path: str) -> list[str]:
    """The lines of a list of paths: relative to the current folder, or else to the list's own."""
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    folder = os.path.dirname(path)
    beside = [os.path.join(folder, line) for line in lines]
    return [
        near if os.path.exists(near) and not os.path.exists(line) else line
        for line, near in zip(lines, beside, strict=True)
    ]
