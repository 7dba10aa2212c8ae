"""Export to ONNX with the whole road inside: a uint8 picture of any size in, its map at that size out.

torch exports the bare network with dynamic sides. The two stretches before and after it (preprocess.py) are written
here in ONNX's own text form, because the size rule needs float64 arithmetic on a picture's shape, which torch.export
cannot carry. tests/test_export.py holds both against the torch functions.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .files import atomic_path
from .preprocess import IMAGENET_MEAN, IMAGENET_STD, MAX_TOKENS, PATCH

if TYPE_CHECKING:
    import onnx

    from .model import DepthAnything
    from .variants import Variant

OPSET = 18
DOUBLE, FLOAT, INT64 = 11, 1, 7

CUBIC_TAPS = """
    {axis}_index = Constant <value_int = {index}> ()
    {axis}_side_0 = Gather (shape, {axis}_index)
    {axis}_side = Cast <to = {DOUBLE}> ({axis}_side_0)
    {axis}_size_0 = Gather (network_size, {axis}_index)
    {axis}_size = Cast <to = {DOUBLE}> ({axis}_size_0)
    {axis}_step = Div ({axis}_side, {axis}_size)
    {axis}_results = Range (nought, {axis}_size, unit)
    {axis}_middle = Add ({axis}_results, half)
    {axis}_scaled = Mul ({axis}_middle, {axis}_step)
    {axis}_centre_f64 = Sub ({axis}_scaled, half)
    {axis}_centre_f32 = Cast <to = {FLOAT}> ({axis}_centre_f64)
    {axis}_centre_n = Cast <to = {DOUBLE}> ({axis}_centre_f32)
    {axis}_centre_n1 = Unsqueeze ({axis}_centre_n, last)
    {axis}_base_n1 = Floor ({axis}_centre_n1)
    {axis}_tap_n4 = Add ({axis}_base_n1, four)
    {axis}_farthest = Sub ({axis}_side, unit)
    {axis}_low = Max ({axis}_tap_n4, nought)
    {axis}_clamped = Min ({axis}_low, {axis}_farthest)
    {axis}_tap_index_n4 = Cast <to = {INT64}> ({axis}_clamped)

    {axis}_distance = Sub ({axis}_centre_n1, {axis}_tap_n4)
    {axis}_x = Abs ({axis}_distance)
    {axis}_x2 = Mul ({axis}_x, {axis}_x)
    {axis}_x3 = Mul ({axis}_x2, {axis}_x)
    {axis}_inner3 = Mul ({axis}_x3, inner3)
    {axis}_inner2 = Mul ({axis}_x2, inner2)
    {axis}_inner32 = Add ({axis}_inner3, {axis}_inner2)
    {axis}_inner = Add ({axis}_inner32, unit)
    {axis}_outer3 = Mul ({axis}_x3, outer3)
    {axis}_outer2 = Mul ({axis}_x2, outer2)
    {axis}_outer1 = Mul ({axis}_x, outer1)
    {axis}_outer32 = Add ({axis}_outer3, {axis}_outer2)
    {axis}_outer321 = Add ({axis}_outer32, {axis}_outer1)
    {axis}_outer = Add ({axis}_outer321, outer0)
    {axis}_is_inner = LessOrEqual ({axis}_x, unit)
    {axis}_weight_f64 = Where ({axis}_is_inner, {axis}_inner, {axis}_outer)
    {axis}_weight_n4 = Cast <to = {FLOAT}> ({axis}_weight_f64)
"""
"""`preprocess.cubic_taps` for one side of the picture."""

TO_NETWORK = """
<ir_version: 9, opset_import: ["": {OPSET}]>
to_network (uint8[H, W, 3] image, int64[1] input_size) => (float[1, 3, h, w] network_input)
<double[1] patch = {{{PATCH}.0}}, double[1] one = {{1.0}}, double[1] max_tokens = {{{MAX_TOKENS}.0}},
 int64[1] zero = {{0}}, int64[1] last = {{-1}}, int64[2] last_two = {{-2, -1}}, int64[1] tap_axis = {{-2}},
 double nought = {{0.0}}, double half = {{0.5}}, double unit = {{1.0}}, double[4] four = {{-1.0, 0.0, 1.0, 2.0}},
 double inner3 = {{1.25}}, double inner2 = {{-2.25}},
 double outer3 = {{-0.75}}, double outer2 = {{3.75}}, double outer1 = {{-6.0}}, double outer0 = {{3.0}},
 float[1] white = {{255.0}}, float[3] mean = {{{MEAN}}}, float[3] std = {{{STD}}}>
{{
    shape = Shape <start = 0, end = 2> (image)
    sides = Cast <to = {DOUBLE}> (shape)
    short = ReduceMin <keepdims = 0> (sides)
    long = ReduceMax <keepdims = 0> (sides)
    token_area = Mul (max_tokens, short)
    token_ratio = Div (token_area, long)
    token_square = Floor (token_ratio)
    token_root = Sqrt (token_square)
    token_side = Floor (token_root)
    token_side_1 = Max (token_side, one)
    token_bound = Mul (token_side_1, patch)
    asked_bound = Cast <to = {DOUBLE}> (input_size)
    bound = Min (asked_bound, token_bound)
    scale = Div (bound, short)
    scaled = Mul (scale, sides)
    patches = Div (scaled, patch)
    patches_round = Round (patches)
    patches_up = Ceil (patches)
    rounded = Mul (patches_round, patch)
    up = Mul (patches_up, patch)
    is_below = Less (rounded, bound)
    unlimited = Where (is_below, up, rounded)
    short_side = ReduceMin <keepdims = 0> (unlimited)
    short_patches = Div (short_side, patch)
    long_ratio = Div (max_tokens, short_patches)
    long_patches = Floor (long_ratio)
    limit = Mul (long_patches, patch)
    network_sides = Min (unlimited, limit)
    network_size = Cast <to = {INT64}> (network_sides)
{ROWS}{COLUMNS}
    rows_n4W3_u8 = Gather <axis = 0> (image, row_tap_index_n4)
    rows_n4W3 = Cast <to = {FLOAT}> (rows_n4W3_u8)
    row_weight_n411 = Unsqueeze (row_weight_n4, last_two)
    rows_weighted = Mul (rows_n4W3, row_weight_n411)
    one_axis = Constant <value_ints = [1]> ()
    rows_hW3 = ReduceSum <keepdims = 0> (rows_weighted, one_axis)
    columns_hn43 = Gather <axis = 1> (rows_hW3, column_tap_index_n4)
    column_weight_n41 = Unsqueeze (column_weight_n4, last)
    columns_weighted = Mul (columns_hn43, column_weight_n41)
    resized_hw3 = ReduceSum <keepdims = 0> (columns_weighted, tap_axis)
    unit_hw3 = Div (resized_hw3, white)
    centred_hw3 = Sub (unit_hw3, mean)
    normalised_hw3 = Div (centred_hw3, std)
    normalised_3hw = Transpose <perm = [2, 0, 1]> (normalised_hw3)
    network_input = Unsqueeze (normalised_3hw, zero)
}}
"""
"""`preprocess.network_size`, `resize` and `normalise`."""

FROM_NETWORK = """
<ir_version: 9, opset_import: ["": {opset}]>
from_network (uint8[H, W, 3] image, float[1, h, w] network_map) => (float[H, W] {quantity})
<int64[1] zero = {{0}}, int64[2] zero_one = {{0, 1}}, int64[2] batch_channels = {{1, 1}}>
{{
    size = Shape <start = 0, end = 2> (image)
    sizes = Concat <axis = 0> (batch_channels, size)
    map_11hw = Unsqueeze (network_map, zero)
    map_11HW = Resize <mode = "linear", coordinate_transformation_mode = "{corners}"> (map_11hw, , , sizes)
    {quantity} = Squeeze (map_11HW, zero_one)
}}
"""
"""`preprocess.resize_back`."""


def export_onnx(model: DepthAnything, path: str | Path, half: bool = False) -> None:
    """Write `model` as one ONNX file.

    Input `image`: uint8 (H, W, 3) RGB of any size. Optional input `input_size`: int64 (1,), the lower bound of the
    shorter side at the network. Output named by its quantity: `disparity` or `depth_m`, float32 (H, W). Metadata: see
    `set_metadata`.

    Args:
        half: store the weights as float16 (they are computed with as float32); halves the file.
    """
    import onnx

    variant = model.variant
    if variant.head == "bins":
        raise ValueError(f"{variant.name} has a size rule of its own, which no export writes: use it in torch")
    graph = with_road(export_network(model), variant)
    if half:
        store_half(graph)
    set_metadata(graph, variant)
    onnx.checker.check_model(graph, full_check=True)
    with atomic_path(path) as temporary:
        onnx.save(graph, temporary)


def export_network(model: DepthAnything) -> onnx.ModelProto:
    """The bare network: `network_input` float32 (B, 3, h, w) to `network_map` (B, h, w), sides free multiples of 14."""
    import onnx
    import torch

    dim = torch.export.Dim
    dynamic = {0: dim("batch"), 2: PATCH * dim("h"), 3: PATCH * dim("w")}
    weight = next(model.parameters())
    example = torch.zeros(2, 3, 10 * PATCH, 13 * PATCH, device=weight.device)
    program = torch.onnx.export(
        model.float().eval(),
        (example,),
        dynamo=True,
        dynamic_shapes={"image_B3HW": dynamic},
        input_names=["network_input"],
        output_names=["network_map"],
        opset_version=OPSET,
        verbose=False,
    )
    assert program is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        program.save(str(path))
        network = onnx.load(path)
    for node in network.graph.node:  # torch notes where in the source each node comes from
        del node.metadata_props[:]
        node.doc_string = ""
    del network.graph.value_info[:]
    return network


def before_network() -> str:
    """The stretch from the picture to the network, as ONNX text."""
    numbers = {"OPSET": OPSET, "DOUBLE": DOUBLE, "FLOAT": FLOAT, "INT64": INT64, "PATCH": PATCH}
    numbers["MAX_TOKENS"] = MAX_TOKENS
    return TO_NETWORK.format(
        ROWS=CUBIC_TAPS.format(axis="row", index=0, **numbers),
        COLUMNS=CUBIC_TAPS.format(axis="column", index=1, **numbers),
        MEAN=", ".join(map(str, IMAGENET_MEAN)),
        STD=", ".join(map(str, IMAGENET_STD)),
        **numbers,
    )


def after_network(variant: Variant) -> str:
    """The stretch from the network's map to the picture's size, as ONNX text."""
    corners = "align_corners" if variant.align_corners_back else "half_pixel"
    return FROM_NETWORK.format(opset=OPSET, quantity=variant.quantity, corners=corners)


def with_road(network: onnx.ModelProto, variant: Variant) -> onnx.ModelProto:
    """Put the road from the picture and back to it around a bare network."""
    import onnx

    before = onnx.parser.parse_model(before_network())
    after = onnx.parser.parse_model(after_network(variant))
    parts = {"before": before, "network": network, "after": after}
    graph = onnx.GraphProto(name=variant.name)
    for name, part in parts.items():
        renamed = onnx.compose.add_prefix(part, f"{name}/", rename_inputs=False, rename_outputs=False)
        graph.node.extend(renamed.graph.node)
        graph.initializer.extend(renamed.graph.initializer)
    default = np.array([variant.input_size], np.int64)
    graph.initializer.append(onnx.numpy_helper.from_array(default, "input_size"))
    graph.input.extend(before.graph.input)
    graph.output.extend(after.graph.output)
    return onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=network.ir_version,
        producer_name="depth-anything",
    )


def store_half(model: onnx.ModelProto, smallest: int = 256) -> None:
    """Store weights of at least `smallest` numbers as float16, with a cast to float32 behind each."""
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


def set_metadata(model: onnx.ModelProto, variant: Variant) -> None:
    """Write what the file is into it: the same fields as in our checkpoints, and the package's version."""
    import onnx

    from . import __version__

    fields = {
        "variant": variant.name,
        "version": variant.version,
        "quantity": variant.quantity,
        "max_depth": "" if variant.max_depth is None else str(variant.max_depth),
        "licence": variant.licence,
        "input_size": str(variant.input_size),
        "depth_anything": __version__,
    }
    onnx.helper.set_model_props(model, fields)
