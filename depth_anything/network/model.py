"""Depth Anything: a DINOv2 encoder and a DPT decoder (V1 section 4.1, V2 section 6)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from depth_anything.geometry import camera
from depth_anything.network.beit_sam import encoder_of
from depth_anything.network.dpt import DPTHead
from depth_anything.network.metric_bins import BinsHead
from depth_anything.network.resize import network_size_of, resize_back, to_tensor
from depth_anything.system.device import check_device
from depth_anything.variants import Variant, get_variant

LOG_METRES = (-10.0, 10.0)
"""Range of the log head's output: 0.05 mm to 22 km."""


class DepthAnything(nn.Module):
    """The network of both papers. State-dict keys are the official ones (`pretrained.*`, `depth_head.*`).

    V1's metric models also have a `metric_head`; checkpoints/official.py converts the names in their files.

    Args:
        variant: a row of `VARIANTS` or its name.
    """

    def __init__(self, variant: Variant | str):
        super().__init__()
        self.variant = get_variant(variant) if isinstance(variant, str) else variant
        self.pretrained = encoder_of(self.variant)
        self.depth_head = DPTHead(self.variant)
        self.metric_head = None
        if self.variant.bins is not None and self.variant.max_depth is not None:
            self.metric_head = BinsHead(self.variant.features, self.variant.bins, self.variant.max_depth)

    def encode(self, image_B3HW: Tensor) -> list[Tensor]:
        """The input of the decoder: patch tokens (B, N, C) of four blocks after the final norm, in order of the blocks,
        or the four maps (B, C, h, w) of an EfficientNet, from fine to coarse."""
        return self.pretrained(image_B3HW, self.variant.taps)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """A map (B, H, W) from a normalised image whose sides are multiples of the variant's patch.

        Returns:
            Affine-invariant disparity (>= 0, larger is nearer) or metres, as `variant.quantity` states.

        Raises:
            ValueError: a side is not a multiple of the patch.
        """
        height, width = image_B3HW.shape[-2:]
        patch = self.variant.patch
        if height % patch or width % patch:
            raise ValueError(
                f"input of {height}x{width}: expected multiples of {patch}; use network.resize.network_size"
            )
        return self.decode(self.encode(image_B3HW), *self.grid(image_B3HW))

    def grid(self, image_B3HW: Tensor) -> tuple[int, int]:
        """Height and width of the network's input in patches."""
        return image_B3HW.shape[-2] // self.variant.patch, image_B3HW.shape[-1] // self.variant.patch

    def decode(self, levels: list[Tensor], h: int, w: int) -> Tensor:
        """The map of h x w patches from the result of `encode`: disparity or metres, as `forward`.

        Computed in the precision of the decoder's weights, so that autocast applies to the encoder only: a map with the
        8 significant bits of bfloat16 has steps, which affect gradient matching and which a student would learn.
        """
        device = levels[0].device.type
        # The meta device, which is used for counting operations, does not know autocast.
        if device == "meta" or not torch.is_autocast_enabled(device):
            return self._map(levels, h, w)
        dtype = self.depth_head.scratch.output_conv1.weight.dtype
        with torch.autocast(device, enabled=False):
            return self._map([level.to(dtype) for level in levels], h, w)

    def _map(self, levels: list[Tensor], h: int, w: int) -> Tensor:
        """The decoder, then the variant's conversion of its output."""
        if self.metric_head is not None:
            return self.metric_head(self.depth_head.stages(levels, h, w))
        map_BHW = self.depth_head(levels, h, w)[:, 0]
        if self.variant.head == "log":
            return map_BHW.float().clamp(*LOG_METRES).exp()
        return map_BHW if self.variant.max_depth is None else map_BHW * self.variant.max_depth

    @classmethod
    def from_pretrained(
        cls,
        id_or_path: str | Path,
        variant: str | None = None,
        device: str | torch.device = "cpu",
        accept_license: bool = False,
    ) -> DepthAnything:
        """A model with weights, in evaluation mode.

        Args:
            id_or_path: a name of `VARIANTS`, a hub id, a checkpoint file or a transformers folder.
            variant: required if a file does not state which model it holds (official .pth files have the same keys in
                V1 and V2).
            device: "cpu", "cuda", "mps".
            accept_license: needed once for weights whose owner does not clearly allow commercial use.

        Raises:
            ValueError: the file is missing, ambiguous, damaged or does not fit, or the device does not exist; the
                message states what to do.
        """
        from depth_anything.checkpoints.official import load

        check_device(str(device))
        state, row = load(id_or_path, variant=variant, accept_license=accept_license)
        with torch.device("meta"):
            model = cls(row)
        model.load_state_dict(state, assign=True)
        return model.to(device).eval()

    @torch.inference_mode()
    def infer_image(self, image_bgr_HW3: np.ndarray, input_size: int | None = None) -> np.ndarray:
        """The official V2 method: a uint8 BGR image (as OpenCV reads it) in, a float32 map (H, W) of the same size out.

        Runs on the device of the model. `input_size` is the lower bound of the shorter side; None takes the variant's.

        Raises:
            ValueError: not a uint8 array of shape (H, W, 3).
        """
        refuse_other_image(image_bgr_HW3, "BGR")
        return self.infer_rgb(image_bgr_HW3[..., ::-1], input_size)

    @torch.inference_mode()
    def infer_rgb(
        self, image_HW3: np.ndarray, input_size: int | None = None, K_33: np.ndarray | None = None
    ) -> np.ndarray:
        """The same for RGB. The metres of a camera-aware model are for the camera `K_33` (in pixels of the image), or
        for the one that `camera.assumed_focal` assumes.

        Raises:
            ValueError: not a uint8 array of shape (H, W, 3).
        """
        refuse_other_image(image_HW3, "RGB")
        height, width = image_HW3.shape[:2]
        weight = self.depth_head.scratch.output_conv1.weight
        size = network_size_of(self.variant, height, width, self.variant.asked_size(input_size))
        image_13HW = to_tensor(image_HW3, size, str(weight.device), self.variant.resize).to(weight.dtype)
        map_1HW = resize_back(self(image_13HW).float(), (height, width), self.variant.align_corners_back)
        map_HW = map_1HW[0].cpu().numpy()
        if self.variant.canonical_focal is None:
            return map_HW
        known = K_33 is not None
        focal = camera.mean_focal(K_33) if known else camera.assumed_focal(self.variant, height, width)
        return camera.from_canonical(
            map_HW, camera.seen_focal(focal, (height, width), size), self.variant.canonical_focal
        )


def refuse_other_image(image: object, order: str) -> None:
    """Raise ValueError if this is not a uint8 array (H, W, 3); the message states what it is instead."""
    expected = f"expected a uint8 array (H, W, 3) in {order}"
    if image is None:
        raise ValueError(f"the image is None: {expected} (cv2.imread returns None for a file that it cannot read)")
    if not isinstance(image, np.ndarray):
        raise ValueError(f"the image is a {type(image).__name__}: {expected}; Predictor takes paths, PIL and bytes")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"image of shape {image.shape}, type {image.dtype}: {expected}")
