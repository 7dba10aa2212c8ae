"""Devices of ONNX Runtime: the execution providers that a device's name stands for, and what a session really got.

The wheels onnxruntime (processor; CoreML on macOS), onnxruntime-gpu (CUDA, TensorRT), onnxruntime-directml and
onnxruntime-openvino hold different providers under one import name, so that only one of them can be installed.
"""

from __future__ import annotations

from contextlib import redirect_stdout
from importlib.metadata import PackageNotFoundError, distribution
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depth_anything.system.device import LOG
from depth_anything.system.files import cache_dir

if TYPE_CHECKING:
    import onnxruntime

CPU = "CPUExecutionProvider"
PROVIDERS = {
    "cpu": CPU,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "gpu": "OpenVINOExecutionProvider",
    "npu": "OpenVINOExecutionProvider",
}
"""Device -> its provider; gpu and npu are Intel's, through OpenVINO."""
AUTO = ("cuda", "directml")
"""What "auto" takes, the first that starts. The others only when they are named: TensorRT compiles for minutes before
its first map, CoreML leaves many of a transformer's operators to the processor and is slower for it, and OpenVINO's
own backend runs Intel's devices without the detour."""
WHEELS = {
    "onnxruntime": ("cpu", "coreml"),
    "onnxruntime-gpu": ("cuda", "tensorrt"),
    "onnxruntime-directml": ("directml",),
    "onnxruntime-openvino": ("gpu", "npu"),
}
"""Distribution -> the devices that it is installed for."""


def available(device: str) -> bool:
    """Whether the installed ONNX Runtime was built with the provider of a device; "auto": with one of `AUTO`."""
    import onnxruntime

    here = onnxruntime.get_available_providers()
    kinds = AUTO if device == "auto" else (device.partition(":")[0],)
    return any(PROVIDERS.get(kind) in here for kind in kinds)


def providers(device: str) -> list[tuple[str, dict[str, str]]]:
    """The list for an InferenceSession, best first; the processor, last, takes what the others leave.

    Args:
        device: a key of PROVIDERS, with the number of one of several behind a colon ("cuda:1"); or "auto".

    Raises:
        ValueError: no such device, or the installed ONNX Runtime was built without it.
    """
    device = device.lower()
    if device == "auto":
        return [(PROVIDERS[kind], provider_options(kind, 0)) for kind in AUTO if available(kind)] + [(CPU, {})]
    kind, colon, number = device.partition(":")
    if kind not in PROVIDERS or (colon and not (number.isascii() and number.isdecimal())):
        names = ", ".join(PROVIDERS)
        raise ValueError(f"device {device!r}: no device of ONNX Runtime; expected auto or one of {names} (cuda:1, ...)")
    if not available(kind):
        raise ValueError(f"device {device!r}: the installed ONNX Runtime was built without it; {how_to_install(kind)}")
    index = int(number or 0)
    kinds = ("tensorrt", "cuda") if kind == "tensorrt" else () if kind == "cpu" else (kind,)
    return [(PROVIDERS[one], provider_options(one, index)) for one in kinds] + [(CPU, {})]


def provider_options(kind: str, index: int) -> dict[str, str]:
    """How a provider computes: float32 as float32, and without a search for every new size."""
    match kind:
        case "cuda":
            # Its defaults are TF32, with a mantissa of ten bits, and a trial of every algorithm at every new size.
            return {"device_id": str(index), "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
        case "tensorrt":  # an engine takes minutes to build; kept, the next start takes seconds
            cache = str(cache_dir() / "tensorrt")
            return {"device_id": str(index), "trt_engine_cache_enable": "1", "trt_engine_cache_path": cache}
        case "coreml":
            return {"ModelFormat": "MLProgram"}
        case "directml":
            return {"device_id": str(index)}
        case "gpu" | "npu":
            return {"device_type": f"{kind.upper()}.{index}" if index else kind.upper()}
    return {}


def open_session(
    path: Path, device: str, options: onnxruntime.SessionOptions
) -> tuple[onnxruntime.InferenceSession, str]:
    """A session on a device, and the name of the device that it runs on; one line says where that is another.

    Raises:
        ValueError: see `providers`. Exception: ONNX Runtime's own, where it cannot read the file.
    """
    import onnxruntime

    device = device.lower()
    asked: list[Any] = providers(device)
    if len(asked) == 1:
        return onnxruntime.InferenceSession(path, options, providers=[CPU]), "cpu"
    if clash := two_wheels():
        LOG.warning("note: %s", clash)
    if asked[0][0] == PROVIDERS["directml"]:
        options.enable_mem_pattern = False  # DirectML refuses sessions with it
    onnxruntime.set_default_logger_severity(4)  # a provider without its libraries is said once, below
    if any(name == PROVIDERS["cuda"] for name, _ in asked) and hasattr(onnxruntime, "preload_dlls"):
        with redirect_stdout(
            StringIO()
        ):  # CUDA and cuDNN from the wheels nvidia-*, as onnxruntime-gpu[cuda] brings them
            onnxruntime.preload_dlls()
    reason = ""
    try:
        for first in range(len(asked)):
            try:
                session = onnxruntime.InferenceSession(path, options, providers=asked[first:], enable_fallback=0)
                break
            except Exception as error:  # of ONNX Runtime's own classes; without the processor's list it is the file
                if first == len(asked) - 1:
                    raise
                reason = reason or " ".join(str(error).split())[:200]
    finally:
        onnxruntime.set_default_logger_severity(2)
    got = session.get_providers()[0]
    if got != asked[0][0]:
        where = f" ({reason})" if reason else ": its driver or libraries are missing, see docs/export.md"
        LOG.warning("note: %s did not start%s; %s runs instead", asked[0][0], where, got)
        return session, next(kind for kind, provider in PROVIDERS.items() if provider == got)
    return session, next(kind for kind in AUTO if PROVIDERS[kind] == got) if device == "auto" else device


def how_to_install(kind: str) -> str:
    """One line on how to get the ONNX Runtime for a device."""
    if clash := two_wheels():
        return clash
    wheel = next(name for name, kinds in WHEELS.items() if kind in kinds)
    if wheel == "onnxruntime":
        return "only onnxruntime for macOS has it"
    return f"pip uninstall -y onnxruntime, then pip install {wheel} (docs/export.md)"


def two_wheels() -> str:
    """What to do where several distributions of ONNX Runtime are installed, of which one has overwritten the others'
    files; else an empty text."""
    here = [name for name in WHEELS if is_installed(name)]
    if len(here) < 2:
        return ""
    return (
        f"{' and '.join(here)} are installed and overwrite each other's files: "
        f"pip uninstall -y {' '.join(here)}, then install only {here[-1]}"
    )


def is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
