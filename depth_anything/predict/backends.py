"""Backends: run a network in ONNX Runtime, OpenVINO or torch; uint8 images in, maps at their sizes out.

`OnnxBackend` needs only the base install; `OpenVinoBackend` and `TorchBackend` need the extras `openvino` and `torch`.
`variant` states the quantity of the map.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from depth_anything.checkpoints import file_metadata
from depth_anything.checkpoints.hub import is_repository, no_such_model
from depth_anything.network.resize import network_size_of, resize_back, to_tensor
from depth_anything.predict import onnx_devices
from depth_anything.system.device import LOG, BackendName, Dtype, best_device, check_device
from depth_anything.system.extras import needs
from depth_anything.system.files import missing, told_by
from depth_anything.variants import VARIANTS, Variant

if TYPE_CHECKING:
    import onnxruntime

    from depth_anything.network.model import DepthAnything

NANO_ONNX = Path(str(files("depth_anything"))) / "checkpoints" / "weights" / "nano.onnx"


class Backend(Protocol):
    """Runs one model."""

    variant: Variant
    device: str
    """The device that it runs on."""

    def __call__(self, images: list[np.ndarray], input_size: int | tuple[int, int]) -> list[np.ndarray]:
        """Maps float32 (H, W) of uint8 RGB images (H, W, 3), all of one network size."""
        ...


LARGE = 12_000_000
"""Pixels from which on memory counts more than the few milliseconds that allocating it again takes."""


class OnnxBackend:
    """ONNX Runtime on a file that `depth-anything export` wrote: resizing and normalisation are in the graph.

    Args:
        device: a name of `onnx_devices.PROVIDERS`, or "auto"; `self.device` is the actual one.

    Raises:
        ValueError: it is not such a file, or the installed ONNX Runtime was built without the device.
    """

    def __init__(self, path: str | Path, threads: int | None = None, device: str = "cpu"):
        path = existing(path)
        onnx_devices.providers(device)  # raises errors about the device before the file is read
        try:
            self.session, self.device = onnx_devices.open_session(path, device, onnx_options(threads))
        except Exception as error:  # ONNX Runtime has many unrelated exception classes
            raise ValueError(f"{path}: not a model that ONNX Runtime can read ({cause(error)})") from None
        self.variant = variant_of(self.session.get_modelmeta().custom_metadata_map, path)

    def __call__(self, images: list[np.ndarray], input_size: int | tuple[int, int]) -> list[np.ndarray]:
        return [self.one(image, input_size) for image in images]

    def one(self, image: np.ndarray, input_size: int | tuple[int, int]) -> np.ndarray:
        """One image's map. After a large image ONNX Runtime returns its memory instead of keeping it for the next."""
        inputs = feeds(image, input_size, self.variant)
        if self.device != "cpu" or image.shape[0] * image.shape[1] < LARGE:
            return np.asarray(self.session.run(None, inputs)[0])
        import onnxruntime

        options = onnxruntime.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        return np.array(self.session.run(None, inputs, options)[0])  # a copy: the result itself would hold the memory


def onnx_options(threads: int | None) -> onnxruntime.SessionOptions:
    """Session options without memory planning: with free sizes it finds little to share, and takes longer than the rest
    of the loading. Memory is then allocated and freed while the graph runs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised; they need not be logged, too
    options.enable_mem_reuse = False
    if threads:
        options.intra_op_num_threads = threads
    return options


class OpenVinoBackend:
    """OpenVINO on an exported file, .xml or .onnx.

    Args:
        dtype: precision of the network: "fp32" on cpu and gpu, "bf16" on CPUs that support it (OpenVINO's default
            there), "fp16" on gpu and npu.
        device: "cpu", Intel's "gpu" ("gpu:1" for the second) or "npu", or "auto", OpenVINO's choice.

    Raises:
        ValueError: it is not such a file, OpenVINO is not installed or finds no such device, or the device does not
            support the dtype.
    """

    def __init__(self, path: str | Path, threads: int | None = None, dtype: Dtype = "fp32", device: str = "cpu"):
        from depth_anything.predict import openvino_graph

        with needs("openvino", "backend openvino"):
            import openvino  # noqa: F401
        core = openvino_graph.core()
        name = openvino_graph.device_name(device, dtype)
        path = existing(path)
        precision = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}[dtype]
        settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        if threads and name in ("CPU", "AUTO"):
            settings["INFERENCE_NUM_THREADS"] = str(threads)
        try:
            model = openvino_graph.read(path)
        except RuntimeError as error:
            raise ValueError(f"{path}: not a model that OpenVINO can read ({cause(error)})") from None
        self.variant = variant_of(openvino_graph.metadata_of(model), path)
        # NPUs do not support free sizes: there, the model is compiled for each size.
        self.model = None if name.startswith("NPU") else core.compile_model(model, name, settings)
        self.device = device
        if self.model is not None and name == "AUTO":
            self.device = ", ".join(self.model.get_property("EXECUTION_DEVICES")).strip("()").lower()

        @lru_cache(maxsize=4)
        def at_size(image: tuple[int, int], network: tuple[int, int]):
            return core.compile_model(openvino_graph.at_size(model, image, network), name, settings)

        self._at_size = at_size
        self._last: tuple[tuple[int, int], tuple[int, int]] | None = None

    def __call__(self, images: list[np.ndarray], input_size: int | tuple[int, int]) -> list[np.ndarray]:
        return [self.one(image, input_size) for image in images]

    def one(self, image: np.ndarray, input_size: int | tuple[int, int]) -> np.ndarray:
        """The map of one image. From the second consecutive image of a size, the model is compiled for that size."""
        height, width = image.shape[:2]
        sizes = (height, width), network_size_of(self.variant, height, width, input_size)
        if self.model is not None and sizes != self._last:
            self._last = sizes
            return self.model(feeds(image, input_size, self.variant))[0]
        return self._at_size(*sizes)({"image": np.ascontiguousarray(image)})[0]


def exported_backend(path: Path) -> Backend:
    """The backend for an exported file with pre- and post-processing inside."""
    return OnnxBackend(path) if path.suffix == ".onnx" else OpenVinoBackend(path)


def existing(path: str | Path) -> Path:
    """Return `path`; raise ValueError if there is no such file, or if its first bytes are not those of a model."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(missing(path, "write one with `depth-anything export`, or ask for the model nano"))
    with path.open("rb") as file:
        head = file.read(512)
    what = "empty" if not head else None if path.suffix == ".xml" and head.startswith(b"<") else told_by(head)
    if what:
        raise ValueError(f"{path} is {what}; expected a file that `depth-anything export` wrote")
    return path


def cause(error: Exception) -> str:
    """A runtime's error message in one line, without the positions in its source code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    places = r"^.*\[ONNXRuntimeError\] : \d+ : \w+ : (.* Error: )?(\w+\.cc:\d+ \w+ )?"
    return re.sub(places, "", lines[-1])[:240]


def feeds(image_HW3: np.ndarray, input_size: int | tuple[int, int], variant: Variant) -> dict[str, np.ndarray]:
    """The inputs of an exported file: the image, and its size at the network by the official rule."""
    height, width = image_HW3.shape[:2]
    size = network_size_of(variant, height, width, input_size)
    return {"image": np.ascontiguousarray(image_HW3), "network_size": np.array(size, np.int64)}


class TorchBackend:
    """The network in torch.

    Args:
        model: a DepthAnything with weights; it is rearranged in place for inference and cannot be trained or saved
            afterwards (optimise.py).
        device: "cpu", "cuda", "cuda:1", "mps".
        dtype: "fp32", "bf16" or "fp16" for weights and network; images are resized in fp32.
        compile: use torch.compile, once for each network size; on a GPU with CUDA graphs.
    """

    def __init__(self, model: DepthAnything, device: str = "cpu", dtype: Dtype = "fp32", compile: bool = False):
        import torch

        from depth_anything.predict.optimise import optimise

        self.variant = model.variant
        self.device = device
        self.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
        self.model = optimise(model, device, self.dtype, compile)

    def __call__(self, images: list[np.ndarray], input_size: int | tuple[int, int]) -> list[np.ndarray]:
        import torch

        height, width = images[0].shape[:2]
        size = network_size_of(self.variant, height, width, input_size)
        with torch.inference_mode():
            rule = self.variant.resize
            batch_B3HW = torch.cat([to_tensor(image, size, self.device, rule) for image in images])
            maps_BHW = self.model(batch_B3HW.to(self.dtype)).float()
            corners = self.variant.align_corners_back
            return [
                resize_back(map_HW[None], image.shape[:2], corners)[0].cpu().numpy()
                for map_HW, image in zip(maps_BHW, images, strict=True)
            ]


def variant_of(metadata: dict[str, str], path: Path) -> Variant:
    """The row that an exported file's metadata states.

    Raises:
        ValueError: the metadata is not ours.
    """
    if "variant" not in metadata:
        raise ValueError(f"{path}: no metadata of ours in it; export the model again with `depth-anything export`")
    if metadata.get("form") not in ("image", "road"):  # road: files of version 0.1
        raise ValueError(f"{path}: holds the bare network, or an older form; export the model again, without --bare")
    return file_metadata.variant_of_metadata(path, metadata)


def load_backend(
    model: str | Path = "nano",
    backend: BackendName | None = None,
    variant: str | None = None,
    device: str = "cpu",
    dtype: Dtype = "fp32",
    accept_license: bool = False,
    threads: int | None = None,
    compile: bool = False,
) -> Backend:
    """The backend for a model: a name of VARIANTS, a hub id, a checkpoint, a transformers folder, or an exported file.

    Without `backend`, nano and .onnx files run in ONNX Runtime, .xml files in OpenVINO, everything else in torch. nano
    runs in torch if `compile` is set, if the dtype is not fp32, or on cuda and mps if the installed ONNX Runtime was
    built without them.

    Args:
        device: torch: "cpu", "cuda", "cuda:1", "mps". ONNX Runtime: a name of `onnx_devices.PROVIDERS`. OpenVINO:
            "cpu", "gpu", "npu". Or "auto": torch's cuda or else mps; `onnx_devices.AUTO`; OpenVINO's own choice.

    Raises:
        ValueError: this model cannot run with these options; the message states what to install or to give.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"{threads} threads: expected 1 or more")
    suffix = Path(model).suffix
    is_exported = suffix in (".onnx", ".xml")
    if backend is None:
        of_suffix: dict[str, BackendName] = {".onnx": "onnx", ".xml": "openvino"}
        in_onnx = model == "nano" and dtype == "fp32" and not compile and nano_runs_in_onnx(device)
        backend = of_suffix.get(suffix, "onnx" if in_onnx else "torch")
    path = NANO_ONNX if model == "nano" else Path(model)
    loaded: Backend
    if backend == "torch":
        if is_exported:
            raise ValueError(f"{model} is an exported file: use --backend {'onnx or ' * (suffix == '.onnx')}openvino")
        torch_device = best_device() if device == "auto" else device
        loaded = load_torch_backend(model, variant, torch_device, dtype, accept_license, threads, compile)
    elif model != "nano" and not is_exported:
        raise ValueError(
            f"backend {backend} needs an exported file: write one with `depth-anything export {model} --to {backend}`"
        )
    elif compile:
        raise ValueError(f"--compile is for torch, not for backend {backend}: leave it out, or use --backend torch")
    elif backend == "openvino":
        loaded = OpenVinoBackend(path, threads, dtype, device)
    elif dtype != "fp32":
        raise ValueError(
            f"backend onnx runs in the precision of its file, not in {dtype}: export with --fp16, or use torch or "
            "openvino"
        )
    elif suffix == ".xml":
        raise ValueError(f"{model} is an OpenVINO file: use --backend openvino")
    else:
        loaded = OnnxBackend(path, threads, device)
    if device == "auto":
        LOG.info("device: %s", loaded.device)
    return loaded


def nano_runs_in_onnx(device: str) -> bool:
    """Whether nano runs in ONNX Runtime on this device, rather than in torch."""
    if device == "auto":
        return onnx_devices.available("auto") or best_device() == "cpu"
    return device.partition(":")[0] not in ("cuda", "mps") or onnx_devices.available(device)


def load_torch_backend(
    model: str | Path,
    variant: str | None,
    device: str,
    dtype: Dtype,
    accept_license: bool,
    threads: int | None,
    compile: bool,
) -> TorchBackend:
    """The part of `load_backend` for torch, with the same arguments and errors."""
    if not (str(model) in VARIANTS or is_repository(str(model)) or Path(model).expanduser().exists()):
        raise ValueError(no_such_model(str(model)))
    with needs("torch", f"{model}", ", or use nano"):
        import torch
    check_device(device)
    if threads:
        torch.set_num_threads(threads)

    from depth_anything.network.model import DepthAnything

    network = DepthAnything.from_pretrained(model, variant=variant, accept_license=accept_license)
    return TorchBackend(network, device, dtype, compile)
