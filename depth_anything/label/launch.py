"""Run a labelling job in one process, on torchrun ranks or on Ray workers; resume an interrupted job.

All of them run `Labeller` on the shards that have no manifest yet. A run that was stopped at any point resumes when the
same command is run again.
"""

from __future__ import annotations

import os
import socket
import sys
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from tqdm import tqdm

from depth_anything.data.manifests import MANIFEST
from depth_anything.data.storage import CLAIMS, Store, is_url, open_store
from depth_anything.data.unlabeled.image_shards import SHARD_SIZE, ImageShard
from depth_anything.data.unlabeled.sets import shards as find_shards
from depth_anything.label.jobs import (
    CONCURRENT_SHARDS,
    LabelOptions,
    Outcome,
    attempt,
    claimed,
    load_teacher,
    remaining,
)
from depth_anything.label.teacher import Labeller, LabelRecipe

GIVE_UP = 10
"""After this many shards in a row that cannot be written, a worker stops."""
PATIENCE_S = 1800
"""Seconds that a rank with failures waits for other ranks that neither finish a shard nor exit."""


@dataclass
class Report:
    """Outcome of a run."""

    total: int
    """Number of shards of the whole job."""
    done_before: int
    finished: int = 0
    labelled: int = 0
    failed_images: int = 0
    failed_shards: int = 0
    encoding_error: float = 0.0

    @property
    def exit_code(self) -> int:
        """0: all done; 1: some failed; 2: all failed."""
        if not (self.failed_images or self.failed_shards):
            return 0
        return 1 if self.labelled or self.done_before else 2

    def __str__(self) -> str:
        lines = [f"{self.done_before} of {self.total} shards were there; {self.finished} more, {self.labelled} images"]
        if self.finished:
            lines.append(f"largest error of the encoding: {self.encoding_error:.1e} of a map's range")
        if self.failed_images or self.failed_shards:
            lines.append(
                f"failed: {self.failed_images} images (listed in their manifests), {self.failed_shards} whole shards "
                "(the same command tries them again)"
            )
        return "\n".join(lines)

    def add(self, outcome: Outcome) -> None:
        self.finished += outcome.error is None
        self.failed_shards += outcome.error is not None
        self.labelled += outcome.labelled
        self.failed_images += len(outcome.failed)
        self.encoding_error = max(self.encoding_error, outcome.encoding_error)


def label(
    source: str, out: str, asked: LabelOptions, kind: str = "auto", shard_size: int = SHARD_SIZE, ray: str | None = None
) -> Report:
    """Label the shards that are not labelled yet.

    Args:
        source: see `data.unlabeled.image_shards`.
        out: folder or URL for the shards.
        asked: the teacher, its device, batch and encoding.
        kind: kind of the source.
        shard_size: images per shard, for sources that can be divided.
        ray: address of a Ray cluster, or "local".

    Returns:
        The outcome in this process; on Ray, in all workers.

    Raises:
        ValueError: the teacher, the source or the output cannot be used, or another job writes to the same output.
    """
    source, out = (path if is_url(path) else os.path.abspath(path) for path in (source, out))
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if out.startswith("memory:") and (ray or world > 1):
        raise ValueError(f"{out}: memory is not shared between processes; use a folder or an object store")
    store = open_store(out)
    with store.lock(job_name(world), first=rank == 0):
        found = find_shards(kind, source, shard_size)
        # On Ray the driver's machine may have no GPU: it needs the teacher only for its hash.
        teacher = load_teacher(replace(asked, device="cpu") if ray else asked, cuda_of_rank=world > 1)
        recipe = LabelRecipe(
            asked.teacher, teacher.sha256, teacher.input_size, asked.dtype, asked.batch, asked.encoding
        )
        todo = remaining(store, recipe, found)
        report = Report(len(found), len(found) - len(todo))
        if ray:
            from depth_anything.label.ray import label_on_ray

            outcomes = label_on_ray(ray, out, asked, recipe, todo)
        else:
            beside = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
            threads = asked.threads or max(1, (os.cpu_count() or 1) // beside)
            labeller = Labeller(teacher, recipe, store, threads)
            outcomes = label_here(labeller, claimed(todo, store, rank, world))
        follow(outcomes, report, total=len(todo), rank=rank)
        if world > 1:
            end_together(store, rank, world, report.exit_code > 0)
    return report


def job_name(world: int) -> str:
    """A name of this job: the same in all ranks of one torchrun, different in every other job."""
    names = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_ADDR", "MASTER_PORT", "SLURM_JOB_ID",
             "SLURM_STEP_ID")  # fmt: skip
    if world > 1:
        return " ".join(["ranks", *(os.environ.get(name, "-") for name in names)])
    return f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex}"


def label_here(labeller: Labeller, shards: Iterable[ImageShard]) -> Iterator[Outcome]:
    """Label shards in this process, `CONCURRENT_SHARDS` at a time."""
    threads = ThreadPoolExecutor(CONCURRENT_SHARDS)
    running: deque[Future[Outcome]] = deque()
    try:
        for shard in shards:
            running.append(threads.submit(attempt, labeller, shard))
            if len(running) == CONCURRENT_SHARDS:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        labeller.close()
        threads.shutdown(cancel_futures=True)


def follow(outcomes: Iterator[Outcome], report: Report, total: int, rank: int = 0) -> None:
    """Count and show outcomes as they arrive."""
    unwritable = 0
    with tqdm(total=total, shard="shard", disable=None if rank == 0 else True) as progress:
        for outcome in outcomes:
            report.add(outcome)
            if outcome.error:
                progress.write(f"error: {outcome.error}", file=sys.stderr)
            for failure in outcome.failed:
                progress.write(f"error: {outcome.shard}: {failure['key']}: {failure['error']}", file=sys.stderr)
            progress.update()
            progress.set_postfix(images=report.labelled, failed=report.failed_images)
            unwritable = unwritable + 1 if outcome.unwritable else 0
            if unwritable == GIVE_UP:
                progress.write(f"error: {GIVE_UP} shards in a row could not be written: stopped", file=sys.stderr)
                break


def end_together(store: Store, rank: int, world: int, has_failures: bool) -> None:
    """Wait for the other ranks before exiting with an error, because torchrun ends all ranks when one fails."""
    store.claim(f"rank-{rank}-ended")
    if not has_failures or "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    everyone = {f"rank-{other}-ended" for other in range(world)}
    seen, since = 0, time.monotonic()
    while time.monotonic() - since < PATIENCE_S:
        names = store.names(CLAIMS)
        if everyone <= names:
            return
        progress = len(names) + len(store.names(MANIFEST))
        if progress != seen:
            seen, since = progress, time.monotonic()
        time.sleep(1)
