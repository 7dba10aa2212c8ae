"""One job at a time in one place."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from depth_anything.system.files import make_folder, naming

LOCK = ".lock"


class AnotherJob(ValueError):
    """Another process is in the block of `alone`."""


@contextmanager
def alone(folder: str | os.PathLike[str], name: str = LOCK) -> Iterator[None]:
    """The block in which no other process writes the same results into `folder`.

    It is the kernel's lock on a hidden file: it falls when its holder ends, also by kill -9. Nothing is held where the
    system (Windows) or the disk (some network disks) knows no such lock.

    Args:
        folder: made where it is not there.
        name: of the hidden file; of each kind of result, where jobs for several may share a folder.

    Raises:
        AnotherJob: another process is in such a block.
        NotWritten: the folder cannot be written.
    """
    try:
        import fcntl
    except ModuleNotFoundError:
        yield
        return
    folder = Path(folder)
    make_folder(folder)
    path = folder / name
    while True:
        with naming(path):
            file = path.open("w")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AnotherJob(
                    f"{folder}: another job writes there; wait until it ends, or use another folder"
                ) from None
            except OSError:
                yield
                return
            if not _is_still(path, file.fileno()):
                continue  # its last holder has removed it meanwhile: others would make a new one
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether an open file is the one of this name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
