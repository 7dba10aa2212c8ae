"""Archives made to hurt, in every reader of them: the good members, or one line; nothing written, no memory eaten."""

import gzip
import io
import os
import resource
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sample_images import encode

from depth_anything.data import shards
from depth_anything.data.pseudo_labels import encode as encode_map
from depth_anything.data.shards import read_shard
from depth_anything.data.unlabeled.image_shards import tar_shards
from depth_anything.data.unlabeled.random_access import UnlabeledImages
from depth_anything.data.unlabeled.read import read_images

GOOD = encode(Image.new("RGB", (16, 12), (40, 80, 0)), "JPEG")
MEMORY = 300_000
"""KiB by which reading any of these may raise the most that this process has ever taken."""


def member(tar: tarfile.TarFile, name: str, content: bytes = GOOD, **fields: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(content))


def members(*names: str, **fields: object) -> Callable[[tarfile.TarFile], None]:
    def add(tar: tarfile.TarFile) -> None:
        for name in names:
            member(tar, name, **fields)

    return add


def special(kind: bytes, target: str = "") -> Callable[[tarfile.TarFile], None]:
    """Something else than a file, with an image's name."""
    return members("evil.jpg", type=kind, linkname=target, size=0)


def sparse(size: int) -> Callable[[tarfile.TarFile], None]:
    """A member of GNU's format 1.0 that is `size` zeros, but for one block."""

    def add(tar: tarfile.TarFile) -> None:
        where = f"1\n{size - 512}\n512\n".encode().ljust(512, b"\0")
        fields = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "evil.jpg"}
        member(tar, "evil.jpg", where + bytes(512), pax_headers={**fields, "GNU.sparse.realsize": str(size)})

    return add


def promised(size: int) -> Callable[[tarfile.TarFile], None]:
    """A header that promises more bytes than follow."""

    def add(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo("evil.jpg")
        info.size = size
        assert tar.fileobj is not None
        tar.fileobj.write(info.tobuf(tarfile.GNU_FORMAT))

    return add


def pax(**headers: str) -> Callable[[tarfile.TarFile], None]:
    return members("evil.jpg", pax_headers=headers)


def raw_pax(text: bytes, size: int | None = None) -> Callable[[tarfile.TarFile], None]:
    """A pax header of any bytes, and what its own header says of its size."""

    def add(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo("././@PaxHeader")
        info.type, info.size = tarfile.XHDTYPE, len(text) if size is None else size
        assert tar.fileobj is not None
        tar.fileobj.write(info.tobuf(tarfile.GNU_FORMAT) + text.ljust(-(-len(text) // 512) * 512, b"\0"))

    return add


HOSTILE = {
    "names that climb": members("../../evil.jpg", "a/../../../evil2.jpg", "..\\evil3.jpg"),
    "absolute names": members("/evil.jpg", "//evil2.jpg", "C:\\evil3.jpg"),
    "names of nothing": members("", "/", ".", "./", "..", " "),
    "control characters": members("evil\n.jpg", "evil\x1b[31m.jpg"),
    "names that are no UTF-8": members("evil\udcff.jpg", "\udce9t\udce9.jpg"),
    "a name of 60,000 letters": members("e" * 60_000 + ".jpg"),
    "one name twice": members("evil.jpg", "other.jpg", "evil.jpg"),
    "names that differ by case and dots": members("evil.jpg", "EVIL.JPG", "evil.a.jpg", "evil_a.jpg"),
    "a link to a file outside": special(tarfile.SYMTYPE, "/etc/passwd"),
    "a hard link to a file outside": special(tarfile.LNKTYPE, "/etc/passwd"),
    "a link to itself": special(tarfile.SYMTYPE, "evil.jpg"),
    "a character device": special(tarfile.CHRTYPE),
    "a block device": special(tarfile.BLKTYPE),
    "a named pipe": special(tarfile.FIFOTYPE),
    "a folder with an image's name": special(tarfile.DIRTYPE),
    "a type that nobody knows": special(b"Z"),
    "a sparse member of 10 GB": sparse(10_000_000_000),
    "a sparse member of 2^60 bytes": sparse(1 << 60),
    "10 GB promised": promised(10_000_000_000),
    "2^62 bytes promised": promised(1 << 62),
    "a pax header of 3 MB": pax(comment="x" * 3_000_000),
    "a pax header that promises 10 GB": raw_pax(b"20 path=evil.jpg\n", 10_000_000_000),
    "pax: a length of 0": raw_pax(b"0 path=evil.jpg\n"),
    "pax: a negative size": pax(size="-1"),
    "pax: a size that is no number": pax(size="many"),
    "pax: a size of 2^70": pax(size=str(1 << 70)),
    "pax: other bytes": raw_pax(b"\xff\xfe\0 = \n" * 9),
    "a checksum that is wrong": lambda tar: tar.fileobj and tar.fileobj.write(b"evil.jpg".ljust(512, b"7")) and None,
    "2,000 empty members": members(*(f"{number}.jpg" for number in range(2000)), size=0),
}


def hostile(path: Path, add: Callable[[tarfile.TarFile], None]) -> Path:
    """The archive with a good image before and behind."""
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as tar:
        member(tar, "before.jpg")
        add(tar)
        member(tar, "behind.jpg")
    return path


def by_index(path: Path) -> Iterator[bytes]:
    for shard in tar_shards(str(path), path.name):
        yield from (content for _, content in read_images(shard, lambda key, error: None))


def as_stream(path: Path) -> Iterator[bytes]:
    packed = path.with_name("packed.tar.gz")
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    return by_index(packed)


def for_training(path: Path) -> Iterator[bytes]:
    images = UnlabeledImages(list(tar_shards(str(path), path.name)))
    for number in range(len(images)):
        try:
            yield np.ascontiguousarray(images[number][1]).tobytes()
        except ValueError as error:
            assert str(path) in str(error)


def as_scenes(path: Path) -> Iterator[bytes]:
    for _, files in read_shard(path):
        yield from files.values()


@pytest.mark.parametrize("read", [by_index, as_stream, for_training, as_scenes])
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives(tmp_path, monkeypatch, kind, read):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inside = tmp_path / "a/b/c"
    inside.mkdir(parents=True)
    path = hostile(inside / "evil.tar", HOSTILE[kind])
    secret = Path("/etc/passwd").read_bytes() if os.name == "posix" else b"-"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        for content in read(path):
            assert content != secret and len(content) < 100_000
    except ValueError as error:
        assert str(inside) in str(error) and "\n" not in str(error) and len(str(error)) < 400
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY
    written = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert written <= {"a", "cache"} and len(list((tmp_path / "a").rglob("*"))) <= 4


def test_good_members_beside_hostile_ones_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    kinds = {
        "a link to a file outside": 2,
        "a character device": 2,
        "names that climb": 4,
        "control characters": 4,
        "names that are no UTF-8": 4,
        "a sparse member of 10 GB": 2,
    }
    for number, (kind, count) in enumerate(kinds.items()):
        path = hostile(tmp_path / f"{number}.tar", HOSTILE[kind])
        for read in (by_index, as_stream, by_index):  # the second time by the remembered index
            assert list(read(path)).count(GOOD) == count, kind


@pytest.mark.parametrize("read", [by_index, as_stream, for_training, as_scenes])
@pytest.mark.parametrize("kind", ["a checksum that is wrong", "pax: a length of 0"])
def test_a_damaged_header_in_the_middle_is_not_the_end(tmp_path, monkeypatch, kind, read):
    """Python's reader stops there as at the end of an archive."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match=r"damaged|cut short"):
        list(read(hostile(tmp_path / "evil.tar", HOSTILE[kind])))


def test_a_member_that_is_too_large_is_reported_and_the_rest_read(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shards, "LARGEST", 1000)
    path = hostile(tmp_path / "evil.tar", lambda tar: member(tar, "evil.jpg", GOOD + bytes(2000)))
    for source in (path, path.with_name("packed.tar.gz")):
        path.with_name("packed.tar.gz").write_bytes(gzip.compress(path.read_bytes()))
        told: list[str] = []
        (shard,) = tar_shards(str(source), source.name)
        keys = [key for key, _ in read_images(shard, lambda key, error, told=told: told.append(f"{key}: {error}"))]
        assert keys == ["before", "behind"]
        assert len(told) == 1 and told[0].startswith(f"evil: {source}: evil.jpg: ") and "1,000 at most" in told[0]
    with pytest.raises(ValueError, match=r"evil\.tar: evil\.jpg: .* bytes; expected an image"):
        list(read_shard(path))


def test_a_shard_that_tar_packed_from_its_folder(tmp_path):
    """`tar cf a.tar .` writes ./ before names, and the folder itself."""
    codes, _ = encode_map(np.arange(12, dtype=np.float32).reshape(3, 4), "png16")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        member(tar, ".", b"", type=tarfile.DIRTYPE)
        for key in ("0", "1"):
            member(tar, f"./{key}.jpg")
            member(tar, f"./{key}.disparity.png", codes["disparity.png"])
    assert [(key, set(files)) for key, files in read_shard(tmp_path / "a.tar")] == [
        ("0", {"jpg", "disparity.png"}),
        ("1", {"jpg", "disparity.png"}),
    ]
