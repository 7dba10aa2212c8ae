"""Where the sky is. V1 section 3.1 finds it with a pre-trained SegFormer and sets its disparity to 0 (farthest).

`choose_sky` does that to labelled images, before min-max, and keeps every mask: a second epoch runs no network. Which
SegFormer the authors took is not known; the largest one for ADE20K is the default. Its released weights are for
non-commercial use (NVIDIA Source Code License), which must be accepted once, as for other such weights. `threshold`
needs no model; it looks only at the map."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from depth_anything.checkpoints.hub import find_folder
from depth_anything.data.sample import Sample
from depth_anything.data.samples import Mapped, Samples
from depth_anything.network.resize import IMAGENET_MEAN, IMAGENET_STD
from depth_anything.system.device import check_device
from depth_anything.system.extras import EXTRA_OF, needs
from depth_anything.system.files import atomic_path, find

if TYPE_CHECKING:
    from depth_anything.predict.prediction import Prediction

SkyMode = Literal["off", "renderer", "segformer"]
"""What is sky in a labelled set: nothing, what the set itself knows (its renderer's far value), or also SegFormer's."""

ADE20K_SKY = 2
"""Index of `sky` among the 150 classes of ADE20K, counted from 0."""
SEGFORMER = "nvidia/segformer-b5-finetuned-ade-640-640"


class SkySegmenter:
    """SegFormer (Xie et al. 2021) trained on ADE20K, reduced to one class. Extra `transfer`.

    Args:
        model: a hub id or a folder in the transformers layout; its classes must be ADE20K's.
        side: pixels of the shorter side at the network, rounded to multiples of 32; the released models saw 512 or 640.
        device: "cpu", "cuda", "mps".
        accept_license: needed once for NVIDIA's weights, which are not for commercial use.

    Raises:
        ValueError: transformers is not installed, there is no such device, the licence is not accepted, or the weights
            cannot be had.
    """

    def __init__(
        self, model: str | Path = SEGFORMER, *, side: int = 640, device: str = "cpu", accept_license: bool = False
    ):
        with needs(EXTRA_OF["transformers"], "sky by SegFormer", "; or use --sky threshold"):
            from transformers import SegformerForSemanticSegmentation
        check_device(device)
        folder = Path(model) if Path(model).is_dir() else find_folder(str(model), accept_license)
        network = SegformerForSemanticSegmentation.from_pretrained(folder)
        classes = network.config.num_labels or 0
        if classes <= ADE20K_SKY:
            raise ValueError(f"{model}: has {classes} classes; expected a SegFormer for ADE20K's 150")
        network.to(device)  # type: ignore[arg-type]
        self.network = network.eval()
        self.side = side
        self.device = device
        self.id = f"{Path(model).name}-{_digest(folder)}-{side}"
        """Of these weights at this size: what masks are kept under."""

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Sky mask of one image: uint8 (H, W, 3) -> bool (H, W)."""
        return self.masks([image])[0]

    def masks(self, images: Sequence[np.ndarray], batch_size: int = 8) -> list[np.ndarray]:
        """Sky masks of images of any sizes, in their order; those of one network size run together.

        The logits (a quarter of the network's size) are resized to the image before the largest is taken.
        """
        import torch

        masks: dict[int, np.ndarray] = {}
        buckets: dict[tuple[int, int], list[int]] = {}
        for index, image in enumerate(images):
            buckets.setdefault(self._network_size(*image.shape[:2]), []).append(index)
        for size, bucket in buckets.items():
            for start in range(0, len(bucket), batch_size):
                indices = bucket[start : start + batch_size]
                batch_B3HW = torch.from_numpy(np.stack([_normalised(images[index], size) for index in indices]))
                with torch.inference_mode():
                    logits_BCHW = self.network(batch_B3HW.to(self.device)).logits
                for index, logits_CHW in zip(indices, logits_BCHW, strict=True):
                    masks[index] = _is_sky(logits_CHW, *images[index].shape[:2])
        return [masks[index] for index in range(len(images))]

    def _network_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width): the shorter side at `side`, the longer one in proportion but at most four times as long."""
        scale = self.side / min(height, width)
        height, width = (round(min(length * scale, 4 * self.side) / 32) * 32 for length in (height, width))
        return max(height, 32), max(width, 32)


class AddSky:
    """Adds SegFormer's sky to a labelled image: its disparity becomes 0 and valid (V1 section 3.1).

    Masks are kept in `cache`/<the segmenter's id> as 1-bit PNGs, named by a hash of the image's pixels: another
    image or another segmenter never meets a wrong mask, and a damaged one is made again.
    """

    def __init__(self, segmenter: SkySegmenter, cache: str | Path):
        self.segmenter = segmenter
        self.folder = Path(cache) / segmenter.id
        self.lock = threading.Lock()

    def __call__(self, sample: Sample) -> Sample:
        sky_HW = sample.sky_HW | self.mask(sample.image_HW3)
        return replace(
            sample,
            sky_HW=sky_HW,
            valid_HW=sample.valid_HW | sky_HW,
            disparity_HW=np.where(sky_HW, np.float32(0), sample.disparity_HW),
        )

    def mask(self, image_HW3: np.ndarray) -> np.ndarray:
        """Where SegFormer sees sky, bool (H, W); from the cache where it is there."""
        pixels = hashlib.blake2b(repr(image_HW3.shape).encode() + image_HW3.tobytes(), digest_size=16).hexdigest()
        path = self.folder / pixels[:2] / f"{pixels}.png"
        try:
            with Image.open(path) as kept:
                mask_HW = np.asarray(kept.convert("1"))
            if mask_HW.shape == image_HW3.shape[:2]:
                return mask_HW
        except (OSError, SyntaxError):  # not there yet, or damaged
            pass
        with self.lock:
            mask_HW = self.segmenter(image_HW3)
        with atomic_path(path) as temporary:
            Image.fromarray(mask_HW).save(temporary, "PNG")
        return mask_HW


def without_sky(sample: Sample) -> Sample:
    """A labelled image whose sky is not valid: nothing is learnt from it."""
    return replace(sample, sky_HW=np.zeros_like(sample.sky_HW), valid_HW=sample.valid_HW & ~sample.sky_HW)


def choose_sky(
    samples: Samples, mode: SkyMode, segmenter: SkySegmenter | None = None, cache: str | Path | None = None
) -> Samples:
    """A labelled set with its sky by `mode`; the last two are for "segformer".

    Raises:
        ValueError: an unknown mode, or "segformer" without a segmenter or a cache.
    """
    if mode == "renderer":
        return samples
    if mode == "off":
        return Mapped(samples, without_sky)
    if mode != "segformer":
        raise ValueError(f"sky {mode!r}: expected off, renderer or segformer")
    if segmenter is None or cache is None:
        raise ValueError("sky by SegFormer needs the segmenter and a folder that keeps its masks")
    return Mapped(samples, AddSky(segmenter, cache))


def threshold(prediction: Prediction, share: float = 0.02) -> np.ndarray:
    """Sky by the map alone: bool (H, W). A heuristic that ignores colour.

    Sky is within `share` of the map's range of disparity of its farthest value and has nothing nearer above
    it up to the image's upper edge. A far wall that reaches this edge is taken for sky, and sky behind branches or
    below a roof is missed: `SkySegmenter` looks at the image.
    """
    disparity_HW = prediction.as_disparity()
    low, high = float(disparity_HW.min()), float(disparity_HW.max())
    if high <= low:
        return np.zeros(disparity_HW.shape, bool)
    far_HW = disparity_HW <= low + share * (high - low)
    return np.logical_and.accumulate(far_HW, axis=0)


def _digest(folder: Path) -> str:
    """Eight-digit digest of the weights in a folder."""
    digest = hashlib.blake2b(digest_size=4)
    for path in find(folder, "*.safetensors"):
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def _normalised(image_HW3: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """float32 (3, h, w), resized and normalised as SegFormer was trained."""
    resized = Image.fromarray(image_HW3).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    normalised_HW3 = (np.asarray(resized, np.float32) / 255 - IMAGENET_MEAN) / IMAGENET_STD
    return np.ascontiguousarray(normalised_HW3.transpose(2, 0, 1), dtype=np.float32)


def _is_sky(logits_CHW, height: int, width: int) -> np.ndarray:
    """Where sky has the largest logit at the image's size; class by class, not 150 full maps at once."""
    import torch
    import torch.nn.functional as F

    def resized(index: int):
        return F.interpolate(logits_CHW[None, index : index + 1], (height, width), mode="bilinear")[0, 0]

    sky_HW = resized(ADE20K_SKY)
    is_sky_HW = torch.ones_like(sky_HW, dtype=torch.bool)
    for index in range(len(logits_CHW)):
        if index != ADE20K_SKY:
            is_sky_HW &= sky_HW > resized(index)
    return is_sky_HW.cpu().numpy()
