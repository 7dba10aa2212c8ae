"""Manifests of an object store are opened once on a machine, and again when the store lists another version of them."""

import gzip
import json
import logging
import os
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from depth_anything.data.pseudo_labels import PseudoLabels
from depth_anything.data.storage import version_of

URL = "counted://labels"
COUNT = 5


class Counted(MemoryFileSystem):
    """A store in memory that remembers what was opened, and lists as S3 does: with size, ETag and time."""

    protocol = "counted"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]
    opened: ClassVar[list[str]] = []
    tags: ClassVar[dict[str, str]] = {}
    says_versions = True

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("counted://", "memory://"))

    def cat_file(self, path, *args, **kwargs):
        self.opened.append(Path(path).stem)
        return super().cat_file(path, *args, **kwargs)

    def ls(self, path, detail=True, **kwargs):
        found = super().ls(path, detail=True, **kwargs)
        versions = [
            {"ETag": self.tags.get(Path(one["name"]).stem, '"0"')} if self.says_versions else {} for one in found
        ]
        return [
            {"name": one["name"], "size": one["size"]} | version for one, version in zip(found, versions, strict=True)
        ]


@pytest.fixture
def system(tmp_path: Path, monkeypatch) -> Counted:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fsspec.register_implementation("counted", Counted, clobber=True)
    system = fsspec.filesystem("counted")
    for name, value in {"store": {}, "pseudo_dirs": [""], "opened": [], "tags": {}}.items():
        monkeypatch.setattr(Counted, name, value)
    for number in reversed(range(COUNT)):
        put(system, f"s{number}", 10 + number)
    return system


def put(system: Counted, shard: str, labelled: int) -> None:
    manifest = {"shard": shard, "labelled": labelled, "bytes": 1000 + labelled, "sha256": f"{labelled:064x}"}
    system.pipe_file(f"{URL}/manifest/{shard}.json", json.dumps(manifest).encode())


def start(system: Counted) -> tuple[list[str], list]:
    """The manifests that a start opens, and the shards that it finds in their order."""
    system.opened.clear()
    labels = PseudoLabels(URL)
    assert labels.ends[-1] == sum(shard.labelled for shard in labels.shards)
    return sorted(system.opened), labels.shards


def kept(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "cache/depth-anything/manifests").iterdir()  # and no temporary file beside it
    return path


def test_the_second_start_opens_none(system, monkeypatch, tmp_path):
    opened, first = start(system)
    assert opened == ["s0", "s1", "s2", "s3", "s4"]
    assert [shard.name for shard in first] == [f"labels/s{number}.tar" for number in range(COUNT)]
    assert [shard.labelled for shard in first] == [10, 11, 12, 13, 14]
    written = kept(tmp_path).stat().st_mtime_ns
    assert start(system) == ([], first)
    assert kept(tmp_path).stat().st_mtime_ns == written
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another machine"))
    assert start(system) == (opened, first)


@pytest.mark.parametrize("change", ["tag", "size"])
def test_what_changed_is_opened_again(system, change):
    """Another ETag at the same size: labelled again by another teacher. Another size alone is enough, too."""
    start(system)
    put(system, "s2", 99 if change == "tag" else 999)
    if change == "tag":
        system.tags["s2"] = '"1"'
    opened, shards = start(system)
    assert opened == ["s2"]
    assert [shard.labelled for shard in shards] == [10, 11, 99 if change == "tag" else 999, 13, 14]
    assert start(system) == ([], shards)


def test_new_and_removed_shards_are_seen(system, tmp_path):
    start(system)
    system.rm(f"{URL}/manifest/s1.json")
    put(system, "s02", 7)
    opened, shards = start(system)
    assert opened == ["s02"]
    assert [shard.name for shard in shards] == [f"labels/{name}.tar" for name in ("s0", "s02", "s2", "s3", "s4")]
    assert start(system) == ([], shards)
    assert sorted(json.loads(gzip.decompress(kept(tmp_path).read_bytes()))) == [
        f"{name}.json" for name in ("s0", "s02", "s2", "s3", "s4")
    ]


def flipped(content: bytes) -> bytes:
    """One digit of a shard's size is another one: still JSON, with the checksum of the true one."""
    text = gzip.decompress(content)
    return gzip.compress(text.replace(b"1012", b"1013"), 0)[:-8] + gzip.compress(text, 0)[-8:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-20],
        lambda content: b"junk",
        flipped,
        lambda content: gzip.compress(b'{"s0.json": 3}'),
        lambda content: gzip.compress(b"[]"),
    ],
)
def test_a_damaged_file_is_replaced(system, tmp_path, caplog, damage):
    opened, shards = start(system)
    assert not caplog.records
    whole = kept(tmp_path).read_bytes()
    kept(tmp_path).write_bytes(damage(whole))
    assert start(system) == (opened, shards)
    (line,) = caplog.records
    assert line.levelno == logging.WARNING and str(kept(tmp_path)) in line.getMessage()
    assert "\n" not in line.getMessage()
    assert start(system) == ([], shards)
    assert len(caplog.records) == 1


def test_a_start_goes_on_where_nothing_can_be_written(system, tmp_path, monkeypatch):
    everything = start(system)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # also for root, who may write to a read-only folder
    assert start(system) == everything
    assert start(system) == everything


def test_without_versions_all_are_opened(system, monkeypatch, tmp_path):
    """A size alone does not tell that a shard was labelled again."""
    monkeypatch.setattr(Counted, "says_versions", False)
    everything = start(system)
    assert len(everything[0]) == COUNT
    assert start(system) == everything
    assert not (tmp_path / "cache").exists()


def test_a_damaged_manifest_is_named_at_every_start(system):
    start(system)
    system.pipe_file(f"{URL}/manifest/s3.json", b"{")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"counted://labels/manifest/s3\.json is not readable as JSON"):
            start(system)


def test_a_file_system_of_fsspec_tells_when_a_file_was_written(tmp_path):
    """Its own name for that; s3fs, gcsfs and adlfs are not installed here."""
    path = tmp_path / "a.json"
    path.write_text("1")
    system = fsspec.filesystem("file")
    before = version_of(system.ls(str(tmp_path), detail=True)[0])
    assert before and version_of(system.ls(str(tmp_path), detail=True)[0]) == before
    os.utime(path, (1, 1))
    assert version_of(system.ls(str(tmp_path), detail=True)[0]) != before
