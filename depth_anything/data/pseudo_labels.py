"""Pseudo labels: how a teacher's map is stored, and shards of them as labelled samples by number.

A shard is a tar with three members an image: `<key>.jpg` (the image), `<key>.disparity.png` or `.disparity.npz` (the
map, at the network's size) and `<key>.json` (its minimum and maximum, the teacher's hash, the recipe).
"""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from depth_anything.data.manifests import Shard, read_manifests
from depth_anything.data.sample import Sample
from depth_anything.data.shard_cache import cache_of
from depth_anything.data.shards import TarIndex, index_tar, key_and_suffix
from depth_anything.data.storage import is_url
from depth_anything.images.read import read_image

Encoding = Literal["png16", "fp16"]
STEPS = 65535


def encode(disparity_HW: np.ndarray, encoding: Encoding) -> tuple[dict[str, bytes], float]:
    """A map as the members of a shard by suffix, without the rest of its json; and the largest error of that.

    png16: 16 bits from the map's minimum to its maximum, off by half a step (1 / 131070 of the range) at most.
    fp16: half floats, off by 1 / 2048 of the value at most, which can be a large share of the range of a map whose
    values are far from 0.

    Returns:
        ({suffix: bytes}, largest difference to what `decode` gives, as a share of the map's range).

    Raises:
        ValueError: the map does not fit into half floats.
    """
    low, high = float(disparity_HW.min()), float(disparity_HW.max())
    if encoding == "png16":
        codes_HW = np.zeros(disparity_HW.shape, np.uint16)
        if high > low:
            codes_HW = np.round((disparity_HW.astype(np.float64) - low) * (STEPS / (high - low))).astype(np.uint16)
        members = {"disparity.png": png16(codes_HW)}
        decoded_HW = from_codes(codes_HW, low, high)
    else:
        with np.errstate(over="ignore"):
            half_HW = disparity_HW.astype(np.float16)
        if not np.isfinite(half_HW).all():
            raise ValueError(f"disparity up to {high:g} does not fit into half floats: use the encoding png16")
        stream = io.BytesIO()
        np.savez_compressed(stream, disparity=half_HW)
        members = {"disparity.npz": stream.getvalue()}
        decoded_HW = half_HW.astype(np.float32)
    error = float(np.abs(decoded_HW - disparity_HW).max()) / (high - low) if high > low else 0.0
    return members, error


def decode(members: dict[str, bytes]) -> np.ndarray:
    """Disparity float32 (H, W) from the members of an image by suffix."""
    if "disparity.npz" in members:
        with np.load(io.BytesIO(members["disparity.npz"])) as archive:
            return archive["disparity"].astype(np.float32)
    about = json.loads(members["json"])
    with Image.open(io.BytesIO(members["disparity.png"])) as image:
        return from_codes(np.asarray(image), about["min"], about["max"])


def from_codes(codes_HW: np.ndarray, low: float, high: float) -> np.ndarray:
    """float32 disparity from 0..65535 between its minimum and its maximum."""
    return (codes_HW * ((high - low) / STEPS) + low).astype(np.float32)


def png16(codes_HW: np.ndarray) -> bytes:
    """A uint16 map as a grey PNG. Each row is stored as its difference from the one above (PNG's filter 2).

    Smaller than with Pillow's choice of filters, at a third of the time, and other threads run meanwhile: Pillow holds
    the interpreter while it writes a PNG to memory.
    """
    rows = codes_HW.astype(">u2").view(np.uint8).reshape(len(codes_HW), -1)
    filtered = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = 2
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = codes_HW.shape
    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    pixels = zlib.compress(filtered.tobytes(), 3)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


class PseudoLabels:
    """The labelled images of a folder, or of a URL, that `depth-anything label` wrote, as one sequence.

    Only shards with a manifest count. `ends` holds the end of each shard; images of one shard are read fastest
    together. Those of an object store are fetched whole to this machine (`shard_cache`).

    Raises:
        ValueError: no finished shard there, or a shard without its tar.
    """

    def __init__(self, folder: str | Path):
        self.folder = os.fspath(folder)
        self.shards = read_manifests(self.folder)
        if not self.shards:
            raise ValueError(f"{folder}: no pseudo labels; expected a folder that `depth-anything label` wrote")
        self.ends = np.cumsum([shard.labelled for shard in self.shards], dtype=np.int64)
        """int64: number of samples up to the end of each shard."""

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, number: int) -> Sample:
        """An image at its map's size, with its disparity: affine-invariant, valid everywhere, no sky.

        Raises:
            ValueError: the shard is missing or damaged; the line names it.
        """
        which, offset = self._shard_of(number)
        shard = self.shards[which]
        path = self._path(shard)
        index, first = samples_of(path)
        if len(first) != shard.labelled:
            raise ValueError(f"{path}: {len(first)} samples, its manifest says otherwise; delete both and label again")
        last = first[offset + 1] if offset + 1 < len(first) else len(index.names)
        key = key_and_suffix(index.names[first[offset]])[0]
        try:
            with path.open("rb") as file:
                numbers = range(first[offset], last)
                members = {key_and_suffix(index.names[one])[2]: index.read(file, one) for one in numbers}
            return sample(key, members)
        except Exception as error:  # what is broken inside a file may surface as any error
            raise ValueError(f"{path}: {key}: {error}; delete the shard and its manifest and label again") from None

    def expect(self, number: int) -> None:
        """An image will be read soon: its shard is fetched from the object store."""
        if is_url(self.folder):
            shard = self.shards[self._shard_of(number)[0]]
            cache_of(self.folder, os.getpid()).expect(shard.name, shard.key, shard.bytes)

    def _shard_of(self, number: int) -> tuple[int, int]:
        """An image's shard, and its place there."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        which = int(np.searchsorted(self.ends, number, side="right"))
        return which, number - int(self.ends[which] - self.shards[which].labelled)

    def _path(self, shard: Shard) -> Path:
        """A shard's file on this machine."""
        if is_url(self.folder):
            return cache_of(self.folder, os.getpid()).path(shard.name, shard.key, shard.bytes)
        return Path(self.folder) / shard.name


@lru_cache(maxsize=256)
def samples_of(path: Path) -> tuple[TarIndex, list[int]]:
    """The index of a shard and the first member of each of its samples, for the shards used last."""
    index = index_tar(path)
    keys = [key_and_suffix(name)[0] for name in index.names]
    return index, [number for number, key in enumerate(keys) if number == 0 or key != keys[number - 1]]


def sample(key: str, members: dict[str, bytes]) -> Sample:
    """A labelled sample from the members of an image."""
    disparity_HW = decode(members)
    height, width = disparity_HW.shape
    image = Image.fromarray(read_image(members["jpg"])).resize((width, height), Image.Resampling.BICUBIC)
    return Sample(
        image_HW3=np.asarray(image),
        disparity_HW=disparity_HW,
        valid_HW=np.ones(disparity_HW.shape, bool),
        sky_HW=np.zeros(disparity_HW.shape, bool),
        scale="affine",
        key=key,
    )
