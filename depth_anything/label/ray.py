"""Labelling on a Ray cluster: each worker has a teacher, and a driver assigns shards to the workers.

This uses plain actors rather than Ray Data: when a machine dies, Ray Data waits for its actors to return, which never
happens on a smaller cluster. Here their shards go to the workers that still run.
"""

from __future__ import annotations

import logging
import os
import socket
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

from depth_anything.data.storage import open_store
from depth_anything.data.unlabeled.image_shards import ImageShard
from depth_anything.label.jobs import CONCURRENT_SHARDS, LabelOptions, Outcome, attempt, load_teacher
from depth_anything.label.teacher import Labeller, LabelRecipe
from depth_anything.system.extras import needs

DEATHS = 3
"""A shard counts as failed after this many workers died while labelling it."""
SILENCE_S = 60
"""Seconds between messages of the driver while no worker runs."""


class Worker:
    """One teacher on one device, in a process of its own."""

    def __init__(self, out: str, asked: LabelOptions, recipe: LabelRecipe):
        teacher = load_teacher(asked)
        if teacher.sha256 != recipe.teacher_sha256:
            raise ValueError(f"the teacher {asked.teacher} has other weights on this machine: copy the same file there")
        self.labeller = Labeller(teacher, recipe, open_store(out), asked.threads)

    def ready(self) -> None:
        """Return once the teacher is loaded."""

    def label(self, shard: ImageShard) -> Outcome:
        return attempt(self.labeller, shard)


def label_on_ray(
    address: str,
    out: str,
    asked: LabelOptions,
    recipe: LabelRecipe,
    shards: list[ImageShard],
    workers: int | None = None,
) -> Iterator[Outcome]:
    """Label shards on a cluster, with one worker per GPU, or per group of as many cores as a teacher has threads.

    Args:
        address: "local" for a cluster on this machine, "auto" for the one it belongs to, or HOST:PORT or ray://.
        workers: number of workers; None takes as many as the cluster has room for now.

    Raises:
        ValueError: Ray is not installed, there is no cluster at this address, it has no room for a worker, or a worker
            cannot load the teacher.
    """
    ray = connect(address)
    cores = asked.threads or 1
    demand = {"num_gpus": 1} if asked.device == "cuda" else {"num_cpus": cores}
    resource, share = ("GPU", 1) if asked.device == "cuda" else ("CPU", cores)
    room = int(ray.cluster_resources().get(resource, 0) // share)
    if not room:
        raise ValueError(f"ray {address}: no worker fits, each needs {share} {resource}; see --device and --threads")
    # A worker has as many shards in progress as a single process. The driver replaces dead workers; Ray does not.
    worker_class = ray.remote(max_restarts=0, max_concurrency=CONCURRENT_SHARDS, **demand)(Worker)
    todo, deaths, left = deque(shards), Counter(), len(shards)
    futures: dict[Any, tuple[Any, ImageShard | None]] = {}  # the worker and its shard; None while the worker starts
    free: dict[Any, int] = {}  # running workers, and how many more shards each can take

    def hire() -> None:
        worker = worker_class.remote(out, asked, recipe)
        futures[worker.ready.remote()] = (worker, None)

    for _ in range(min(workers or room, left)):
        hire()
    try:
        while left:
            for worker in free:
                while free[worker] and todo:
                    shard = todo.popleft()
                    futures[worker.label.remote(shard)] = (worker, shard)
                    free[worker] -= 1
            ready, _ = ray.wait(list(futures), num_returns=1, timeout=SILENCE_S)
            if not ready:
                if not free:
                    logging.warning("ray %s: no worker has started; the cluster has no room for one", address)
                continue
            worker, shard = futures.pop(ready[0])
            try:
                outcome = ray.get(ready[0])
            except ray.exceptions.RayActorError as error:
                if error.actor_init_failed:
                    raise ValueError(last_line(error)) from None
                if free.pop(worker, None) is not None or shard is None:
                    hire()
                if shard is None:
                    continue
                deaths[shard.name] += 1
                if deaths[shard.name] < DEATHS:
                    todo.appendleft(shard)
                    continue
                outcome = Outcome(shard.name, error=f"{shard.name}: {DEATHS} workers died while labelling it")
            except ray.exceptions.RayTaskError as error:
                raise ValueError(last_line(error)) from None
            if shard is None:
                free[worker] = CONCURRENT_SHARDS
                continue
            if worker in free:
                free[worker] += 1
            left -= 1
            yield outcome
    finally:
        ray.shutdown()


def connect(address: str) -> Any:
    """Return the module `ray`, connected to a cluster.

    Raises:
        ValueError: Ray is not installed, or there is no cluster at this address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with needs("ray", "--ray"):
        import ray
    options: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False}
    if address == "local":
        options["include_dashboard"] = False
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if port.isdigit():  # by default Ray tries for ten minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address=address, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"ray {address}: no cluster there ({last_line(error)}); start one with `ray start`") from None
    return ray


def last_line(error: Exception) -> str:
    """The last line of a Ray error's traceback, without the name of the exception type."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].removeprefix("ValueError: ") if lines else type(error).__name__
