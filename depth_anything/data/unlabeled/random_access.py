"""Unlabelled images by index, for training: nothing is unpacked, only an index is kept in memory."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import islice
from os.path import join

import numpy as np

from depth_anything.data.shards import cached_index, index_tar
from depth_anything.data.storage import is_url
from depth_anything.data.unlabeled.image_shards import ImageShard, expanded, image_numbers, open_lmdb
from depth_anything.data.unlabeled.read import EVERY, GZIPPED, frame_name, unique_key
from depth_anything.images.read import ImageError, read_image
from depth_anything.video.single_frames import count_frames, frame

LOG = logging.getLogger("depth_anything")
OPENED_AT_ONCE = 16
"""Videos whose frames are counted at once, which mostly waits for the disk."""


class UnlabeledImages:
    """The images of many shards as one sequence; `ends` holds the end of each shard.

    Args:
        shards: of uncompressed local tars, folders, lists, lmdb databases.

    Raises:
        ValueError: a shard that can only be read from front to end: a compressed or remote archive.
    """

    def __init__(self, shards: Sequence[ImageShard]):
        for shard in shards:
            if shard.form == "tar" and shard.count is None and not (is_url(shard.path) or shard.path.endswith(GZIPPED)):
                index_tar(shard.path)  # raises an error that states what is wrong
            if shard.form == "tar" and shard.count is None:
                raise ValueError(
                    f"{shard.path}: it can only be read from front to end; unpack the .gz, copy the archive here, or "
                    "label it first and train on the labels' shards"
                )
        self.shards = list(shards)
        self.video_ends = videos_taken(self.shards)
        """Of shards of videos, by their index: number of images up to the end of each video."""
        counts = [
            int(self.video_ends[index][-1])
            if index in self.video_ends
            else len(expanded(shard))
            if shard.count is None
            else shard.count
            for index, shard in enumerate(self.shards)
        ]
        self.ends = np.cumsum(counts, dtype=np.int64)
        """int64: number of images up to the end of each shard."""

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def __getitem__(self, number: int) -> tuple[str, np.ndarray]:
        """(key, uint8 RGB (H, W, 3), upright). A key is unique within its shard.

        Raises:
            ValueError: the image is broken; the line names it.
        """
        if not 0 <= number < len(self):
            raise IndexError(number)
        which = int(np.searchsorted(self.ends, number, side="right"))
        shard = self.shards[which]
        offset = number - (int(self.ends[which - 1]) if which else 0)
        if which in self.video_ends:
            return fetch_frame(shard, self.video_ends[which], offset)
        name, content = fetch(shard, offset)
        try:
            return unique_key(name, set()), read_image(content)
        except ImageError as error:
            raise ValueError(f"{shard.path}: {name}: {error}") from None


def videos_taken(shards: Sequence[ImageShard]) -> dict[int, np.ndarray]:
    """How many frames of each video are taken, as cumulative counts, of every shard of videos.

    A video that cannot be opened has none and is named in the log.
    """

    def taken(path: str) -> int:
        try:
            return -(-count_frames(path) // EVERY)
        except ValueError as error:
            LOG.warning("%s; left out", error)
            return 0

    paths = {
        index: [join(shard.path, name) for name in shard.members]
        for index, shard in enumerate(shards)
        if shard.form == "videos"
    }
    with ThreadPoolExecutor(OPENED_AT_ONCE) as pool:
        return {index: np.cumsum(list(pool.map(taken, names)), dtype=np.int64) for index, names in paths.items()}


def fetch_frame(shard: ImageShard, ends: np.ndarray, offset: int) -> tuple[str, np.ndarray]:
    """Key and pixels of one frame of a shard of videos, as `read.read_videos` has them before they become JPEGs."""
    video = int(np.searchsorted(ends, offset, side="right"))
    number = EVERY * (offset - (int(ends[video - 1]) if video else 0))
    name = shard.members[video]
    return unique_key(frame_name(name, number), set()), frame(join(shard.path, name), number)


def fetch(shard: ImageShard, offset: int) -> tuple[str, bytes]:
    """Name and bytes of one image of a shard."""
    if shard.form == "tar":
        index, numbers = tar_images(shard.path)
        member = numbers[shard.first + offset]
        with open(shard.path, "rb") as file:
            return index.names[member], index.read(file, member)
    if shard.form == "files":
        name = files_of(shard)[offset]
        try:
            with open(join(shard.path, name), "rb") as file:
                return name, file.read()
        except OSError as error:
            raise ValueError(str(error)) from None
    key = lmdb_keys(shard)[offset]
    with open_lmdb(shard.path).begin() as transaction:
        return key.decode("ascii", errors="backslashreplace"), transaction.get(key)


@lru_cache(maxsize=256)
def tar_images(path: str):
    """The index of a tar and which of its files are images, for the tars used last."""
    index = cached_index(path)
    return index, image_numbers(index)


@lru_cache(maxsize=256)
def files_of(shard: ImageShard) -> list[str]:
    return expanded(shard)


@lru_cache(maxsize=256)
def lmdb_keys(shard: ImageShard) -> list[bytes]:
    with open_lmdb(shard.path).begin() as transaction:
        cursor = transaction.cursor()
        cursor.set_range(bytes.fromhex(shard.start))
        return list(islice(cursor.iternext(values=False), shard.count))
