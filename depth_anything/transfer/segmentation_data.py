"""Images with class maps: ADE20K, Cityscapes, rendered scenes; their augmentation in training; the confusion matrix.

Class maps are uint8, counted from 0; 255 is unlabelled and always ignored.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from depth_anything.data.benchmarks.read_ground_truth import read_numbers
from depth_anything.images.read import read_image
from depth_anything.system.files import find, package_text, read_text
from depth_anything.system.words import one_of

IGNORE, UNKNOWN = 255, -1


@dataclass(frozen=True)
class ClassSample:
    """An image and its class map."""

    image_HW3: np.ndarray
    """uint8 RGB."""
    classes_HW: np.ndarray
    """uint8; 255 is unlabelled."""
    key: str = ""


class ClassSamples(Protocol):
    """Images with class maps, by number."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> ClassSample: ...


class PairedFiles:
    """Images and class maps in files, by number. Subclasses state the layout and the meaning of the numbers."""

    names: tuple[str, ...] = ()
    pairs: list[tuple[Path, Path]]
    table: np.ndarray
    """int16 (257,): the class of each number from 0 to 255: IGNORE if it is ignored, UNKNOWN if it is not a class. The
    last entry, UNKNOWN, is for all other numbers.
    """

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, number: int) -> ClassSample:
        """Raises ValueError, which names the file, if it cannot be read or is not a class map of this set."""
        image, label = self.pairs[number]
        image_HW3, numbers_HW = read_image(image), read_numbers(label)
        if numbers_HW.shape != image_HW3.shape[:2]:
            raise ValueError(f"{label} is {numbers_HW.shape}, its image {image_HW3.shape[:2]}: fetch the pair again")
        classes_HW = self.table[np.clip(numbers_HW, -1, 256)]
        if (unknown := np.unique(numbers_HW[classes_HW == UNKNOWN])).size:
            some = ", ".join(map(str, unknown[:3].tolist())) + (", ..." if unknown.size > 3 else "")
            known = np.flatnonzero(self.table[:IGNORE] != UNKNOWN)
            raise ValueError(
                f"{label}: holds {some}, no class of {type(self).__name__}; expected {known[0]} to {known[-1]}, and "
                f"{IGNORE} for unlabelled: use the official map"
            )
        return ClassSample(image_HW3, classes_HW.astype(np.uint8), image.stem)

    def require(self, root: Path, layout: str) -> None:
        """Raise ValueError if there are no images, or an image has no class map."""
        if not self.pairs:
            raise ValueError(f"{root}: no images found; expected {layout}")
        lacking = [label for _, label in self.pairs if not label.is_file()]
        if lacking:
            raise ValueError(f"{root}: {len(lacking)} class maps are missing (first: {lacking[0]}); expected {layout}")


def number_table(classes: Sequence[int], nothing: Iterable[int]) -> np.ndarray:
    """The `table` of a set whose class i has the number classes[i], and in which the numbers `nothing` are ignored."""
    table = np.full(257, UNKNOWN, np.int16)
    table[[*nothing, IGNORE]] = IGNORE
    table[list(classes)] = range(len(classes))
    return table


class ADE20K(PairedFiles):
    """ADE20K-150 (Zhou et al. 2017): 20,210 training and 2,000 validation images.

        ROOT[/ADEChallengeData2016]/images/{training,validation}/ADE_train_00000001.jpg
        ROOT[/ADEChallengeData2016]/annotations/{training,validation}/ADE_train_00000001.png
        ROOT[/ADEChallengeData2016]/objectInfo150.txt                                     (class names, optional)

    In the files, 1 to 150 are the classes; 0 is everything else, which is ignored like 255 (reduce_zero_label).
    """

    table = number_table(range(1, 151), [0])

    def __init__(self, root: str | Path, split: str = "training"):
        root = Path(root)
        base = next((p for p in (root / "ADEChallengeData2016", root) if (p / "images").is_dir()), root)
        images = find(base / "images" / split, "*.jpg")
        self.pairs = [(path, base / "annotations" / split / f"{path.stem}.png") for path in images]
        self.require(root, f"images/{split}/*.jpg and annotations/{split}/*.png")
        self.names = ade_names(base / "objectInfo150.txt")


def ade_names(path: Path) -> tuple[str, ...]:
    """The first name of each of the 150 classes from ADE20K's own list; numbers if the list is absent."""
    numbers = tuple(f"class {number}" for number in range(1, 151))
    if not path.is_file():
        return numbers
    rows = read_text(path).splitlines()[1:]
    lines = [line.split("\t")[-1].split(",")[0].strip() for line in rows if line.strip()]
    if len(lines) != 150:
        raise ValueError(f"{path}: {len(lines)} classes; expected ADE20K's list of 150")
    return tuple(lines)


CITYSCAPES_NAMES, CITYSCAPES_IDS, CITYSCAPES_COLOURS = map(
    tuple, zip(*json.loads(package_text("transfer/cityscapes_classes.json")), strict=True)
)
"""Of the 19 evaluated classes in the order of their trainIds: name, labelId, colour (R, G, B)."""


class Cityscapes(PairedFiles):
    """Cityscapes, fine (Cordts et al. 2016): 2,975 training and 500 validation images of 2048 x 1024.

        ROOT/leftImg8bit/{train,val}/<city>/<name>_leftImg8bit.png
        ROOT/gtFine/{train,val}/<city>/<name>_gtFine_labelIds.png

    labelIds are converted to the 19 trainIds here; the scripts that write `..._labelTrainIds.png` are not needed.
    """

    names = CITYSCAPES_NAMES
    table = number_table(CITYSCAPES_IDS, range(34))  # licence plates have -1, which the files hold as 255

    def __init__(self, root: str | Path, split: str = "train"):
        root = Path(root)
        images = find(root / "leftImg8bit" / split, "*/*_leftImg8bit.png")
        self.pairs = [(path, root / "gtFine" / split / path.parent.name / label_name(path.name)) for path in images]
        self.require(root, f"leftImg8bit/{split}/<city>/*_leftImg8bit.png and gtFine/{split}/<city>/*_labelIds.png")


def label_name(image: str) -> str:
    """The name of a Cityscapes class map."""
    return re.sub(r"_leftImg8bit\.png$", "_gtFine_labelIds.png", image)


class SceneClasses:
    """Rendered scenes with the classes of the renderer, kept in memory (200 KB per scene of 256 x 192).

    Args:
        folder: scene shards (`depth-anything render`).
        limit: number of scenes to read, from the first.
    """

    def __init__(self, folder: str | Path, limit: int | None = None):
        from itertools import islice

        from depth_anything.data.labeled.rendered import read_scenes
        from depth_anything.data.scenes.objects import CLASSES

        self.names = CLASSES
        self.samples = [
            ClassSample(scene.image_HW3, scene.classes_HW.astype(np.uint8), scene.key)
            for scene in islice(read_scenes(folder), limit)
            if scene.classes_HW is not None
        ]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> ClassSample:
        return self.samples[number]


def open_classes(name: str, root: str | Path, held_out: bool = False) -> ClassSamples:
    """A set by its name in recipes: its training split, or the validation split.

    Rendered scenes are in ROOT/training and ROOT/held_out, as `depth-anything train` writes them.

    Raises:
        ValueError: the set is unknown, or the root holds nothing of it.
    """
    match name:
        case "ade20k":
            return ADE20K(root, "validation" if held_out else "training")
        case "cityscapes":
            return Cityscapes(root, "val" if held_out else "train")
        case "scenes":
            return SceneClasses(Path(root) / ("held_out" if held_out else "training"))
    known = ("ade20k", "cityscapes", "scenes")
    raise ValueError(f"no set of classes {name!r}; {one_of(name, known)}")


# -- colours ----------------------------------------------------------------------------------------------------------


def palette(names: tuple[str, ...]) -> np.ndarray:
    """uint8 (classes, 3): Cityscapes' own colours for its classes, else distinct ones (PASCAL VOC's bit pattern)."""
    if names == CITYSCAPES_NAMES:
        return np.array(CITYSCAPES_COLOURS, np.uint8)
    index = np.arange(1, len(names) + 1)
    colours = np.zeros((len(names), 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((index >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return colours


# -- what training does to an image (V1's configuration of mmsegmentation) --------------------------------------------


def training_crop(
    sample: ClassSample, crop: int, short_edges: tuple[int, ...], most: float, rng: np.random.Generator
) -> ClassSample:
    """Random resize, random square crop, mirroring and colour distortion, in the order of V1's configuration.

    Args:
        crop: side of the crop; smaller images give smaller crops (`padded` fills them up).
        short_edges: lengths from which that of the shorter side is drawn; the longer side is at most four crops.
        most: largest share of one class in the labelled pixels of the crop, if one of ten draws achieves it.
    """
    height, width = sample.classes_HW.shape
    short = int(rng.choice(short_edges))
    scale = min(short / min(height, width), 4 * crop / max(height, width))
    sample = resized(sample, max(1, round(height * scale)), max(1, round(width * scale)))
    height, width = sample.classes_HW.shape
    for _ in range(10):
        top, left = rng.integers(max(height - crop, 0) + 1), rng.integers(max(width - crop, 0) + 1)
        window = np.s_[top : top + crop, left : left + crop]
        counts = np.bincount(sample.classes_HW[window].ravel(), minlength=256)[:IGNORE]
        if (counts > 0).sum() > 1 and counts.max() < most * counts.sum():
            break
    image_HW3, classes_HW = sample.image_HW3[window], sample.classes_HW[window]
    if rng.uniform() < 0.5:
        image_HW3, classes_HW = image_HW3[:, ::-1], classes_HW[:, ::-1]
    return ClassSample(distorted(image_HW3, rng), np.ascontiguousarray(classes_HW), sample.key)


def resized(sample: ClassSample, height: int, width: int) -> ClassSample:
    """Resize the image bilinearly, and its class map to the nearest pixel."""
    image = Image.fromarray(sample.image_HW3).resize((width, height), Image.Resampling.BILINEAR)
    classes = Image.fromarray(sample.classes_HW).resize((width, height), Image.Resampling.NEAREST)
    return replace(sample, image_HW3=np.asarray(image), classes_HW=np.asarray(classes))


def distorted(image_HW3: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Photometric distortion (Liu et al. 2016, SSD), each with probability 1/2: brightness by up to 32 of 255, contrast
    and saturation by 0.5 to 1.5, hue by up to 18 degrees of 180; contrast before or after the other two.
    """
    image = image_HW3.astype(np.float32)
    contrast, early = (rng.uniform(0.5, 1.5) if rng.uniform() < 0.5 else 1.0), rng.uniform() < 0.5
    if rng.uniform() < 0.5:
        image = image + rng.uniform(-32, 32)
    if early:
        image = image * contrast
    saturation = rng.uniform(0.5, 1.5) if rng.uniform() < 0.5 else 1.0
    hue = rng.uniform(-18, 18) if rng.uniform() < 0.5 else 0.0
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    if saturation != 1 or hue:
        hsv = np.asarray(Image.fromarray(pixels).convert("HSV")).astype(np.float32)
        hsv[..., 0] = (hsv[..., 0] + hue * 256 / 180) % 256
        hsv[..., 1] = np.clip(hsv[..., 1] * saturation, 0, 255)
        pixels = np.asarray(Image.fromarray(hsv.astype(np.uint8), "HSV").convert("RGB"))
    return pixels if early else np.clip(pixels * np.float32(contrast), 0, 255).astype(np.uint8)


# -- the measure ------------------------------------------------------------------------------------------------------


def confusion(prediction_HW: np.ndarray, classes_HW: np.ndarray, count: int) -> np.ndarray:
    """int64 (count, count): pixels by true class (row) and predicted class (column), without unlabelled pixels."""
    known = classes_HW != IGNORE
    pairs = classes_HW[known].astype(np.int64) * count + prediction_HW[known]
    return np.bincount(pairs, minlength=count * count).reshape(count, count)
