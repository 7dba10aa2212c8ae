"""Simulation of labelling 62M images: planning, claims and manifests are the real code, the teacher only takes time.

    python scripts/rehearse_labelling.py

Workers die at random. When the remaining workers have nothing left to do, the job is restarted, as an operator would.
Time is simulated, and storage is in memory.
"""

from __future__ import annotations

import heapq
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from depth_anything.data.manifests import LABELS, MANIFEST
from depth_anything.data.storage import CLAIMS
from depth_anything.data.unlabeled.image_shards import ImageShard, named
from depth_anything.label.jobs import claimed, remaining
from depth_anything.label.teacher import LabelRecipe, Manifest, commit

RECIPE = LabelRecipe("simulated", "0" * 64, 518, "bf16", 32, "png16")


class Killed(BaseException):
    """Ends a simulated worker, as kill -9 ends a real one."""


class Rehearsal:
    """Storage in memory that counts how often a shard is written. It can kill a worker between shard and manifest.

    All shards are the same small file, because their content does not matter here.
    """

    def __init__(self, folder: str):
        self.where = "memory"
        self.shard = Path(folder) / "shard.tar"
        self.shard.write_bytes(bytes(1024))
        self.files: dict[str, dict[str, bytes]] = {MANIFEST: {}, CLAIMS: {}, "": {}}
        self.written: Counter[str] = Counter()
        self.kill_after_shard = False

    def names(self, folder: str) -> set[str]:
        return set(self.files[folder])

    def read(self, name: str) -> bytes:
        folder, _, file = name.rpartition("/")
        if file not in self.files[folder]:
            raise FileNotFoundError(name)
        return self.files[folder][file]

    def write(self, name: str, content: bytes) -> None:
        folder, _, file = name.rpartition("/")
        self.files[folder][file] = content

    def scratch(self) -> Path:
        return self.shard

    def put(self, name: str, file: Path) -> None:
        self.written[name] += 1
        if self.kill_after_shard:
            raise Killed

    def claim(self, name: str) -> bool:
        if name in self.files[CLAIMS]:
            return False
        self.files[CLAIMS][name] = b""
        return True

    @contextmanager
    def lock(self, job: str, first: bool) -> Iterator[None]:
        """Start a new job: claims of the previous job that were not completed are released."""
        self.files[CLAIMS].clear()
        yield


@dataclass(frozen=True)
class Rehearsed:
    """Outcome of a simulation."""

    shards: int
    images: int
    workers: int
    runs: int
    deaths: int
    twice: int
    """Shards that were written twice, because their worker died before the manifest; both have the same bytes."""
    lost_images: int
    """Images whose predictions were lost when their worker died."""
    hours: float
    """Simulated time from the first start to the last manifest."""
    planning_s: float
    """Real time of the slowest planning, which lists the finished shards and finds the remaining ones."""
    seconds: float
    """Real time of the whole simulation."""


def simulate(
    shards: int = 62_000,
    images: int = 1000,
    workers: int = 64,
    images_per_s: float = 100.0,
    death: float = 0.002,
    restart_h: float = 0.25,
    seed: int = 0,
) -> Rehearsed:
    """Simulate a labelling job.

    Args:
        shards: number of shards of the source.
        images: number of images in a shard.
        workers: number of workers at every start of the job.
        images_per_s: average speed of a worker; each shard takes up to 20 % more or less.
        death: probability that a worker dies while it labels a shard.
        restart_h: hours until the job is started again.

    Raises:
        AssertionError: a shard is missing, or an image counted twice.
    """
    began = time.perf_counter()
    rng = np.random.default_rng(seed)
    planned = [
        ImageShard(named("simulated.tar", number, images), "tar", "simulated.tar", images) for number in range(shards)
    ]
    runs = deaths = 0
    planning_s = hours = 0.0
    with tempfile.TemporaryDirectory() as folder:
        store = Rehearsal(folder)
        while True:
            started = time.perf_counter()
            todo = remaining(store, RECIPE, planned)
            planning_s = max(planning_s, time.perf_counter() - started)
            if not todo:
                break
            with store.lock(f"run {runs}", first=True):
                crew = [work(claimed(todo, store, rank, workers), store, death, rng) for rank in range(workers)]
                seconds, dead = run(crew, images / images_per_s)
            hours += seconds / 3600 + restart_h * (runs > 0)
            runs += 1
            deaths += dead
    check(store, planned)
    return Rehearsed(
        shards=shards,
        images=shards * images,
        workers=workers,
        runs=runs,
        deaths=deaths,
        twice=sum(count - 1 for count in store.written.values()),
        lost_images=deaths * images,
        hours=hours,
        planning_s=planning_s,
        seconds=time.perf_counter() - began,
    )


def run(crew: list[Iterator[float]], seconds_a_shard: float) -> tuple[float, int]:
    """One start of the job, until no running worker finds work.

    Returns:
        Simulated seconds, and the number of workers that died.
    """
    clock = [(0.0, rank) for rank in range(len(crew))]  # when each worker is done with its shard
    last, dead = 0.0, 0
    while clock:
        now, rank = heapq.heappop(clock)
        last = now
        try:
            pace = next(crew[rank])
        except StopIteration:
            continue
        except Killed:
            dead += 1
            continue
        heapq.heappush(clock, (now + pace * seconds_a_shard, rank))
    return last, dead


def work(shards: Iterator[ImageShard], store: Rehearsal, death: float, rng: np.random.Generator) -> Iterator[float]:
    """A worker: yields the relative duration of each shard, then writes the shard unless it dies."""
    for shard in shards:
        yield rng.uniform(0.8, 1.2)
        dies = rng.uniform() < death
        if dies and rng.uniform() < 0.5:
            raise Killed  # while labelling: nothing is written
        store.kill_after_shard = dies
        commit(store, shard, store.scratch(), Manifest(shard.name, shard.path, RECIPE, labelled=shard.count or 0))


def check(store: Rehearsal, shards: list[ImageShard]) -> None:
    """Check that every unit has a shard and exactly one manifest, which counts its images."""
    names = {shard.name for shard in shards}
    assert set(store.written) == {f"{LABELS}/{name}.tar" for name in names}
    assert {name.removesuffix(".json") for name in store.names(MANIFEST)} == names
    labelled = sum(json.loads(store.read(f"{MANIFEST}/{name}.json"))["labelled"] for name in names)
    assert labelled == sum(shard.count or 0 for shard in shards)


def as_text(done: Rehearsed) -> str:
    """What a rehearsal did, for people."""
    return "\n".join(
        (
            f"{done.shards:,} shards of {done.images // done.shards:,} images, {done.workers} workers",
            f"{done.deaths} workers died; the job was started {done.runs} times",
            f"every shard has one manifest; {done.images:,} images are labelled, each once",
            f"{done.lost_images:,} predictions lost ({done.lost_images / done.images:.2%}); "
            f"{done.twice} shards written twice",
            f"simulated: {done.hours:.1f} h; real: slowest plan {done.planning_s:.2f} s, all {done.seconds:.1f} s",
        )
    )


if __name__ == "__main__":
    print(as_text(tyro.cli(simulate)))
