"""Predictor: images of any size in, Predictions out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from depth_anything.geometry import camera
from depth_anything.images.read import ImageSource, read_image
from depth_anything.network.resize import lower_bound, network_size_of
from depth_anything.predict.backends import Backend, BackendName, Dtype, load_backend
from depth_anything.predict.prediction import Prediction


class Predictor:
    """A loaded model.

    Args:
        model: a name of VARIANTS, a hub id, a checkpoint file, a transformers folder or an exported .onnx or .xml file.
        backend: "onnx", "openvino" or "torch"; None takes ONNX Runtime for nano and .onnx files, OpenVINO for .xml
            files, torch for the rest.
        variant: which model a checkpoint holds, if the file does not state it.
        device: "cpu", "cuda", "mps", or "auto" for the best available one; for exported files see `load_backend`.
        dtype: "fp32", "bf16", "fp16".
        input_size: lower bound of the shorter side at the network; None takes the model's own (518, nano 224; V1's
            metric models resize every image to 392 x 518). Larger gives finer detail and costs more.
        batch_size: largest number of images, all of one network size, in a batch.
        accept_license: needed once for weights whose owner does not clearly allow commercial use.
        threads: processor threads; None leaves the choice to the backend.
        compile: torch only: use torch.compile, which takes a minute for each new network size (docs/speed.md).

    Raises:
        ValueError: the model is not available; the message states what to do.
    """

    def __init__(
        self,
        model: str | Path = "nano",
        *,
        backend: BackendName | None = None,
        variant: str | None = None,
        device: str = "cpu",
        dtype: Dtype = "fp32",
        input_size: int | None = None,
        batch_size: int = 8,
        accept_license: bool = False,
        threads: int | None = None,
        compile: bool = False,
    ):
        self._run(
            load_backend(model, backend, variant, device, dtype, accept_license, threads, compile),
            input_size,
            batch_size,
        )

    @classmethod
    def of(cls, backend: Backend, input_size: int | None = None, batch_size: int = 8) -> Predictor:
        """A Predictor for an existing backend."""
        predictor = cls.__new__(cls)
        predictor._run(backend, input_size, batch_size)
        return predictor

    def _run(self, backend: Backend, input_size: int | None, batch_size: int) -> None:
        self.backend = backend
        self.variant = backend.variant
        self.input_size = self.variant.asked_size(input_size)
        self.batch_size = batch_size

    def __call__(self, image: ImageSource) -> Prediction:
        """The map of one image, at its size.

        Args:
            image: a path, a uint8 RGB array (H, W, 3), a PIL image, or the bytes of a file.

        Raises:
            ValueError: the image cannot be read.
        """
        return self.predict([image])[0]

    def predict(self, images: Iterable[ImageSource]) -> list[Prediction]:
        """Maps of several images of any sizes, in the same order. Images of one network size run in batches.

        Raises:
            ValueError: an image cannot be read, or `images` is one image instead of several.
        """
        if isinstance(images, (str, bytes, np.ndarray)) or not isinstance(images, Iterable):
            raise ValueError(f"got one {type(images).__name__}: expected a list of images; call predictor(image)")
        decoded = [read_image(image) for image in images]
        buckets: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, image_HW3 in enumerate(decoded):
            height, width = image_HW3.shape[:2]
            buckets[network_size_of(self.variant, height, width, self.input_size)].append(index)
        predictions: dict[int, Prediction] = {}
        for size, bucket in buckets.items():
            for start in range(0, len(bucket), self.batch_size):
                indices = bucket[start : start + self.batch_size]
                maps = self.backend([decoded[index] for index in indices], self.input_size)
                for index, map_HW in zip(indices, maps, strict=True):
                    predictions[index] = self._prediction(decoded[index], map_HW, size)
        return [predictions[index] for index in range(len(decoded))]

    def _prediction(self, image_HW3: np.ndarray, map_HW: np.ndarray, size: tuple[int, int]) -> Prediction:
        height, width = image_HW3.shape[:2]
        notes = ()
        asked = self.input_size
        if isinstance(asked, int) and lower_bound(height, width, asked, self.variant.patch) < asked:
            notes = (f"Very long image: its shorter side has {min(size)} pixels at the network instead of {asked}.",)
        is_metric = self.variant.quantity == "depth_m"
        focal, metres_from = None, "model"
        if self.variant.canonical_focal is not None:
            focal = camera.assumed_focal(self.variant, height, width)
            seen = camera.seen_focal(focal, (height, width), size)
            map_HW = camera.from_canonical(map_HW, seen, self.variant.canonical_focal)
            degrees = camera.fov_degrees(camera.from_numbers([focal, focal, 0, 0]), width)
            metres_from = (
                f"from the model, for an assumed camera of {degrees:.0f} degrees across, since none was given (metres "
                "are proportional to its focal length: --intrinsics, --focal-mm, --fov)"
            )
        return Prediction(
            disparity=None if is_metric else map_HW,
            depth_m=map_HW if is_metric else None,
            model=self.variant.name,
            licence=self.variant.licence,
            network_size=size,
            metres_from=metres_from,
            notes=notes,
            image=image_HW3,
            focal=focal,
        )
