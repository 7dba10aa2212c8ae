"""Tar shards: order, bytes, atomic writing, damaged files; Python's tarfile and the system's tar are the oracles."""

import subprocess
import tarfile
from pathlib import Path

import pytest

from depth_anything.data.shards import read_shard, write_shard

SAMPLES = [
    (f"{k:04d}", {"rgb.jpg": bytes([k]) * (1000 * k), "json": b"{}", "disparity.npz": b"n" * k}) for k in range(5)
]


def test_samples_come_back_in_order(tmp_path: Path):
    write_shard(tmp_path / "a.tar", SAMPLES)
    assert list(read_shard(tmp_path / "a.tar")) == SAMPLES


def test_equal_samples_give_equal_bytes_without_clock_or_owner(tmp_path: Path):
    write_shard(tmp_path / "a.tar", SAMPLES)
    write_shard(tmp_path / "b.tar", iter(SAMPLES))
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert {(info.mtime, info.uid, info.gid, info.uname) for info in tar} == {(0, 0, 0, "")}


def test_the_tar_command_reads_it(tmp_path: Path):
    write_shard(tmp_path / "a.tar", SAMPLES)
    names = subprocess.run(
        ["tar", "-tf", tmp_path / "a.tar"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert names == [f"{key}.{suffix}" for key, members in SAMPLES for suffix in members]


def test_a_shard_made_by_tarfile_is_read(tmp_path: Path):
    (tmp_path / "x.txt").write_text("one")
    (tmp_path / "y.txt").write_text("two")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("x.txt", "y.txt"):
            tar.add(tmp_path / name, arcname=name)
    assert list(read_shard(tmp_path / "a.tar")) == [("x", {"txt": b"one"}), ("y", {"txt": b"two"})]


def test_reading_is_lazy(tmp_path: Path):
    write_shard(tmp_path / "a.tar", SAMPLES)
    stream = read_shard(tmp_path / "a.tar")
    assert next(stream)[0] == "0000"
    stream.close()  # type: ignore[attr-defined]


def test_a_failing_writer_leaves_nothing(tmp_path: Path):
    def samples():
        yield SAMPLES[0]
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_shard(tmp_path / "a.tar", samples())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [0, 100, 512, 700, 1536, 5000, 10240])
def test_a_cut_shard_is_named(tmp_path: Path, keep: int):
    path = tmp_path / "cut.tar"
    write_shard(path, SAMPLES)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"cut\.tar: the shard is cut short"):
        list(read_shard(path))


def test_what_is_no_shard_is_named(tmp_path: Path):
    (tmp_path / "photo.tar").write_bytes(b"\xff\xd8" * 512 + b"\0" * 1024)
    with pytest.raises(ValueError, match=r"photo\.tar"):
        list(read_shard(tmp_path / "photo.tar"))
    with pytest.raises(ValueError, match=r"absent\.tar: no such shard"):
        list(read_shard(tmp_path / "absent.tar"))


def test_a_key_with_a_dot_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="without a dot"):
        write_shard(tmp_path / "a.tar", [("a.b", {"json": b""})])
