"""How a recipe is carried out on a machine: processes, DDP or FSDP2, compilation, activation checkpointing.

The model knows nothing of this (it is applied from outside), and the recipe neither: the same images are seen.
"""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from depth_anything.system.device import check_device

if TYPE_CHECKING:
    from depth_anything.train.recipes.base import Recipe
    from depth_anything.train.teacher import MapAndTokens

T = TypeVar("T")
LOST = re.compile(r"gloo|NCCL|Connection (closed|reset)|Broken pipe")
"""In errors of torch when another process is gone."""
RESERVE = 5.0
"""Minutes behind `Ranks.minutes` after which torch itself gives up."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What the command line says about the machine."""

    accumulate: int = 1
    """Slices of a step that each process does one after the other, where a whole step does not fit."""
    shard: bool = False
    """FSDP2: weights, gradients and moments in parts over the processes (the giant); else DDP: whole in each."""
    checkpointing: bool = False
    """Compute the encoder's activations again in the backward pass instead of keeping them."""
    compile: bool = False
    """torch.compile, block by block."""
    readers: int = 1
    """Threads that read and decode images."""
    keep: int = 2
    """States that stay on the disk: the newest and those before it."""

    def __post_init__(self):
        if self.keep < 1:
            raise ValueError(f"--keep {self.keep}: expected 1 or more states")
        if min(self.accumulate, self.readers) < 1:
            raise ValueError(f"{self.readers} readers, a step in {self.accumulate} slices: expected 1 or more of both")

    def check(self) -> None:
        """Refuse to split a model over processes where there is only this one.

        Raises:
            ValueError: `shard`, and torchrun did not start this process.
        """
        if self.shard and not dist.is_initialized():
            raise ValueError("--shard splits a model over processes: start with torchrun -m depth_anything train ...")


@dataclass(frozen=True)
class Ranks:
    """Which of the processes this one is."""

    rank: int = 0
    world: int = 1
    device: str = "cpu"
    minutes: float = 30.0
    """How long the others wait for one (`watch`)."""

    @property
    def first(self) -> bool:
        """The one that writes files."""
        return self.rank == 0

    def slices(self, machine: Machine) -> tuple[int, range]:
        """Into how many slices a step is cut, and which of them are this process's."""
        each = machine.accumulate
        return self.world * each, range(self.rank * each, (self.rank + 1) * each)


@contextmanager
def join(device: str = "cpu", minutes: float = 30.0) -> Iterator[Ranks]:
    """The processes that torchrun started, each with its device; this one alone without torchrun.

    Args:
        minutes: how long the others wait for one that hangs.

    Raises:
        ValueError: no such device here, or no time to wait.
        ConnectionError: another process died, or did not answer in time.
    """
    if not minutes > 0:
        raise ValueError(f"--timeout {minutes:g}: expected minutes above 0")
    if "RANK" not in os.environ:
        check_device(device)
        yield Ranks(device=device)
        return
    kind = device
    if kind == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    check_device(device)
    if kind == "cuda":
        torch.cuda.set_device(device)
    rank, world = meet("nccl" if kind == "cuda" else "gloo", timedelta(minutes=minutes + RESERVE))
    try:
        yield Ranks(rank, world, device, minutes)
    except RuntimeError as error:
        if world == 1 or not (isinstance(error, dist.DistError) or LOST.search(str(error))):
            dist.destroy_process_group()
            raise
        raise ConnectionError(  # the group is not taken down: that would wait for the process that is lost
            f"rank {rank} of {world} lost another process ({str(error).strip().splitlines()[0][:200]}): the first "
            "error in the log says why; start the run again to go on (torchrun --max-restarts 3 does)"
        ) from None
    except BaseException:
        dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def meet(backend: str, timeout: timedelta) -> tuple[int, int]:
    """Make the group of all processes; this one's rank, and how many there are.

    torchrun keeps one store for all its attempts (`--max-restarts`): without a name of its own, an attempt finds the
    addresses of the processes that died before it.
    """
    store, rank, world = next(iter(rendezvous("env://", timeout=timeout)))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    own = dist.PrefixStore(f"attempt{attempt}", store)
    dist.init_process_group(backend, store=own, rank=rank, world_size=world, timeout=timeout)
    return rank, world


@contextmanager
def first_alone(ranks: Ranks) -> Iterator[None]:
    """The block runs in the first process, then in the others: one renders or packs, all find it done."""
    if not ranks.first:
        dist.barrier()
    yield
    if ranks.first and ranks.world > 1:
        dist.barrier()


def opened_once(open_it: Callable[[], T], ranks: Ranks) -> T:
    """What `open_it` gives, called by the first process and copied to the others: a folder of millions of files is
    listed once, not by every process. All processes call this together.

    What cannot be copied is opened by every process, the first one first.

    Raises:
        ValueError: on all processes, when the first one could not open it.
    """
    if ranks.world == 1:
        return open_it()
    found, told = None, ("", b"")
    if ranks.first:
        try:
            found = open_it()
        except ValueError as error:
            told = (str(error), b"")
        else:
            with suppress(pickle.PicklingError, AttributeError, TypeError):
                told = ("", pickle.dumps(found))
    problem, copy = agreed(told)
    if problem:
        raise ValueError(problem)
    if ranks.first:
        return cast(T, found)
    return pickle.loads(copy) if copy else open_it()


def prepare(network: MapAndTokens, recipe: Recipe, machine: Machine, ranks: Ranks) -> nn.Module:
    """The network as this machine runs it. Its parameters keep their names in `network.model`."""
    blocks = list(network.model.pretrained.blocks)
    for block in blocks:
        if machine.checkpointing:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        if machine.compile:
            block.compile()
    if machine.compile:
        network.model.depth_head.compile()
    if machine.shard:
        machine.check()
        half = recipe.precision == "bfloat16" and ranks.device.startswith("cuda")
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if half else MixedPrecisionPolicy()
        for block in blocks:
            fully_shard(block, mp_policy=policy)
        fully_shard(network)  # in place; the decoder stays in float32
        return network
    if ranks.world > 1:
        return DistributedDataParallel(network)
    return network


@contextmanager
def gradients_shared(network: nn.Module, last: bool) -> Iterator[None]:
    """Processes average their gradients behind the last slice of a step only."""
    if isinstance(network, FSDPModule):
        network.set_requires_gradient_sync(last)
        yield
    elif isinstance(network, DistributedDataParallel) and not last:
        with network.no_sync():
            yield
    else:
        yield


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of a small tensor over the processes, in place."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def mean_over_ranks(values: Tensor) -> Tensor:
    """The mean of a small tensor over the processes, in place."""
    values = sum_over_ranks(values)
    return values.div_(dist.get_world_size()) if dist.is_initialized() else values


def any_rank(flags: list[bool], device: str) -> list[bool]:
    """Which flags at least one process has raised: all of them answer alike, and so act alike."""
    if not dist.is_initialized():
        return flags
    raised = torch.tensor(flags, dtype=torch.int32, device=device)
    dist.all_reduce(raised, dist.ReduceOp.MAX)
    return [bool(flag) for flag in raised.tolist()]


def agreed(value: T) -> T:
    """The first process's value, on all. All processes call this together."""
    if not dist.is_initialized():
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def gathered(value: T) -> list[T]:
    """A small value of every process, by rank. All processes call this together."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def whole(tensor: Tensor) -> Tensor:
    """A tensor in one piece on the processor, wherever its parts lie. All processes call this together."""
    full = getattr(tensor, "full_tensor", None)
    return (full() if full is not None else tensor).detach().cpu()
