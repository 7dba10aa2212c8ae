"""Pseudo-labels in an object store: read as from a folder, ahead of their turn, in bounded space."""

import hashlib
import json
import multiprocessing
import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
from drawn import Boxes
from test_pseudo_labels import make_folder

from depth_anything.data import shard_cache
from depth_anything.data.order import sample_number
from depth_anything.data.pseudo_labels import PseudoLabels
from depth_anything.data.samples import Joined, Kept
from depth_anything.data.shard_cache import ShardCache, cache_of
from depth_anything.train.batches import AHEAD_IMAGES, UNLABELED, Data, build_slice
from depth_anything.train.recipes.all_recipes import get_recipe


@pytest.fixture
def store(tmp_path: Path, monkeypatch) -> tuple[str, Path]:
    """The same labels at a URL of fsspec's memory and in a folder, as `label` writes them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cache_of.cache_clear()
    folder, url = tmp_path / "folder", f"memory://shard-cache-{tmp_path.name}"
    make_folder(folder, {"a": 2, "b": 0, "c": 3})
    for path in (folder / "manifest").iterdir():
        content = (folder / f"labels/{path.stem}.tar").read_bytes()
        manifest = json.loads(path.read_text())
        manifest |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        path.write_text(json.dumps(manifest))
    fsspec.filesystem("memory").put(str(folder), url, recursive=True)
    return url, folder


def test_an_object_store_is_read_as_a_folder(store, tmp_path):
    url, folder = store
    there, here = PseudoLabels(url), PseudoLabels(folder)
    assert there.ends.tolist() == here.ends.tolist() == [2, 2, 5]
    for number in range(5):
        assert there[number].key == here[number].key
        np.testing.assert_array_equal(there[number].disparity_HW, here[number].disparity_HW)
        np.testing.assert_array_equal(there[number].image_HW3, here[number].image_HW3)
    assert len(list((tmp_path / "cache/depth-anything/shards").iterdir())) == 2  # whole shards, nothing else
    again = pickle.loads(pickle.dumps(there))  # as the first process sends it to the others
    assert again[4].key == here[4].key


def test_what_is_wrong_in_the_store_is_named(store):
    url, _ = store
    memory = fsspec.filesystem("memory")
    with pytest.raises(ValueError, match="no pseudo labels"):
        PseudoLabels(f"{url}-nowhere")
    labels = PseudoLabels(url)
    memory.pipe_file(f"{url}/labels/a.tar", b"cut")
    with pytest.raises(ValueError, match=r"labels/a\.tar: 3 bytes, its manifest says [\d,]+; delete both"):
        labels[0]
    memory.rm(f"{url}/labels/a.tar")
    with pytest.raises(ValueError, match=r"labels/a\.tar: no such shard in the store"):
        labels[0]
    memory.pipe_file(f"{url}/manifest/a.json", b'{"unit": "a", "labelled": 2}')
    with pytest.raises(ValueError, match=r"manifest/a\.json: no bytes and sha256"):
        PseudoLabels(url)


class Slow:
    """A store whose answers take until `open` is set."""

    def __init__(self, size: int = 100):
        self.size = size
        self.open = threading.Event()
        self.fetched: list[str] = []

    def __call__(self, name: str, path: Path) -> None:
        assert self.open.wait(60)
        path.write_bytes(bytes(self.size))
        self.fetched.append(name)


class Counted(ThreadPoolExecutor):
    """Threads, and what they were asked to do."""

    def __init__(self, asked: list):
        super().__init__(4)
        self.asked = asked

    def submit(self, fn, /, *args, **kwargs):
        self.asked.append(fn)
        return super().submit(fn, *args, **kwargs)


def test_read_ahead_hides_a_slow_store(tmp_path):
    """Nobody waits for what is expected; what nobody expected is fetched once for all who wait."""
    slow = Slow()
    cache, asked = ShardCache(slow, tmp_path), []
    cache.pool = Counted(asked)
    for _ in range(1000):  # as often as the shard has images
        cache.expect("x", "key-x", 100)
    assert len(asked) == 1 and not slow.fetched
    slow.open.set()
    while not (tmp_path / "key-x.tar").exists():
        time.sleep(0.01)
    slow.open.clear()
    assert cache.path("x", "key-x", 100).stat().st_size == 100  # at once: the store would not answer
    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(cache.path, "y", "key-y", 100) for _ in range(8)]
        time.sleep(0.1)
        slow.open.set()
        assert len({one.result() for one in found}) == 1
    assert slow.fetched == ["x", "y"]


def test_threads_fetch_a_shard_once_where_the_disk_has_no_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_cache, "alone", lambda *_: nullcontext())
    slow = Slow()
    cache = ShardCache(slow, tmp_path)
    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(cache.path, "y", "key-y", 100) for _ in range(8)]
        time.sleep(0.1)
        slow.open.set()
        assert len({one.result() for one in found}) == 1
    assert slow.fetched == ["y"]


def test_the_oldest_shards_make_room(tmp_path):
    slow = Slow()
    slow.open.set()
    cache = ShardCache(slow, tmp_path, limit=250)
    for name in "ab":
        cache.path(name, name, 100)
    os.utime(tmp_path / "a.tar", (1, 1))
    os.utime(tmp_path / "b.tar", (2, 2))
    cache.path("a", "a", 100)  # used again
    cache.path("c", "c", 100)
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar", "c.tar"}
    cache.path("b", "b", 100)
    assert slow.fetched == ["a", "b", "c", "b"]


def fetch_in_a_process(folder: Path, log: Path) -> None:
    def fetch(name: str, path: Path) -> None:
        with log.open("a") as file:
            file.write(f"{name}\n")
        time.sleep(0.2)
        path.write_bytes(bytes(100))

    cache = ShardCache(fetch, folder)
    for name in "xy":
        cache.path(name, name, 100)


def test_processes_of_one_machine_share_the_files(tmp_path):
    context = multiprocessing.get_context("fork")
    arguments = (tmp_path / "cache", tmp_path / "log")
    processes = [context.Process(target=fetch_in_a_process, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert (tmp_path / "log").read_text() == "x\ny\n"


def test_what_another_process_fetched_before_the_lock_is_not_fetched_again(tmp_path):
    """Both saw that it was not there; the second one has the lock when the first has finished."""
    asked = []
    cache = ShardCache(lambda name, path: asked.append(name), tmp_path)

    class Late(type(tmp_path)):
        """A file that is missing until the lock is held."""

        def exists(self, **options) -> bool:
            return any(tmp_path.glob(".*.lock"))

    assert cache._fetched("labels/a.tar", Late(tmp_path / "key.tar"), 3) and not asked


def test_a_step_expects_the_images_of_a_later_one():
    """Those that the run reads AHEAD_IMAGES later, through everything that stands before a set."""

    class Expecting(Boxes):
        def __init__(self, count: int):
            super().__init__(count)
            self.expected: list[int] = []

        def expect(self, number: int) -> None:
            self.expected.append(number)

    sets = [Expecting(7), Expecting(30)]
    data = Data(unlabeled=Kept(Joined(sets)))
    recipe = get_recipe("v2-student-small")
    recipe = replace(recipe, stages=(replace(recipe.stages[0], batch=8, sizes=((28, 28),)),))
    build_slice(recipe, data, 3)
    later = [sample_number([recipe.seed, UNLABELED], data.unlabeled, AHEAD_IMAGES + 24 + place) for place in range(8)]
    assert sorted([*sets[0].expected, *(7 + number for number in sets[1].expected)]) == sorted(later)
