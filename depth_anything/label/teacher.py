"""Step 2 of the papers: a teacher labels unlabelled images, one shard at a time (V1 section 3.2, V2 section 4).

The images of a shard, about a thousand, are read, predicted, encoded and written to a tar file; then its manifest is
written. A shard without a manifest is labelled again. launch.py distributes shards over processes and machines.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from depth_anything.data.manifests import LABELS, MANIFEST
from depth_anything.data.pseudo_labels import Encoding, encode
from depth_anything.data.shards import write_samples
from depth_anything.data.storage import Store, scratch
from depth_anything.data.unlabeled.image_shards import ImageShard
from depth_anything.data.unlabeled.read import as_jpeg, read_images
from depth_anything.images.read import ImageError, read_image_with_info
from depth_anything.network.resize import network_size_of, to_tensor

if TYPE_CHECKING:
    from torch import Tensor

    from depth_anything.network.model import DepthAnything

Precision = Literal["fp32", "bf16"]
WAITING = 4
"""Number of incomplete batches that may wait for more images of their size; beyond it the fullest one runs."""


@dataclass(frozen=True)
class LabelRecipe:
    """Everything that determines the labels besides the images and the arithmetic of the machine."""

    teacher: str
    """As given by the user."""
    teacher_sha256: str
    """Hash of its weights, see `weights_sha256`."""
    input_size: int
    dtype: Precision
    batch: int
    encoding: Encoding


@dataclass
class Manifest:
    """Outcome of a shard; its file marks the shard as complete. It has no timestamps: equal input gives equal bytes."""

    shard: str
    source: str
    recipe: LabelRecipe
    labelled: int = 0
    """Number of samples in the shard."""
    failed: list[dict[str, str]] = field(default_factory=list)
    """Key and error of each image that could not be read or labelled."""
    encoding_error: float = 0.0
    """Largest difference between a map of the teacher and the stored map, relative to the range of the map."""
    bytes: int = 0
    sha256: str = ""
    """Of the shard."""

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()


class Teacher:
    """A network that predicts disparity at the network's size.

    In bf16 the encoder runs in mixed precision and the decoder in float32 (`DepthAnything.decode`).

    Args:
        model: with weights, in evaluation mode.
        device: "cpu", "cuda", "cuda:1", "mps".
        input_size: lower bound of the shorter side; None takes the model's default.

    Raises:
        ValueError: the model predicts metres.
    """

    def __init__(
        self, model: DepthAnything, device: str = "cpu", dtype: Precision = "fp32", input_size: int | None = None
    ):
        if model.variant.quantity != "disparity":
            raise ValueError(f"{model.variant.name} predicts metres: expected a teacher that predicts disparity")
        self.sha256 = weights_sha256(model)
        self.model = model.to(device).eval()
        self.device = device
        self.dtype = dtype
        size = model.variant.asked_size(input_size)
        assert isinstance(size, int)  # only metric models have one size for all images
        self.input_size = size

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        """Size at the network of an image of the given size."""
        return network_size_of(self.model.variant, height, width, self.input_size)

    def prepare(self, image_HW3: np.ndarray) -> Tensor:
        """The network's input (1, 3, h, w) of an upright uint8 RGB image, on the device."""
        return to_tensor(image_HW3, self.network_size(*image_HW3.shape[:2]), self.device)

    def __call__(self, images_13HW: list[Tensor]) -> np.ndarray:
        """Disparity float32 (B, h, w) of images of one network size."""
        import torch

        mixed = torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self.dtype == "bf16")
        with torch.inference_mode(), mixed:
            return self.model(torch.cat(images_13HW)).cpu().numpy()


def weights_sha256(model: DepthAnything) -> str:
    """A hash of names, shapes and values of all weights: the same in every file format."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        values = np.ascontiguousarray(tensor.detach().cpu().float().numpy())
        digest.update(f"{name} {values.shape}".encode())
        digest.update(values.data)
    return digest.hexdigest()


def manifest_name(shard: ImageShard) -> str:
    return f"{MANIFEST}/{shard.name}.json"


def commit(store: Store, shard: ImageShard, tar: Path, manifest: Manifest) -> None:
    """Write the shard, then its manifest. After a kill in between, the shard is labelled again with the same bytes."""
    with tar.open("rb") as file:
        manifest.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        manifest.bytes = file.tell()
    store.put(f"{LABELS}/{shard.name}.tar", tar)
    store.write(manifest_name(shard), manifest.to_json())


class Labeller:
    """Labels shards, several at a time, so that one is read while another is written.

    One thread runs the network and never waits for a disk: other threads read, decode, encode and write. Which images
    share a batch depends only on their shard, never on other work.

    Args:
        threads: number of threads for decoding and encoding; None takes one per core.
    """

    def __init__(self, teacher: Teacher, recipe: LabelRecipe, store: Store, threads: int | None = None):
        self.teacher = teacher
        self.recipe = recipe
        self.store = store
        self.stopped = False
        workers = threads or min(32, os.cpu_count() or 1)
        self.ahead = 2 * (recipe.batch + workers)
        """Number of images that are decoded, and of maps that are encoded, in advance."""
        self.network = ThreadPoolExecutor(1)
        self.workers = ThreadPoolExecutor(workers)
        self.feeding = threading.Lock()
        """Held by the shard whose images go to the network; the previous one may still be written."""

    def close(self) -> None:
        """Stop all work in progress."""
        self.stopped = True
        self.network.shutdown(cancel_futures=True)
        self.workers.shutdown(cancel_futures=True)

    def __call__(self, shard: ImageShard) -> Manifest:
        """Label the images of one shard, and write it and its manifest.

        Raises:
            ValueError: the archive with its images cannot be read to its end.
            OSError: the shard cannot be written.
        """
        manifest = Manifest(shard.name, shard.path, self.recipe)
        with scratch(self.store) as tar:
            with tar.open("wb") as file, closing(self._samples(shard, manifest)) as samples:
                write_samples(file, samples)
            commit(self.store, shard, tar, manifest)
        return manifest

    def _samples(self, shard: ImageShard, manifest: Manifest) -> Generator[tuple[str, dict[str, bytes]], None, None]:
        """The finished samples of a shard, in an order that depends only on its images."""

        def failed(key: str, error: Exception) -> None:
            manifest.failed.append({"key": key, "error": str(error)})

        maps: deque[Future] = deque()
        finished: deque[tuple[str, Future]] = deque()

        def encoded(keep: int) -> Iterator[tuple[str, dict[str, bytes]]]:
            """Samples in order, until no more than `keep` are still being encoded."""
            while len(finished) > keep:
                key, future = finished.popleft()
                try:
                    members, error = future.result()
                except ValueError as problem:
                    failed(key, problem)
                    continue
                manifest.labelled += 1
                manifest.encoding_error = max(manifest.encoding_error, error)
                yield key, members

        def predicted(keep: int) -> None:
            """Submit maps for encoding, until no more than `keep` batches are in the network."""
            while len(maps) > keep:
                batch, disparity_BHW = maps.popleft().result()
                for (key, jpeg, size), disparity_HW in zip(batch, disparity_BHW, strict=True):
                    finished.append((key, self.workers.submit(self._encode, jpeg, size, disparity_HW)))

        with self.feeding:
            for batch in self._batches(self._decoded(shard, failed)):
                maps.append(self.network.submit(self._predict, batch))
                predicted(keep=1)
                yield from encoded(keep=self.ahead)
        predicted(keep=0)
        yield from encoded(keep=0)

    def _decoded(
        self, shard: ImageShard, failed: Callable[[str, Exception], None]
    ) -> Iterator[tuple[str, bytes, np.ndarray]]:
        """Key, JPEG and pixels of the images of a shard in order, decoded in advance by other threads."""
        decoding: deque[tuple[str, Future]] = deque()

        def first() -> Iterator[tuple[str, bytes, np.ndarray]]:
            key, future = decoding.popleft()
            try:
                yield key, *future.result()
            except ImageError as error:
                failed(key, error)

        for key, content in read_images(shard, failed):
            if self.stopped:
                raise ValueError(f"{shard.name}: stopped")
            decoding.append((key, self.workers.submit(jpeg_and_pixels, content)))
            if len(decoding) >= self.ahead:
                yield from first()
        while decoding:
            yield from first()

    def _batches(self, images: Iterator[tuple[str, bytes, np.ndarray]]) -> Iterator[list]:
        """Images of one network size together; the last of each size in the order in which the sizes appeared."""
        waiting: dict[tuple[int, int], list] = {}
        for image in images:
            size = self.teacher.network_size(*image[2].shape[:2])
            waiting.setdefault(size, []).append(image)
            if sum(map(len, waiting.values())) >= WAITING * self.recipe.batch:
                size = max(waiting, key=lambda size: len(waiting[size]))
            elif len(waiting[size]) < self.recipe.batch:
                continue
            yield waiting.pop(size)
        yield from waiting.values()

    def _predict(self, batch: list) -> tuple[list, np.ndarray]:
        """Key, JPEG and size of each image of a batch, and their maps; runs in the network's thread."""
        disparity_BHW = self.teacher([self.teacher.prepare(image_HW3) for _, _, image_HW3 in batch])
        return [(key, jpeg, image_HW3.shape[:2]) for key, jpeg, image_HW3 in batch], disparity_BHW

    def _encode(self, jpeg: bytes, size: tuple[int, int], disparity_HW: np.ndarray) -> tuple[dict[str, bytes], float]:
        """The members of one sample."""
        if not np.isfinite(disparity_HW).all():
            count = np.count_nonzero(~np.isfinite(disparity_HW))
            raise ValueError(f"the teacher predicted {count} values that are NaN or infinite; try --dtype fp32")
        members, error = encode(disparity_HW, self.recipe.encoding)
        about = {
            "min": float(disparity_HW.min()),
            "max": float(disparity_HW.max()),
            "picture": list(size),
            "teacher_sha256": self.recipe.teacher_sha256,
            "recipe": {
                "teacher": self.recipe.teacher,
                "input_size": self.recipe.input_size,
                "dtype": self.recipe.dtype,
                "encoding": self.recipe.encoding,
            },
        }
        return {"jpg": jpeg, **members, "json": json.dumps(about).encode()}, error


def jpeg_and_pixels(content: bytes) -> tuple[bytes, np.ndarray]:
    """An image as JPEG bytes for the shard, and as uint8 RGB (H, W, 3) for the teacher.

    The bytes of an upright JPEG are kept. Other images are encoded from their upright pixels, so that the shard has the
    same pixels as the teacher's input.
    """
    image_HW3, info = read_image_with_info(content)
    is_upright = content.startswith(b"\xff\xd8\xff") and info.orientation == 1
    return content if is_upright else as_jpeg(image_HW3), image_HW3
