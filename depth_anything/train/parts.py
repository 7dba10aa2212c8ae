"""A model that is built in parts: no process ever holds more of it than its own rows and one whole tensor.

FSDP2 gives each process some rows of every parameter. Here these rows are all that is kept from the start on, so a
giant of 5.0 GB needs 0.6 GB on each of 8 processes. The numbers are those of a model that is built whole: random draws
are drawn whole, one parameter after the other, and weights from a file are read by rows where the file is mapped into
memory (`checkpoints.safe_read`).
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
"""Functions of `torch.nn.init` that the network's modules call."""


def own_rows(tensor: Tensor, ranks: Ranks) -> Tensor:
    """The rows of a tensor that FSDP2 gives to this process: the first dimension in equal parts, the last ones shorter
    or empty."""
    chunks = tensor.chunk(ranks.world)
    return chunks[ranks.rank] if ranks.rank < len(chunks) else tensor[:0]


class Rows(Tensor):
    """Looks like a whole tensor while a model is initialised, and holds this process's rows."""

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
        raise TypeError(f"{func}: a model that is built in parts may only be filled and copied to while it starts")


class _InRows(TorchFunctionMode):
    """`torch.empty`, `zeros` and `ones` of a shape give `Rows`."""

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
    """Modules that are built in this block, and what is loaded into them, keep this process's rows only (`Rows`)."""

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
    """The rows of a model that was built in parts, by parameter; the model goes to the meta device, for FSDP2."""
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
    """Give the rows to a model on the meta device that FSDP2 has split; `rows` is empty then."""
    state = {}
    for name, parameter in model.named_parameters():
        assert isinstance(parameter, DTensor)
        mesh, places, shape, stride = parameter.device_mesh, parameter.placements, parameter.shape, parameter.stride()
        state[name] = DTensor.from_local(rows.pop(name).to(device), mesh, places, shape=shape, stride=stride)
    model.load_state_dict(state, assign=True)
