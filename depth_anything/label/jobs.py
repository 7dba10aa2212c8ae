"""Shards to label: loading a worker's teacher, the shards that are left, claims on them, and their outcomes."""

from __future__ import annotations

import errno
import json
import os
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from depth_anything.data.manifests import MANIFEST
from depth_anything.data.pseudo_labels import Encoding
from depth_anything.data.storage import CLAIMS, Store
from depth_anything.data.unlabeled.image_shards import ImageShard
from depth_anything.label.teacher import Labeller, LabelRecipe, Precision, Teacher
from depth_anything.system.device import check_device
from depth_anything.system.extras import needs
from depth_anything.system.files import parse_json

CONCURRENT_SHARDS = 2
"""Shards in progress in a process: one feeds the network while the previous one is written."""
JOB = "job.json"


@dataclass(frozen=True)
class LabelOptions:
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
    """Outcome of a shard."""

    shard: str
    labelled: int = 0
    failed: list[dict[str, str]] = field(default_factory=list)
    encoding_error: float = 0.0
    error: str | None = None
    """Why the whole shard failed; the next run retries it."""
    unwritable: bool = False


def load_teacher(asked: LabelOptions, cuda_of_rank: bool = False) -> Teacher:
    """The teacher on its device; each rank of torchrun takes one GPU."""
    device = asked.device
    if device == "cuda" and cuda_of_rank:
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    with needs("torch", "labelling"):
        import torch
    check_device(device)
    if asked.threads:
        torch.set_num_threads(asked.threads)

    from depth_anything.network.model import DepthAnything

    model = DepthAnything.from_pretrained(asked.teacher, variant=asked.variant, accept_license=asked.accept_license)
    return Teacher(model, device, asked.dtype, asked.input_size)


def remaining(store: Store, recipe: LabelRecipe, shards: list[ImageShard]) -> list[ImageShard]:
    """Shards that have no manifest yet.

    Raises:
        ValueError: the storage has labels of another recipe, or of other images.
    """
    asked = asdict(recipe)
    try:
        found = parse_json(store.read(JOB), f"{store.where}/{JOB}", "delete this folder and label again")
    except FileNotFoundError:
        store.write(JOB, json.dumps(asked, indent=1).encode())
        found = asked
    if found != asked:
        changed = [name for name in asked if found.get(name) != asked[name]]
        differences = ", ".join(f"{name} {found.get(name)} there, {asked[name]} now" for name in changed)
        raise ValueError(f"{store.where} has labels of another recipe ({differences}): use another folder")
    done = {name.removesuffix(".json") for name in store.names(MANIFEST)}
    strays = sorted(done - {shard.name for shard in shards})
    if strays:
        raise ValueError(
            f"{store.where} has {len(strays)} shards of other images (the first: {strays[0]}): the source, or the "
            "size of its shards, has changed since this folder was started; use another folder"
        )
    return [shard for shard in shards if shard.name not in done]


def claimed(shards: list[ImageShard], store: Store, rank: int = 0, world: int = 1) -> Iterator[ImageShard]:
    """The shards that one of `world` workers labels; workers claim shards as they go.

    Each worker starts at a different position. When it finds a shard that another worker has claimed, it lists the
    remaining shards once and continues with them in its own order, so that workers rarely collide again and storage is
    rarely queried. Shards claimed by a worker that died are left for the next run.
    """
    start = len(shards) * rank // world
    order = deque((*shards[start:], *shards[:start]))
    while order:
        shard = order.popleft()
        if world == 1 or store.claim(shard.name):
            yield shard
        else:
            taken = store.names(CLAIMS)
            left = [shard for shard in order if shard.name not in taken]
            random.Random(rank).shuffle(left)
            order = deque(left)


def attempt(labeller: Labeller, shard: ImageShard) -> Outcome:
    """Label a shard; errors of its images or of the disk are reported in the outcome."""
    try:
        manifest = labeller(shard)
    except ValueError as error:
        return Outcome(shard.name, error=str(error))
    except OSError as error:
        full = "; free some space and run the same command again" if error.errno == errno.ENOSPC else ""
        line = f"{shard.name}: the shard cannot be written ({error.strerror or error}){full}"
        return Outcome(shard.name, error=line, unwritable=True)
    except RuntimeError as error:
        if "out of memory" in str(error):
            batch = labeller.recipe.batch
            raise ValueError(f"a batch of {batch} images does not fit into the device: use a smaller --batch") from None
        raise
    return Outcome(shard.name, manifest.labelled, manifest.failed, manifest.encoding_error)
