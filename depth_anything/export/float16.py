"""Convert a bare network's graph to float16 for GPUs, except where float16 would overflow or cause steps in the map.

Operations on pixel values are computed in float16, except for
- layer normalisations, which square values that are in the hundreds in a few of DINOv2's channels (the largest float16
  is 65504), and which some runtimes do not sum in float32;
- operations with a value above `SAFE` on the photographs of the comparison;
- the last convolution and the operations after it: eleven significant bits would cause steps in the map.
Everything else (sizes, the position table) is unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

MOST = 65504.0
"""The largest float16."""
SAFE = MOST / 8
"""Limit for magnitudes in float16, with a margin for images that have larger ones than the photographs."""


def convert(network: onnx.ModelProto, inputs_13HW: Iterable[np.ndarray]) -> list[str]:
    """Rewrite the graph in place; its input and output stay float32.

    Args:
        network: `network_input` float32 (B, 3, h, w) to `network_map` (B, h, w), all nodes named.
        inputs_13HW: network inputs of photographs, to find the values that are too large.

    Returns:
        Names of the nodes that stay in float32 because of a large value.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = network.graph
    of_pixels = depends_on(graph, graph.input[0].name)
    last = max(index for index, node in enumerate(of_pixels) if node.op_type == "Conv")
    weights = {weight.name: weight for weight in graph.initializer}
    largest = largest_magnitudes(network, of_pixels, inputs_13HW)
    largest |= {
        name: float(np.abs(array).max())
        for name, weight in weights.items()
        if (array := numpy_helper.to_array(weight)).dtype == np.float32 and array.size
    }
    too_large = [
        node.name
        for node in of_pixels[:last]
        if node.op_type != "LayerNormalization"
        and any(not largest.get(name, 0.0) <= SAFE for name in (*node.input, *node.output))
    ]
    halved = {
        node.name
        for node in of_pixels[:last]
        if node.op_type != "LayerNormalization" and node.name not in set(too_large)
    }
    kind = element_types(network)
    is_half: set[str] = set()
    """Outputs of float16 nodes."""
    nodes: list[onnx.NodeProto] = []
    cast: dict[str, str] = {}
    """Value -> the same value in the other of the two types."""

    def other(name: str, to: int) -> str:
        """The value converted to the type `to`."""
        if name not in cast:
            cast[name] = f"{name}/{'float16' if to == TensorProto.FLOAT16 else 'float32'}"
            if name in weights:
                half = numpy_helper.to_array(weights[name]).astype(np.float16)
                graph.initializer.append(numpy_helper.from_array(half, cast[name]))
            else:
                nodes.append(helper.make_node("Cast", [name], [cast[name]], name=cast[name], to=to))
        return cast[name]

    for node in graph.node:
        in_half = node.name in halved
        for index, name in enumerate(node.input):
            if in_half and kind.get(name) == TensorProto.FLOAT and name not in is_half:
                if node.op_type != "Resize" or index == 0:  # its scales are float32 by definition
                    node.input[index] = other(name, TensorProto.FLOAT16)
            elif not in_half and name in is_half:
                node.input[index] = other(name, TensorProto.FLOAT)
        if in_half:
            is_half.update(node.output)
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [weight for weight in graph.initializer if weight.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return too_large


def depends_on(graph: onnx.GraphProto, source: str) -> list[onnx.NodeProto]:
    """The nodes that depend on the values of `source`, not only on its shape, in the order of the graph."""
    reached, found = {source}, []
    for node in graph.node:
        if node.op_type != "Shape" and reached & set(node.input):
            reached.update(node.output)
            found.append(node)
    return found


def largest_magnitudes(
    network: onnx.ModelProto, nodes: list[onnx.NodeProto], inputs_13HW: Iterable[np.ndarray]
) -> dict[str, float]:
    """Output of one of `nodes` -> its largest magnitude over the inputs. The maxima are computed inside the graph."""
    import onnx
    import onnxruntime

    watched = onnx.ModelProto()
    watched.CopyFrom(network)
    names = [name for node in nodes for name in node.output]
    for name in names:
        magnitude, most = f"{name}/magnitude", f"{name}/most"
        watched.graph.node.append(onnx.helper.make_node("Abs", [name], [magnitude]))
        watched.graph.node.append(onnx.helper.make_node("ReduceMax", [magnitude], [most], keepdims=0))
        watched.graph.output.append(onnx.helper.make_tensor_value_info(most, onnx.TensorProto.FLOAT, []))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    largest = np.zeros(len(names))
    for input_13HW in inputs_13HW:
        most = session.run([f"{name}/most" for name in names], {"network_input": input_13HW})
        largest = np.maximum(largest, np.array(most, np.float64))
    return dict(zip(names, largest.tolist(), strict=True))


def element_types(network: onnx.ModelProto) -> dict[str, int]:
    """Value -> its ONNX type, for inputs, weights and intermediate values."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(network).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}
    return types | {weight.name: weight.data_type for weight in graph.initializer}
