"""Pre- and post-processing of an exported graph, in ONNX's text format.

From a uint8 image of any size to the network's input, and from the network's map to the size of the image: the same as
network/resize.py, in integers and float32. Integers, because OpenVINO computes float64 as float32: sampling positions
in a large image would be imprecise, and rounding errors would decide ties in the size rule. Here ties go to the even
number of patches. The official float64 rule decides some of them by its rounding errors (two in 100,000 sizes), with a
difference of one patch, so the backends of this package pass the network's size as an input.
"""

from depth_anything.network.resize import IMAGENET_MEAN, IMAGENET_STD, bounding_tokens, most_tokens
from depth_anything.variants import Variant

OPSET = 18
FLOAT, INT64 = 1, 7

CUBIC_TAPS = """
    {axis}_index = Constant <value_int = {index}> ()
    {axis}_side = Gather (shape, {axis}_index)
    {axis}_size = Gather (size, {axis}_index)
    {axis}_results = Range (nought, {axis}_size, unit)
    {axis}_doubled = Mul ({axis}_results, two)
    {axis}_odd = Add ({axis}_doubled, unit)
    {axis}_scaled = Mul ({axis}_odd, {axis}_side)
    {axis}_shifted = Add ({axis}_scaled, {axis}_size)
    {axis}_double_size = Mul ({axis}_size, two)
    {axis}_base_up_n = Div ({axis}_shifted, {axis}_double_size)
    {axis}_whole_n = Mul ({axis}_base_up_n, {axis}_double_size)
    {axis}_rest_n = Sub ({axis}_shifted, {axis}_whole_n)
    {axis}_base_n = Sub ({axis}_base_up_n, unit)
    {axis}_rest_f32 = Cast <to = {FLOAT}> ({axis}_rest_n)
    {axis}_double_size_f32 = Cast <to = {FLOAT}> ({axis}_double_size)
    {axis}_fraction_n = Div ({axis}_rest_f32, {axis}_double_size_f32)
    {axis}_fraction_n1 = Unsqueeze ({axis}_fraction_n, last)
    {axis}_base_n1 = Unsqueeze ({axis}_base_n, last)
    {axis}_tap_n4 = Add ({axis}_base_n1, four)
    {axis}_farthest = Sub ({axis}_side, unit)
    {axis}_low = Max ({axis}_tap_n4, nought)
    {axis}_tap_index_n4 = Min ({axis}_low, {axis}_farthest)

    {axis}_four_f32 = Cast <to = {FLOAT}> (four)
    {axis}_distance = Sub ({axis}_fraction_n1, {axis}_four_f32)
    {axis}_x = Abs ({axis}_distance)
    {axis}_x2 = Mul ({axis}_x, {axis}_x)
    {axis}_x3 = Mul ({axis}_x2, {axis}_x)
    {axis}_inner3 = Mul ({axis}_x3, inner3)
    {axis}_inner2 = Mul ({axis}_x2, inner2)
    {axis}_inner32 = Add ({axis}_inner3, {axis}_inner2)
    {axis}_inner = Add ({axis}_inner32, inner0)
    {axis}_outer3 = Mul ({axis}_x3, outer3)
    {axis}_outer2 = Mul ({axis}_x2, outer2)
    {axis}_outer1 = Mul ({axis}_x, outer1)
    {axis}_outer32 = Add ({axis}_outer3, {axis}_outer2)
    {axis}_outer321 = Add ({axis}_outer32, {axis}_outer1)
    {axis}_outer = Add ({axis}_outer321, outer0)
    {axis}_is_inner = LessOrEqual ({axis}_x, inner0)
    {axis}_weight_n4 = Where ({axis}_is_inner, {axis}_inner, {axis}_outer)
"""
"""`resize.cubic_taps` for one side. The centre of result i is ((2 i + 1) side - size) / (2 size); adding one sample
makes the integer division round down."""

TO_NETWORK = """
<ir_version: 9, opset_import: ["": {OPSET}]>
to_network (uint8[H, W, 3] image, int64[2] network_size) => (float[1, 3, h, w] network_input)
<int64 bound_asked = {{{INPUT_SIZE}}}, int64 patch = {{{PATCH}}}, int64 max_tokens = {{{MAX_TOKENS}}},
 int64 bounding_tokens = {{{BOUNDING_TOKENS}}},
 int64 nought = {{0}}, int64 unit = {{1}}, int64 two = {{2}}, int64[4] four = {{-1, 0, 1, 2}},
 int64[1] zero = {{0}}, int64[1] last = {{-1}}, int64[2] last_two = {{-2, -1}}, int64[1] one_axis = {{1}},
 float inner3 = {{1.25}}, float inner2 = {{-2.25}}, float inner0 = {{1.0}},
 float outer3 = {{-0.75}}, float outer2 = {{3.75}}, float outer1 = {{-6.0}}, float outer0 = {{3.0}},
 float[1] white = {{255.0}}, float[3] mean = {{{MEAN}}}, float[3] std = {{{STD}}}>
{{
    shape = Shape <start = 0, end = 2> (image)
    short = ReduceMin <keepdims = 0> (shape)
    long = ReduceMax <keepdims = 0> (shape)
    token_area = Mul (bounding_tokens, short)
    token_square = Div (token_area, long)
    token_square_f32 = Cast <to = {FLOAT}> (token_square)
    token_root = Sqrt (token_square_f32)
    token_side = Cast <to = {INT64}> (token_root)
    token_side_1 = Max (token_side, unit)
    token_bound = Mul (token_side_1, patch)
    bound = Min (bound_asked, token_bound)

    unit_size = Mul (short, patch)
    scaled = Mul (bound, shape)
    scaled_2 = Mul (scaled, two)
    unit_size_2 = Mul (unit_size, two)
    raised = Add (scaled_2, unit_size)
    patches_up = Div (raised, unit_size_2)
    product = Mul (patches_up, unit_size_2)
    is_tie = Equal (product, raised)
    odd = Mod (patches_up, two)
    tie_down = Where (is_tie, odd, nought)
    patches = Sub (patches_up, tie_down)
    rounded = Mul (patches, patch)
    unit_size_less = Sub (unit_size, unit)
    raised_most = Add (scaled, unit_size_less)
    patches_ceil = Div (raised_most, unit_size)
    up = Mul (patches_ceil, patch)
    is_below = Less (rounded, bound)
    unlimited = Where (is_below, up, rounded)
    short_side = ReduceMin <keepdims = 0> (unlimited)
    short_patches = Div (short_side, patch)
    long_patches = Div (max_tokens, short_patches)
    limit = Mul (long_patches, patch)
    by_rule = Min (unlimited, limit)
    is_given = Greater (network_size, nought)
    size = Where (is_given, network_size, by_rule)
{ROWS}{COLUMNS}
    rows_n4W3_u8 = Gather <axis = 0> (image, row_tap_index_n4)
    rows_n4W3 = Cast <to = {FLOAT}> (rows_n4W3_u8)
    row_weight_n411 = Unsqueeze (row_weight_n4, last_two)
    rows_weighted = Mul (rows_n4W3, row_weight_n411)
    rows_hW3 = ReduceSum <keepdims = 0> (rows_weighted, one_axis)
    columns_Wh3 = Transpose <perm = [1, 0, 2]> (rows_hW3)
    columns_n4h3 = Gather <axis = 0> (columns_Wh3, column_tap_index_n4)
    column_weight_n411 = Unsqueeze (column_weight_n4, last_two)
    columns_weighted = Mul (columns_n4h3, column_weight_n411)
    resized_wh3 = ReduceSum <keepdims = 0> (columns_weighted, one_axis)
    unit_wh3 = Div (resized_wh3, white)
    centred_wh3 = Sub (unit_wh3, mean)
    normalised_wh3 = Div (centred_wh3, std)
    normalised_3hw = Transpose <perm = [2, 1, 0]> (normalised_wh3)
    network_input = Unsqueeze (normalised_3hw, zero)
}}
"""
"""`resize.network_size` (if no size is given), `resize.resize` and `resize.normalise`. Columns are transposed to rows
before they are gathered, because copying whole rows is many times faster."""

FROM_NETWORK = """
<ir_version: 9, opset_import: ["": {OPSET}]>
from_network (uint8[H, W, 3] image, float[1, h, w] network_map) => (float[H, W] {QUANTITY})
<int64 nought = {{0}}, int64 unit = {{1}}, int64 two = {{2}}, int64[1] zero = {{0}}, int64[1] last = {{-1}}>
{{
    image_shape = Shape <start = 0, end = 2> (image)
    map_shape = Shape <start = 1, end = 3> (network_map)
{ROWS}{COLUMNS}
    map_hw = Squeeze (network_map, zero)
    map_low_Hw = Gather <axis = 0> (map_hw, row_low)
    map_high_Hw = Gather <axis = 0> (map_hw, row_high)
    row_part_H1 = Unsqueeze (row_part, last)
    rows_apart = Sub (map_high_Hw, map_low_Hw)
    rows_up = Mul (rows_apart, row_part_H1)
    map_Hw = Add (map_low_Hw, rows_up)
    map_wH = Transpose <perm = [1, 0]> (map_Hw)
    map_low_WH = Gather <axis = 0> (map_wH, column_low)
    map_high_WH = Gather <axis = 0> (map_wH, column_high)
    column_part_W1 = Unsqueeze (column_part, last)
    columns_apart = Sub (map_high_WH, map_low_WH)
    columns_up = Mul (columns_apart, column_part_W1)
    map_WH = Add (map_low_WH, columns_up)
    {QUANTITY} = Transpose <perm = [1, 0]> (map_WH)
}}
"""
"""`resize.resize_back`, by gathering whole rows. The operator `Resize` would cause steps in OpenVINO with bfloat16."""

LINEAR_TAPS = """
    {axis}_index = Constant <value_int = {index}> ()
    {axis}_side = Gather (map_shape, {axis}_index)
    {axis}_size = Gather (image_shape, {axis}_index)
    {axis}_results = Range (nought, {axis}_size, unit)
    {axis}_side_less = Sub ({axis}_side, unit)
{POSITION}
    {axis}_base_up = Div ({axis}_scaled, {axis}_whole)
    {axis}_base = Min ({axis}_base_up, {axis}_side_less)
    {axis}_done = Mul ({axis}_base, {axis}_whole)
    {axis}_rest = Sub ({axis}_scaled, {axis}_done)
    {axis}_rest_f32 = Cast <to = {FLOAT}> ({axis}_rest)
    {axis}_whole_f32 = Cast <to = {FLOAT}> ({axis}_whole)
    {axis}_part = Div ({axis}_rest_f32, {axis}_whole_f32)
    {axis}_low = Identity ({axis}_base)
    {axis}_next = Add ({axis}_base, unit)
    {axis}_high = Min ({axis}_next, {axis}_side_less)
"""
"""For one side: the two samples of every result, and the weight of the second."""

ALIGNED = """
    {axis}_size_less = Sub ({axis}_size, unit)
    {axis}_whole = Max ({axis}_size_less, unit)
    {axis}_scaled = Mul ({axis}_results, {axis}_side_less)
"""
"""Position i (side - 1) / (size - 1), as a fraction `scaled` / `whole`: V2, metric, nano."""

HALF_PIXEL = """
    {axis}_whole = Mul ({axis}_size, two)
    {axis}_doubled = Mul ({axis}_results, two)
    {axis}_odd = Add ({axis}_doubled, unit)
    {axis}_product = Mul ({axis}_odd, {axis}_side)
    {axis}_centred = Sub ({axis}_product, {axis}_size)
    {axis}_scaled = Max ({axis}_centred, nought)
"""
"""Position ((2 i + 1) side - size) / (2 size), not below the first sample: V1."""


def before_network(input_size: int, patch: int, area: float | None = None) -> str:
    """Preprocessing as ONNX text: from the image to the network's input."""
    numbers = {"OPSET": OPSET, "FLOAT": FLOAT, "INT64": INT64, "PATCH": patch}
    return TO_NETWORK.format(
        INPUT_SIZE=input_size,
        MAX_TOKENS=most_tokens(patch),
        BOUNDING_TOKENS=bounding_tokens(input_size, patch, area),
        ROWS=CUBIC_TAPS.format(axis="row", index=0, **numbers),
        COLUMNS=CUBIC_TAPS.format(axis="column", index=1, **numbers),
        MEAN=", ".join(map(str, IMAGENET_MEAN)),
        STD=", ".join(map(str, IMAGENET_STD)),
        **numbers,
    )


def after_network(variant: Variant) -> str:
    """Post-processing as ONNX text: the network's map resized to the image."""
    position = ALIGNED if variant.align_corners_back else HALF_PIXEL
    rows, columns = (
        LINEAR_TAPS.format(axis=axis, index=index, FLOAT=FLOAT, POSITION=position.format(axis=axis))
        for index, axis in enumerate(("row", "column"))
    )
    return FROM_NETWORK.format(OPSET=OPSET, QUANTITY=variant.quantity, ROWS=rows, COLUMNS=columns)
