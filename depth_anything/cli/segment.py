"""`depth-anything segment predict|train|evaluate`: a class for every pixel."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from depth_anything.cli.exits import Failed
from depth_anything.cli.options import AcceptLicense, Device


@dataclass
class Predict:
    """Class maps of pictures: NAME_segments.png in colour with a legend, NAME_classes.png with the numbers."""

    inputs: Positional[tuple[str, ...]]
    """Files, folders, patterns, a .txt list of paths, or - for standard input."""
    model: Path
    """A segmentation model: final.safetensors of `segment train`."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("out")
    """Folder for the results; the folders of the input are mirrored."""
    opacity: float = 0.7
    """Of the colours over the picture, 0 to 1."""
    multi_scale: bool = False
    """Seven scales, each also mirrored: better and fourteen times slower."""
    device: Device = "cpu"
    overwrite: bool = False
    """Replace results that exist."""


@dataclass
class Train:
    """Train a segmenter on our encoder; run again after an interruption, it goes on. torchrun gives it more devices."""

    recipe: Positional[str]
    """ade20k-large, cityscapes-large, ade20k-linear-small, nano-scenes-linear, ...; an unknown name lists them all."""
    out: Positional[Path]
    """Folder for recipe.json, curve.jsonl, state.pt and at the end final.safetensors."""
    data: Path
    """Root of ADE20K or Cityscapes in its official layout; for scenes the folder with training/ and held_out/."""
    start_from: str | None = None
    """The encoder: a model's name, a checkpoint, a DINOv2 file, MiDaS' folder; by default the recipe's."""
    from_scratch: bool = False
    """Start from random weights instead."""
    steps: int | None = None
    """Instead of the recipe's."""
    seed: int | None = None
    """Instead of the recipe's."""
    accumulate: int = 1
    """Parts of a process's share of a step, one after the other: 16 makes the authors' 16 GPUs one."""
    device: Device = "cpu"
    validate_every: int = 5000
    """Steps between two measurements."""
    accept_license: AcceptLicense = False


@dataclass
class Evaluate:
    """Mean intersection over union on a set's validation pictures."""

    model: Positional[Path]
    """A segmentation model: final.safetensors of `segment train`."""
    name: Positional[str]
    """ade20k, cityscapes, scenes."""
    data: Path
    """Root of the set, as for train."""
    multi_scale: bool = False
    """Seven scales, each also mirrored (V1's multi-scale column)."""
    device: Device = "cpu"


def segment(action: Annotated[Predict | Train | Evaluate, tyro.conf.arg(name="")]) -> None:
    """Semantic segmentation with our encoder: use, training, measure (docs/transfer.md)."""
    match action:
        case Predict():
            _predict(action)
        case Train():
            _train(action)
        case Evaluate():
            _evaluate(action)


def _predict(asked: Predict) -> None:
    from PIL import Image
    from tqdm import tqdm

    from depth_anything.images.inputs import find_images
    from depth_anything.images.read import read_image
    from depth_anything.system.files import NotWritten, atomic_path, refuse_existing
    from depth_anything.transfer import segmentation, segmentation_predict

    if not 0 <= asked.opacity <= 1:
        raise ValueError(f"--opacity {asked.opacity}: expected 0 to 1")
    sources = find_images(asked.inputs, exclude=asked.out)
    model = segmentation.load(asked.model, asked.device)
    names = model.about.names
    ratios = segmentation_predict.MULTI_SCALE if asked.multi_scale else ()
    done = 0
    for source in tqdm(sources, unit="picture", disable=None if len(sources) > 1 else True):
        try:
            paths = [asked.out / f"{source.stem}_{kind}.png" for kind in ("segments", "classes")]
            for path in paths:
                refuse_existing(path, asked.overwrite)
            image_HW3 = read_image(source)
            classes_HW = segmentation_predict.predict(model, image_HW3, ratios, asked.device)
            picture = segmentation_predict.colored(classes_HW, names, image_HW3, asked.opacity)
            pictures = [segmentation_predict.with_legend(picture, classes_HW, names), classes_HW]
            for path, array in zip(paths, pictures, strict=True):
                with atomic_path(path) as temporary:
                    Image.fromarray(array).save(temporary, "PNG")
                print(path)
            done += 1
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
        except NotWritten as error:  # nor would the next one be
            print(f"error: {error}; {done} of {len(sources)} pictures are done", file=sys.stderr)
            break
    if done < len(sources):
        raise Failed(1 if done else 2)


def _train(asked: Train) -> None:
    import logging
    from dataclasses import replace

    from depth_anything.train.distributed import join
    from depth_anything.transfer import segmentation, segmentation_train
    from depth_anything.transfer.segmentation_data import open_classes
    from depth_anything.transfer.segmentation_recipes import get_recipe

    if asked.validate_every < 1:
        raise ValueError(f"--validate-every {asked.validate_every}: expected 1 step or more")
    recipe = get_recipe(asked.recipe)
    changes = {"steps": asked.steps, "seed": asked.seed}
    recipe = replace(recipe, **{name: value for name, value in changes.items() if value is not None})
    training, held_out = (open_classes(recipe.data, asked.data, split) for split in (False, True))
    encoder = None
    if not asked.from_scratch:
        encoder = segmentation.encoder_of(recipe.variant, asked.start_from or recipe.variant, asked.accept_license)
    with join(asked.device) as ranks:
        level = logging.INFO if ranks.first else logging.WARNING
        logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
        segmentation_train.train(
            recipe, asked.out, training, encoder, held_out, ranks, asked.accumulate, asked.validate_every
        )
        if ranks.first:
            path = asked.out / "final.safetensors"
            print(f"{path}: try it with depth-anything segment predict PHOTO --model {path}")


def _evaluate(asked: Evaluate) -> None:
    from depth_anything.transfer import segmentation, segmentation_predict
    from depth_anything.transfer.segmentation_data import open_classes

    samples = open_classes(asked.name, asked.data, held_out=True)
    model = segmentation.load(asked.model, asked.device)
    ratios = segmentation_predict.MULTI_SCALE if asked.multi_scale else ()
    miou = segmentation_predict.evaluate(model, samples, ratios, asked.device)
    print(f"{asked.name}: mIoU {100 * miou:.1f} over {len(samples)} pictures, {len(model.about.names)} classes")
