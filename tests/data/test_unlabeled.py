"""Unlabelled sources in the official layouts: what is found, in which units, which bytes come out."""

import re
import sys
import tarfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from layouts.unlabeled import (
    bdd100k,
    image,
    imagenet21k,
    imagenet21k_tars,
    landmarks,
    lsun,
    objects365,
    openimages,
    places365,
    places365_folders,
    sa1b,
    write_files,
    write_tar,
    write_video,
)

from depth_anything.data.set_sizes import UNLABELED_IMAGES
from depth_anything.data.shards import cached_index, index_tar
from depth_anything.data.unlabeled import sets
from depth_anything.data.unlabeled.image_shards import lmdb_shards, open_lmdb
from depth_anything.data.unlabeled.random_access import UnlabeledImages
from depth_anything.data.unlabeled.read import read_images, unique_key
from depth_anything.data.unlabeled.sets import UNLABELED, shards
from depth_anything.images.read import read_image
from depth_anything.system.extras import EXTRA_OF, lacking
from depth_anything.video.decode import file_frames, open_clip


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Indexes of tars are remembered here, not in the user's home."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def read_all(kind: str, root: Path | str, size: int = 1000) -> dict[str, bytes]:
    """Every image of a source by its key; keys of different units must differ here."""
    found: dict[str, bytes] = {}
    for shard in shards(kind, root, size):
        for key, content in read_images(shard):
            assert key not in found
            found[key] = content
    return found


# -- the eight sets --------------------------------------------------------------------------------
LAYOUTS = [
    ("sa1b", sa1b),
    ("imagenet21k", imagenet21k),
    ("imagenet21k", imagenet21k_tars),
    ("lsun", lsun),
    ("openimages", openimages),
    ("places365", places365),
    ("places365", places365_folders),
    ("landmarks", landmarks),
    ("objects365", objects365),
]


@pytest.mark.parametrize(("kind", "lay_out"), LAYOUTS, ids=[layout.__name__ for _, layout in LAYOUTS])
def test_official_layouts(kind: str, lay_out, tmp_path: Path):
    """Every training image once, its own bytes, nothing of validation."""
    expected = lay_out(tmp_path)
    found = read_all(kind, tmp_path)
    assert found == expected
    assert all(read_image(content).shape == (12, 16, 3) for content in found.values())


@pytest.mark.parametrize(("kind", "lay_out"), [*LAYOUTS, ("bdd100k", bdd100k)])
def test_the_table_knows_the_library_of_a_reader(kind: str, lay_out, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It is read without the others; without it, the line is the one that `train` gives before."""
    lay_out(tmp_path)
    needed = UNLABELED[kind].needed_library
    for library in set(EXTRA_OF) - {needed}:
        monkeypatch.setitem(sys.modules, library, None)
    if needed:
        with monkeypatch.context() as without:
            without.setitem(sys.modules, needed, None)
            (told,) = lacking(needed, kind)
            with pytest.raises(ValueError, match=re.escape(told.removeprefix(f"{kind} "))):
                read_all(kind, tmp_path)
    assert read_all(kind, tmp_path)


def test_the_table_sums_to_the_papers_62_million():
    assert set(UNLABELED) == set(UNLABELED_IMAGES) and sum(UNLABELED_IMAGES.values()) == 62_300_000  # V1 Table 1


def test_one_video_frame_in_ten(tmp_path: Path):
    """BDD100K: frames 0, 10, 20 of each training video, checked by their colours."""
    expected = bdd100k(tmp_path)
    write_video(tmp_path / "bdd100k/videos/train/sub/00b1.mov", 25, first=100)
    write_files(tmp_path / "bdd100k/videos", {"train/broken.mov": b"no video at all"})
    failed = []
    (shard,) = shards("bdd100k", tmp_path)
    frames = dict(read_images(shard, lambda key, error: failed.append(str(error))))
    assert set(frames) == set(expected)
    for number, key in enumerate(expected):
        assert read_image(frames[key]).mean() == pytest.approx(50 * number, abs=4)
    assert len(failed) == 1
    assert "broken.mov" in failed[0]
    images = UnlabeledImages([shard])  # for training: at random, without the JPEGs between
    assert len(images) == 3 and list(images.ends) == [3]
    shown = list(file_frames(open_clip(tmp_path / shard.members[0])))
    for number, key in reversed(list(enumerate(expected))):
        found, image_HW3 = images[number]
        assert found == key
        np.testing.assert_array_equal(image_HW3, shown[10 * number].image_HW3)


# -- any other source ------------------------------------------------------------------------------
def test_a_folder_a_list_and_tars_are_told_apart(tmp_path: Path):
    files = {f"a/{number}.jpg": image(number) for number in range(3)} | {"b.png": image(7, "PNG")}
    write_files(tmp_path / "photos", files | {"notes.txt": b"", ".hidden.jpg": b"", ".git/x.jpg": b""})
    (tmp_path / "list.txt").write_text("photos/a/0.jpg\nphotos/b.png\n")
    write_tar(tmp_path / "tars/part-0.tar", {"x.jpg": image(1), "x.json": b"{}", "y.seg.png": image(2, "PNG")})
    write_tar(tmp_path / "tars/deep/part-1.tar.gz", {"z.webp": image(3, "WEBP")}, "w:gz")
    stems = {"a/0", "a/1", "a/2", "b"}
    assert set(read_all("auto", tmp_path / "photos")) == stems
    assert list(read_all("auto", tmp_path / "list.txt").values()) == [files["a/0.jpg"], files["b.png"]]
    assert set(read_all("auto", tmp_path / "tars")) == {"x", "y_seg", "z"}
    assert set(read_all("auto", tmp_path / "tars/part-0.tar")) == {"x", "y_seg"}
    assert set(read_all("auto", f"{tmp_path}/tars/part-*.tar")) == {"x", "y_seg"}


def test_tars_in_an_object_store(tmp_path: Path):
    fsspec = pytest.importorskip("fsspec")
    path = write_tar(tmp_path / "a.tar", {f"{number}.jpg": image(number) for number in range(3)})
    for name in ("one.tar", "deep/two.tar", "notes.txt"):
        fsspec.filesystem("memory").pipe_file(f"/unlabeled-test/{name}", path.read_bytes())
    found = shards("auto", "memory://unlabeled-test")
    assert [len(list(read_images(shard))) for shard in found] == [3, 3]
    assert [shard.path for shard in found] == [
        "memory:///unlabeled-test/deep/two.tar",
        "memory:///unlabeled-test/one.tar",
    ]
    assert len(shards("tars", "memory://unlabeled-test/o*.tar")) == 1


def test_a_large_tar_is_cut(tmp_path: Path):
    files = {f"{number:03d}.jpg": image(number) for number in range(25)}
    write_tar(tmp_path / "a.tar", {"notes.txt": b"x"} | files)
    parts = shards("tars", tmp_path, size=10)
    assert [shard.count for shard in parts] == [10, 10, 5]
    assert len({shard.name for shard in parts}) == 3
    assert [key for shard in parts for key, _ in read_images(shard)] == [name[:3] for name in files]


def test_names_follow_what_a_shard_holds(tmp_path: Path):
    """The same anywhere and any time; another image in it, another name: a resumed job must notice."""
    for place in ("here", "there"):
        write_files(tmp_path / place / "photos", {f"{number}.jpg": image(number) for number in range(4)})
    first, second = shards("folder", tmp_path / "here/photos", size=2)
    assert [first.name, second.name] == [shard.name for shard in shards("folder", tmp_path / "there/photos", size=2)]
    write_files(tmp_path / "here/photos", {"1b.jpg": image(9)})
    after = [shard.name for shard in shards("folder", tmp_path / "here/photos", size=2)]
    assert after[0] == first.name
    assert second.name not in after


def test_nothing_there_is_one_line(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for kind in ("auto", *UNLABELED):
        with pytest.raises(ValueError, match="no image of kind"):
            shards(kind, tmp_path / "empty")
    with pytest.raises(ValueError, match="no such file or folder"):
        shards("auto", tmp_path / "absent")
    with pytest.raises(ValueError, match="expected one of auto, folder, list, tars, bdd100k"):
        shards("lsun2", tmp_path)


# -- keys ------------------------------------------------------------------------------------------
def test_keys_have_no_dots_and_never_meet():
    used: set[str] = set()
    names = ["a.b.jpg", "a_b.jpg", "a.b.png", "./a.b.gif", "/x/y.jpg", "é.jpg", "e" * 300 + ".jpg", "é" * 99 + ".jpg"]
    keys = [unique_key(name, used) for name in names]
    assert keys[:5] == ["a_b", "a_b-2", "a_b-3", "a_b-4", "x/y"]
    assert len(set(keys)) == len(names)
    assert all("." not in key and key.isascii() and len(key) <= 80 for key in keys)


# -- damage ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("where", ["in a file", "between files"])
def test_a_cut_tar_is_named(tmp_path: Path, compressed: bool, where: str):
    noise = np.random.default_rng(0).bytes(3000)
    path = write_tar(tmp_path / "a.tar", {f"{number}.jpg": noise for number in range(4)})
    kept = path.read_bytes()[: 2 * (512 + 3072) + (1700 if where == "in a file" else 0)]
    path.unlink()
    if compressed:
        zipper = zlib.compressobj(wbits=31)
        kept = zipper.compress(kept) + zipper.flush(zlib.Z_FULL_FLUSH)
    (tmp_path / ("a.tar.gz" if compressed else "a.tar")).write_bytes(kept)
    (shard,) = shards("tars", tmp_path)
    with pytest.raises(ValueError, match=r"a\.tar(\.gz)?: .*fetch it again"):
        list(read_images(shard))


def test_a_file_that_vanished_is_reported_and_the_rest_read(tmp_path: Path):
    write_files(tmp_path, {f"{number}.jpg": image(number) for number in range(3)})
    (shard,) = shards("folder", tmp_path)
    (tmp_path / "1.jpg").unlink()
    failed = []
    assert [key for key, _ in read_images(shard, lambda key, error: failed.append(key))] == ["0", "2"]
    assert failed == ["1"]
    with pytest.raises(FileNotFoundError):
        list(read_images(shard))


def test_what_is_no_lmdb_is_named(tmp_path: Path):
    pytest.importorskip("lmdb")
    write_files(tmp_path, {"x_train_lmdb/data.mdb": b"nothing"})
    with pytest.raises(ValueError, match="x_train_lmdb: no readable lmdb"):
        shards("lsun", tmp_path)


# -- by number -------------------------------------------------------------------------------------
@pytest.mark.parametrize("lay_out", [sa1b, imagenet21k, lsun, places365])
def test_by_number_as_read(lay_out, tmp_path: Path):
    """Random access gives what streaming gives, in the same order."""
    lay_out(tmp_path)
    found = shards(lay_out.__name__, tmp_path, size=2)
    images = UnlabeledImages(found)
    streamed = [pair for shard in found for pair in read_images(shard)]
    assert len(images) == len(streamed) == images.ends[-1]
    for number in reversed(range(len(images))):
        key, image_HW3 = images[number]
        assert key == streamed[number][0]
        np.testing.assert_array_equal(image_HW3, read_image(streamed[number][1]))
    with pytest.raises(IndexError):
        images[len(images)]


def test_many_threads_read_a_database(tmp_path: Path):
    """With `--teacher` and several readers: a process may open a database only once."""
    lsun(tmp_path)
    images = UnlabeledImages(shards("lsun", tmp_path, size=2))
    expected = [images[number][0] for number in range(len(images))]
    with ThreadPoolExecutor(8) as pool:
        numbers = list(range(len(images))) * 20
        found = list(pool.map(lambda number: images[number][0], numbers))
    assert found == expected * 20
    ((path, first),) = {(shard.path, open_lmdb(shard.path)) for shard in images.shards if "bedroom" in shard.path}
    assert open_lmdb(f"{path}/../{Path(path).name}") is first


def test_by_number_names_a_broken_image(tmp_path: Path):
    write_tar(tmp_path / "a.tar", {"good.jpg": image(1), "bad.jpg": image(2)[:100]})
    images = UnlabeledImages(shards("tars", tmp_path))
    assert images[0][0] == "good"
    with pytest.raises(ValueError, match=r"a\.tar: bad\.jpg: "):
        images[1]
    write_tar(tmp_path / "gz/b.tar.gz", {"x.jpg": image(1)}, "w:gz")
    with pytest.raises(ValueError, match="front to end"):
        UnlabeledImages(shards("tars", tmp_path / "gz"))


def test_many_folders_are_shards_that_are_listed_when_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    expected = imagenet21k(tmp_path)
    monkeypatch.setattr(sets, "MANY", 2)
    found = shards("imagenet21k", tmp_path)
    assert [shard.count for shard in found] == [None] * 3
    assert {key: content for shard in found for key, content in read_images(shard)} == expected
    assert [UnlabeledImages(found)[number][0] for number in range(6)] == sorted(expected)


def test_slices_of_a_database_meet_without_overlap(tmp_path: Path):
    expected = lsun(tmp_path)
    path = str(tmp_path / "bedroom_train_lmdb")
    parts = list(lmdb_shards(path, "bedroom", size=2))
    assert [shard.count for shard in parts] == [2, 2, 1]
    keys = [key for shard in parts for key, _ in read_images(shard)]
    assert keys == sorted(keys)
    assert set(keys) <= set(expected)


# -- the index of a tar ----------------------------------------------------------------------------
def test_an_index_is_remembered_until_the_tar_changes(tmp_path: Path, cache: Path):
    path = write_tar(tmp_path / "a.tar", {"x.jpg": image(1), "folder/" + "y" * 150 + ".jpg": image(2)})
    index = cached_index(path)
    with tarfile.open(path) as tar:
        members = tar.getmembers()
    assert index.names == [member.name for member in members]  # also names longer than a header holds
    with path.open("rb") as file:
        assert [index.read(file, number) for number in range(2)] == [image(1), image(2)]
    assert len(list(cache.rglob("*.npz"))) == 1
    remembered = cached_index(path)
    assert remembered.names == index.names
    np.testing.assert_array_equal(remembered.start, index.start)
    write_tar(path, {"z.jpg": image(3)})
    assert cached_index(path).names == ["z.jpg"]


def test_an_empty_tar_has_an_empty_index(tmp_path: Path):
    path = write_tar(tmp_path / "a.tar", {})
    assert index_tar(path).names == cached_index(path).names == cached_index(path).names == []
