"""Scenes that lie on the device: their windows against Pillow's and numpy's, image by image."""

from dataclasses import replace

import numpy as np
import pytest
from scene_shards import as_bytes, scene

from depth_anything.data.labeled.on_device import ScenesOnDevice, bytes_of
from depth_anything.data.labeled.rendered import PACKED, PackedScenes, pack_ahead
from depth_anything.data.shards import write_shard
from depth_anything.train.batches import Data, build_slice
from depth_anything.train.recipes.base import Stage
from depth_anything.train.recipes.nano import LARGER, SMALL, nano_teacher
from depth_anything.train.sources import on_device


@pytest.fixture
def packed(tmp_path):
    """Seven scenes of one size, with edges as hard as they come, in two shards."""
    rng = np.random.default_rng(0)
    scenes = []
    for seed in range(7):
        key, files = scene(seed, 60, 80)
        noise_HW3 = np.kron(rng.choice([0, 255], (15, 20, 3)), np.ones((4, 4, 1))).astype(np.uint8)
        scenes.append((key, files | {"rgb.jpg": as_bytes(noise_HW3, "JPEG")}))
    write_shard(tmp_path / "scenes-00000.tar", scenes[:4])
    write_shard(tmp_path / "scenes-00001.tar", scenes[4:])
    return PackedScenes(tmp_path)


@pytest.mark.parametrize("sizes", [SMALL, LARGER], ids=["smaller", "larger"])
def test_a_batch_is_the_one_that_the_processor_would_cut(packed, sizes):
    stage = Stage(samples=64, sizes=sizes, batch=16)
    recipe = replace(nano_teacher(), stages=(stage,), perturbation="none")
    resident = ScenesOnDevice(packed, "cpu")
    assert len(resident) == 7 and np.array_equal(resident[5].disparity_HW, packed[5].disparity_HW)
    for step in range(3):
        ours = build_slice(recipe, Data(resident), step).labeled
        theirs = build_slice(recipe, Data(packed), step).labeled
        assert ours and theirs
        assert (ours.disparity_BHW == theirs.disparity_BHW).all() and (ours.valid_BHW == theirs.valid_BHW).all()
        # Pillow rounds to whole levels twice; a level is 1 / 255, over the smallest of ImageNet's deviations.
        assert (ours.image_B3HW - theirs.image_B3HW).abs().max() < 1.3 / 255 / 0.224


def test_scenes_of_several_sizes_are_refused(tmp_path):
    write_shard(tmp_path / "scenes-00000.tar", [scene(0, 24, 32), scene(1, 32, 24)])
    with pytest.raises(ValueError, match="different sizes"):
        ScenesOnDevice(PackedScenes(tmp_path), "cpu")


def test_scenes_stay_on_the_disk_for_a_processor(packed):
    assert on_device(packed, "cpu") is packed
    assert bytes_of(packed) == 7 * 60 * 80 * 8


def test_packing_ahead_leaves_nothing_to_pack(tmp_path):
    for number in range(3):
        write_shard(tmp_path / f"scenes-{number:05d}.tar", [scene(number, 24, 32)])
    pack_ahead(tmp_path, processes=2)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / PACKED).rglob("*.npy")}
    assert len(before) == 3 * 4
    pack_ahead(tmp_path)
    assert len(PackedScenes(tmp_path)) == 3
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / PACKED).rglob("*.npy")} == before
