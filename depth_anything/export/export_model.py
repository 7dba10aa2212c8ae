"""Export a model to a file that runs without torch: from a uint8 image of any size to its map, including resizing.

torch exports the bare network with free sizes; preprocessing_graph.py writes the pre- and post-processing. OpenVINO
files are converted from the same ONNX graph. Every file is compared with torch on photographs before it gets its final
name (parity.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from depth_anything.checkpoints import file_metadata
from depth_anything.export import float16, parity, transformers_js
from depth_anything.export.options import DEFAULTS, SUFFIX, ExportOptions
from depth_anything.export.preprocessing_graph import FLOAT, OPSET, after_network, before_network
from depth_anything.images.read import read_image
from depth_anything.network.resize import network_size_of, to_tensor
from depth_anything.predict import openvino_graph
from depth_anything.system.files import atomic_folder, make_folder, naming
from depth_anything.system.lock import alone

if TYPE_CHECKING:
    import onnx
    import openvino

    from depth_anything.network.model import DepthAnything
    from depth_anything.variants import Variant


def export(model: DepthAnything, path: str | Path, options: ExportOptions = DEFAULTS, photos: tuple[Path, ...] = ()):
    """Write `model` to `path` (.onnx, or .xml with a .bin) and a report that compares it with torch.

    The file contains pre- and post-processing. Inputs: `image` uint8 (H, W, 3) RGB of any size, and `network_size`
    int64 (2,), height and width at the network or zeros for the official rule (optional in ONNX). Output: `disparity`
    or `depth_m`, float32 (H, W).

    Args:
        photos: photographs for the comparison; empty: the three of the package.

    Raises:
        ValueError: the options cannot be combined, or the file differs from torch: then the message names the first
            stage that differs, the report is written, and the export is not.
    """
    path = Path(path)
    options.check(model.variant)
    if path.suffix != SUFFIX[options.to]:
        raise ValueError(f"{path}: expected a name that ends in {SUFFIX[options.to]}")
    make_folder(path.parent)
    lock = alone(path.parent, f".{path.name}.lock")  # two jobs could mix their .xml and .bin
    with (
        lock,
        naming(path),
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".export") as folder,
        naming(path),
    ):
        candidate = Path(folder) / path.name
        graph = onnx_graph(model, options, photos)
        if options.to == "onnx":
            save_onnx(graph, candidate)
        else:
            save_openvino(openvino_model(graph), candidate, options.half)
        if options.int8:
            from depth_anything.export.int8 import quantise

            quantise(candidate, options.calibrate, model.variant)
        report = parity.compare(model, candidate, options, photos)
        report.save(path)
        report.check()
        for part in sorted(Path(folder).iterdir()):  # .bin before .xml: where there is an .xml, there is a .bin
            part.replace(path.parent / part.name)
    return report


def export_folder(model: DepthAnything, folder: Path, options: ExportOptions, photos: tuple[Path, ...] = ()):
    """Write a folder for transformers.js, with the report: config.json, preprocessor_config.json and onnx/model.onnx.

    With `half` the file is onnx/model_fp16.onnx, the name that the library expects.

    Args:
        photos: as for `export`.

    Raises:
        ValueError: transformers.js does not support the options or the model; the folder has other files; or as for
            `export`.
    """
    transformers_js.check(model.variant, folder, options)
    with atomic_folder(folder) as part:
        path = part / "onnx" / f"{'model_fp16' if options.half else 'model'}.onnx"
        report = export(model, path, replace(options, to="onnx"), photos)
        transformers_js.adapt(path, options, model.variant.quantity)
        transformers_js.write_texts(part, model.variant, folder.name, options)
    return report


def onnx_graph(
    model: DepthAnything, options: ExportOptions = DEFAULTS, photos: tuple[Path, ...] = ()
) -> onnx.ModelProto:
    """The graph for `options`, checked, with metadata.

    Args:
        photos: for fp16, to find values that are too large for it; empty: the photographs of the package.
    """
    import onnx

    variant = model.variant
    if options.input_size is not None:
        variant = replace(variant, input_size=variant.asked_size(options.input_size))
    graph = export_network(model, options.size)
    kept = float16.convert(graph, network_inputs(variant, options.size, photos)) if options.fp16 else []
    if not options.bare:
        graph = with_image_input(graph, variant)
    if options.half and options.to == "onnx":
        store_half(graph)
    set_metadata(graph, variant, options.bare)
    if kept:
        graph.metadata_props.add(key="kept_float32", value=", ".join(kept))
    onnx.checker.check_model(graph, full_check=True)
    return graph


def network_inputs(variant: Variant, size: tuple[int, int] | None, photos: tuple[Path, ...]) -> Iterator[np.ndarray]:
    """Network inputs float32 (1, 3, h, w) of photographs, at the variant's input size or a fixed one."""
    for path in photos or parity.photographs():
        image_HW3 = read_image(path)
        height, width = image_HW3.shape[:2]
        size_hw = size or network_size_of(variant, height, width, variant.asked_size(None))
        yield to_tensor(image_HW3, size_hw, rule=variant.resize).numpy()


def save_onnx(graph: onnx.ModelProto, path: Path) -> None:
    import onnx

    onnx.save(graph, path)


def export_network(model: DepthAnything, size: tuple[int, int] | None = None) -> onnx.ModelProto:
    """The bare network: `network_input` float32 (B, 3, h, w) to `network_map` (B, h, w).

    Args:
        size: fixed (h, w), for a batch of one image; None: batch and sides are free, the sides multiples of a patch.
    """
    import onnx
    import torch

    from depth_anything.network.efficientnet import folded

    watched = parity.Watched(folded(model.float().eval()))
    weight, patch = next(model.parameters()), model.variant.patch
    example = torch.zeros(*((1, 3, *size) if size else (2, 3, 10 * patch, 13 * patch)), device=weight.device)
    dim = torch.export.Dim
    free = {0: dim("batch"), 2: patch * dim("h"), 3: patch * dim("w")}
    program = torch.onnx.export(
        watched.module,
        (example,),
        dynamo=True,
        dynamic_shapes=None if size else {"image_B3HW": free},
        input_names=["network_input"],
        output_names=["network_map", *(parity.TAP + name for name in watched.names)],
        opset_version=OPSET,
        verbose=False,
    )
    assert program is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        program.save(str(path))
        network = onnx.load(path)
    for node in network.graph.node:  # remove torch's notes about the source line of each node
        del node.metadata_props[:]
        node.doc_string = ""
        if node.op_type in ("Conv", "ConvTranspose"):
            node.name = node.input[1]  # the name of its weight, which int8.py uses
    del network.graph.value_info[:]
    del network.graph.output[1:]
    return network


def with_image_input(network: onnx.ModelProto, variant: Variant) -> onnx.ModelProto:
    """Add preprocessing, and resizing to the image's size, to a bare network."""
    import onnx

    before = onnx.parser.parse_model(before_network(variant.input_size, variant.patch, variant.input_area))
    after = onnx.parser.parse_model(after_network(variant))
    parts = {"before": before, "network": network, "after": after}
    graph = onnx.GraphProto(name=variant.name)
    for name, part in parts.items():
        renamed = onnx.compose.add_prefix(part, f"{name}/", rename_inputs=False, rename_outputs=False)
        for node in renamed.graph.node:
            node.name = node.name or f"{name}/{node.output[0]}"
        graph.node.extend(renamed.graph.node)
        graph.initializer.extend(renamed.graph.initializer)
    graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(2, np.int64), "network_size"))
    graph.input.extend(before.graph.input)
    graph.output.extend(after.graph.output)
    return onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=network.ir_version,
        producer_name="depth-anything",
    )


def store_half(model: onnx.ModelProto, smallest: int = 256) -> None:
    """Store weights of at least `smallest` numbers as float16, each followed by a cast to float32."""
    import onnx

    casts = []
    for weight in model.graph.initializer:
        array = onnx.numpy_helper.to_array(weight)
        if array.dtype == np.float32 and array.size >= smallest:
            name = weight.name
            weight.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float16), f"{name}/half"))
            casts.append(onnx.helper.make_node("Cast", [weight.name], [name], to=FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def metadata(variant: Variant, bare: bool) -> dict[str, str]:
    """Metadata of an exported file."""
    from depth_anything import __version__

    return file_metadata.metadata_of(
        variant,
        input_size=str(variant.input_size),
        form="network" if bare else "image",
        depth_anything=__version__,
    )


def set_metadata(graph: onnx.ModelProto, variant: Variant, bare: bool = False) -> None:
    """Write `metadata` into an ONNX graph."""
    import onnx

    onnx.helper.set_model_props(graph, metadata(variant, bare))


def openvino_model(graph: onnx.ModelProto) -> openvino.Model:
    """The same graph in OpenVINO's form."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        save_onnx(graph, path)
        return openvino_graph.read(path)


def save_openvino(model: openvino.Model, path: Path, half: bool) -> None:
    """Write .xml and .bin."""
    import openvino

    openvino.save_model(model, path, compress_to_fp16=half)
