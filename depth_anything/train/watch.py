"""A run on many processes in which one hangs ends, with a line that names it, instead of waiting for weeks."""

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
"""Seconds in which every process that still runs says so."""


class Watch:
    """What this process is doing, and since when; a thread ends it when that takes more than `ranks.minutes`.

    A step ends on all processes or on none: where one hangs, all others wait for it. So every process notices, says
    what it was doing, and the first one says which do not answer at all. torch's own limit is later and only a reserve:
    its message names no process, and on GPUs it ends the program without an exception.
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
        """This is what the process does from now on."""
        self.what, self.since = what, time.monotonic()

    def look(self) -> None:
        """The thread: look at the clock until the run has ended."""
        while not self.ended.wait(min(5.0, self.seconds / 10)):
            if time.monotonic() - self.since > self.seconds:
                LOG.error(
                    "rank %d of %d: %s took more than %g minutes (--timeout)%s; the run ends, start it again to go on",
                    self.ranks.rank,
                    self.ranks.world,
                    self.what,
                    self.ranks.minutes,
                    self.silent(),
                )
                os._exit(1)  # the thread that waits cannot be woken

    def silent(self) -> str:
        """In the first process: which ones do not answer."""
        try:
            dist.monitored_barrier(self.group, self.patience, wait_all_ranks=True)
        except RuntimeError as error:
            found = re.search(r"[Rr]anks? ([\d, ]*\d) failed", str(error))
            return f"; no response from rank {found[1]}" if found else ""
        return "; all processes answer"


@contextmanager
def watched(ranks: Ranks) -> Iterator[Watch]:
    """A watch over this process during the block, which does nothing where it is the only one. All processes call this
    together."""
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
