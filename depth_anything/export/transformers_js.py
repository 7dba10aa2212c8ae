"""Write a model as a folder for transformers.js' pipeline "depth-estimation", in node and in browsers.

The library resizes images differently in node and in each browser. So preprocessor_config.json switches its
preprocessing off, and onnx/model.onnx contains it, as in the other exports. With `--bare` the library resizes images,
and supports batches.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from depth_anything.export.options import ExportOptions
from depth_anything.export.preprocessing_graph import OPSET

if TYPE_CHECKING:
    import onnx

    from depth_anything.variants import Variant

PIXELS, MAP = "pixel_values", "predicted_depth"
"""Names of a model's input and output in transformers.js."""
FROM_PIXELS = """
<ir_version: 9, opset_import: ["": {OPSET}]>
from_pixels (float[1, 3, H, W] {PIXELS}) => (uint8[H, W, 3] image)
<int64[1] zero = {{0}}>
{{
    pixels_3HW = Squeeze ({PIXELS}, zero)
    pixels_HW3 = Transpose <perm = [1, 2, 0]> (pixels_3HW)
    image = Cast <to = {UINT8}> (pixels_HW3)
}}
"""
"""From float32 values 0 to 255 to the input of our exports."""
TO_MAP = """
<ir_version: 9, opset_import: ["": {OPSET}]>
to_map (float[H, W] {QUANTITY}) => (float[1, H, W] {MAP})
<int64[1] zero = {{0}}>
{{
    {MAP} = Unsqueeze ({QUANTITY}, zero)
}}
"""
README = """---
library_name: transformers.js
pipeline_tag: depth-estimation
license: {license}
---

{name}, exported by depth-anything {version}. Weights: {licence}. Output: {quantity}.

```js
import {{ pipeline }} from "@huggingface/transformers";

const estimate = await pipeline("depth-estimation", "{folder}", {{ dtype: "{dtype}" }});
const {{ predicted_depth, depth }} = await estimate("photo.jpg");
```
"""


def write_texts(folder: Path, variant: Variant, name: str, options: ExportOptions) -> None:
    """Write config.json, preprocessor_config.json and README.md into a folder that will be renamed to `name`."""
    if options.input_size is not None:
        variant = replace(variant, input_size=options.input_size)
    write_json(folder / "config.json", config(variant))
    write_json(folder / "preprocessor_config.json", preprocessor_config(variant, options.bare))
    (folder / "README.md").write_text(readme(variant, name, options.half), encoding="utf-8")


def check(variant: Variant, folder: Path, options: ExportOptions) -> None:
    """Raise ValueError for options that transformers.js does not support, and for a folder with other files."""
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / "config.json").is_file()):
        raise ValueError(f"{folder} has other contents; expected a new folder, or one that this command wrote")
    if options.int8 or options.fp16 or options.size is not None:
        raise ValueError("--to transformers-js supports --half, --input-size and --bare, not --int8, --fp16 or --size")
    if variant.resize != "cubic":
        raise ValueError(f"{variant.name} resizes as ZoeDepth does, which transformers.js cannot: use --to onnx --bare")
    if variant.canonical_focal is not None:
        raise ValueError(f"{variant.name} in metres of one camera: transformers.js knows no camera; use --to onnx")


def adapt(path: Path, options: ExportOptions, quantity: str) -> None:
    """Give an exported file transformers.js' input and output, in place."""
    import onnx

    model = onnx.load(path)
    if options.bare:
        rename(model.graph, {"network_input": PIXELS, "network_map": MAP})
    else:
        wrap(model.graph, quantity)
    form = next(one for one in model.metadata_props if one.key == "form")
    form.value = "transformers-js"
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Rename inputs and outputs."""
    for value in [*graph.input, *graph.output]:
        value.name = names[value.name]
    for node in graph.node:
        for ends in (node.input, node.output):
            ends[:] = [names.get(name, name) for name in ends]


def wrap(graph: onnx.GraphProto, quantity: str) -> None:
    """Add the conversions before and after a graph from `image` to `quantity`, with the size rule of the graph."""
    import onnx

    words = {"OPSET": OPSET, "UINT8": onnx.TensorProto.UINT8, "PIXELS": PIXELS, "MAP": MAP, "QUANTITY": quantity}
    before, after = (onnx.parser.parse_model(text.format(**words)).graph for text in (FROM_PIXELS, TO_MAP))
    nodes = [*before.node, *graph.node, *after.node]
    zero = before.initializer[0]
    zero.name = f"{PIXELS}/zero"
    for node in (before.node[0], after.node[0]):
        node.input[1] = zero.name
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.input.extend(before.input)
    graph.output.extend(after.output)
    graph.initializer.append(zero)


def config(variant: Variant) -> dict[str, Any]:
    """config.json: the one of transformers if it has this network; else the minimum for transformers.js."""
    from depth_anything.checkpoints.transformers import transformers_config

    if variant.encoder == "dinov2" and variant.head in ("linear", "sigmoid"):
        described = transformers_config(variant)
    else:
        kind = "relative" if variant.quantity == "disparity" else "metric"
        described = {"model_type": "depth_anything", "depth_estimation_type": kind}
    return {**described, "depth_anything": {"variant": variant.name, "quantity": variant.quantity}}


def preprocessor_config(variant: Variant, bare: bool) -> dict[str, Any]:
    """preprocessor_config.json: no preprocessing; or, for the bare network, resizing and normalisation."""
    from depth_anything.checkpoints.transformers import preprocessor_config as published

    if not bare:
        steps = ("do_resize", "do_rescale", "do_normalize", "do_pad")
        return {"image_processor_type": "DPTImageProcessor", **dict.fromkeys(steps, False)}
    return {**published(variant), "ensure_multiple_of": variant.patch}


def readme(variant: Variant, folder: str, half: bool) -> str:
    """README.md with an example and the fields of the hub."""
    from depth_anything import __version__

    return README.format(
        name=variant.name, version=__version__, licence=variant.licence, quantity=variant.quantity, folder=folder,
        dtype="fp16" if half else "fp32", license=variant.licence.lower() if variant.commercial else "other",
    )  # fmt: skip


def write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
