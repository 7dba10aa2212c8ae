"""Rendered scenes: exact disparity, read from scene shards; packed beside them once, so that training never waits."""

import io
import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from depth_anything.data.sample import Sample
from depth_anything.system.files import atomic_folder, find, lock_file

PACKED = "packed"
PARTS = ("image", "disparity", "mask", "index")


def shard_paths(folder: str | os.PathLike[str]) -> list[Path]:
    """The finished scene shards of a folder, in order.

    Raises:
        ValueError: there are none.
    """
    paths = find(folder, "scenes-*.tar")
    if not paths:
        raise ValueError(f"{folder}: no scene shards (scenes-*.tar); make some with `depth-anything render`")
    return paths


def read_scenes(folder: str | os.PathLike[str]) -> Iterator[Sample]:
    """Every scene of every shard, one after the other."""
    for path in shard_paths(folder):
        yield from read_scene_shard(path)


def read_scene_shard(path: Path) -> Iterator[Sample]:
    """The scenes of one shard.

    Raises:
        ValueError: a file is missing or broken; the line names it.
    """
    from depth_anything.data.shards import read_shard

    for key, files in read_shard(path):
        try:
            yield decode(key, files)
        except Exception as error:  # what is broken inside a file may surface as any error
            advice = "delete the shard and render it again"
            raise ValueError(f"{path}: scene {key} cannot be read ({error}); {advice}") from None


def decode(key: str, files: dict[str, bytes]) -> Sample:
    """One scene from the bytes of its files by suffix."""
    image_HW3 = np.array(Image.open(io.BytesIO(files["rgb.jpg"])).convert("RGB"))
    with np.load(io.BytesIO(files["disparity.npz"])) as archive:
        disparity_HW = archive["disparity"].astype(np.float32)
    sky_HW = np.array(Image.open(io.BytesIO(files["sky.png"]))) > 0
    about = json.loads(files["json"])
    return Sample(
        image_HW3=image_HW3,
        disparity_HW=disparity_HW,
        valid_HW=(np.array(Image.open(io.BytesIO(files["valid.png"]))) > 0) | sky_HW,
        sky_HW=sky_HW,
        classes_HW=np.array(Image.open(io.BytesIO(files["class.png"]))).astype(np.int16),
        K_33=np.array(about["K"], dtype=np.float64),
        scale="metric",
        key=key,
    )


class PackedScenes:
    """Scenes by number, from memory-mapped arrays: no decoding, any sizes mixed. Without classes and intrinsics.

    `folder` holds shards; what has not been packed yet is packed first, shard by shard, into `folder`/packed.
    """

    def __init__(self, folder: str | Path):
        packs = [pack_shard(path, Path(folder) / PACKED / path.stem) for path in shard_paths(folder)]
        self.packs = [{part: np.load(pack / f"{part}.npy", mmap_mode="r") for part in PARTS} for pack in packs]
        self.pack_ends = np.cumsum([len(pack["index"]) for pack in self.packs])

    def __len__(self) -> int:
        return int(self.pack_ends[-1])

    def __getitem__(self, number: int) -> Sample:
        if not 0 <= number < len(self):
            raise IndexError(number)
        which = int(np.searchsorted(self.pack_ends, number, side="right"))
        pack = self.packs[which]
        height, width, first = pack["index"][number - self.pack_ends[which]]
        pixels = slice(first, first + height * width)
        mask_HW = pack["mask"][pixels].reshape(height, width)
        return Sample(
            image_HW3=pack["image"][pixels].reshape(height, width, 3),
            disparity_HW=pack["disparity"][pixels].reshape(height, width),
            valid_HW=(mask_HW & 1) > 0,
            sky_HW=(mask_HW & 2) > 0,
            scale="metric",
        )


def pack_ahead(folder: str | Path, processes: int | None = None) -> None:
    """What `PackedScenes` would do first, on all cores: for many shards."""
    todo = [(path, Path(folder) / PACKED / path.stem) for path in shard_paths(folder)]
    todo = [pair for pair in todo if not is_packed(*pair)]
    if len(todo) > 1:
        with ProcessPoolExecutor(processes or os.cpu_count(), get_context("spawn")) as pool:
            list(pool.map(pack_shard, *zip(*todo, strict=True)))
    elif todo:
        pack_shard(*todo[0])


def is_packed(path: Path, folder: Path) -> bool:
    """Whether `folder` holds a shard's pixels as the shard is now."""
    return folder.is_dir() and folder.stat().st_mtime >= path.stat().st_mtime


def pack_shard(path: Path, folder: Path) -> Path:
    """Lay a shard's pixels end to end in `folder` (image, disparity, mask, index .npy), unless it holds them.

    Processes that want the same shard wait for the one that packs it: a folder that is in use is not replaced.
    """
    with lock_file(path, wait=True):
        if is_packed(path, folder):
            return folder
        samples = list(read_scene_shard(path))
        sizes = np.array([sample.disparity_HW.shape for sample in samples], dtype=np.int64)
        first = np.concatenate([[0], np.cumsum(sizes.prod(1))[:-1]])
        masks = [(sample.valid_HW + 2 * sample.sky_HW).astype(np.uint8).ravel() for sample in samples]
        with atomic_folder(folder) as part:
            np.save(part / "image.npy", np.concatenate([sample.image_HW3.reshape(-1, 3) for sample in samples]))
            np.save(part / "disparity.npy", np.concatenate([sample.disparity_HW.ravel() for sample in samples]))
            np.save(part / "mask.npy", np.concatenate(masks))
            np.save(part / "index.npy", np.column_stack([sizes, first]))
    return folder
