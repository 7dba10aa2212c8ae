"""Scene shards as labelled images, decoded and packed, against what was written into them."""

import io
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scene_shards import SIZES, scene

from depth_anything.data.labeled import rendered
from depth_anything.data.labeled.rendered import PACKED, PackedScenes, read_scenes
from depth_anything.data.shards import write_shard


@pytest.fixture
def shards(tmp_path):
    """Five scenes of three shapes in two shards."""
    scenes = [scene(seed, *size) for seed, size in enumerate(SIZES)]
    write_shard(tmp_path / "scenes-00000.tar", scenes[:3])
    write_shard(tmp_path / "scenes-00001.tar", scenes[3:])
    return tmp_path


def ground_truth(seed: int) -> np.ndarray:
    with np.load(io.BytesIO(scene(seed, *SIZES[seed])[1]["disparity.npz"])) as archive:
        return archive["disparity"]


def test_scenes_come_in_order_with_their_exact_disparity(shards):
    samples = list(read_scenes(shards))
    assert [sample.key for sample in samples] == [f"{seed:08d}" for seed in range(5)]
    for seed, sample in enumerate(samples):
        assert np.array_equal(sample.disparity_HW, ground_truth(seed)) and sample.disparity_HW.dtype == np.float32
        assert sample.image_HW3.dtype == np.uint8 and sample.image_HW3.shape == (*SIZES[seed], 3)
        assert np.array_equal(sample.sky_HW, ground_truth(seed) == 0)
        assert np.array_equal(sample.valid_HW, (ground_truth(seed) > 0.1) | (ground_truth(seed) == 0))  # sky is valid
        assert sample.scale == "metric" and sample.K_33 is not None and sample.K_33[0, 2] == SIZES[seed][1] / 2


def test_packed_scenes_equal_the_decoded_ones(shards):
    packed = PackedScenes(shards)
    assert len(packed) == 5
    for number, sample in enumerate(read_scenes(shards)):
        for name in ("image_HW3", "disparity_HW", "valid_HW", "sky_HW"):
            assert np.array_equal(getattr(packed[number], name), getattr(sample, name)), name
    with pytest.raises(IndexError):
        packed[5]


def test_packing_is_done_once_and_new_shards_join(shards):
    PackedScenes(shards)
    before = {path: os.stat(path).st_mtime_ns for path in (shards / PACKED).rglob("*.npy")}
    write_shard(shards / "scenes-00002.tar", [scene(7, 24, 32)])
    assert len(PackedScenes(shards)) == 6
    assert all(os.stat(path).st_mtime_ns == time for path, time in before.items())
    assert not [path for path in (shards / PACKED).iterdir() if path.name.startswith(".")]


def test_of_several_runs_that_begin_at_once_one_packs_a_shard(shards, monkeypatch):
    asked = []

    def slow(path):
        asked.append(path.name)
        time.sleep(0.2)
        return read(path)

    read = rendered.read_scene_shard
    monkeypatch.setattr(rendered, "read_scene_shard", slow)
    with ThreadPoolExecutor(4) as runs:
        assert list(runs.map(len, runs.map(PackedScenes, [shards] * 4))) == [5] * 4
    assert sorted(asked) == ["scenes-00000.tar", "scenes-00001.tar"]


def test_a_shard_that_was_made_again_is_packed_again(shards):
    PackedScenes(shards)
    write_shard(shards / "scenes-00001.tar", [scene(9, 24, 32)])
    os.utime(shards / "scenes-00001.tar", (2e9, 2e9))
    assert len(PackedScenes(shards)) == 4


def test_a_folder_without_shards_says_how_to_make_some(tmp_path):
    with pytest.raises(ValueError, match="depth-anything render"):
        PackedScenes(tmp_path)


def test_a_broken_scene_is_named(tmp_path):
    key, files = scene(0, 24, 32)
    write_shard(tmp_path / "scenes-00000.tar", [(key, files | {"rgb.jpg": b"not an image"})])
    with pytest.raises(ValueError, match=r"scenes-00000\.tar: scene 00000000 cannot be read"):
        PackedScenes(tmp_path)
    assert not list(tmp_path.rglob("*.npy"))


def test_a_truncated_shard_is_named(shards):
    path = shards / "scenes-00001.tar"
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(ValueError, match=r"scenes-00001\.tar"):
        PackedScenes(shards)
