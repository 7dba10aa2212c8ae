"""Build a model in parts: no process ever holds more of it than its own rows and one whole tensor.

FSDP2 assigns some rows of every parameter to each process. Here, a process keeps only these rows from the beginning,
so the giant, 5.0 GB, needs 0.6 GB on each of 8 processes. The values are those of a model that is built whole: random
values are drawn for whole parameters, one after the other, and weights are read from a file that is mapped into memory
(`checkpoints.safe_read`), by rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.overrides import TorchFunctionMode

from depth_anything.train.distributed import Ranks

INITIALISATIONS = ("uniform_", "normal_", "trunc_normal_", "constant_", "ones_", "zeros_", "kaiming_uniform_")
"""The functions of `torch.nn.init` that the network's modules use."""


def own_rows(tensor: Tensor, ranks: Ranks) -> Tensor:
    """The rows of a tensor that FSDP2 assigns to this process: equal parts of the first dimension, of which the last
    may be shorter or empty."""
    chunks = tensor.chunk(ranks.world)
    return chunks[ranks.rank] if ranks.rank < len(chunks) else tensor[:0]


class Rows(Tensor):
    """A tensor with the shape of the whole parameter that holds only this process's rows, during initialisation."""

    rows: Tensor
    ranks: Ranks

    @staticmethod
    def __new__(cls, rows: Tensor, shape: torch.Size, ranks: Ranks) -> Rows:
        self = torch.Tensor._make_wrapper_subclass(cls, shape, dtype=rows.dtype, device=rows.device)  # type: ignore[attr-defined]
        self.rows, self.ranks = rows, ranks
        return self

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is torch.ops.aten.detach.default:
            return Rows(args[0].rows, args[0].shape, args[0].ranks)
        if func is torch.ops.aten.copy_.default and type(args[0]) is Rows:
            args[0].rows.copy_(own_rows(args[1], args[0].ranks))
            return args[0]
        raise TypeError(f"{func}: a model that is built in parts can only be filled and copied to")


class _InRows(TorchFunctionMode):
    """Makes `torch.empty`, `zeros` and `ones` return `Rows`."""

    def __init__(self, ranks: Ranks):
        super().__init__()
        self.ranks = ranks

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func not in (torch.empty, torch.zeros, torch.ones):
            return func(*args, **kwargs)
        whole = torch.empty(*args, device="meta")
        return Rows(func(own_rows(whole, self.ranks).shape, **kwargs), whole.shape, self.ranks)


@contextmanager
def built_in_parts(ranks: Ranks) -> Iterator[None]:
    """Context in which new modules, and the weights that are loaded into them, have this process's rows only."""

    def by_rows(initialise: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def initialised(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if not isinstance(tensor.data, Rows):
                return initialise(tensor, *args, **kwargs)
            with torch.no_grad():
                return tensor.copy_(initialise(tensor.data.rows.new_empty(tensor.shape), *args, **kwargs))

        return initialised

    plain = {name: getattr(nn.init, name) for name in INITIALISATIONS}
    try:
        for name, initialise in plain.items():
            setattr(nn.init, name, by_rows(initialise))
        with _InRows(ranks):
            yield
    finally:
        for name, initialise in plain.items():
            setattr(nn.init, name, initialise)


def take_rows(model: nn.Module) -> dict[str, Tensor]:
    """Remove the rows from a model that was built in parts, and return them by parameter. The model is then on the meta
    device, for FSDP2."""
    taken = {}
    for prefix, module in model.named_modules():
        assert not list(module.buffers(recurse=False)), f"{prefix} has buffers, which FSDP2 leaves whole"
        for name, parameter in list(module.named_parameters(recurse=False)):
            assert isinstance(parameter.data, Rows)
            taken[f"{prefix}.{name}" if prefix else name] = parameter.data.rows
            empty = torch.empty(parameter.shape, dtype=parameter.dtype, device="meta")
            module.register_parameter(name, nn.Parameter(empty, requires_grad=parameter.requires_grad))
    return taken


def put_rows(model: nn.Module, rows: dict[str, Tensor], device: str) -> None:
    """Put the rows into a model on the meta device that FSDP2 has sharded. Empties `rows`."""
    state = {}
    for name, parameter in model.named_parameters():
        assert isinstance(parameter, DTensor)
        mesh, places, shape, stride = parameter.device_mesh, parameter.placements, parameter.shape, parameter.stride()
        state[name] = DTensor.from_local(rows.pop(name).to(device), mesh, places, shape=shape, stride=stride)
    model.load_state_dict(state, assign=True)
