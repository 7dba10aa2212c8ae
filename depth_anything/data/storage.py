"""Output storage: a local folder or an object store; files are written atomically.

It also holds the lock of the job (one at a time, of one or many processes) and the claims of its workers.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Protocol, TextIO

from depth_anything.system.files import is_hidden, make_folder

WORK = ".work"
"""Folder of a store for what only the running job needs: its lock, its claims, files that are being written."""
CLAIMS = f"{WORK}/claims"
NAMED_LOCK = f"{WORK}/lock"
WRITTEN = ("ETag", "etag", "LastModified", "last_modified", "updated", "mtime", "modified")
"""What the file systems of fsspec call a file's ETag, and the time when it was written."""
PATIENCE_S = 60
"""How long the processes of one job wait for the first of them to take the lock."""


class Store(Protocol):
    """Files by name, with / between folders."""

    where: str

    def names(self, folder: str) -> set[str]:
        """The files in a folder, without its name; empty where there is none."""
        ...

    def read(self, name: str) -> bytes:
        """A file's bytes; FileNotFoundError where it is not there."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Write a small file, atomically."""
        ...

    def scratch(self) -> Path:
        """A new empty file on this machine to write to; `put` or the caller removes it."""
        ...

    def put(self, name: str, file: Path) -> None:
        """Move a finished file of `scratch` to its name, atomically: one rename, or one upload."""
        ...

    def claim(self, name: str) -> bool:
        """Claim a piece of work for this process; False if it is claimed already."""
        ...

    def lock(self, job: str, first: bool) -> AbstractContextManager[None]:
        """Hold the store for a job until the block or the process ends, however it ends.

        Args:
            job: what all processes of one job give, and no other.
            first: whether this process takes the lock for its job, if the store cannot decide it.

        Raises:
            ValueError: another job works here.
        """
        ...


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a URL of an object store."""
    return "://" in os.fspath(path)


def open_store(where: str | os.PathLike[str]) -> Store:
    """The store at a path or a URL that fsspec knows (s3://, gs://, memory://)."""
    where = os.fspath(where)
    return ObjectStore(where) if is_url(where) else Folder(where)


class Folder:
    """A folder on a disk, perhaps a shared one."""

    def __init__(self, where: str):
        self.where = where
        self.root = Path(where)
        if self.root.exists() and not self.root.is_dir():
            raise ValueError(f"{where}: a file; expected a folder for the results, or a name for a new one")

    def names(self, folder: str) -> set[str]:
        try:
            return {entry.name for entry in os.scandir(self.root / folder) if not is_hidden(entry.name)}
        except FileNotFoundError:
            return set()

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        file = self.scratch()
        try:
            file.write_bytes(content)
            self.put(name, file)
        finally:
            file.unlink(missing_ok=True)

    def scratch(self) -> Path:
        make_folder(self.root / WORK)
        handle, name = tempfile.mkstemp(dir=self.root / WORK)
        os.close(handle)
        os.chmod(name, 0o644)
        return Path(name)

    def put(self, name: str, file: Path) -> None:
        target = self.root / name
        make_folder(target.parent)
        with file.open("rb") as written:
            os.fsync(written.fileno())  # a power cut must not leave a name without its bytes
        os.replace(file, target)

    def claim(self, name: str) -> bool:
        try:
            os.close(os.open(self.root / CLAIMS / name, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    @contextmanager
    def lock(self, job: str, first: bool) -> Iterator[None]:
        """The kernel's lock on a file: it falls when its last holder dies, also by kill -9.

        Every process of a job holds it in common with the others. Whoever can have it alone is the first of a new job
        (or the last of its own, to which all claims are as good as new): it writes the job's name and removes what was
        left. A system whose Python has no such lock (Windows) has `named_lock`, as object stores have.
        """
        make_folder(self.root / WORK)
        try:
            import fcntl
        except ModuleNotFoundError:
            with named_lock(self, job, first):
                yield
            return
        with (self.root / WORK / "lock").open("a+") as file:
            self._take(file, job, fcntl)
            yield

    def _take(self, file: TextIO, job: str, fcntl: ModuleType) -> None:
        for _ in range(PATIENCE_S * 10):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.clear()
                file.truncate(0)
                file.write(json.dumps(this_process(job)))
                file.flush()
                fcntl.flock(file, fcntl.LOCK_SH)  # the kernel lets go for a moment: read again who has it
            except BlockingIOError:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:  # the first of some job is writing its name
                    time.sleep(0.1)
                    continue
            file.seek(0)
            holder = json.loads(file.read())
            if holder["job"] == job:
                return
            raise refusal(self.where, holder)
        raise ValueError(f"{self.where}: its lock is busy; try again")

    def clear(self) -> None:
        shutil.rmtree(self.root / CLAIMS, ignore_errors=True)
        for left in (self.root / WORK).glob("tmp*"):
            left.unlink(missing_ok=True)
        (self.root / CLAIMS).mkdir()


class ObjectStore:
    """A place in an object store: every file is one upload, which appears when it is complete.

    Such stores have no locks: theirs is `named_lock`. Claims are exact where the store can create without replacing
    (S3, Google), else advice: two processes may do the same piece of work, with the same bytes.
    """

    def __init__(self, where: str):
        import fsspec

        self.where = where.rstrip("/")
        self.system, self.root = fsspec.core.url_to_fs(self.where)

    def names(self, folder: str) -> set[str]:
        return {name for path in self._list(folder, detail=False) if not is_hidden(name := path.rpartition("/")[2])}

    def versions(self, folder: str) -> dict[str, str]:
        """The files in a folder, each with a text that differs after it was written again.

        The text is empty where the listing states neither a time nor an ETag.
        """
        found = {about["name"].rpartition("/")[2]: about for about in self._list(folder, detail=True)}
        return {name: version_of(about) for name, about in found.items() if not is_hidden(name)}

    def _list(self, folder: str, detail: bool) -> list:
        self.system.invalidate_cache()
        try:
            return self.system.ls(f"{self.root}/{folder}", detail=detail)
        except FileNotFoundError:
            return []

    def read(self, name: str) -> bytes:
        return self.system.cat_file(f"{self.root}/{name}")

    def write(self, name: str, content: bytes) -> None:
        self.system.pipe_file(f"{self.root}/{name}", content)

    def scratch(self) -> Path:
        handle, name = tempfile.mkstemp(prefix="depth-anything-")
        os.close(handle)
        return Path(name)

    def put(self, name: str, file: Path) -> None:
        self.system.put_file(str(file), f"{self.root}/{name}")
        file.unlink()

    def get(self, name: str, file: Path) -> None:
        """Copy a file to this machine; FileNotFoundError where it is not there."""
        self.system.get_file(f"{self.root}/{name}", str(file))

    def claim(self, name: str) -> bool:
        try:
            self.system.pipe_file(f"{self.root}/{CLAIMS}/{name}", b"", mode="create")
        except FileExistsError:
            return False
        return True

    def lock(self, job: str, first: bool) -> AbstractContextManager[None]:
        return named_lock(self, job, first)

    def clear(self) -> None:
        if self.system.exists(f"{self.root}/{CLAIMS}"):
            self.system.rm(f"{self.root}/{CLAIMS}", recursive=True)


def version_of(about: dict) -> str:
    """Size, ETag and time of a file as fsspec lists it; empty where neither of the last two is there."""
    written = [str(about[field]) for field in WRITTEN if about.get(field)]
    return " ".join([str(about.get("size")), *written]) if written else ""


@contextmanager
def named_lock(store: Folder | ObjectStore, job: str, first: bool) -> Iterator[None]:
    """A lock for stores without any: a file that names its holder.

    A holder that died on this machine is recognised (not on Windows); one that died elsewhere has to be removed by
    hand. Arguments and errors as in `Store.lock`.
    """
    take_named(store, job, first)
    try:
        yield
    finally:
        if first:  # not removed: a process of this job that starts late still finds its job's name
            store.write(NAMED_LOCK, json.dumps({**this_process(job), "ended": True}).encode())


def take_named(store: Folder | ObjectStore, job: str, first: bool) -> None:
    for _ in range(PATIENCE_S * 2):
        try:
            holder = json.loads(store.read(NAMED_LOCK))
        except (FileNotFoundError, ValueError):
            holder = None
        if first:
            if holder and not (holder.get("ended") or is_dead(holder)):
                raise refusal(store.where, holder, f"; if that job is dead, delete {store.where}/{NAMED_LOCK}")
            store.clear()
            store.write(NAMED_LOCK, json.dumps(this_process(job)).encode())
            return
        if holder and holder["job"] == job:
            return
        time.sleep(0.5)
    raise ValueError(f"{store.where}: the first process of this job did not take the lock within {PATIENCE_S} s")


def this_process(job: str) -> dict:
    """Who holds a lock."""
    return {"job": job, "host": socket.gethostname(), "pid": os.getpid(), "started": started(os.getpid())}


def started(pid: int) -> str:
    """When a process began, in the kernel's ticks, so that a pid that was given again is not taken for the old one."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def is_dead(holder: dict) -> bool:
    """Whether the holder of a lock was a process of this machine that has ended; False if unknown."""
    if holder["host"] != socket.gethostname() or os.name != "posix":  # elsewhere os.kill would end the process
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return started(holder["pid"]) != holder["started"]


def refusal(where: str, holder: dict, more: str = "") -> ValueError:
    return ValueError(
        f"{where}: another job writes there (process {holder['pid']} on {holder['host']}): wait for it, or use another "
        f"folder{more}"
    )


@contextmanager
def scratch(store: Store) -> Iterator[Path]:
    """A file of `store.scratch` that is gone afterwards, unless it was put somewhere."""
    file = store.scratch()
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)
