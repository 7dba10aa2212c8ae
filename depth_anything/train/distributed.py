"""How a run uses a machine: processes, DDP or FSDP2, compilation, activation checkpointing.

All of it is applied to the model from outside, and the recipe does not depend on it: the images are the same.
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
"""In torch's errors after another process has ended."""
FUSIONS = ("refinenet1", "refinenet2", "refinenet3", "refinenet4")
"""Parts of the decoder that are checkpointed one by one."""
MOST_READERS = 16
RECOMPILATIONS = 4
"""So many forms of a block are compiled; beyond its limit torch runs the rest uncompiled. All 21 blocks of
EfficientNet-Lite2 have shapes of their own, and share one limit."""
RESERVE = 5.0
"""Minutes after `Ranks.minutes` until torch's own timeout."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Settings of the command line that concern the machine."""

    accumulate: int = 1
    """Number of slices of a step that each process does one after the other (gradient accumulation)."""
    shard: bool = False
    """FSDP2: weights, gradients and moments are sharded over the processes (for the giant). Else DDP: whole in each."""
    checkpointing: bool = False
    """Recompute activations in the backward pass instead of storing them: of each block of the encoder, each fusion of
    the decoder, and the decoder's part at full size."""
    compile: bool = False
    """torch.compile, block by block."""
    readers: int = 1
    """Threads that read and decode images."""
    keep: int = 2
    """Number of saved states to keep, including the newest."""

    def __post_init__(self):
        if self.keep < 1:
            raise ValueError(f"--keep {self.keep}: expected 1 or more states")
        if min(self.accumulate, self.readers) < 1:
            raise ValueError(f"{self.readers} readers, a step in {self.accumulate} slices: expected 1 or more of both")

    def check(self) -> None:
        """Check the settings against the processes.

        Raises:
            ValueError: `shard` without torchrun.
        """
        if self.shard and not dist.is_initialized():
            raise ValueError("--shard splits a model over processes: start with torchrun -m depth_anything train ...")


def reading_threads(device: str) -> int:
    """Threads that read images, where nobody says how many: one on a processor, whose cores are the network's; else
    this process's share of the machine's cores, up to MOST_READERS."""
    if device == "cpu":
        return 1
    return max(1, min(MOST_READERS, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


@dataclass(frozen=True)
class Ranks:
    """This process among all processes of the run."""

    rank: int = 0
    world: int = 1
    device: str = "cpu"
    minutes: float = 30.0
    """Limit of the time for one activity of a process (`watch`)."""

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def slices(self, machine: Machine) -> tuple[int, range]:
        """The number of slices of a step, and the indices of those of this process."""
        each = machine.accumulate
        return self.world * each, range(self.rank * each, (self.rank + 1) * each)


@contextmanager
def join(device: str = "cpu", minutes: float = 30.0) -> Iterator[Ranks]:
    """Join the processes that torchrun started, each with its device; without torchrun there is only this one.

    Args:
        minutes: after this time, a process that hangs ends the run.

    Raises:
        ValueError: there is no such device, or `minutes` is not positive.
        ConnectionError: another process ended or did not respond in time.
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
        raise ConnectionError(  # without destroying the group, which would wait for the lost process
            f"rank {rank} of {world} lost another process ({str(error).strip().splitlines()[0][:200]}): the first "
            "error in the log states why; start the run again to resume (torchrun --max-restarts 3 does)"
        ) from None
    except BaseException:
        dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def meet(backend: str, timeout: timedelta) -> tuple[int, int]:
    """Initialise the process group; return the rank of this process and the number of processes.

    torchrun keeps one store for all attempts (`--max-restarts`). Each attempt needs its own prefix there; otherwise it
    finds the addresses of the processes of earlier attempts.
    """
    store, rank, world = next(iter(rendezvous("env://", timeout=timeout)))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    own = dist.PrefixStore(f"attempt{attempt}", store)
    dist.init_process_group(backend, store=own, rank=rank, world_size=world, timeout=timeout)
    return rank, world


@contextmanager
def first_alone(ranks: Ranks) -> Iterator[None]:
    """Run the block in the first process, then in the others, which find its files: for rendering and packing."""
    if not ranks.first:
        dist.barrier()
    yield
    if ranks.first and ranks.world > 1:
        dist.barrier()


def opened_once(open_it: Callable[[], T], ranks: Ranks) -> T:
    """Call `open_it` in the first process and copy its result to the others, so that a folder of millions of files is
    listed once. All processes call this together.

    If the result cannot be pickled, the other processes call `open_it`, too, after the first.

    Raises:
        ValueError: on all processes, if `open_it` raised it in the first.
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
    """The network prepared for this machine. Its parameters keep their names in `network.model`."""
    blocks, head = list(network.model.pretrained.blocks), network.model.depth_head
    fusions = [getattr(head.scratch, name) for name in FUSIONS]
    if machine.compile:  # the parts that are checkpointed, inside of the checkpoints: around them nothing is compiled
        config = torch._dynamo.config
        config.recompile_limit = max(config.recompile_limit, RECOMPILATIONS * len(blocks))  # type: ignore[assignment]
        for part in (*blocks, *(fusions if machine.checkpointing else [head])):
            part.forward = torch.compile(part.forward)
        if machine.checkpointing:
            head.at_full_size = torch.compile(head.at_full_size)
    if machine.checkpointing:
        for part in (*blocks, *fusions):
            part.forward = partial(checkpoint, part.forward, use_reentrant=False)
        head.at_full_size = partial(image_by_image, head.at_full_size)
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


def image_by_image(
    function: Callable[[Tensor, tuple[int, int]], tuple[Tensor, Tensor]], x_BFhw: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """`DPTHead.at_full_size`, recomputed in the backward pass for one image at a time: nothing in a network is larger
    than its features at full size."""
    found = [checkpoint(function, x_1Fhw, size, use_reentrant=False) for x_1Fhw in x_BFhw.split(1)]
    features, maps = zip(*found, strict=True)
    return torch.cat(features), torch.cat(maps)


@contextmanager
def gradients_shared(network: nn.Module, last: bool) -> Iterator[None]:
    """Context of a slice: the processes average their gradients after the last slice of a step only."""
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


def raise_on_all(flags_N: Tensor) -> Tensor:
    """Each flag, true if it is true on any process: all processes get the same values, and so do the same."""
    raised_N = flags_N.int()
    if dist.is_initialized():
        dist.all_reduce(raised_N, dist.ReduceOp.MAX)
    return raised_N


def any_rank(flag: bool, device: str) -> bool:
    """Whether the flag is true on any process. All call this together."""
    return bool(raise_on_all(torch.tensor([flag], device=device)).item())


def agreed(value: T) -> T:
    """The value of the first process, on all processes. All call this together."""
    if not dist.is_initialized():
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def gathered(value: T) -> list[T]:
    """The small values of all processes, by rank. All processes call this together."""
    if not dist.is_initialized():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def whole(tensor: Tensor) -> Tensor:
    """A tensor, sharded or not, unsharded in CPU memory. All processes call this together."""
    full = getattr(tensor, "full_tensor", None)
    return (full() if full is not None else tensor).detach().cpu()
