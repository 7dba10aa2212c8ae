"""Inputs of the commands of transfer/: rendered scenes, a segmentation model, a base model for ControlNet, all tiny."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scene_shards import scene


def tiny_unet():
    import diffusers
    import torch

    torch.manual_seed(0)
    return diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16, attention_head_dim=4, norm_num_groups=4,
    )  # fmt: skip


def write_base(folder: Path) -> None:
    """Stable Diffusion 1.5's layout with parts of a few thousand weights."""
    import diffusers
    import torch
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(97, 123)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=8, pad_token="<|endoftext|>"
    )
    torch.manual_seed(0)
    text = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
            max_position_embeddings=8, bos_token_id=0, eos_token_id=1, pad_token_id=1,
        )
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 4, norm_num_groups=4,
        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4,
    )  # fmt: skip
    pipeline = diffusers.StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=tokenizer, unet=tiny_unet(),
        scheduler=diffusers.DDPMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)


def write_controlnet(folder: Path) -> None:
    """A ControlNet for the base model."""
    import diffusers

    from depth_anything.transfer.controlnet import save_controlnet

    save_controlnet(diffusers.ControlNetModel.from_unet(tiny_unet()), folder)


def write_controls(folder: Path) -> None:
    """Control images of 0.png to 3.png."""
    folder.mkdir()
    for number in range(4):
        Image.fromarray(np.full((60, 80, 3), 60 * number, np.uint8)).save(folder / f"{number}_control.png")


def write_scenes(folder: Path) -> None:
    """Scene shards as `train` leaves them."""
    from depth_anything.data.shards import write_shard

    for part, first in (("training", 0), ("held_out", 100)):
        write_shard(folder / part / "scenes-00000.tar", [scene(seed, 48, 64) for seed in range(first, first + 3)])


def write_segmenter(path: Path) -> None:
    """A segmentation model on nano's encoder, with random weights."""
    import torch

    from depth_anything.transfer import segmentation

    torch.manual_seed(0)
    about = segmentation.Segments("nano", "linear", tuple(f"class {number}" for number in range(18)), 192, 128)
    segmentation.save(segmentation.build(about).eval(), path)


WRITERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "{base}": ("base", write_base),
    "{controlnet}": ("controlnet", write_controlnet),
    "{controls}": ("controls", write_controls),
    "{scenes}": ("scenes", write_scenes),
    "{segmenter}": ("segmenter.safetensors", write_segmenter),
}


def with_inputs(words: str, folder: Path) -> str:
    """A command line in which {base}, {controlnet} and so on are replaced by paths in `folder`, where
    they are written unless they are there."""
    for name, (file, write) in WRITERS.items():
        if name in words:
            if not (folder / file).exists():
                write(folder / file)
            words = words.replace(name, str(folder / file))
    return words
