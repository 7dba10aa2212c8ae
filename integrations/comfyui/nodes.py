"""Nodes: load a model, depth of a batch of images, normals.

ComfyUI's IMAGE is a float32 tensor (B, H, W, 3) in 0..1, its MASK float32 (B, H, W). A node states its inputs and
outputs in class attributes; NODE_CLASS_MAPPINGS lists the nodes.
"""

from __future__ import annotations

import numpy as np
import torch

from depth_anything import Prediction, Predictor
from depth_anything.geometry import camera
from depth_anything.geometry.point_cloud import normals_image
from depth_anything.images.colormap import COLORMAPS

CATEGORY = "Depth Anything"
GREY = "grey"


class LoadDepthAnything:
    """A model by its name or its file: a checkpoint, a folder of transformers, or an exported .onnx or .xml."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("DEPTH_ANYTHING",)
    RETURN_NAMES = ("model",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """Names, types and defaults of the inputs."""
        return {
            "required": {
                "model": ("STRING", {"default": "nano"}),
                "device": (["auto", "cpu", "cuda", "mps"],),
                "size": ("INT", {"default": 0, "min": 0, "max": 4096, "tooltip": "shorter side; 0: the model's own"}),
                "accept_license": ("BOOLEAN", {"default": False, "tooltip": "for weights without commercial use"}),
            }
        }

    def load(self, model: str, device: str, size: int, accept_license: bool) -> tuple[Predictor]:
        """Loads it; ComfyUI keeps the result while the inputs stay the same."""
        return (Predictor(model, device=device, input_size=size or None, accept_license=accept_license),)


class DepthAnythingDepth:
    """A depth image for each image, white is near, and the raw values: disparity without a unit, or metres."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE", "MASK", "STRING")
    RETURN_NAMES = ("depth", "values", "quantity")
    FUNCTION = "predict"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """Names, types and defaults of the inputs."""
        return {
            "required": {
                "model": ("DEPTH_ANYTHING",),
                "images": ("IMAGE",),
                "colors": ([GREY, *COLORMAPS],),
            }
        }

    def predict(self, model: Predictor, images: torch.Tensor, colors: str) -> tuple[torch.Tensor, torch.Tensor, str]:
        """The depth images (B, H, W, 3) in 0..1, raw values float32 (B, H, W), and what those are."""
        predictions = predicted(model, images)
        if colors == GREY:
            nearness_BHW = np.stack([one.nearness() for one in predictions])
            depth_BHW3 = np.repeat(nearness_BHW[..., None], 3, axis=-1)
        else:
            depth_BHW3 = np.stack([one.colored(colors) for one in predictions]) / 255
        values_BHW = np.stack([one.values for one in predictions])
        return as_tensor(depth_BHW3), as_tensor(values_BHW), predictions[0].quantity


class DepthAnythingNormals:
    """Surface normals in the camera's axes, as the colours that normal maps have (green up: OpenGL)."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("normals",)
    FUNCTION = "predict"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """Names, types and defaults of the inputs."""
        metres = {"default": 0.0, "min": 0.0, "max": 10000.0, "step": 0.1}
        return {
            "required": {
                "model": ("DEPTH_ANYTHING",),
                "images": ("IMAGE",),
                "fov": ("FLOAT", {"default": 60.0, "min": 1.0, "max": 179.0, "tooltip": "degrees across the width"}),
                "directx": ("BOOLEAN", {"default": False, "tooltip": "green down, as DirectX has it"}),
            },
            "optional": {
                "near": ("FLOAT", {**metres, "tooltip": "metres of the nearest thing, for models of disparity"}),
                "far": ("FLOAT", {**metres, "tooltip": "metres of the farthest thing, for models of disparity"}),
            },
        }

    def predict(
        self, model: Predictor, images: torch.Tensor, fov: float, directx: bool, near: float = 0.0, far: float = 0.0
    ) -> tuple[torch.Tensor]:
        """Normal maps (B, H, W, 3) in 0..1.

        Raises:
            ValueError: a model of disparity, which has no shape before two distances are known.
        """
        normal_maps = []
        for one in predicted(model, images):
            if one.depth_m is None:
                if not 0 < near < far:
                    raise ValueError(
                        f"normals need metres, and {one.model} predicts disparity: set near and far, or load a model "
                        "of metres"
                    )
                one = one.to_depth(near=near, far=far)
            K = camera.from_fov(one.width, one.height, fov)
            normal_maps.append(normals_image(one.with_camera(K).normals(), directx))
        return (as_tensor(np.stack(normal_maps) / 255),)


def predicted(model: Predictor, images_BHW3: torch.Tensor) -> list[Prediction]:
    """Predictions of a batch of ComfyUI's images; those with an alpha channel lose it."""
    if images_BHW3.ndim != 4 or images_BHW3.shape[-1] not in (3, 4):
        raise ValueError(f"images of shape {tuple(images_BHW3.shape)}: expected (batch, height, width, 3)")
    values = images_BHW3[..., :3].detach().cpu().float().numpy()
    return model.predict(list(np.rint(values.clip(0, 1) * 255).astype(np.uint8)))


def as_tensor(values: np.ndarray) -> torch.Tensor:
    """float32, on the processor, where ComfyUI keeps images between nodes."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


NODE_CLASS_MAPPINGS: dict[str, type] = {
    "LoadDepthAnything": LoadDepthAnything,
    "DepthAnythingDepth": DepthAnythingDepth,
    "DepthAnythingNormals": DepthAnythingNormals,
}
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {
    "LoadDepthAnything": "Load Depth Anything",
    "DepthAnythingDepth": "Depth Anything",
    "DepthAnythingNormals": "Depth Anything: normals",
}
