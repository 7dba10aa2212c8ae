"""Unlabelled sets in their official layouts, a few tiny images each, with validation parts that must not be used.

Every writer returns the training images by their keys. Those of BDD100K are frames of videos: their bytes are None.
"""

import gzip
import hashlib
import io
import tarfile
from pathlib import Path
from typing import Literal

import av
import lmdb
import numpy as np
from PIL import Image

Keys = dict[str, bytes | None]
HEIGHT, WIDTH = 12, 16


def image(number: int, fmt: str = "JPEG") -> bytes:
    """A file of a small ramp; red is its number."""
    ramp_HW3 = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    ramp_HW3[:, :, 0] = number
    ramp_HW3[:, :, 1] = 8 * np.arange(WIDTH) + number
    ramp_HW3[:, :, 2] = 10 * np.arange(HEIGHT)[:, None]
    stream = io.BytesIO()
    Image.fromarray(ramp_HW3).save(stream, fmt)
    return stream.getvalue()


def write_tar(path: Path, files: dict[str, bytes], mode: Literal["w", "w:gz"] = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_files(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def sa1b(root: Path) -> Keys:
    for shard in range(2):
        files = {}
        for number in range(5):
            files[f"sa_{shard * 5 + number}.jpg"] = image(shard * 5 + number)
            files[f"sa_{shard * 5 + number}.json"] = b'{"annotations": []}'
        write_tar(root / f"sa_{shard:06d}.tar", files)
    return {f"sa_{number}": image(number) for number in range(10)}


def imagenet21k(root: Path) -> Keys:
    folders = ("train/n00004475", "train/n00005787", "small_classes/n00006024")
    files = {
        f"winter21/{folder}/{folder[-9:]}_{number}.JPEG": image(number) for folder in folders for number in (3, 12)
    }
    write_files(root, files)
    return {name.removesuffix(".JPEG"): content for name, content in files.items()}


def imagenet21k_tars(root: Path) -> Keys:
    for synset in ("n00004475", "n00005787"):
        write_tar(root / f"{synset}.tar", {f"{synset}_{number}.JPEG": image(number) for number in (3, 12)})
    return {f"{synset}_{number}": image(number) for synset in ("n00004475", "n00005787") for number in (3, 12)}


def lsun(root: Path) -> Keys:
    expected: Keys = {}
    for name, count in (("bedroom_train_lmdb", 5), ("bedroom_val_lmdb", 2), ("kitchen_train_lmdb", 3)):
        with lmdb.open(str(root / name), map_size=1 << 22) as database, database.begin(write=True) as transaction:
            for number in range(count):
                content = image(number, "WEBP")
                key = hashlib.sha1(f"{name}{number}".encode()).hexdigest()
                transaction.put(key.encode(), content)
                if "train" in name:
                    expected[key] = content
    return expected


def openimages(root: Path) -> Keys:
    for part in "0f":
        write_tar(
            root / f"train_{part}.tar.gz",
            {f"train_{part}/{part}0{number}.jpg": image(number) for number in range(3)},
            "w:gz",
        )
    write_tar(root / "validation.tar.gz", {"validation/1.jpg": image(9)}, "w:gz")
    return {f"train_{part}/{part}0{number}": image(number) for part in "0f" for number in range(3)}


def places365(root: Path) -> Keys:
    files = {f"data_large/a/abbey/0000000{number}.jpg": image(number) for number in range(3)}
    write_tar(root / "train_large_places365standard.tar", files)
    write_tar(root / "val_large.tar", {"val_large/1.jpg": image(9)})
    return {name.removesuffix(".jpg"): content for name, content in files.items()}


def places365_folders(root: Path) -> Keys:
    files = {f"data_256/a/abbey/0000000{number}.jpg": image(number) for number in range(3)}
    files |= {f"data_256/z/zoo/0000000{number}.jpg": image(number) for number in range(2)}
    write_files(root, files)
    write_files(root / "val_256", {"1.jpg": image(9)})
    return {name.removesuffix(".jpg"): content for name, content in files.items()}


def landmarks(root: Path) -> Keys:
    files = {f"0/0/{number}/00{number}aa1234567890.jpg": image(number) for number in range(3)}
    write_tar(root / "train/images_000.tar", files)
    write_tar(root / "index/images_000.tar", {"0/0/0/000bb.jpg": image(9)})
    return {name.removesuffix(".jpg"): content for name, content in files.items()}


def objects365(root: Path) -> Keys:
    for patch in range(2):
        files = {f"patch{patch}/objects365_v2_{patch}{number}.jpg": image(number) for number in range(2)}
        write_tar(root / f"train/patch{patch}.tar.gz", files, "w:gz")
    write_tar(root / "val/patch0.tar.gz", {"patch0/objects365_v1_1.jpg": image(9)}, "w:gz")
    (root / "train/zhiyuan_objv2_train.tar.gz").write_bytes(gzip.compress(b"not pictures"))
    return {f"patch{p}/objects365_v2_{p}{number}": image(number) for p in range(2) for number in range(2)}


def write_video(path: Path, frames: int, first: int = 0) -> None:
    """Frames of one grey, each 5 lighter than the one before, from `first` on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.bit_rate = 4_000_000
        for number in range(frames):
            grey = np.full((48, 64, 3), first + 5 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, "rgb24")))
        container.mux(stream.encode())


def bdd100k(root: Path) -> Keys:
    videos = root / "bdd100k/videos"
    write_video(videos / "train/00a04f65.mov", 25)
    write_video(videos / "val/00c.mov", 25)
    return {f"bdd100k/videos/train/00a04f65-0000{number}0": None for number in range(3)}


WRITERS = {
    "sa1b": sa1b,
    "imagenet21k": imagenet21k,
    "lsun": lsun,
    "bdd100k": bdd100k,
    "openimages": openimages,
    "places365": places365,
    "landmarks": landmarks,
    "objects365": objects365,
}
