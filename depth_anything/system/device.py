"""Which devices this machine has, and what may be done on its processor."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def check_device(device: str) -> None:
    """Refuse a device that is not there, before anything is read, rendered or written for it.

    Args:
        device: "cpu", "cuda", "mps", or one of several by its number: "cuda:1".

    Raises:
        ValueError: no such device here.
    """
    import torch

    kind, _, number = device.partition(":")
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    counts = {"cpu": 1, "cuda": gpus, "mps": int(torch.backends.mps.is_available())}
    wanted = int(number) if number.isdecimal() else 0
    if wanted >= counts.get(kind, 0) or device not in (kind, f"{kind}:{wanted}"):
        here = (name if count == 1 else f"{name}:0 to {name}:{count - 1}" for name, count in counts.items() if count)
        raise ValueError(f"device {device!r}: not on this machine; expected one of {', '.join(here)}")


def is_eager_cpu_inference(x: Tensor) -> bool:
    """Whether forms written for the processor's cache may be used: no gradients, nothing traces, no float64."""
    import torch

    plain = torch.is_grad_enabled() or torch.compiler.is_compiling() or x.dtype == torch.float64
    return x.device.type == "cpu" and not plain
