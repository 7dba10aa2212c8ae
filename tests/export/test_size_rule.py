"""The size rule inside an exported file, at lower bounds that are no multiples of 14."""

import numpy as np
import onnx
import onnxruntime
import pytest

from depth_anything.export.preprocessing_graph import before_network
from depth_anything.network.resize import network_size, network_size_of
from depth_anything.variants import VARIANTS

KNOWN = {
    384: {(480, 640): (392, 518), (640, 480): (518, 392), (384, 384): (392, 392), (300, 1000): (392, 1274)},
    385: {(480, 640): (392, 518), (77, 77): (392, 392)},
    392: {(480, 640): (392, 518), (392, 500): (392, 504)},
    508: {(480, 640): (518, 672), (1000, 1000): (518, 518), (200, 150): (672, 518)},
    518: {(480, 640): (518, 686), (375, 1242): (518, 1722), (9, 900): (168, 16800)},
}
"""The official steps by hand: aspect ratio kept, multiples of 14 to the nearest, up where one is below the bound."""
LONG = {
    224: {(480, 640): (224, 288), (1080, 1920): (192, 352), (375, 1242): (128, 416), (1242, 375): (416, 128)},
    192: {(480, 640): (192, 256), (1080, 1920): (160, 288), (100, 100): (192, 192)},
}
"""With an area of at most 1.6 input_size^2: long images get a smaller lower bound, those of 4 : 3 and 3 : 2 do not."""
OF_32 = {390: {(480, 640): (416, 512), (100, 100): (416, 416)}, 384: {(480, 640): (384, 512)}}
"""The same for an EfficientNet, in multiples of 32."""


def stretch(input_size: int, patch: int = 14) -> onnxruntime.InferenceSession:
    """What stands before the network, alone."""
    graph = onnx.parser.parse_model(before_network(input_size, patch))
    return onnxruntime.InferenceSession(graph.SerializeToString())


@pytest.mark.parametrize(("patch", "input_size"), [(14, bound) for bound in KNOWN] + [(32, bound) for bound in OF_32])
def test_the_file_rounds_up_what_would_fall_below_its_bound(patch, input_size):
    session = stretch(input_size, patch)
    for (height, width), expected in (KNOWN if patch == 14 else OF_32)[input_size].items():
        image = np.zeros((height, width, 3), np.uint8)
        (found,) = session.run(None, {"image": image, "network_size": np.zeros(2, np.int64)})
        assert found.shape == (1, 3, *expected), (height, width)


@pytest.mark.parametrize("input_size", LONG)
def test_long_images_have_no_larger_input_than_those_that_were_trained(input_size):
    graph = onnx.parser.parse_model(before_network(input_size, 32, 1.6))
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    for (height, width), expected in LONG[input_size].items():
        assert network_size(height, width, input_size, 32, 1.6) == expected, (height, width)
        image = np.zeros((height, width, 3), np.uint8)
        (found,) = session.run(None, {"image": image, "network_size": np.zeros(2, np.int64)})
        assert found.shape == (1, 3, *expected), (height, width)


def test_the_rule_of_long_images_is_the_same_in_files_for_every_shape():
    graph = onnx.parser.parse_model(before_network(224, 32, 1.6))
    session, rng = onnxruntime.InferenceSession(graph.SerializeToString()), np.random.default_rng(0)
    for height, width in rng.integers(40, 900, (60, 2)).tolist():
        expected = network_size_of(VARIANTS["nano"], height, width, 224)
        assert expected[0] * expected[1] <= 1.75 * 224**2 or min(height, width) * 5 < max(height, width)
        image = np.zeros((height, width, 3), np.uint8)
        (found,) = session.run(None, {"image": image, "network_size": np.zeros(2, np.int64)})
        assert found.shape[2:] == expected, (height, width)


@pytest.mark.parametrize("input_size", [378, 384, 508])
def test_the_file_keeps_to_the_official_steps_at_any_bound(input_size):
    """Random images; ties, which float64 decides by its own rounding, are left out."""
    session, rng, compared = stretch(input_size), np.random.default_rng(input_size), 0
    while compared < 12:
        height, width = rng.integers(30, 700, 2).tolist()
        scale = input_size / min(height, width)
        patches = [scale * side / 14 for side in (height, width)]
        if max(height, width) > 4 * min(height, width) or any(abs(one % 1 - 0.5) < 1e-6 for one in patches):
            continue
        nearest = [round(one) * 14 for one in patches]
        expected = [n if n >= input_size else int(np.ceil(one)) * 14 for n, one in zip(nearest, patches, strict=True)]
        image = np.zeros((height, width, 3), np.uint8)
        (found,) = session.run(None, {"image": image, "network_size": np.zeros(2, np.int64)})
        assert list(found.shape[2:]) == expected, (height, width)
        compared += 1


@pytest.mark.parametrize(("width", "patches"), [(149, 74), (151, 76), (153, 76)])
def test_in_the_file_half_goes_to_the_even_number(width, patches):
    """74 x 149 pixels are 37 x 74.5 patches, without any rounding on the way."""
    image = np.zeros((74, width, 3), np.uint8)
    (found,) = stretch(518).run(None, {"image": image, "network_size": np.zeros(2, np.int64)})
    assert found.shape[2:] == (518, 14 * patches)
