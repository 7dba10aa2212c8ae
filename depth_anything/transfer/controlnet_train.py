"""Training of a depth ControlNet for a frozen Stable Diffusion 1.5.

V1 published the config and the weights but not the training: the settings here are those of the example in diffusers.

Shapes: B batch, H W pixels, h w latents (H / 8, W / 8), T tokens of the caption, D their width.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from depth_anything.images.read import read_image
from depth_anything.images.source import SUFFIXES
from depth_anything.losses import Losses
from depth_anything.system.device import check_device
from depth_anything.system.files import read_text, walk
from depth_anything.train.checkpoint import Run
from depth_anything.train.distributed import Machine, Ranks
from depth_anything.train.steps import Task, run_steps
from depth_anything.transfer.controlnet import condition, diffusers, load_base, load_controlnet, save_controlnet

if TYPE_CHECKING:
    from diffusers import ControlNetModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel


@dataclass(frozen=True, kw_only=True)
class ControlRecipe:
    """Everything that determines the weights besides the data and the machine. Values: the example in diffusers."""

    steps: int = 15_000
    batch: int = 4
    size: int = 512
    """Side of the square images: the shorter side is resized to it, then the centre is cropped."""
    learning_rate: float = 1e-5
    weight_decay: float = 1e-2
    clip: float = 1.0
    no_caption: float = 0.1
    """Share of captions that are dropped, so that the model also learns to predict without one (for guidance)."""
    seed: int = 0

    def __post_init__(self):
        if min(self.steps, self.batch) < 1 or self.seed < 0:
            raise ValueError(f"{self.steps} steps of {self.batch}, seed {self.seed}: expected 1, 1 and 0, or more")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning rate {self.learning_rate:g}: expected a number above 0")
        if self.size < 8 or self.size % 8:
            raise ValueError(f"size {self.size}: expected a multiple of 8")

    def seen(self, steps: int) -> int:
        """Images of the first `steps` steps."""
        return steps * self.batch


@dataclass(frozen=True)
class Painted:
    """An image, its control image and its caption."""

    image_HW3: np.ndarray
    control_HW3: np.ndarray
    caption: str


class ControlSet:
    """Images with captions and control images, by number.

    Args:
        images: folder of images; `<stem>.txt` beside an image is its caption (if absent, it has none).
        controls: folder with `<stem>_control.png`, as `predict --save control` writes it.

    Raises:
        ValueError: there are no images, an image has no control image, or two would share it.
    """

    def __init__(self, images: str | Path, controls: str | Path):
        self.paths = sorted(walk(images, SUFFIXES))
        if not self.paths:
            raise ValueError(f"{images}: no images")
        relative = [path.relative_to(images).with_suffix("") for path in self.paths]
        self.controls = [Path(controls) / path.with_name(f"{path.name}_control.png") for path in relative]
        stems = Counter(relative)
        if twice := next((path for path, stem in zip(self.paths, relative, strict=True) if stems[stem] > 1), None):
            raise ValueError(f"{twice}: another image there differs in its ending only; rename one, and predict again")
        lacking = [path for path in self.controls if not path.is_file()]
        if lacking:
            raise ValueError(
                f"{len(lacking)} control images are missing (first: {lacking[0]}): "
                f"depth-anything predict {images} --save control -o {controls}"
            )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Painted:
        caption = self.paths[number].with_suffix(".txt")
        text = read_text(caption).strip() if caption.is_file() else ""
        return Painted(read_image(self.paths[number]), read_image(self.controls[number]), text)


def control_loss(
    unet: "UNet2DConditionModel",
    controlnet: "ControlNetModel",
    scheduler,
    latents_B4hw: Tensor,
    noise_B4hw: Tensor,
    steps_B: Tensor,
    text_BTD: Tensor,
    condition_B3HW: Tensor,
) -> Tensor:
    """Mean squared error of the predicted noise (or velocity, depending on the scheduler) at the given steps."""
    noisy_B4hw = scheduler.add_noise(latents_B4hw, noise_B4hw, steps_B)
    prediction = predicted(unet, controlnet, noisy_B4hw, steps_B, text_BTD, condition_B3HW)
    target = noise_B4hw
    if scheduler.config.prediction_type == "v_prediction":
        target = scheduler.get_velocity(latents_B4hw, noise_B4hw, steps_B)
    return F.mse_loss(prediction.float(), target.float())


def predicted(
    unet, controlnet, noisy_B4hw: Tensor, steps_B: Tensor, text_BTD: Tensor, condition_B3HW: Tensor
) -> Tensor:
    """The prediction of the UNet with the residuals of the ControlNet added to its skip connections and middle."""
    skips, middle = controlnet(
        noisy_B4hw, steps_B, encoder_hidden_states=text_BTD, controlnet_cond=condition_B3HW, return_dict=False
    )
    return unet(
        noisy_B4hw,
        steps_B,
        encoder_hidden_states=text_BTD,
        down_block_additional_residuals=skips,
        mid_block_additional_residual=middle,
        return_dict=False,
    )[0]


def squared(image_HW3: np.ndarray, size: int) -> np.ndarray:
    """Resize the shorter side to `size` and crop the centre, as the example in diffusers does with both images."""
    fitted = ImageOps.fit(Image.fromarray(image_HW3), (size, size), Image.Resampling.BILINEAR)
    return np.asarray(fitted)


def train(
    recipe: ControlRecipe,
    base: str | Path,
    samples: ControlSet,
    out: str | Path,
    controlnet: str | Path | None = None,
    device: str = "cpu",
    save_seconds: float = 300.0,
) -> "ControlNetModel":
    """Train a ControlNet for a frozen Stable Diffusion 1.5; `out` receives config.json and the weights in V1's layout.

    It also receives the same files as every run (docs/train.md), from which an interrupted run resumes.

    Args:
        base: folder or hub id of the base model.
        controlnet: ControlNet to start from; None: a copy of the UNet's encoder behind zero convolutions, as in the
            paper (Zhang et al. 2023).

    Raises:
        ValueError: the device does not exist, a part is missing, or `out` holds a state of another recipe.
    """
    check_device(device)
    library = diffusers()
    unet, vae, text_encoder, tokenizer, scheduler = (
        load_base(base, part) for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
    )
    torch.manual_seed(recipe.seed)
    model = library.ControlNetModel.from_unet(unet) if controlnet is None else load_controlnet(controlnet)
    for frozen in (unet, vae, text_encoder):
        frozen.requires_grad_(False).to(device).eval()
    model.to(device)  # type: ignore[reportArgumentType]  (diffusers wraps it)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)

    def losses(network: torch.nn.Module, one: Painting, step: int) -> Losses:
        torch.manual_seed(one.seed)
        with torch.no_grad():
            latents_B4hw = vae.encode(one.image_B3HW).latent_dist.sample() * vae.config.scaling_factor
            text_BTD = text_encoder(tokens(tokenizer, one.captions).to(device))[0]
        noise_B4hw = torch.randn_like(latents_B4hw)
        steps_B = torch.randint(scheduler.config.num_train_timesteps, (recipe.batch,), device=device)
        loss = control_loss(unet, model, scheduler, latents_B4hw, noise_B4hw, steps_B, text_BTD, one.condition_B3HW)
        return Losses(loss, {"loss": loss.detach()})

    task = Task(
        build=lambda step, index, pool: build_slice(recipe, samples, step, device),
        losses=losses,
        set_rate=lambda optimizer, step: recipe.learning_rate,
    )
    ranks = Ranks(device=device)
    run_steps(Run(recipe, model, model, optimizer), task, out, Machine(), ranks, save_seconds=save_seconds)
    save_controlnet(model.eval(), out)
    return model


@dataclass(frozen=True)
class Painting:
    """The input of one forward pass."""

    image_B3HW: Tensor
    """float32 in -1..1."""
    condition_B3HW: Tensor
    captions: list[str]
    seed: int
    """Seed of the noise in the latents, and of the steps at which it is added."""


def build_slice(recipe: ControlRecipe, samples: ControlSet, step: int, device: str) -> Painting:
    """The images of a step, determined by the seed and the step."""
    rng = np.random.default_rng([recipe.seed, step])
    seed = int(rng.integers(2**62))
    found = [samples[int(number)] for number in rng.choice(len(samples), recipe.batch)]
    pixels = np.stack([squared(one.image_HW3, recipe.size) for one in found])
    image_B3HW = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(device) / 127.5 - 1
    condition_B3HW = torch.cat([condition(squared(one.control_HW3, recipe.size)) for one in found]).to(device)
    captions = ["" if rng.uniform() < recipe.no_caption else one.caption for one in found]
    return Painting(image_B3HW, condition_B3HW, captions, seed)


def tokens(tokenizer, captions: list[str]) -> Tensor:
    """Token numbers (B, T), truncated or padded to the length of the text encoder."""
    length = tokenizer.model_max_length
    return tokenizer(captions, padding="max_length", truncation=True, max_length=length, return_tensors="pt").input_ids
