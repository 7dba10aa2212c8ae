"""docs/sheet.py: the images are those of its rule, each beside its own map."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scene_shards import scene

from depth_anything import Predictor
from depth_anything.data.shards import write_shard
from depth_anything.images.read import read_image

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def sheet():
    spec = importlib.util.spec_from_file_location("sheet", ROOT / "docs/sheet.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["sheet"] = module
    spec.loader.exec_module(module)
    return module


def test_the_rule(sheet, tmp_path):
    for number in range(75):
        (tmp_path / f"{number:02d}.jpg").touch()
    (tmp_path / "00.txt").touch()
    names = [image.name for image in sheet.chosen(tmp_path, None, 30)]
    assert names == [f"{number * 75 // 30:02d}.jpg" for number in range(30)]
    assert names[:4] == ["00.jpg", "02.jpg", "05.jpg", "07.jpg"]
    assert len(sheet.chosen(tmp_path, None, 100)) == 75
    with pytest.raises(ValueError, match="no photographs"):
        sheet.chosen(ROOT / "depth_anything", None, 30)


def test_images_are_beside_their_maps_and_scenes_fill_the_sheet(sheet, tmp_path):
    write_shard(tmp_path / "scenes-00000.tar", [scene(seed, 48, 64) for seed in range(5)])
    out = tmp_path / "sheet.jpg"
    sheet.sheet(out, scenes=tmp_path, count=10)
    photos = sorted(path.name for path in (ROOT / "examples").glob("*.jpg"))
    names = [*photos, "scene 000000", "scene 000002"]
    assert out.with_suffix(".txt").read_text().splitlines() == [f"{n} {name}" for n, name in enumerate(names, 1)]
    image = np.asarray(Image.open(out)).astype(int)
    width, height = sheet.TILE
    assert image.shape == (2 * height, 5 * 2 * width, 3)
    image_HW3 = read_image(ROOT / "examples" / photos[6])  # second row, second cell
    for side, tile_HW3 in enumerate((image_HW3, Predictor("nano")(image_HW3).colored())):
        tile = Image.fromarray(tile_HW3)
        tile.thumbnail(sheet.TILE)
        left = (2 + side) * width
        shown = image[height : height + tile.height, left : left + tile.width]
        assert np.abs(shown - np.asarray(tile))[16:].mean() < 8  # JPEG; the number is above
