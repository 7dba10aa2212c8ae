"""Contact sheet of photographs beside their maps, selected by a fixed rule instead of by eye, for the model card.

    python docs/sheet.py --out docs/images/sheet.jpg --scenes runs/nano/scenes/held_out
    python docs/sheet.py --out sheet.jpg --photos PHOTOGRAPHS

The rule: photographs sorted by name, `--count` of them at equal distances, starting with the first; if a folder has
fewer, all of them, and then scenes by the same rule. Each map has its own colour range: red is near. A text file beside
the sheet lists the names in the order of the numbers. Publish only photographs whose licence allows it, such as those
in examples/.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import tyro
from PIL import Image, ImageDraw

from depth_anything import Predictor
from depth_anything.data.benchmarks import pairs
from depth_anything.images.read import read_image
from depth_anything.system.files import atomic_path

COLUMNS = 5
TILE = (160, 120)
"""Width and height of the box that an image or a map is shrunk into."""
SUFFIXES = {".jpg", ".jpeg", ".png"}
T = TypeVar("T")


@dataclass(frozen=True)
class SheetImage:
    """A photograph or a scene."""

    name: str
    read: Callable[[], np.ndarray]
    """Returns uint8 (H, W, 3), RGB."""


def sheet(
    out: Path,
    photos: Path = Path(__file__).parents[1] / "examples",
    scenes: Path | None = None,
    count: int = 30,
    model: str = "nano",
) -> None:
    """Write the sheet and the list of names.

    Args:
        out: the sheet, a JPEG.
        photos: folder of photographs.
        scenes: folder of rendered scenes, used if there are fewer photographs than `count`.
        count: images on the sheet.
        model: as for predict.
    """
    images = chosen(photos, scenes, count)
    predictor = Predictor(model)
    canvas = Image.new("RGB", (COLUMNS * 2 * TILE[0], -(-len(images) // COLUMNS) * TILE[1]))
    draw = ImageDraw.Draw(canvas)
    for number, image in enumerate(images):
        image_HW3 = image.read()
        place = (number % COLUMNS * 2 * TILE[0], number // COLUMNS * TILE[1])
        for side, tile_HW3 in enumerate((image_HW3, predictor(image_HW3).colored())):
            tile = Image.fromarray(tile_HW3)
            tile.thumbnail(TILE)
            canvas.paste(tile, (place[0] + side * TILE[0], place[1]))
        draw.text((place[0] + 3, place[1] + 2), str(number + 1), "white", stroke_width=2, stroke_fill="black")
    with atomic_path(out) as temporary:
        canvas.save(temporary, "JPEG", quality=75, optimize=True)
    with atomic_path(out.with_suffix(".txt")) as temporary:
        temporary.write_text("".join(f"{number} {image.name}\n" for number, image in enumerate(images, 1)))


def chosen(photos: Path, scenes: Path | None, count: int) -> list[SheetImage]:
    """The images of the sheet.

    Raises:
        ValueError: there are none.
    """
    paths = sorted(path for path in photos.iterdir() if path.suffix.lower() in SUFFIXES)
    images = [SheetImage(path.name, lambda path=path: read_image(path)) for path in evenly(paths, count)]
    if scenes and len(images) < count:
        cases = evenly(pairs.read(scenes), count - len(images))
        images += [SheetImage(f"scene {case.key}", case.read_image) for case in cases]
    if not images:
        raise ValueError(f"{photos}: no photographs ({', '.join(sorted(SUFFIXES))}) in it")
    return images


def evenly(things: Sequence[T], count: int) -> list[T]:
    """`count` things at equal distances, starting with the first; all of them if there are fewer."""
    if len(things) <= count:
        return list(things)
    return [things[number * len(things) // count] for number in range(count)]


if __name__ == "__main__":
    tyro.cli(sheet)
