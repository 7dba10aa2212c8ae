"""Where and how a network may run: backends, kinds of numbers, the devices of this machine and what they can do."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

BackendName = Literal["torch", "onnx", "openvino"]
Dtype = Literal["fp32", "bf16", "fp16"]

LOG = logging.getLogger(__name__)


def check_device(device: str) -> None:
    """Refuse a device that is not there, before anything is read, rendered or written for it.

    Args:
        device: "cpu", "cuda", "mps", or one of several by its number: "cuda:1".

    Raises:
        ValueError: no such device here.
    """
    counts = device_counts()
    kind, _, number = device.partition(":")
    wanted = int(number) if number.isdecimal() else 0
    if wanted >= counts.get(kind, 0) or device not in (kind, f"{kind}:{wanted}"):
        here = (name if count == 1 else f"{name}:0 to {name}:{count - 1}" for name, count in counts.items() if count)
        raise ValueError(f"device {device!r}: not on this machine; expected one of {', '.join(here)}")
    if kind == "cpu":
        note_idle(best_device())


@cache
def note_idle(best: str) -> None:
    """Log once that the CPU is used although there is a better device."""
    if best != "cpu":
        LOG.info("note: %s is available but not used; --device auto uses it", best)


def device_counts() -> dict[str, int]:
    """Number of devices of each type; without torch there is only the CPU."""
    try:
        import torch
    except ModuleNotFoundError:
        return {"cpu": 1}
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {"cpu": 1, "cuda": gpus, "mps": int(torch.backends.mps.is_available())}


def best_device() -> str:
    """The device of "auto": cuda, or else mps, or else cpu."""
    counts = device_counts()
    return next((kind for kind in ("cuda", "mps") if counts.get(kind)), "cpu")


def is_eager_cpu_inference(x: Tensor) -> bool:
    """Whether the code paths optimised for CPU caches may be used: no gradients, no tracing, no float64."""
    import torch

    plain = torch.is_grad_enabled() or torch.compiler.is_compiling() or x.dtype == torch.float64
    return x.device.type == "cpu" and has_values(x) and not plain


def has_values(x: Tensor) -> bool:
    """Not a tensor of a trace, which is said to lie on the processor but stands for any device."""
    import torch

    return type(x) is torch.Tensor


@cache
def computes_bfloat16(kind: str) -> bool:
    """Whether devices of a kind ("cpu", "cuda", ...) have instructions for bfloat16.

    A CPU without them is several times slower in bfloat16 than in float32.
    """
    import torch

    return kind != "cpu" or torch.backends.cpu.get_cpu_capability().startswith(("AVX512", "AMX", "SVE"))
