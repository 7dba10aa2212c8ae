"""A ControlNet conditioned on depth (V1's controlnet/): its condition, files and use. diffusers, SD 1.5 layout.

The condition is `Prediction.control_image()`: disparity from its minimum (0) to its maximum (255), grey, near is white,
in three channels. As a tensor it is divided by 255 and not normalised further.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from depth_anything.checkpoints.hub import fetch
from depth_anything.checkpoints.safe_read import read, refuse_not_finite
from depth_anything.checkpoints.safe_write import write_tensors
from depth_anything.system.device import check_device
from depth_anything.system.extras import needs
from depth_anything.system.files import package_text, write_text

if TYPE_CHECKING:
    from diffusers import ControlNetModel

RELEASED = "LiheYoung/Depth-Anything"
WEIGHTS = "diffusion_pytorch_model.safetensors"
RELEASED_FILE = f"checkpoints_controlnet/{WEIGHTS}"
"""Path in the authors' Space."""
CONFIG: dict[str, Any] = json.loads(package_text("transfer/controlnet_config.json"))
"""V1's controlnet/config.json, without what is diffusers' default."""


def diffusers():
    """The module diffusers.

    Raises:
        ValueError: it is not installed; the message states what to install.
    """
    with needs("transfer", "ControlNet"):
        import diffusers as library
    return library


# -- the condition ----------------------------------------------------------------------------------------------------


def condition(control_HW3: np.ndarray, size: tuple[int, int] | None = None) -> Tensor:
    """A control image as the ControlNet reads it: (1, 3, H, W), float32 in 0..1.

    Args:
        control_HW3: uint8, `Prediction.control_image()`.
        size: (H, W) to which it is resized bilinearly; None keeps its size.

    Raises:
        ValueError: not a uint8 image.
    """
    if control_HW3.dtype != np.uint8 or control_HW3.ndim != 3 or control_HW3.shape[2] != 3:
        raise ValueError(f"control image: got {control_HW3.dtype} {control_HW3.shape}; expected uint8 (H, W, 3)")
    if size is not None and size != control_HW3.shape[:2]:
        control_HW3 = np.asarray(Image.fromarray(control_HW3).resize((size[1], size[0]), Image.Resampling.BILINEAR))
    return torch.from_numpy(np.array(control_HW3)).permute(2, 0, 1)[None].float() / 255


# -- models -----------------------------------------------------------------------------------------------------------


def load_controlnet(path: str | Path | None = None) -> "ControlNetModel":
    """Load a ControlNet: V1's (None), from a folder in diffusers' layout, or a weights file of V1's configuration.

    Raises:
        ValueError: it cannot be found or read.
    """
    library = diffusers()
    otherwise = "download {url} and give its path with --controlnet"
    path = fetch(RELEASED, RELEASED_FILE, "space", otherwise) if path is None else Path(path)
    try:
        if path.is_dir() and (path / "config.json").is_file():
            model = library.ControlNetModel.from_pretrained(path)
            refuse_not_finite(path, model.state_dict())
            return model
        if not path.is_file():
            raise ValueError(f"{path}: no ControlNet; expected config.json beside {WEIGHTS}")
        model = library.ControlNetModel(**CONFIG)
        model.load_state_dict(read(path).state)
        return model
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path}: not a ControlNet that can be read ({str(error).splitlines()[0]})") from None


def save_controlnet(model: "ControlNetModel", folder: str | Path) -> None:
    """Write config.json and the weights in diffusers' layout, as V1 released them; each file appears whole.

    Raises:
        NotWritten: no space, or no permission.
    """
    folder = Path(folder)
    write_tensors(folder / WEIGHTS, model.state_dict(), {"format": "pt"})
    write_text(folder / "config.json", model.to_json_string())


def load_base(path: str | Path, part: str) -> Any:
    """One part (vae, unet, text_encoder, tokenizer, scheduler) of a Stable Diffusion 1.5 folder or hub id.

    Raises:
        ValueError: it cannot be loaded, or holds NaN or infinite values.
    """
    import transformers

    library = diffusers()
    classes = {
        "vae": library.AutoencoderKL,
        "unet": library.UNet2DConditionModel,
        "scheduler": library.DDPMScheduler,
        "text_encoder": transformers.CLIPTextModel,
        "tokenizer": transformers.CLIPTokenizer,
    }
    try:
        loaded = classes[part].from_pretrained(path, subfolder=part)
    except (OSError, ValueError) as error:
        line = (str(error).strip().splitlines() or ["unreadable"])[0]
        raise ValueError(f"{path}: no {part} in Stable Diffusion 1.5's layout there ({line})") from None
    if isinstance(loaded, torch.nn.Module):
        refuse_not_finite(Path(path) / part, loaded.state_dict())
    return loaded


# -- use --------------------------------------------------------------------------------------------------------------


def generate(
    control_HW3: np.ndarray,
    prompt: str,
    base: str | Path,
    controlnet: "ControlNetModel",
    *,
    negative: str = "",
    count: int = 1,
    size: int = 512,
    steps: int = 20,
    guidance: float = 7.5,
    strength: float = 1.0,
    seed: int = 0,
    device: str = "cpu",
) -> list[np.ndarray]:
    """Generate images (uint8 RGB) from a prompt and a control image.

    Args:
        control_HW3: uint8 (H, W, 3), `Prediction.control_image()`; its aspect ratio is kept.
        size: shorter side of the result; both sides are rounded to multiples of 8.
        strength: factor applied to the residuals of the ControlNet.

    Raises:
        ValueError: the base model cannot be loaded, the device does not exist, or a number is out of its range.
    """
    if min(count, steps) < 1 or size < 8 or not np.isfinite([guidance, strength]).all():
        raise ValueError(
            f"count {count}, steps {steps}, size {size}, guidance {guidance:g}, strength {strength:g}: "
            "expected 1, 1 and 8, or more, and finite numbers"
        )
    check_device(device)
    library = diffusers()
    height, width = control_HW3.shape[:2]
    rows, columns = (max(8, round(side * size / min(height, width) / 8) * 8) for side in (height, width))
    try:
        pipeline = library.StableDiffusionControlNetPipeline.from_pretrained(
            base, controlnet=controlnet, safety_checker=None, requires_safety_checker=False
        ).to(device)
    except (OSError, ValueError) as error:
        line = (str(error).strip().splitlines() or ["unreadable"])[0]
        raise ValueError(f"{base}: not Stable Diffusion 1.5 in diffusers' layout ({line})") from None
    for part in ("unet", "vae", "text_encoder"):
        refuse_not_finite(Path(base) / part, getattr(pipeline, part).state_dict())
    pipeline.set_progress_bar_config(disable=True)
    found: Any = pipeline(
        prompt,
        image=condition(control_HW3, (rows, columns)).to(device),
        height=rows,
        width=columns,
        negative_prompt=negative,
        num_images_per_prompt=count,
        num_inference_steps=steps,
        guidance_scale=guidance,
        controlnet_conditioning_scale=strength,
        generator=torch.Generator(device).manual_seed(seed),
    )
    return [np.asarray(image.convert("RGB")) for image in found.images]
