"""What peers.py times: one function per contender, from files in a folder to a call. Imports inside: cold starts count.

Every model has the same random weights, scaled so that activations keep their size. Speed does not depend on them.
"""

import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np

Run = Callable[[np.ndarray], np.ndarray]
"""A normalised float32 image (B, 3, H, W) in, the map (B, H, W) out."""

ENCODERS = {"v2-small": "vits", "v2-base": "vitb", "v2-large": "vitl"}
OFFICIAL_SIZES = {
    "vits": dict(features=64, out_channels=[48, 96, 192, 384]),
    "vitb": dict(features=128, out_channels=[96, 192, 384, 768]),
    "vitl": dict(features=256, out_channels=[256, 512, 1024, 1024]),
}


def torch_dtype(dtype: str):
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]


def in_torch(module, dtype: str) -> Run:
    """A torch module in inference mode."""
    import torch

    def run(image_B3HW: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(image_B3HW).to(torch_dtype(dtype))).float().numpy()

    return run


# -- making the files ------------------------------------------------------------------------------------------------


def make_files(folder: Path, model: str, official: Path | None, shapes: list[tuple[int, int]]) -> None:
    """Weights in every layout, and the exports; what is there already stays (delete the folder after a change)."""
    import torch

    from depth_anything.checkpoints.official import save_transformers
    from depth_anything.export.export_model import onnx_graph, openvino_model, save_onnx, save_openvino
    from depth_anything.export.options import ExportOptions
    from depth_anything.network.model import DepthAnything

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = DepthAnything(model).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1 and "pos_embed" not in name:
                parameter.normal_(0, parameter[0].numel() ** -0.5)
            elif name.endswith("output_conv2.2.bias"):
                parameter.fill_(1.0)
    if not (folder / "ours.xml").exists():
        torch.save(network.state_dict(), folder / "official.pth")
        if model in ENCODERS:
            save_transformers(network, folder / "transformers")
        graph = onnx_graph(network, ExportOptions(bare=True))
        save_onnx(graph, folder / "ours.onnx")
        save_openvino(openvino_model(graph), folder / "ours.xml", half=False)
    for shape in shapes:
        plain = folder / f"plain_{shape[0]}x{shape[1]}.onnx"
        if official is not None and model in ENCODERS and not plain.exists():
            export_plain(official_network(official, folder, model), plain, shape)


def official_network(official: Path, folder: Path, model: str):
    """The official V2 code, which imports one name of torchvision that inference does not use."""
    import torch

    for name in ("torchvision", "torchvision.transforms"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["torchvision.transforms"].Compose = list  # type: ignore[attr-defined]
    sys.path.insert(0, str(official))
    from depth_anything_v2.dpt import DepthAnythingV2  # type: ignore[import-not-found]

    for name in ("torchvision", "torchvision.transforms"):  # other libraries must not take the stub for the real one
        sys.modules.pop(name)
    encoder = ENCODERS[model]
    network = DepthAnythingV2(encoder=encoder, **OFFICIAL_SIZES[encoder])
    network.load_state_dict(torch.load(folder / "official.pth", weights_only=True))
    return network.eval()


def export_plain(network, path: Path, shape: tuple[int, int]) -> None:
    """What a user writes today: the official graph at one size, for ONNX Runtime and OpenVINO. The position table is
    computed beforehand, because OpenVINO's conversion gets it wrong at every size but 518x518."""
    import openvino
    import torch

    height, width = shape
    example = torch.zeros(1, 3, height, width)
    encoder = network.pretrained
    tokens = 1 + height // 14 * (width // 14)
    with torch.no_grad():
        table = encoder.interpolate_pos_encoding(torch.zeros(1, tokens, encoder.embed_dim), height, width)
    encoder.interpolate_pos_encoding = lambda *_: table
    torch.onnx.export(network, (example,), path, dynamo=True, external_data=False, verbose=False)
    with torch.no_grad():
        converted = openvino.convert_model(network, example_input=example, input=[1, 3, height, width])
    openvino.save_model(converted, path.with_suffix(".xml"), compress_to_fp16=False)


# -- contenders: (folder, model, dtype, shape, threads, official) -> Run ----------------------------------------------


def ours_torch(folder, model, dtype, shape, threads, official, compiled=False) -> Run:
    from depth_anything.network.model import DepthAnything
    from depth_anything.predict.optimise import optimise

    network = DepthAnything.from_pretrained(folder / "official.pth", variant=model)
    return in_torch(optimise(network, dtype=torch_dtype(dtype), compile=compiled), dtype)


def ours_torch_compiled(*arguments) -> Run:
    return ours_torch(*arguments, compiled=True)


def official_eager(folder, model, dtype, shape, threads, official) -> Run:
    return in_torch(official_network(official, folder, model).to(torch_dtype(dtype)), dtype)


def transformers_network(folder: Path, attention: str):
    """Of the files in `folder`/transformers."""
    from transformers import AutoModelForDepthEstimation

    network = AutoModelForDepthEstimation.from_pretrained(folder / "transformers")
    network.backbone.set_attn_implementation(attention)  # the whole model says that it has no sdpa; its backbone has
    return network.eval()


def transformers(folder, dtype, attention, compiled=False) -> Run:
    import torch

    network = transformers_network(folder, attention).to(torch_dtype(dtype))
    call = torch.compile(network) if compiled else network
    return in_torch(lambda image_B3HW: call(pixel_values=image_B3HW).predicted_depth, dtype)


def transformers_eager(folder, model, dtype, shape, threads, official) -> Run:
    return transformers(folder, dtype, "eager")


def transformers_sdpa(folder, model, dtype, shape, threads, official) -> Run:
    return transformers(folder, dtype, "sdpa")


def transformers_compiled(folder, model, dtype, shape, threads, official) -> Run:
    return transformers(folder, dtype, "sdpa", compiled=True)


def onnx_runtime(path: Path, options) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image_B3HW: np.asarray(session.run(None, {name: image_B3HW})[0])


def openvino_cpu(path: Path, dtype: str, threads: int, shape: tuple[int, int]) -> Run:
    """At one size, as `predict` does it from the second image of a size on."""
    from depth_anything.predict.openvino_graph import core

    settings = {"INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16", "int8": "f32"}[dtype]}
    settings |= {"INFERENCE_NUM_THREADS": str(threads), "PERFORMANCE_HINT": "LATENCY"}
    model = core().read_model(path)
    model.reshape([1, 3, *shape])
    compiled = core().compile_model(model, "CPU", settings)
    return lambda image_B3HW: compiled([image_B3HW])[0]


def ours_onnx(folder, model, dtype, shape, threads, official) -> Run:
    from depth_anything.predict.backends import onnx_options  # as `predict` has it

    return onnx_runtime(folder / "ours.onnx", onnx_options(threads))


def ours_openvino(folder, model, dtype, shape, threads, official) -> Run:
    return openvino_cpu(folder / ("ours_int8.xml" if dtype == "int8" else "ours.xml"), dtype, threads, shape)


def plain_onnx(folder, model, dtype, shape, threads, official) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()  # as it comes
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    return onnx_runtime(folder / f"plain_{shape[0]}x{shape[1]}.onnx", options)


def plain_openvino(folder, model, dtype, shape, threads, official) -> Run:
    return openvino_cpu(folder / f"plain_{shape[0]}x{shape[1]}.xml", dtype, threads, shape)


CONTENDERS: dict[str, tuple[Callable[..., Run], tuple[str, ...]]] = {
    "official, eager": (official_eager, ("fp32", "bf16")),
    "transformers, eager": (transformers_eager, ("fp32",)),
    "transformers, sdpa": (transformers_sdpa, ("fp32", "bf16")),
    "transformers, compiled": (transformers_compiled, ("fp32",)),
    "ONNX Runtime, plain export": (plain_onnx, ("fp32",)),
    "OpenVINO, plain export": (plain_openvino, ("fp32", "bf16")),
    "ours, torch": (ours_torch, ("fp32", "bf16")),
    "ours, torch compiled": (ours_torch_compiled, ("fp32", "bf16")),
    "ours, ONNX Runtime": (ours_onnx, ("fp32",)),
    "ours, OpenVINO": (ours_openvino, ("fp32", "bf16", "int8")),
}
"""Name -> how to make it, and the number formats that it is timed in."""
