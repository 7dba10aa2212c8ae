"""Atomic file writes, and folders."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def make_folder(path: Path) -> None:
    """A folder for results, with those above it, unless it is there.

    Raises:
        NotADirectoryError: a file is in its place, or above it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise NotADirectoryError(
            f"{path}: a file is there; expected a folder for the results, or a name for a new one"
        ) from None


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; renamed to `path` when the block ends well, removed when it does not.

    The temporary name keeps the suffix, for writers that choose their format by it.
    """
    path = Path(path)
    make_folder(path.parent)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem[:40]}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def package_text(name: str) -> str:
    """A text file that comes with the package, by its path in it."""
    return (Path(__file__).parents[1] / name).read_text(encoding="utf-8")


def _umask() -> int:
    """The process' umask: mkstemp makes private files, outputs should be as any other file of the user."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def cache_dir() -> Path:
    """Folder for downloaded weights and accepted licences: `~/.cache/depth-anything` (or XDG_CACHE_HOME)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "depth-anything"
