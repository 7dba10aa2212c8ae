"""Check a copy of a labelled set: counts, ranges, broken files, a contact sheet."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from operator import iadd
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from depth_anything.data.sample import Sample
from depth_anything.data.samples import Samples, Unusable
from depth_anything.images.colormap import colored
from depth_anything.system.files import atomic_path, check_writable

TILE = 320, 240
"""Width and height of an image on the sheet, and of its disparity beside it."""
TILES = 24
_NOT_VALID, _SKY = (90, 90, 90), (0, 0, 0)
_DECADES, _BINS = 8, 2048
"""Disparities are counted in a histogram from 1e-8 to 1e8: a quantile is right within 2 %."""
_SUMMED = ("usable", "refused", "broken", "pixels", "valid", "sky", "counts", "ground_nearer", "ground_known")


@dataclass
class Report:
    """Statistics of one image, or of all of them."""

    scale: str = ""
    usable: list[int] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    sizes: Counter = field(default_factory=Counter)
    """(width, height) -> images."""
    pixels: int = 0
    valid: int = 0
    sky: int = 0
    counts: np.ndarray = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    """Of disparity, without the sky."""
    lowest: float = np.inf
    highest: float = 0.0
    ground_nearer: int = 0
    """Images whose lower half is nearer than the upper one."""
    ground_known: int = 0
    """Images with a label in both halves."""
    tile_HW3: np.ndarray | None = None
    """Tile of one image for the sheet, if requested."""

    def add(self, one: "Report") -> None:
        """Count another image."""
        self.scale = one.scale or self.scale
        self.lowest, self.highest = min(self.lowest, one.lowest), max(self.highest, one.highest)
        self.sizes.update(one.sizes)
        for name in _SUMMED:
            setattr(self, name, iadd(getattr(self, name), getattr(one, name)))  # in place: there may be a million

    def quantile(self, share: float) -> float:
        """The disparity below which this share of the pixels lies, sky apart."""
        reached = np.cumsum(self.counts)
        bin_number = int(np.searchsorted(reached, share * reached[-1]))
        middle = 10 ** ((bin_number + 0.5) / _BINS * 2 * _DECADES - _DECADES)
        return float(np.clip(middle, self.lowest, self.highest))

    def lines(self) -> list[str]:
        """For people."""
        usable, refused, broken = map(len, (self.usable, self.refused, self.broken))
        read = usable + refused + broken
        lines = [f"read {read:,}: {usable:,} usable, {refused:,} refused, {broken:,} broken"]
        if not self.usable:
            return lines
        sizes = [f"{width} x {height}" + f" ({count:,})" for (width, height), count in self.sizes.most_common(3)]
        more = f", {len(self.sizes) - 3} other sizes" if len(self.sizes) > 3 else ""
        lines.append(f"sizes: {', '.join(sizes)}{more}")
        if self.counts.any():
            values = [self.lowest, *(self.quantile(share) for share in (0.01, 0.5, 0.99)), self.highest]
            name = f"disparity ({self.scale})"
            if self.scale == "metric":
                name, values = "metres", [1 / value for value in reversed(values)]
            numbers = " | ".join(f"{value:.3g}" for value in values)
            lines.append(f"{name}: {numbers} (least | 1 % | 50 % | 99 % | most)")
        lines.append(f"not valid: {1 - self.valid / self.pixels:.1%} of the pixels; sky: {self.sky / self.pixels:.1%}")
        if self.ground_known:
            share = self.ground_nearer / self.ground_known
            doubt = ": fewer than half; is it upside down, or depth taken for disparity?" if share < 0.5 else ""
            lines.append(f"lower half nearer than upper half in {share:.0%} of the images{doubt}")
        return lines


def check(samples: Samples, limit: int | None = None, sheet: Path | None = None, threads: int = 1) -> Report:
    """Read every image of a set, or `limit` of them evenly spread.

    Args:
        samples: a labelled set, with its sky chosen.
        limit: images to read; all by default.
        sheet: a PNG of some images beside their disparity, written when all are read.
        threads: how many images are read at a time.

    Raises:
        ValueError: a limit or a number of threads below 1.
    """
    check_counts(limit, threads)
    numbers = spread(len(samples), limit or len(samples))
    report = Report()
    look_at_all(numbers, lambda number, tile: look(samples, number, tile), report.add, sheet, threads, "image")
    return report


def check_counts(limit: int | None, threads: int) -> None:
    """Raises ValueError if there is nothing to read, or no reader."""
    if (limit is not None and limit < 1) or threads < 1:
        raise ValueError(f"limit {limit}, threads {threads}: expected 1 or more")


def look_at_all(
    numbers: Sequence[int],
    look: Callable[[int, bool], Any],
    add: Callable[[Any], None],
    sheet: Path | None,
    threads: int,
    unit: str,
    columns: int = 3,
) -> None:
    """Call `look` for every number, some at a time, and `add` with each result, in order; write the sheet.

    Args:
        look: called with the number and whether its `tile_HW3` is wanted.

    Raises:
        NotWritten: the sheet cannot be written; noticed before anything is read.
    """
    if sheet is not None:
        check_writable(sheet)
    shown = {numbers[place] for place in spread(len(numbers), TILES)}
    tiles = []
    with ThreadPoolExecutor(threads) as pool, tqdm(total=len(numbers), unit=unit, disable=None) as bar:
        for start in range(0, len(numbers), 16 * threads):  # in parts, so that few results wait
            for seen in pool.map(lambda number: look(number, number in shown), numbers[start : start + 16 * threads]):
                add(seen)
                if seen.tile_HW3 is not None:
                    tiles.append(seen.tile_HW3)
                bar.update()
    if sheet is not None and tiles:
        write_sheet(sheet, tiles, columns)


def spread(count: int, wanted: int) -> list[int]:
    """Up to `wanted` of the numbers 0 .. count - 1, evenly spread, first and last among them."""
    return sorted(set(np.linspace(0, count - 1, min(wanted, count)).round().astype(int).tolist()))


def look(samples: Samples, number: int, with_tile: bool) -> Report:
    """Read one image; an error becomes a line."""
    try:
        sample = samples[number]
    except Unusable as error:
        return Report(refused=[str(error)])
    except ValueError as error:
        return Report(broken=[str(error)])
    labelled_HW = sample.valid_HW & ~sample.sky_HW
    values = sample.disparity_HW[labelled_HW].astype(np.float64)
    bins = (np.log10(np.maximum(values, 10.0**-_DECADES)) + _DECADES) * (_BINS / (2 * _DECADES))
    height, width = sample.disparity_HW.shape
    upper, lower = (
        sample.disparity_HW[rows][labelled_HW[rows]] for rows in (slice(None, height // 2), slice(height // 2, None))
    )
    known = upper.size > 0 and lower.size > 0
    return Report(
        scale=sample.scale,
        usable=[number],
        sizes=Counter({(width, height): 1}),
        pixels=height * width,
        valid=int(sample.valid_HW.sum()),
        sky=int(sample.sky_HW.sum()),
        counts=np.bincount(np.clip(bins.astype(np.int64), 0, _BINS - 1), minlength=_BINS),
        lowest=float(values.min(initial=np.inf)),
        highest=float(values.max(initial=0)),
        ground_nearer=int(known and lower.mean() > upper.mean()),
        ground_known=int(known),
        tile_HW3=draw(sample) if with_tile else None,
    )


def draw(sample: Sample) -> np.ndarray:
    """The image beside its disparity, near in red, each in a box of TILE: uint8. Grey is not valid, black is sky."""
    labelled_HW = sample.valid_HW & ~sample.sky_HW
    low, high = np.percentile(sample.disparity_HW[labelled_HW], [2, 98]) if labelled_HW.any() else (0, 0)
    disparity_HW3 = colored((sample.disparity_HW - low) / max(float(high - low), 1e-12))
    disparity_HW3[~sample.valid_HW] = _NOT_VALID
    disparity_HW3[sample.sky_HW] = _SKY
    tile = Image.new("RGB", (2 * TILE[0], TILE[1]), "white")
    for left, part_HW3 in ((0, sample.image_HW3), (TILE[0], disparity_HW3)):
        part = Image.fromarray(part_HW3)
        resampling = Image.Resampling.BICUBIC if left == 0 else Image.Resampling.NEAREST
        scale = min(TILE[0] / part.width, TILE[1] / part.height)
        part = part.resize((max(1, round(part.width * scale)), max(1, round(part.height * scale))), resampling)
        tile.paste(part, (left, 0))
    return np.asarray(tile)


def write_sheet(path: Path, tiles: list[np.ndarray], columns: int) -> None:
    """The tiles in rows, as one PNG."""
    tiles = tiles + [np.full_like(tiles[0], 255)] * (-len(tiles) % min(columns, len(tiles)))
    width = min(columns, len(tiles))
    rows = [np.concatenate(tiles[start : start + width], axis=1) for start in range(0, len(tiles), width)]
    with atomic_path(path) as temporary:
        Image.fromarray(np.concatenate(rows)).save(temporary, "PNG")
