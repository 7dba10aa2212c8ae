"""Who labels which unit: one process, the ranks of torchrun, or the workers of a Ray cluster; now or on going on.

All of them call the same function, `Labeller`, on units that have no manifest yet. A run that was stopped anywhere goes
on when the same command is given again.
"""

from __future__ import annotations

import errno
import json
import os
import random
import socket
import sys
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace

from depth_anything.data.pseudo_labels import MANIFEST, Encoding
from depth_anything.data.storage import CLAIMS, Store, open_store
from depth_anything.data.unlabeled.sets import units as find_units
from depth_anything.data.unlabeled.units import PICTURES, Unit, is_url
from depth_anything.label.teacher import Labeller, LabelRecipe, Precision, Teacher
from depth_anything.system.device import check_device

LANES = 2
"""Units under way in a process: one feeds the network while the one before it is written."""
GIVE_UP = 10
"""Units in a row that cannot be written, after which a worker stops rather than waste its network's work."""
PATIENCE_S = 1800
"""How long a rank that has failures to tell waits for others that neither finish a shard nor end."""
JOB = "job.json"


@dataclass(frozen=True)
class Asked:
    """How a worker gets its teacher; the same on every machine."""

    teacher: str
    """A name of VARIANTS, a hub id, a checkpoint or a transformers folder."""
    variant: str | None = None
    device: str = "cpu"
    dtype: Precision = "fp32"
    input_size: int | None = None
    batch: int = 8
    encoding: Encoding = "png16"
    threads: int | None = None
    accept_license: bool = False

    def __post_init__(self):
        if self.batch < 1 or (self.threads is not None and self.threads < 1):
            raise ValueError(f"batch {self.batch}, threads {self.threads}: expected 1 or more")


@dataclass
class Outcome:
    """What became of a unit, for whoever asked for it."""

    unit: str
    labelled: int = 0
    failed: list[dict[str, str]] = field(default_factory=list)
    encoding_error: float = 0.0
    error: str | None = None
    """Why the whole unit failed; it is tried again in the next run."""
    unwritable: bool = False


@dataclass
class Report:
    """What became of a run."""

    units: int
    """Of the source."""
    done_before: int
    shards: int = 0
    labelled: int = 0
    failed_pictures: int = 0
    failed_units: int = 0
    encoding_error: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 all done; 1 some failed; 2 all failed."""
        if not (self.failed_pictures or self.failed_units):
            return 0
        return 1 if self.labelled or self.done_before else 2

    def __str__(self) -> str:
        lines = [f"{self.done_before} of {self.units} shards were there; {self.shards} more, {self.labelled} pictures"]
        if self.shards:
            lines.append(f"largest error of the encoding: {self.encoding_error:.1e} of a map's range")
        if self.failed_pictures or self.failed_units:
            lines.append(
                f"failed: {self.failed_pictures} pictures (listed in their manifests), {self.failed_units} whole units "
                "(tried again when this command is given again)"
            )
        return "\n".join(lines)

    def add(self, outcome: Outcome) -> None:
        self.shards += outcome.error is None
        self.failed_units += outcome.error is not None
        self.labelled += outcome.labelled
        self.failed_pictures += len(outcome.failed)
        self.encoding_error = max(self.encoding_error, outcome.encoding_error)


def label(
    source: str, out: str, asked: Asked, kind: str = "auto", unit_size: int = PICTURES, ray: str | None = None
) -> Report:
    """Label what is not labelled yet.

    Args:
        source: see `data.unlabeled.units`.
        out: folder or URL for the shards.
        asked: the teacher and how it runs.
        kind: of the source.
        unit_size: pictures in a shard, where the source can be cut.
        ray: address of a Ray cluster, or "local".

    Returns:
        What this process did; on Ray, what all workers did.

    Raises:
        ValueError: the teacher, the source or the output is not fit for it, or another job writes there.
    """
    source, out = (path if is_url(path) else os.path.abspath(path) for path in (source, out))
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if out.startswith("memory:") and (ray or world > 1):
        raise ValueError(f"{out}: memory is not shared between processes; use a folder or an object store")
    store = open_store(out)
    with store.lock(job_name(world), first=rank == 0):
        found = find_units(kind, source, unit_size)
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


def load_teacher(asked: Asked, cuda_of_rank: bool = False) -> Teacher:
    """The teacher on its device; torchrun's ranks take a GPU each."""
    device = asked.device
    if device == "cuda" and cuda_of_rank:
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    try:
        import torch
    except ModuleNotFoundError:
        raise ValueError(
            'labelling runs in torch, which is not installed: pip install "depth-anything[torch]"'
        ) from None
    check_device(device)
    if asked.threads:
        torch.set_num_threads(asked.threads)

    from depth_anything.network.model import DepthAnything

    model = DepthAnything.from_pretrained(asked.teacher, variant=asked.variant, accept_license=asked.accept_license)
    return Teacher(model, device, asked.dtype, asked.input_size)


def job_name(world: int) -> str:
    """The same for all ranks of one torchrun, different for everything else."""
    names = ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_ADDR", "MASTER_PORT", "SLURM_JOB_ID",
             "SLURM_STEP_ID")  # fmt: skip
    if world > 1:
        return " ".join(["ranks", *(os.environ.get(name, "-") for name in names)])
    return f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex}"


def remaining(store: Store, recipe: LabelRecipe, units: list[Unit]) -> list[Unit]:
    """The units that have no manifest.

    Raises:
        ValueError: the store holds labels of another recipe, or of other pictures.
    """
    asked = asdict(recipe)
    try:
        found = json.loads(store.read(JOB))
    except FileNotFoundError:
        store.write(JOB, json.dumps(asked, indent=1).encode())
        found = asked
    if found != asked:
        changed = [name for name in asked if found.get(name) != asked[name]]
        differences = ", ".join(f"{name} {found.get(name)} there, {asked[name]} now" for name in changed)
        raise ValueError(f"{store.where} holds labels of another recipe ({differences}): use another folder")
    done = {name.removesuffix(".json") for name in store.names(MANIFEST)}
    strays = sorted(done - {unit.name for unit in units})
    if strays:
        raise ValueError(
            f"{store.where} holds {len(strays)} shards of other pictures (the first: {strays[0]}): the source, or the "
            "size of its units, is not what it was when this folder was begun; use another folder"
        )
    return [unit for unit in units if unit.name not in done]


def claimed(units: list[Unit], store: Store, rank: int = 0, world: int = 1) -> Iterator[Unit]:
    """The units that fall to one of `world` workers, which share them as they go.

    Each begins at a place of its own. Where it meets a unit that another has claimed, it asks once what is left and
    goes on there in an order of its own, so that workers seldom meet again and an object store is seldom asked. What a
    worker that died had claimed is left for the next run.
    """
    start = len(units) * rank // world
    order = deque((*units[start:], *units[:start]))
    while order:
        unit = order.popleft()
        if world == 1 or store.claim(unit.name):
            yield unit
        else:
            taken = store.names(CLAIMS)
            left = [unit for unit in order if unit.name not in taken]
            random.Random(rank).shuffle(left)
            order = deque(left)


def label_here(labeller: Labeller, units: Iterable[Unit]) -> Iterator[Outcome]:
    """Label units in this process, `LANES` at once."""
    lanes = ThreadPoolExecutor(LANES)
    running: deque[Future[Outcome]] = deque()
    try:
        for unit in units:
            running.append(lanes.submit(attempt, labeller, unit))
            if len(running) == LANES:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        labeller.close()
        lanes.shutdown(cancel_futures=True)


def attempt(labeller: Labeller, unit: Unit) -> Outcome:
    """Label a unit; what is wrong with its pictures or with the disk becomes a line."""
    try:
        manifest = labeller(unit)
    except ValueError as error:
        return Outcome(unit.name, error=str(error))
    except OSError as error:
        full = "; free some space and run the same command again" if error.errno == errno.ENOSPC else ""
        line = f"{unit.name}: the shard cannot be written ({error.strerror or error}){full}"
        return Outcome(unit.name, error=line, unwritable=True)
    except RuntimeError as error:
        if "out of memory" in str(error):
            batch = labeller.recipe.batch
            raise ValueError(
                f"a batch of {batch} pictures does not fit into the device: use a smaller --batch"
            ) from None
        raise
    return Outcome(unit.name, manifest.labelled, manifest.failed, manifest.encoding_error)


def follow(outcomes: Iterator[Outcome], report: Report, total: int, rank: int = 0) -> None:
    """Count outcomes as they come, and show them."""
    from tqdm import tqdm

    unwritable = 0
    with tqdm(total=total, unit="shard", disable=None if rank == 0 else True) as progress:
        for outcome in outcomes:
            report.add(outcome)
            if outcome.error:
                progress.write(f"error: {outcome.error}", file=sys.stderr)
            for failure in outcome.failed:
                progress.write(f"error: {outcome.unit}: {failure['key']}: {failure['error']}", file=sys.stderr)
            progress.update()
            progress.set_postfix(pictures=report.labelled, failed=report.failed_pictures)
            unwritable = unwritable + 1 if outcome.unwritable else 0
            if unwritable == GIVE_UP:
                progress.write(f"error: {GIVE_UP} shards in a row could not be written: stopped", file=sys.stderr)
                break


def end_together(store: Store, rank: int, world: int, has_failures: bool) -> None:
    """torchrun ends all ranks when one ends with an error: a rank that has to tell of one waits for the rest."""
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
