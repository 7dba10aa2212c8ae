"""End a run in which a process hangs, with a message that names the process."""

import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import cast

import torch.distributed as dist

from depth_anything.train.distributed import RESERVE, Ranks

LOG = logging.getLogger(__name__)
ROLL_CALL = 60.0
"""Seconds for the other processes to respond before the first names those that do not."""


class Watch:
    """The current activity of this process; a thread ends the process if one takes more than `ranks.minutes`.

    When a process hangs, all others wait for it in the same step. So each of them notices and logs its activity, and
    the first one names those that do not respond. torch's own timeout is later: its message names no process, and on
    GPUs it ends the program without an exception.
    """

    def __init__(self, ranks: Ranks):
        self.ranks, self.seconds = ranks, ranks.minutes * 60
        self.patience = timedelta(seconds=min(ROLL_CALL, self.seconds))
        self.group = None
        if ranks.world > 1:
            reserve = timedelta(minutes=ranks.minutes + RESERVE)
            self.group = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=reserve))
        self.ended = threading.Event()
        self.doing("starting")

    def doing(self, what: str) -> None:
        """Set the current activity, and its start to now."""
        self.what, self.since = what, time.monotonic()

    def look(self) -> None:
        """Function of the thread: check the time until the run has ended."""
        while not self.ended.wait(min(5.0, self.seconds / 10)):
            if time.monotonic() - self.since > self.seconds:
                LOG.error(
                    "rank %d of %d: %s took more than %g minutes (--timeout)%s; the run ends, start it again to resume",
                    self.ranks.rank,
                    self.ranks.world,
                    self.what,
                    self.ranks.minutes,
                    self.silent(),
                )
                os._exit(1)  # the main thread, which waits inside a collective call, cannot be interrupted

    def silent(self) -> str:
        """Part of the message: in the first process, the ranks that do not respond."""
        try:
            dist.monitored_barrier(self.group, self.patience, wait_all_ranks=True)
        except RuntimeError as error:
            found = re.search(r"[Rr]anks? ([\d, ]*\d) failed", str(error))
            return f"; no response from rank {found[1]}" if found else ""
        return "; all processes respond"


@contextmanager
def watched(ranks: Ranks) -> Iterator[Watch]:
    """Watch this process during the block, if there are others. All processes call this together."""
    watch = Watch(ranks)
    thread = threading.Thread(target=watch.look, name="watch", daemon=True)
    if ranks.world > 1:
        thread.start()
    try:
        yield watch
    finally:
        watch.ended.set()
        if ranks.world > 1:
            thread.join()
