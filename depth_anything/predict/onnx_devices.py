"""Devices of ONNX Runtime: the execution providers of a device's name, and the actual device of a session.

The wheels onnxruntime (CPU; CoreML on macOS), onnxruntime-gpu (CUDA, TensorRT), onnxruntime-directml and
onnxruntime-openvino have different providers under one import name, so only one of them can be installed.
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
"""The devices of "auto"; the first that starts is used. The others must be named: TensorRT compiles for minutes before
the first map, CoreML leaves many operators of a transformer to the CPU and is slower than it, and the backend openvino
is better for Intel's devices."""
WHEELS = {
    "onnxruntime": ("cpu", "coreml"),
    "onnxruntime-gpu": ("cuda", "tensorrt"),
    "onnxruntime-directml": ("directml",),
    "onnxruntime-openvino": ("gpu", "npu"),
}
"""Distribution -> the devices that it adds."""


def available(device: str) -> bool:
    """Whether the installed ONNX Runtime was built with the provider of a device; "auto": with one of `AUTO`."""
    import onnxruntime

    here = onnxruntime.get_available_providers()
    kinds = AUTO if device == "auto" else (device.partition(":")[0],)
    return any(PROVIDERS.get(kind) in here for kind in kinds)


def providers(device: str) -> list[tuple[str, dict[str, str]]]:
    """The providers for an InferenceSession, best first. The CPU comes last, for operators that the others lack.

    Args:
        device: a key of PROVIDERS, optionally with a number ("cuda:1"); or "auto".

    Raises:
        ValueError: the device is unknown, or the installed ONNX Runtime was built without it.
    """
    device = device.lower()
    if device == "auto":
        return [(PROVIDERS[kind], provider_options(kind, 0)) for kind in AUTO if available(kind)] + [(CPU, {})]
    kind, colon, number = device.partition(":")
    if kind not in PROVIDERS or (colon and not (number.isascii() and number.isdecimal())):
        names = ", ".join(PROVIDERS)
        raise ValueError(f"device {device!r} of ONNX Runtime: expected auto or one of {names} (cuda:1, ...)")
    if not available(kind):
        raise ValueError(f"device {device!r}: the installed ONNX Runtime was built without it; {how_to_install(kind)}")
    index = int(number or 0)
    kinds = ("tensorrt", "cuda") if kind == "tensorrt" else () if kind == "cpu" else (kind,)
    return [(PROVIDERS[one], provider_options(one, index)) for one in kinds] + [(CPU, {})]


def provider_options(kind: str, index: int) -> dict[str, str]:
    """Options of a provider: true float32, and no search for the fastest algorithm at every new size."""
    match kind:
        case "cuda":
            # The defaults are TF32, which has a mantissa of ten bits, and trying all algorithms at every new size.
            return {"device_id": str(index), "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
        case "tensorrt":  # an engine takes minutes to build; with the cache, the next start takes seconds
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
    """A session on a device, and the name of the actual device. A warning states if that is another one.

    Raises:
        ValueError: see `providers`.
        Exception: ONNX Runtime's own, if it cannot read the file.
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
    onnxruntime.set_default_logger_severity(4)  # providers without libraries are reported once, below
    if any(name == PROVIDERS["cuda"] for name, _ in asked) and hasattr(onnxruntime, "preload_dlls"):
        with redirect_stdout(StringIO()):  # loads CUDA and cuDNN from the wheels nvidia-* of onnxruntime-gpu[cuda]
            onnxruntime.preload_dlls()
    reason = ""
    try:
        for first in range(len(asked)):
            try:
                session = onnxruntime.InferenceSession(path, options, providers=asked[first:], enable_fallback=0)
                break
            except Exception as error:  # if even the CPU provider fails, the cause is the file
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
    """What to do if several distributions of ONNX Runtime are installed, which overwrite each other's files; else an
    empty text."""
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
