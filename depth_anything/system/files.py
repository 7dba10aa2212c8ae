"""Read files as other people leave them; write files atomically.

Folders hold what file managers put beside the user's files; texts were saved by Excel, Notepad and PowerShell; arrays
were cut by a full disk. Every reader of this package lists folders and reads text, JSON and .npy by these functions.
"""

import csv
import errno
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

LEFT_BEHIND = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin"))
"""Names of files that Windows, macOS and Synology's servers create, in lower case."""
OTHER_KINDS = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself (run `git lfs pull` in its folder)"),
    (0, b"/annex/objects", "a git-annex pointer, not the file itself (run `git annex get` in its folder)"),
    (0, b"<", "a web page or XML (the link led to a page, perhaps one that asks to sign in)"),
    (0, b"GGUF", "a GGUF file of llama.cpp"),
    (0, b"\x89HDF", "an HDF5 file (Keras, TensorFlow)"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x1f\x8b", "a gzip archive (unpack it)"),
    (0, b"BZh", "a bzip2 archive (unpack it)"),
    (0, b"\xfd7zXZ", "an xz archive (unpack it)"),
    (0, b"7z\xbc\xaf", "a 7z archive (unpack it)"),
    (0, b"Rar!", "a RAR archive (unpack it)"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive (unpack it)"),
    (257, b"ustar", "a tar archive (unpack it)"),
)
"""Offset, bytes and description of file types that users mistake for models."""

UNFINISHED = ".unfinished-"
"""In the names of temporary files and folders."""
FULL = re.compile(
    rf"inline_container|PytorchStreamWriter|iostream error|\(os error ({errno.ENOSPC}|{errno.EDQUOT}|112)\)"
)
"""In the errors of torch.save and safetensors when a disk or a quota is full."""


def told_by(head: bytes) -> str | None:
    """Description of a file by its first 512 bytes, if it is one of `OTHER_KINDS`."""
    return next((what for place, beginning, what in OTHER_KINDS if head[place:].startswith(beginning)), None)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is not part of a data set: `.DS_Store`, `._photo.jpg` (AppleDouble, which
    macOS adds to every file on a foreign disk), `Thumbs.db`, `__MACOSX`, any name that starts with a dot."""
    return name.startswith(".") or name.lower() in LEFT_BEHIND


def walk(folder: str | os.PathLike[str], suffixes: Collection[str] = (), exclude: Path | None = None) -> Iterator[Path]:
    """All files below a folder, sorted folder by folder, hidden ones left out (`is_hidden`).

    Args:
        folder: links to folders in it are not followed.
        suffixes: in lower case, such as ".jpg"; empty for all files.
        exclude: a folder, resolved, below which nothing is looked for.
    """
    for parent, folders, files in os.walk(folder):
        here = Path(parent)
        folders[:] = sorted(name for name in folders if not is_hidden(name) and (here / name).resolve() != exclude)
        for name in sorted(files):
            if not is_hidden(name) and (not suffixes or os.path.splitext(name)[1].lower() in suffixes):
                yield here / name


def find(folder: str | os.PathLike[str], pattern: str) -> list[Path]:
    """The files and folders below `folder` that match a glob pattern, sorted, hidden ones left out (`is_hidden`)."""
    folder = Path(folder)
    return sorted(
        path for path in folder.glob(pattern) if not any(is_hidden(part) for part in path.relative_to(folder).parts)
    )


def read_text(path: str | os.PathLike[str]) -> str:
    """A text in UTF-8, without the byte order mark that Excel and Notepad put before it.

    Raises:
        ValueError: in another encoding.
        OSError: no such file.
    """
    data = Path(path).read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{path}: a text file in UTF-16; save it again as UTF-8 (in Excel: 'CSV UTF-8')")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not a text file in UTF-8 (byte {error.start} is {data[error.start]:#04x}); save it again as UTF-8"
        ) from None


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A JSON object from a text of `read_text`.

    Raises:
        ValueError: no JSON, or something else than an object.
        OSError: no such file.
    """
    text = read_text(path)
    if what := told_by(text[:512].encode()):
        raise ValueError(f"{path} is {what}")
    return parse_json(text, path, "copy it again")


def parse_json(text: str | bytes, path: str | os.PathLike[str], advice: str) -> dict[str, Any]:
    """The JSON object that was read from `path`.

    Raises:
        ValueError: no JSON, or something else than an object; the line names the file and ends in the advice.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not readable as JSON ({error}): {advice}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds a JSON {type(values).__name__}: expected an object")
    return values


def read_csv(path: str | os.PathLike[str], columns: Collection[str]) -> list[dict[str, str]]:
    """The rows of a table with commas from a text of `read_text`, by the names in its first line.

    Raises:
        ValueError: one of `columns` is not there, or a row is short.
        OSError: no such file.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    rows = list(reader)
    lacking = [name for name in columns if name not in (reader.fieldnames or ())]
    if lacking:
        raise ValueError(f"{path}: no column {', '.join(lacking)} in its first line; fetch it again")
    short = next((number for number, row in enumerate(rows, 2) if any(row[name] is None for name in columns)), None)
    if short is not None:
        raise ValueError(f"{path}, line {short}: too few columns; fetch it again")
    return rows


def read_npy(path: str | os.PathLike[str]) -> np.ndarray:
    """The numbers of an .npy: integers, floats or truth values. Pickled objects are refused.

    Raises:
        ValueError: empty, cut, text, objects, or another kind of file.
    """
    try:
        with open(path, "rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; check the path") from None
    except (ValueError, EOFError, OSError, MemoryError, OverflowError, SyntaxError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        size = os.path.getsize(path) if os.path.exists(path) else 0
        raise ValueError(f"{path}: not an .npy that can be read ({size} bytes; {reason})") from None
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{path}: an .npy of {array.dtype}; expected numbers")
    return array


def make_folder(path: Path) -> None:
    """A folder for results, with those above it, unless it is there.

    Raises:
        NotADirectoryError: a file is in its place, or above it.
        NotWritten: it cannot be made: no permission, a disk that is full or only for reading.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise NotADirectoryError(
            f"{path}: a file is there; expected a folder for the results, or a name for a new one"
        ) from None
    except OSError as error:
        raise NotWritten(error.errno, error.strerror, os.fspath(path)) from None


def missing(path: str | os.PathLike[str], otherwise: str) -> str:
    """The message for a missing file; `otherwise` states what to do.

    URLs are not downloaded: they could point anywhere, including the user's own network.
    """
    found = re.match(r"([a-z][a-z0-9+.-]+):/+(.*)", os.fspath(path), re.IGNORECASE)
    if found is None:
        return f"{path}: no such file; {otherwise}"
    scheme, rest = found[1].lower(), found[2]
    if scheme == "file":
        return f"file:///{rest}: expected a path; give /{rest}"
    return f"{scheme}://{rest}: an address; expected a path. Download it, and give the file"


class NotWritten(OSError):
    """A file could not be written; the message names it, whichever library raised the error."""

    def __str__(self) -> str:
        return f"{self.filename}: not written ({self.strerror}); what else has its name there is whole"


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """If writing fails in this block, the error names `path`.

    Raises:
        NotWritten: no space, no permission, a broken disk. Some libraries raise their own exceptions for a full disk;
            then the free space is checked.
    """
    folder = Path(path).parent
    try:
        yield
    except (NotWritten, ValueError):
        raise
    except Exception as error:
        number, name = (error.errno, error.filename) if isinstance(error, OSError) else (None, None)
        if name is not None and not Path(os.fsdecode(name)).is_relative_to(folder):
            raise  # of a file elsewhere, which was read meanwhile
        if number is None and not (_is_full(folder) or FULL.search(str(error))):
            raise
        number = number or errno.ENOSPC
        raise NotWritten(number, os.strerror(number), os.fspath(path)) from error


def _is_full(folder: Path) -> bool:
    """Whether less than a page of the disk is left, as it is while a file that did not fit is still there."""
    try:
        return shutil.disk_usage(folder).free < 65536
    except OSError:
        return False


@contextmanager
def atomic_path(path: str | os.PathLike[str], own_folder: bool = False) -> Iterator[Path]:
    """A temporary name beside `path` to write to; renamed to `path` when the block ends well, removed when it does not.

    The temporary name keeps the suffix, for writers that choose their format by it. What killed processes left in the
    folder is removed (`remove_left`). Errors as of `naming`.

    Args:
        own_folder: the temporary name is in a temporary folder, for libraries that write other names beside it.
    """
    path = Path(path)
    make_folder(path.parent)
    remove_left(path.parent.resolve())
    with naming(path), _temporary(path, path.stem, path.suffix, is_folder=own_folder) as temporary:
        written = temporary / path.name if own_folder else temporary
        with naming(path):  # asks the disk while the part that did not fit is still there
            yield written
        os.chmod(written, 0o666 & ~_umask())
        os.replace(written, path)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Before hours of work: raises the error of `atomic_path` if `path` cannot be written. Its folder is made."""
    path = Path(path)
    make_folder(path.parent)
    with naming(path), _temporary(path, path.stem, path.suffix, is_folder=False):
        pass


@contextmanager
def _temporary(path: Path, stem: str, suffix: str, is_folder: bool) -> Iterator[Path]:
    """A new file or folder beside `path`, locked while the block lasts, removed where it is still there after it."""
    beginning = f".{stem[:40]}{UNFINISHED}"
    while True:
        if is_folder:
            temporary = Path(tempfile.mkdtemp(prefix=beginning, suffix=suffix, dir=path.parent))
        else:
            handle, name = tempfile.mkstemp(prefix=beginning, suffix=suffix, dir=path.parent)
            os.close(handle)
            temporary = Path(name)
        with lock_file(temporary) as held:
            if held is False or not temporary.exists():
                continue  # another process took it for one of a killed process, before it was locked
            try:
                yield temporary
            finally:
                _remove(temporary)
            return


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def lock_file(path: Path, wait: bool = False) -> Iterator[bool | None]:
    """Whether this process alone has the kernel's lock of a file or folder in the block; None where nobody can: on
    Windows, and on some network disks. The lock falls when its holder ends, also by kill -9.

    Args:
        wait: until the lock is free, instead of yielding False.
    """
    handle, held = None, None
    with suppress(ModuleNotFoundError, OSError):
        import fcntl

        handle = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            held = True
        except BlockingIOError:
            held = False
    try:
        yield held
    finally:
        if handle is not None:
            os.close(handle)


@cache
def remove_left(folder: Path) -> None:
    """Remove the temporary files and folders of `atomic_path` and `atomic_folder` whose processes were killed: those
    that nobody has locked. Once per process and folder."""
    for left in folder.glob(f".*{UNFINISHED}*"):
        with lock_file(left) as held:
            if held:
                _remove(left)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text in UTF-8, atomically. Errors as of `naming`."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """The same for a folder: what was at `path` is replaced when the block ends well."""
    path = Path(path)
    make_folder(path.parent)
    remove_left(path.parent.resolve())
    with naming(path), _temporary(path, path.name, "", is_folder=True) as temporary:
        with naming(path):
            yield temporary
        temporary.chmod(0o777 & ~_umask())
        replace_folder(temporary, path)


def replace_folder(finished: Path, path: Path) -> None:
    """Give a finished folder its name. What has it is moved away first: half removed it must not have it."""
    former = finished.with_name(f"{finished.name}.former")
    shutil.rmtree(former, ignore_errors=True)
    if path.exists():
        os.rename(path, former)
    os.rename(finished, path)
    shutil.rmtree(former, ignore_errors=True)


@contextmanager
def new_file(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """A temporary name to write to, which becomes `path` when the block ends well; errors as `refuse_existing`."""
    refuse_existing(Path(path), overwrite)
    with atomic_path(Path(path)) as part:
        yield part


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raises ValueError where `path` exists and may not be replaced."""
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; expected the name of a file to write")
    if not overwrite and path.exists():
        raise ValueError(f"{path}: exists already; use --overwrite (overwrite=True) to replace it, or another folder")


def sync(path: str | os.PathLike[str]) -> None:
    """Wait until a file, or the names in a folder, are on the disk: then a machine that goes down keeps them."""
    if os.name == "nt" and os.path.isdir(path):
        return  # Windows has no such call for folders
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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


def recall(name: str) -> dict[str, Any]:
    """The JSON object that `remember` left in `cache_dir()`; empty where there is none yet, or a damaged one."""
    try:
        return read_json(cache_dir() / name)
    except (OSError, ValueError):
        return {}


def remember(name: str, values: dict[str, Any]) -> None:
    """Keep a JSON object in `cache_dir()`; where the home is read-only, nothing is kept."""
    with suppress(OSError):
        write_text(cache_dir() / name, json.dumps(values, indent=1, sort_keys=True))
