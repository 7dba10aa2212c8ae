"""Shards of an object store as files of this machine: fetched whole, ahead of their turn, and the oldest deleted.

The images of a training step lie in a hundred shards or more. Fetching each image by itself would be a request per
image, and its delay in every step; a shard is one request for a thousand images. All processes of a machine share the
files.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path

from depth_anything.data.storage import ObjectStore
from depth_anything.system.files import cache_dir, make_folder
from depth_anything.system.lock import AnotherJob, alone

FETCHING = 4
"""Shards that a process fetches ahead at a time."""
WAIT_S = 0.05
"""Between two looks at a shard that another thread or process fetches."""


class ShardCache:
    """Files of one store in a folder of this machine, in half of the disk's free space at most.

    Args:
        fetch: copies a file of the store to a path.
        folder: made where it is not there.
        limit: bytes of all files; None: half of what was free.
    """

    def __init__(self, fetch: Callable[[str, Path], None], folder: Path, limit: int | None = None):
        make_folder(folder)
        self.fetch, self.folder = fetch, folder
        there = sum(path.stat().st_size for path in folder.glob("*.tar"))
        self.limit = limit if limit is not None else (shutil.disk_usage(folder).free + there) // 2
        self.lock = threading.Lock()
        self.expected: set[str] = set()
        """Names that wait for a thread of `pool`, or have one."""
        self.under_way: set[str] = set()
        """Names that a thread fetches now, ahead or because it reads them."""
        self.pool = ThreadPoolExecutor(FETCHING, "read-ahead")

    def path(self, name: str, key: str, size: int) -> Path:
        """A shard's file on this machine; waits until it is there.

        Args:
            name: of the file in the store.
            key: of its content; another content has another one.
            size: bytes that it must have.

        Raises:
            ValueError: the store has no such file, or one of another size.
        """
        path = self.folder / f"{key}.tar"
        while True:
            try:
                os.utime(path)  # used now
                return path
            except FileNotFoundError:
                if not self._fetched(name, path, size):
                    time.sleep(WAIT_S)

    def expect(self, name: str, key: str, size: int) -> None:
        """Begin to fetch a shard that will be read soon, unless it is here or under way."""
        path = self.folder / f"{key}.tar"
        with self.lock:
            if name in self.expected or path.exists():
                return
            self.expected.add(name)

        def begin() -> None:
            try:
                with suppress(ValueError, OSError):  # whoever reads it hears of it
                    self._fetched(name, path, size)
            finally:
                with self.lock:
                    self.expected.discard(name)

        self.pool.submit(begin)

    def _fetched(self, name: str, path: Path, size: int) -> bool:
        """Fetch a shard; False where another thread or process does it now."""
        with self.lock:
            if name in self.under_way:
                return False
            self.under_way.add(name)
        try:
            with alone(self.folder, f".{path.name}.lock"):
                if not path.exists():
                    self._make_room(size)
                    self._copy(name, path, size)
            return True
        except AnotherJob:
            return False
        finally:
            with self.lock:
                self.under_way.discard(name)

    def _copy(self, name: str, path: Path, size: int) -> None:
        temporary = path.with_name(f".{path.name}.part")
        try:
            self.fetch(name, temporary)
            if (found := temporary.stat().st_size) != size:
                raise ValueError(f"{name}: {found:,} bytes, its manifest says {size:,}; delete both and label again")
            os.replace(temporary, path)
        except FileNotFoundError:
            raise ValueError(f"{name}: no such shard in the store") from None
        finally:
            temporary.unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        """Delete what was not used for the longest time until a shard fits."""
        ages = []
        for path in self.folder.glob("*.tar"):
            with suppress(FileNotFoundError):
                about = path.stat()
                ages.append((about.st_mtime, about.st_size, path))
        total = sum(bytes_ for _, bytes_, _ in ages)
        for _, bytes_, path in sorted(ages):
            if total + size <= self.limit:
                return
            path.unlink(missing_ok=True)
            total -= bytes_


@cache
def cache_of(where: str, process: int) -> ShardCache:
    """The shared cache of a store's shards on this machine, in `cache_dir()`; `process`: a fork makes its own."""
    store = ObjectStore(where)
    return ShardCache(store.get, cache_dir() / "shards")
