"""Options that several commands share: which model, where and how it runs. Each has its type and its help here."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from depth_anything.system.device import BackendName, Dtype

if TYPE_CHECKING:
    from depth_anything.predict.predictor import Predictor


def _chosen(words: list[str]) -> str:
    if words != ["auto"]:
        return words[0]
    from depth_anything.system.device import best_device

    device = best_device()
    print(f"device: {device}", file=sys.stderr)
    return device


Device = Annotated[
    str,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="DEVICE",
        instance_from_str=_chosen,
        is_instance=lambda value: isinstance(value, str),
        str_from_instance=lambda value: [value],
    ),
    tyro.conf.arg(help="cpu, cuda, mps, or auto for the best that is there."),
]
"""A device's name; auto is replaced by the best device of this machine, which is printed."""
AnyDevice = Annotated[
    str,
    tyro.conf.arg(
        metavar="DEVICE",
        help="cpu, cuda, mps, or auto for the best that is there; one of several: cuda:1. For nano and .onnx files "
        "also tensorrt, coreml, directml and Intel's gpu and npu; for .xml files cpu, gpu, npu.",
    ),
]
"""The same with the devices of ONNX Runtime and OpenVINO."""
Variant = Annotated[str | None, tyro.conf.arg(help="Which model a checkpoint holds, where the file does not state it.")]
AcceptLicense = Annotated[
    bool, tyro.conf.arg(help="Needed once for weights whose owner does not clearly allow commercial use.")
]
InputSize = Annotated[
    int | None,
    tyro.conf.arg(help="Lower bound of the shorter side at the network; by default the model's own (518, nano 224)."),
]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How a model is loaded and run."""

    variant: Variant = None
    backend: BackendName | None = None
    """By default onnx for nano and .onnx files, openvino for .xml files, torch for the rest."""
    device: AnyDevice = "cpu"
    dtype: Dtype = "fp32"
    """Precision of the network."""
    input_size: InputSize = None
    threads: int | None = None
    """Processor threads of the network."""
    accept_license: AcceptLicense = False

    def predictor(self, model: str | Path, compile: bool = False) -> Predictor:
        """The model, loaded; errors as of `Predictor`."""
        from depth_anything.predict.predictor import Predictor

        return Predictor(model, compile=compile, **asdict(self))


def tell_of_idle_devices(arguments: Sequence[str]) -> None:
    """Print a line when a GPU is not used, unless the command line names a device; and which one auto is."""
    log = logging.getLogger("depth_anything.system.device")
    named = any(argument.split("=")[0] == "--device" for argument in arguments)
    named = named and not {"auto", "--device=auto"} & set(arguments)
    log.setLevel(logging.WARNING if named else logging.INFO)
    log.propagate = False
    log.handlers = [logging.StreamHandler()]
