"""What runs a network, behind one call: uint8 pictures in, maps at their sizes out.

`OnnxBackend` needs only the base install; `TorchBackend` needs the extra `torch`. Both are told by their `variant` what
their number means.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from . import preprocess
from .variants import VARIANTS, Variant, get_variant, with_log_head

if TYPE_CHECKING:
    from .model import DepthAnything

BackendName = Literal["torch", "onnx"]
Dtype = Literal["fp32", "bf16", "fp16"]
NANO_ONNX = Path(str(files("depth_anything"))) / "weights" / "nano.onnx"


class Backend(Protocol):
    """Runs one model."""

    variant: Variant

    def __call__(self, images: list[np.ndarray], input_size: int | tuple[int, int]) -> list[np.ndarray]:
        """Maps float32 (H, W) for uint8 RGB pictures (H, W, 3) whose network sizes agree."""
        ...


class OnnxBackend:
    """ONNX Runtime on a file that `export_onnx` wrote: the whole road is in the graph.

    Raises:
        ValueError: not such a file.
    """

    def __init__(self, path: str | Path, threads: int | None = None):
        import onnxruntime

        path = Path(path)
        if not path.is_file():
            raise ValueError(f"{path}: no such file; write one with `depth-anything export`, or ask for the model nano")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads:
            options.intra_op_num_threads = threads
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises a class of its own for every cause
            raise ValueError(f"{path}: not a model that ONNX Runtime can read ({str(error).splitlines()[0]})") from None
        self.variant = variant_of(self.session.get_modelmeta().custom_metadata_map, path)

    def __call__(self, images: list[np.ndarray], input_size: int | tuple[int, int]) -> list[np.ndarray]:
        bound = np.array([input_size], np.int64)
        feeds = [{"image": np.ascontiguousarray(image), "input_size": bound} for image in images]
        return [np.asarray(self.session.run(None, feed)[0]) for feed in feeds]


class TorchBackend:
    """The network in torch, where and how the caller says.

    Args:
        model: a DepthAnything with weights.
        device: "cpu", "cuda", "cuda:1", "mps": never chosen behind the caller's back.
        dtype: "fp32", "bf16" or "fp16" for weights and network; pictures are resized in fp32.
    """

    def __init__(self, model: DepthAnything, device: str = "cpu", dtype: Dtype = "fp32"):
        import torch

        self.variant = model.variant
        self.device = device
        self.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
        self.model = model.to(device, self.dtype).eval()

    def __call__(self, images: list[np.ndarray], input_size: int | tuple[int, int]) -> list[np.ndarray]:
        import torch

        height, width = images[0].shape[:2]
        size = preprocess.network_size(height, width, input_size)
        with torch.inference_mode():
            rule = self.variant.resize
            batch_B3HW = torch.cat([preprocess.to_tensor(image, size, self.device, rule) for image in images])
            maps_BHW = self.model(batch_B3HW.to(self.dtype)).float()
            corners = self.variant.align_corners_back
            return [
                preprocess.resize_back(map_HW[None], image.shape[:2], corners)[0].cpu().numpy()
                for map_HW, image in zip(maps_BHW, images, strict=True)
            ]


def variant_of(metadata: dict[str, str], path: Path) -> Variant:
    """The row that an exported file's metadata states.

    Raises:
        ValueError: the metadata is not ours.
    """
    if "variant" not in metadata:
        raise ValueError(f"{path}: no metadata of ours in it; export the model again with `depth-anything export`")
    row = get_variant(metadata["variant"])
    max_depth = float(metadata["max_depth"]) if metadata["max_depth"] else None
    if metadata.get("quantity") == "depth_m" and max_depth is None:
        row = with_log_head(row)
    return replace(row, max_depth=max_depth, licence=metadata["licence"], input_size=int(metadata["input_size"]))


def load_backend(
    model: str | Path = "nano",
    backend: BackendName | None = None,
    variant: str | None = None,
    device: str = "cpu",
    dtype: Dtype = "fp32",
    accept_license: bool = False,
    threads: int | None = None,
) -> Backend:
    """The backend for a model: a name of VARIANTS, a hub id, a checkpoint, a transformers folder, or an .onnx file.

    Without `backend`, nano and .onnx files run in ONNX Runtime, everything else in torch; asking nano for a device or
    a dtype other than the processor's fp32 means torch.

    Raises:
        ValueError: what was asked for cannot run; the message says what to install or to bring.
    """
    is_onnx_file = str(model).endswith(".onnx")
    plain = device == "cpu" and dtype == "fp32"
    if backend is None:
        backend = "onnx" if is_onnx_file or (model == "nano" and plain) else "torch"
    if backend == "onnx":
        if not plain:
            raise ValueError(f"backend onnx runs on the processor in fp32, not {device} {dtype}: use --backend torch")
        if model == "nano":
            return OnnxBackend(NANO_ONNX, threads)
        if is_onnx_file:
            return OnnxBackend(model, threads)
        raise ValueError(f"backend onnx needs an .onnx file: write one with `depth-anything export {model}`")
    if is_onnx_file:
        raise ValueError(f"{model} is an ONNX file: use --backend onnx")
    try:
        import torch
    except ModuleNotFoundError:
        known = "" if str(model) in VARIANTS else " (a checkpoint)"
        raise ValueError(
            f'{model}{known} runs in torch, which is not installed: pip install "depth-anything[torch]", or use nano'
        ) from None
    check_device(device)
    if threads:
        torch.set_num_threads(threads)

    from .model import DepthAnything

    network = DepthAnything.from_pretrained(model, variant=variant, accept_license=accept_license)
    return TorchBackend(network, device, dtype)


def check_device(device: str) -> None:
    """Refuse a device that this machine has not, before weights are read.

    Raises:
        ValueError: no such device here.
    """
    import torch

    kind = device.split(":")[0]
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not present.get(kind, False):
        here = ", ".join(name for name, there in present.items() if there)
        raise ValueError(f"device {device!r}: not on this machine; expected one of {here}")
