"""Run a generator in a background thread that prefetches its items."""

import queue
import threading
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
_POLL = 0.1
"""Seconds after which a waiting thread looks whether anybody still wants its items."""


def prefetch(items: Iterator[T], depth: int) -> Generator[T]:
    """`items`, made by a thread that runs up to `depth` of them ahead of whoever takes them; its errors come through.

    Close the generator to end the thread.
    """
    line: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def offer(item: Any, error: BaseException | None = None) -> bool:
        while not stopped.is_set():
            try:
                line.put((item, error), timeout=_POLL)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        error: BaseException = StopIteration()
        try:
            for item in items:
                if not offer(item):
                    break
        except BaseException as caught:  # whoever takes the items gets it
            error = caught
        finally:
            if isinstance(items, Generator):
                items.close()
        offer(None, error)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while True:
            item, error = line.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        stopped.set()
        thread.join()
