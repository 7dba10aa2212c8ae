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
    """Predict class maps: NAME_segments.png in colour with a legend, NAME_classes.png with class numbers."""

    inputs: Positional[tuple[str, ...]]
    """Files, folders, patterns, a .txt list of paths, or - for standard input."""
    model: Path
    """A segmentation model: final.safetensors of `segment train`."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("out")
    """Folder for the results, with the same subfolders as the input."""
    opacity: float = 0.7
    """Opacity of the colours over the image, 0 to 1."""
    multi_scale: bool = False
    """Average seven scales, each also mirrored: more accurate, and fourteen times slower."""
    device: Device = "cpu"
    overwrite: bool = False
    """Replace existing results."""


@dataclass
class Train:
    """Train a segmentation model on our encoder. Run the same command again to resume; torchrun adds devices."""

    recipe: Positional[str]
    """ade20k-large, cityscapes-large, ade20k-linear-small, nano-scenes-linear, ...; an unknown name lists all."""
    out: Positional[Path]
    """Folder for recipe.json, curve.jsonl, state.pt and finally final.safetensors."""
    data: Path
    """Root of ADE20K or Cityscapes in its official layout; for scenes the folder with training/ and held_out/."""
    start_from: str | None = None
    """The encoder: name of a model, checkpoint, DINOv2 file or MiDaS folder; by default that of the recipe."""
    from_scratch: bool = False
    """Start from random weights instead."""
    steps: int | None = None
    """Number of steps, instead of the recipe's."""
    seed: int | None = None
    """Seed, instead of the recipe's."""
    accumulate: int = 1
    """Number of slices in which a process computes its part of a step: 16 replaces the authors' 16 GPUs by one."""
    device: Device = "cpu"
    validate_every: int = 5000
    """Steps between two validations."""
    accept_license: AcceptLicense = False


@dataclass
class Evaluate:
    """Measure the mean intersection over union on the validation images of a set."""

    model: Positional[Path]
    """A segmentation model: final.safetensors of `segment train`."""
    name: Positional[str]
    """ade20k, cityscapes, scenes."""
    data: Path
    """Root of the set, as for train."""
    multi_scale: bool = False
    """Average seven scales, each also mirrored (V1's multi-scale column)."""
    device: Device = "cpu"


def segment(action: Annotated[Predict | Train | Evaluate, tyro.conf.arg(name="")]) -> None:
    """Semantic segmentation with our encoder: prediction, training, evaluation (docs/transfer.md)."""
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
    for source in tqdm(sources, unit="image", disable=None if len(sources) > 1 else True):
        try:
            paths = [asked.out / f"{source.stem}_{kind}.png" for kind in ("segments", "classes")]
            for path in paths:
                refuse_existing(path, asked.overwrite)
            image_HW3 = read_image(source)
            classes_HW = segmentation_predict.predict(model, image_HW3, ratios, asked.device)
            image = segmentation_predict.colored(classes_HW, names, image_HW3, asked.opacity)
            images = [segmentation_predict.with_legend(image, classes_HW, names), classes_HW]
            for path, array in zip(paths, images, strict=True):
                with atomic_path(path) as temporary:
                    Image.fromarray(array).save(temporary, "PNG")
                print(path)
            done += 1
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
        except NotWritten as error:  # the next one would fail too
            print(f"error: {error}; {done} of {len(sources)} images are done", file=sys.stderr)
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
    if asked.from_scratch and asked.start_from:
        raise ValueError(f"--start-from {asked.start_from}: weights are random with --from-scratch; give one of them")
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
    print(f"{asked.name}: mIoU {100 * miou:.1f} over {len(samples)} images, {len(model.about.names)} classes")
