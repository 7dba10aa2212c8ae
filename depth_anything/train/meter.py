"""What a run reports of its speed: images a second, the wait for data, each process's share, memory, loss parts."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from depth_anything.train.distributed import gathered, mean_over_ranks

LOG = logging.getLogger(__name__)
T = TypeVar("T")
SLOW = 1.5
"""A process that takes so many times as long as the median one is named."""


class Meter:
    """Speed, and mean loss parts over the steps that were added, until `means` is asked.

    A step ends on all processes at once, so its length does not tell which one holds up the others. What each does
    alone does: the wait for its data, and its forward passes.

    Args:
        seen: images of the whole run at the start.
    """

    def __init__(self, seen: int, device: str = "cpu"):
        self.device = device
        self.restart(seen)

    def restart(self, seen: int) -> None:
        """Forget what was measured."""
        self.began, self.seen = time.monotonic(), seen
        self.values: dict[str, list[Tensor]] = {}
        self.steps = 0
        self.waited = self.passed = 0.0
        self.events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def waiting(self, ready: Iterator[T]) -> Iterator[T]:
        """The items of `ready`; the wait for each is measured."""
        while True:
            began = time.perf_counter()
            try:
                item = next(ready)
            except StopIteration:
                return
            self.waited += time.perf_counter() - began
            self.steps += 1
            yield item

    def add(self, parts: dict[str, Tensor]) -> None:
        """Loss parts of a slice."""
        for name, value in parts.items():
            self.values.setdefault(name, []).append(value)

    @contextmanager
    def forward(self) -> Iterator[None]:
        """Times a forward pass; on a GPU by its own clock, without waiting for it."""
        if self.device.startswith("cuda"):
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            yield
            last.record()
            self.events.append((first, last))
            return
        began = time.perf_counter()
        yield
        self.passed += time.perf_counter() - began

    def means(self, seen: int) -> dict[str, float]:
        """Images per second; data wait and forward pass in seconds a step, of the slowest and the fastest process; GiB
        of memory of the fullest; each part's mean over the steps that had it. All processes call this together.

        Args:
            seen: images of the whole run by now.
        """
        found = {"images_per_second": (seen - self.seen) / (time.monotonic() - self.began)}
        passed = self.passed + sum(first.elapsed_time(last) for first, last in self.events) / 1000
        steps = max(self.steps, 1)
        all_own = gathered((self.waited / steps, passed / steps, memory_gib(self.device)))
        for name, values in zip(("data_wait", "forward"), zip(*all_own, strict=True), strict=False):
            found |= {name: max(values)} | ({f"{name}_min": min(values)} if len(values) > 1 else {})
        found["memory_gib"] = max(own[2] for own in all_own)
        name_stragglers([own[0] + own[1] for own in all_own])
        if not self.values:
            return found  # all steps were skipped
        means = mean_over_ranks(torch.stack([torch.stack(values).mean() for values in self.values.values()]))
        return found | dict(zip(self.values, means.tolist(), strict=True))


def memory_gib(device: str) -> float:
    """The most memory that this process has had: on a GPU there, else in the machine."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**30
    if sys.platform == "win32":
        return 0.0  # no such figure in Python's library
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def name_stragglers(seconds: list[float]) -> list[int]:
    """The processes that hold up the others, by seconds a step that each takes alone; the first process says so."""
    usual = median(seconds)
    slow = [rank for rank, own in enumerate(seconds) if own > SLOW * usual]
    if slow and not (dist.is_initialized() and dist.get_rank()):
        told = ", ".join(f"rank {rank}: {seconds[rank]:.3g} s" for rank in slow)
        LOG.warning("slow processes (data and forward pass; the median takes %.3g s): %s", usual, told)
    return slow
