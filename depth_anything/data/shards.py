"""Tar shards: many samples in one file, each sample a few members that share a key. Written whole or not at all."""

import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

BLOCK = 512  # bytes of a tar block; two blocks of zeros end an archive


def write_shard(path: str | os.PathLike, samples: Iterable[tuple[str, dict[str, bytes]]]) -> None:
    """Write samples (key, {suffix: bytes}) as members `<key>.<suffix>`; equal samples give equal bytes.

    The file appears under its name only when it is complete. Keys must not contain a dot (it ends the key).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")  # a killed run leaves it; the next one overwrites it
    try:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            for key, members in samples:
                if "." in key or not key:
                    raise ValueError(f"shard key {key!r}: expected a name without a dot")
                for suffix, content in members.items():
                    info = tarfile.TarInfo(f"{key}.{suffix}")
                    info.size, info.mtime, info.mode = len(content), 0, 0o644
                    tar.addfile(info, io.BytesIO(content))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_shard(path: str | os.PathLike) -> Iterator[tuple[str, dict[str, bytes]]]:
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
        with tarfile.open(path, "r|") as tar:
            key, members = None, {}
            for info in tar:
                name, _, suffix = info.name.partition(".")
                if name != key and key is not None:
                    yield key, members
                    members = {}
                key = name
                content = tar.extractfile(info)
                members[suffix] = b"" if content is None else content.read()
            if key is not None:
                yield key, members
    except FileNotFoundError:
        raise ValueError(f"{path}: no such shard") from None
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(broken) from error
