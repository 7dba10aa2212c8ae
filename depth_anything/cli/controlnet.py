"""`depth-anything controlnet train|generate`: images generated from a depth map."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from depth_anything.cli.options import AcceptLicense, Device


@dataclass
class Train:
    """Train a ControlNet for a frozen Stable Diffusion 1.5. Run the same command again to resume."""

    images: Positional[Path]
    """Folder of images; NAME.txt beside NAME.jpg is its caption."""
    controls: Positional[Path]
    """Folder of NAME_control.png: `depth-anything predict IMAGES --save control -o CONTROLS`."""
    out: Positional[Path]
    """Folder for config.json and diffusion_pytorch_model.safetensors, in the layout of V1's release."""
    base: str
    """Stable Diffusion 1.5 in diffusers' layout: a folder or hub id."""
    controlnet: Path | None = None
    """Start from this ControlNet instead of a copy of the base's encoder."""
    steps: int = 15_000
    """Optimiser steps."""
    batch: int = 4
    """Images per step."""
    size: int = 512
    """Side of the images, in pixels."""
    learning_rate: float = 1e-5
    """Learning rate, constant."""
    seed: int = 0
    """Seed of the order, the noise and the captions that are dropped."""
    device: Device = "cpu"


@dataclass
class Generate:
    """Generate new images with the depth of a given one: NAME_painted.png, NAME_control.png."""

    image: Positional[Path]
    """A photograph whose depth is used, or with --is-control a control image."""
    prompt: Positional[str]
    """Text prompt."""
    base: str
    """Stable Diffusion 1.5 in diffusers' layout: a folder or hub id."""
    controlnet: Path | None = None
    """Folder or weights file; by default the one that V1 released."""
    model: str = "nano"
    """The depth model; V1's ControlNet was trained with v1-large."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("out")
    """Folder for the results."""
    is_control: bool = False
    """The given image is already a control image."""
    negative: str = ""
    """Negative prompt."""
    count: int = 1
    """Number of images."""
    size: int = 512
    """Shorter side of the result."""
    steps: int = 20
    """Diffusion steps."""
    guidance: float = 7.5
    """Guidance scale: how closely the prompt is followed."""
    strength: float = 1.0
    """Conditioning scale: how closely the depth is followed."""
    seed: int = 0
    """Seed of the noise."""
    device: Device = "cpu"
    overwrite: bool = False
    """Replace existing results."""
    accept_license: AcceptLicense = False


def controlnet(action: Annotated[Train | Generate, tyro.conf.arg(name="")]) -> None:
    """A ControlNet conditioned on depth: training and use (docs/transfer.md)."""
    if isinstance(action, Train):
        _train(action)
    else:
        _generate(action)


def _train(asked: Train) -> None:
    import logging

    from depth_anything.transfer import controlnet_train

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    recipe = controlnet_train.ControlRecipe(
        steps=asked.steps, batch=asked.batch, size=asked.size, learning_rate=asked.learning_rate, seed=asked.seed
    )
    samples = controlnet_train.ControlSet(asked.images, asked.controls)
    controlnet_train.train(recipe, asked.base, samples, asked.out, asked.controlnet, asked.device)
    print(f"{asked.out}: try it with depth-anything controlnet generate PHOTO PROMPT --controlnet {asked.out}")


def _generate(asked: Generate) -> None:
    from PIL import Image

    from depth_anything.images.read import read_image
    from depth_anything.predict.predictor import Predictor
    from depth_anything.system.files import atomic_path, check_writable, refuse_existing
    from depth_anything.transfer import controlnet

    if asked.is_control and asked.model != "nano":
        raise ValueError(f"--model {asked.model}: no map is predicted with --is-control; give one of them")
    stem = asked.image.stem
    numbers = [""] if asked.count == 1 else [f"_{number:02d}" for number in range(asked.count)]
    paths = [asked.out / f"{stem}_control.png", *(asked.out / f"{stem}_painted{number}.png" for number in numbers)]
    for path in paths:
        refuse_existing(path, asked.overwrite)
    check_writable(paths[0])
    if asked.is_control:
        control_HW3 = read_image(asked.image)
    else:
        depth = Predictor(asked.model, device=asked.device, accept_license=asked.accept_license)
        control_HW3 = depth(asked.image).control_image()
    painted = controlnet.generate(
        control_HW3,
        asked.prompt,
        asked.base,
        controlnet.load_controlnet(asked.controlnet),
        negative=asked.negative,
        count=asked.count,
        size=asked.size,
        steps=asked.steps,
        guidance=asked.guidance,
        strength=asked.strength,
        seed=asked.seed,
        device=asked.device,
    )
    for path, image_HW3 in zip(paths, [control_HW3, *painted], strict=True):
        with atomic_path(path) as temporary:
            Image.fromarray(image_HW3).save(temporary, "PNG")
        print(path)
    if asked.model == "nano" and not asked.is_control:
        print("note: nano's map is coarse; the released ControlNet was trained with v1-large", file=sys.stderr)
