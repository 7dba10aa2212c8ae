"""Run a generator in a background thread that prefetches its items."""

import queue
import threading
from collections.abc import Generator, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
_POLL = 0.1
"""Seconds after which a waiting thread checks whether the generator was closed."""


def prefetch(items: Iterator[T], depth: int) -> Generator[T]:
    """Yield `items`, which a thread prepares up to `depth` in advance; its errors are raised here.

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
        except BaseException as caught:  # raised in the consumer's thread
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
