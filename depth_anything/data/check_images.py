"""Walk a real copy of an unlabelled set, or of any source of images: count it, decode it, name what is broken."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from depth_anything.data.check import TILE, check_counts, look_at_all, spread
from depth_anything.data.unlabeled.image_shards import ImageShard
from depth_anything.data.unlabeled.read import read_images
from depth_anything.images.read import ImageError, read_image


@dataclass
class ImagesReport:
    """Statistics of one shard, or of all."""

    shorter_sides: list[int] = field(default_factory=list)
    """Of the images that could be decoded."""
    bytes: int = 0
    broken: list[str] = field(default_factory=list)
    tile_HW3: np.ndarray | None = None

    def add(self, seen: "ImagesReport") -> None:
        """Count one shard."""
        self.shorter_sides += seen.shorter_sides
        self.bytes += seen.bytes
        self.broken += seen.broken

    def lines(self) -> list[str]:
        """For people."""
        usable = len(self.shorter_sides)
        lines = [f"read {usable + len(self.broken):,}: {usable:,} usable, {len(self.broken):,} broken"]
        if usable:
            least, half, most = np.quantile(self.shorter_sides, [0, 0.5, 1]).astype(int)
            lines.append(f"shorter side: {least} | {half} | {most} pixels (least | 50 % | most)")
            lines.append(f"{self.bytes / usable / 1000:.0f} kB an image")
        return lines


def check_images(
    shards: Sequence[ImageShard], limit: int | None = None, sheet: Path | None = None, threads: int = 1
) -> ImagesReport:
    """Decode every image, or about `limit` of them: the first few of evenly spread shards.

    Args:
        shards: of `data.unlabeled.image_shards`.
        limit: images to read; all by default.
        sheet: a PNG of some images, written when all are read.
        threads: how many shards are read at a time.

    Raises:
        ValueError: a limit or a number of threads below 1.
    """
    check_counts(limit, threads)
    numbers = spread(len(shards), limit or len(shards))
    first = None if limit is None else -(-limit // len(numbers))
    report = ImagesReport()
    look_at_all(
        numbers, lambda number, tile: look_into(shards[number], first, tile), report.add, sheet, threads, "shard", 6
    )
    return report


def look_into(shard: ImageShard, first: int | None, with_tile: bool) -> ImagesReport:
    """Decode the first images of a shard, or all. Unreadable images are listed, and the rest is decoded."""
    seen = ImagesReport()

    def broken(key: str, error: Exception) -> None:
        seen.broken.append(f"{shard.path}: {key}: {' '.join(str(error).split())}")

    try:
        for key, content in islice(read_images(shard, broken), first):
            try:
                image_HW3 = read_image(content)
            except ImageError as error:
                broken(key, error)
                continue
            seen.shorter_sides.append(min(image_HW3.shape[:2]))
            seen.bytes += len(content)
            if with_tile and seen.tile_HW3 is None:
                seen.tile_HW3 = draw(image_HW3)
    except ValueError as error:  # the archive, the database or the video itself
        seen.broken.append(str(error))
    return seen


def draw(image_HW3: np.ndarray) -> np.ndarray:
    """An image in a white box of TILE: uint8."""
    image = Image.fromarray(image_HW3)
    image.thumbnail(TILE)
    tile = Image.new("RGB", TILE, "white")
    tile.paste(image, (0, 0))
    return np.asarray(tile)
