"""Save the state of a run. If a save fails, training continues and the last good state remains."""

import errno
import logging
import time
from concurrent.futures import Future
from pathlib import Path
from typing import cast

import torch.distributed as dist

from depth_anything.system.files import NotWritten
from depth_anything.train import sharded_checkpoint
from depth_anything.train.checkpoint import Run, state_step
from depth_anything.train.distributed import Machine, Ranks, agreed, any_rank

LOG = logging.getLogger(__name__)


class Saver:
    """Saves a run and finds its newest state: under FSDP2 in parts, in the background (`sharded_checkpoint`); else as
    one file, which the first process writes between two steps."""

    def __init__(self, run: Run, out: Path, machine: Machine, ranks: Ranks):
        self.run, self.out, self.keep, self.ranks = run, out, machine.keep, ranks
        self.group = cast(dist.ProcessGroup, dist.new_group(backend="gloo")) if machine.shard else None
        self.under_way: Future | None = None
        self.began = time.monotonic()
        self.step = 0
        """Step of the last save that was started."""
        self.failure: NotWritten | None = None
        """The error of the last save, if it failed."""

    def resume(self) -> bool:
        """Load the newest state, if there is one; return whether there was. All processes call this.

        Raises:
            ValueError: the state is damaged or belongs to another recipe.
        """
        if self.ranks.first:
            sharded_checkpoint.clean(self.out)
        steps = agreed(sharded_checkpoint.saved_steps(self.out))
        if steps and steps[-1] >= state_step(self.out):
            sharded_checkpoint.resume(self.run, self.out, steps[-1])
            found = True
        else:
            found = self.run.resume(self.out)
        self.step = self.run.step
        return found

    def busy(self) -> bool:
        """Whether this process has a save in progress. Logs the result of one that has ended."""
        if self.under_way is None or not self.under_way.done():
            return self.under_way is not None
        error, self.under_way = self.under_way.exception(), None
        if error is None:
            self.run.saved = self.step
            LOG.info("saved step %d in %.1f s in the background", self.step, time.monotonic() - self.began)
        else:
            path = sharded_checkpoint.step_folder(self.out, self.step)
            self.fail(NotWritten(errno.EIO, sharded_checkpoint.root_cause(error), str(path)))
            if self.ranks.first:
                sharded_checkpoint.clean(self.out)
        return False

    def fail(self, failure: NotWritten) -> None:
        """Remember a failure, and log one line with the last good state."""
        self.failure = failure
        if self.ranks.first:
            good = f"the last good state is that of step {self.run.saved}" if self.run.saved else "none is saved yet"
            LOG.warning("%s; %s; training continues and saves again later", failure, good)

    def start(self) -> None:
        """Start to save the run; training may continue when this returns. All processes call this, while none saves."""
        self.began, self.step, self.failure = time.monotonic(), self.run.step, None
        if self.group is not None:
            self.under_way = sharded_checkpoint.start_saving(self.run, self.out, self.keep, self.group)
            return
        try:
            self.run.save(self.out, self.ranks.first, self.keep)
        except NotWritten as failure:
            self.fail(failure)

    def finish(self) -> None:
        """Save the run and wait for the end of that. All processes call this.

        Raises:
            NotWritten: on every process, if the run could not be saved.
        """
        self.wait()
        if self.step != self.run.step or self.failure is not None:
            self.start()
            self.wait()
        if any_rank(self.failure is not None, self.ranks.device):
            elsewhere = NotWritten(errno.EIO, "the first process could not write it", str(self.out))
            raise self.failure or elsewhere

    def close(self) -> None:
        """Wait for a save in progress before the processes end."""
        self.wait()

    def wait(self) -> None:
        """Wait for a save in progress; `busy` handles its result."""
        if self.under_way is not None:
            self.under_way.exception()
        self.busy()
