"""Tar shards: many samples in one file, each sample a few members that share a key. Written atomically."""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from depth_anything.system.files import atomic_path, cache_dir, is_hidden, make_folder, naming

BLOCK = 512  # bytes of a tar block; two blocks of zeros end an archive
LARGEST = 1 << 30
"""Bytes of an image file in an archive, at most."""


def write_shard(path: str | os.PathLike[str], samples: Iterable[tuple[str, dict[str, bytes]]]) -> None:
    """Write samples (key, {suffix: bytes}) as members `<key>.<suffix>`; equal samples give equal bytes.

    The file appears under its name only when it is complete. Keys must not contain a dot (it ends the key).
    """
    path = Path(path)
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.tmp")  # a killed run leaves it; the next one overwrites it
    try:
        with naming(path):
            with temporary.open("wb") as file:
                write_samples(file, samples)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_samples(file: BinaryIO, samples: Iterable[tuple[str, dict[str, bytes]]]) -> None:
    """The same into an open file."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for key, members in samples:
            if "." in key or not key:
                raise ValueError(f"shard key {key!r}: expected a name without a dot")
            for suffix, content in members.items():
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size, info.mtime, info.mode = len(content), 0, 0o644
                tar.addfile(info, io.BytesIO(content))


def read_shard(path: str | os.PathLike[str]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Samples of a shard in their order, one at a time in memory: (key, {suffix: bytes}).

    Raises ValueError, naming the file, when it is missing, no tar, or cut short.
    """
    path = Path(path)
    broken = f"{path}: the shard is cut short or is no tar file; delete it and make it again"
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, size - 2 * BLOCK))
            if size % BLOCK or file.read().strip(b"\0"):
                raise ValueError(broken)
        with path.open("rb") as file, (stream := TarStream(file)).open() as tar:
            key, members = None, {}
            for info in tar:
                # folders, links, devices; what macOS' tar adds for each file
                if not info.isreg() or is_hidden(info.name.rpartition("/")[2]):
                    continue
                name, _, suffix = key_and_suffix(info.name)
                if name != key and key is not None:
                    yield key, members
                    members = {}
                key = name
                content = tar.extractfile(info)
                assert content is not None
                members[suffix] = content.read(refuse_huge(info.size, f"{path}: {info.name}"))
            if key is not None:
                yield key, members
            stream.check_end(tar.offset)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such shard") from None
    except (tarfile.TarError, EOFError, OverflowError) as error:
        raise ValueError(broken) from error


class TarStream:
    """Reads a tar from beginning to end, and checks that it is complete.

    Python's reader continues after the end of a file if a member states more bytes, and treats a damaged header as the
    end of the archive.
    """

    def __init__(self, file: BinaryIO):
        self.file = file
        self.done = 0
        self.tail = b""

    def open(self) -> tarfile.TarFile:
        """A reader that uses only `read`."""
        return tarfile.open(fileobj=self, mode="r|")  # type: ignore[arg-type]

    def read(self, size: int) -> bytes:
        """The next bytes.

        Raises:
            EOFError: there are none.
        """
        content = self.file.read(size)
        if not content:
            raise EOFError("unexpected end of data")
        self.done += len(content)
        self.tail = (self.tail + content)[-4 * tarfile.RECORDSIZE :]
        return content

    def check_end(self, offset: int) -> None:
        """Raise tarfile.ReadError unless the end mark of the archive is at `offset`, where the reader has stopped."""
        start = offset - self.done + len(self.tail)
        if start < 0 or self.tail[start : start + BLOCK] != bytes(BLOCK):
            raise tarfile.ReadError(f"a damaged header at byte {offset}")


def key_and_suffix(name: str) -> tuple[str, str, str]:
    """The key of a member, a dot, its suffix. tar writes ./ before names if it packs the current folder."""
    return name.removeprefix("./").partition(".")


def refuse_huge(size: int, what: str) -> int:
    """Return `size`, the bytes of a member. Sparse members may state any number.

    Raises:
        ValueError: more bytes than any image or map has.
    """
    if size > LARGEST:
        raise ValueError(f"{what}: {size:,} bytes; expected an image of {LARGEST:,} at most")
    return size


MAPS = ("disparity", "valid", "sky", "class")
"""Members of our shards that are maps of numbers, whatever their format."""


def decode_maps(name: str, content: bytes) -> np.ndarray | None:
    """The numbers of a map, for readers that would take its PNG for an image and turn it into 8-bit RGB.

        webdataset.WebDataset("labels/*.tar").decode(decode_maps, "rgb8")

    Args:
        name: the suffix of a member, such as `.disparity.png`.
        content: its bytes.

    Returns:
        (H, W): uint16 codes of `.disparity.png`, float of `.disparity.npz`, uint8 of the others; None for what is none.
    """
    kind, _, form = name.lower().lstrip(".").rpartition(".")
    if kind.rpartition(".")[2] not in MAPS or form not in ("png", "npz"):
        return None
    if form == "npz":
        with np.load(io.BytesIO(content)) as archive:
            return archive[archive.files[0]]
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


@dataclass(frozen=True)
class TarIndex:
    """Offsets of the files inside an uncompressed tar, in their order."""

    names: list[str]
    start: np.ndarray
    """int64: of a file's first byte."""
    size: np.ndarray
    """int64: its bytes."""

    def read(self, file: BinaryIO, number: int) -> bytes:
        """The content of one file, from the open tar.

        Raises:
            ValueError: more bytes than an image has.
        """
        refuse_huge(int(self.size[number]), f"{file.name}: {self.names[number]}")
        file.seek(int(self.start[number]))
        return file.read(int(self.size[number]))


def index_tar(path: str | os.PathLike[str]) -> TarIndex:
    """Read the headers of a tar, not its files.

    Raises:
        ValueError: missing, not an uncompressed tar, or cut short; one line that names it.
    """
    path = Path(path)
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            members = [info for info in tar if info.isreg() and not is_hidden(info.name.rpartition("/")[2])]
            if sparse := next((info.name for info in members if info.issparse()), None):
                raise tarfile.ReadError(f"{sparse} is a sparse file; pack it without --sparse")
            file.seek(tar.offset)  # of the last block: zeros, in a complete archive
            ended = file.read(BLOCK) == bytes(BLOCK)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such tar") from None
    except (tarfile.TarError, EOFError, OSError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: no uncompressed tar, or damaged ({error}); fetch it again") from None
    if not ended:
        raise ValueError(f"{path}: the tar is cut short after {len(members)} files; fetch it again")
    return TarIndex(
        [info.name for info in members],
        np.array([info.offset_data for info in members], np.int64),
        np.array([info.size for info in members], np.int64),
    )


def cached_index(path: str | os.PathLike[str]) -> TarIndex:
    """`index_tar`, remembered in the user's cache folder until the tar's size or time changes."""
    path = Path(path)
    try:
        stat = path.stat()
    except OSError:
        raise ValueError(f"{path}: no such tar") from None
    identity = os.fsencode(f"2\n{path.resolve()}\n{stat.st_size}\n{stat.st_mtime_ns}")
    note = cache_dir() / "tar-index" / f"{hashlib.sha256(identity).hexdigest()}.npz"
    try:
        with np.load(note) as found:
            names = found["names"].tobytes().decode(errors="surrogateescape")
            index = TarIndex(names.split("\0") if names else [], found["start"], found["size"])
            if len(index.names) == len(index.start):
                return index
            raise ValueError("a name with a zero byte")
    except Exception:  # none yet, or damaged: zip files have errors of their own
        index = index_tar(path)
    try:
        with atomic_path(note) as temporary:
            names = np.frombuffer("\0".join(index.names).encode(errors="surrogateescape"), np.uint8)
            np.savez(temporary, names=names, start=index.start, size=index.size)
    except OSError:
        pass  # a read-only home: read the headers again next time
    return index
