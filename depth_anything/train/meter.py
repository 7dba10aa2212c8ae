"""Speed of a run: images per second, wait for data, time per process, memory; and mean loss parts."""

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
"""Processes that take more than this multiple of the median time are named."""


class Meter:
    """Speed, and mean loss parts of the steps since the last `restart`.

    A step ends on all processes at the same time, so its duration does not show which process delays the others. The
    wait for data and the forward passes do, because each process does them independently.

    Args:
        seen: number of images of the run so far.
        image_seconds: time for an image, if all devices reached their peak (`Task.image_seconds`).
    """

    def __init__(self, seen: int, device: str = "cpu", image_seconds: float = 0.0):
        self.device, self.image_seconds = device, image_seconds
        self.restart(seen)

    def restart(self, seen: int) -> None:
        """Forget all measurements."""
        self.began, self.seen = time.monotonic(), seen
        self.values: dict[str, list[Tensor]] = {}
        self.steps = 0
        self.waited = self.passed = 0.0
        self.events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def waiting(self, ready: Iterator[T]) -> Iterator[T]:
        """Yield the items of `ready`, and measure the wait for each."""
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
        """Add the loss parts of a slice."""
        for name, value in parts.items():
            self.values.setdefault(name, []).append(value)

    @contextmanager
    def forward(self) -> Iterator[None]:
        """Measure a forward pass; on a GPU with its own events, without waiting for it."""
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
        """Images per second; wait for data and forward pass in seconds per step, of the slowest and the fastest
        process; the largest and the smallest memory of a process in GiB; the mean of each loss part over the steps that
        have it. All processes call this together.

        Args:
            seen: number of images of the run so far.
        """
        found = {"images_per_second": (seen - self.seen) / (time.monotonic() - self.began)}
        if self.image_seconds:
            found["mfu"] = found["images_per_second"] * self.image_seconds
        passed = self.passed + sum(first.elapsed_time(last) for first, last in self.events) / 1000
        steps = max(self.steps, 1)
        all_own = gathered((self.waited / steps, passed / steps, memory_gib(self.device)))
        for name, values in zip(("data_wait", "forward", "memory_gib"), zip(*all_own, strict=True), strict=True):
            found |= {name: max(values)} | ({f"{name}_min": min(values)} if len(values) > 1 else {})
        name_stragglers([own[0] + own[1] for own in all_own])
        if not self.values:
            return found  # all steps were skipped
        means = mean_over_ranks(torch.stack([torch.stack(values).mean() for values in self.values.values()]))
        return found | dict(zip(self.values, means.tolist(), strict=True))


def memory_gib(device: str) -> float:
    """The peak memory of this process: GPU memory on a GPU, else main memory."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**30
    if sys.platform == "win32":
        return 0.0  # the standard library does not provide it
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def name_stragglers(seconds: list[float]) -> list[int]:
    """The slow processes, given each one's seconds per step; the first process logs them."""
    usual = median(seconds)
    slow = [rank for rank, own in enumerate(seconds) if own > SLOW * usual]
    if slow and not (dist.is_initialized() and dist.get_rank()):
        named = ", ".join(f"rank {rank}: {seconds[rank]:.3g} s" for rank in slow)
        LOG.warning("slow processes (data and forward pass; the median takes %.3g s): %s", usual, named)
    return slow
