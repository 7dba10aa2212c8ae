"""The ONNX form against torch: the whole road, at sizes that it was not traced at."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from depth_anything.backends import NANO_ONNX, OnnxBackend, TorchBackend
from depth_anything.export import before_network, export_onnx, store_half
from depth_anything.model import DepthAnything
from depth_anything.preprocess import network_size, to_tensor
from depth_anything.variants import VARIANTS, Variant

TINY = dict(width=32, depth=4, heads=2, table_side=5, taps=(0, 1, 2, 3), features=16, out_channels=(8, 8, 16, 16))


def tiny(**changes) -> Variant:
    """A member of the family that is quick to export; its name only has to be one of the table's."""
    return replace(VARIANTS["v2-small"], **{**TINY, "input_size": 70, **changes})


def random_model(variant: Variant | str) -> DepthAnything:
    torch.manual_seed(0)
    model = DepthAnything(variant).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 1 / parameter[0].numel() ** 0.5)
            elif name.endswith("output_conv2.2.bias"):
                parameter.fill_(1.0 if model.variant.max_depth is None else 0.0)
    return model


def picture(height: int, width: int) -> np.ndarray:
    """A smooth picture with some texture, as photographs are."""
    rows, columns = np.mgrid[0:height, 0:width] / 40
    waves = np.stack([np.sin(rows + columns * k) + np.cos(columns * 2 - k) for k in (1, 2, 3)], -1)
    noise = np.random.default_rng(0).normal(0, 0.1, waves.shape)
    return np.clip(127 + 50 * (waves + noise), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def relative(tmp_path_factory) -> tuple[DepthAnything, Path]:
    """A V2 model whose weights are float16 numbers, and its export."""
    model = random_model(tiny())
    model.half().float()
    path = tmp_path_factory.mktemp("export") / "relative.onnx"
    export_onnx(model, path)
    return model, path


@pytest.fixture(scope="module")
def metric(tmp_path_factory) -> tuple[DepthAnything, Path]:
    """The other branches: sigmoid, SwiGLU, V1's way back."""
    model = random_model(tiny(head="sigmoid", max_depth=20.0, swiglu=True, align_corners_back=False))
    path = tmp_path_factory.mktemp("export") / "metric.onnx"
    export_onnx(model, path)
    return model, path


@pytest.mark.parametrize("which", ["relative", "metric"])
def test_whole_road_equals_torch(which, request):
    model, path = request.getfixturevalue(which)
    exported = OnnxBackend(path)
    for height, width, input_size in [(61, 47, 70), (70, 70, 70), (90, 400, 70), (33, 80, 140), (2, 3, 28)]:
        image = picture(height, width)
        expected = TorchBackend(model)([image], input_size)[0]
        found = exported([image], input_size)[0]
        assert found.shape == (height, width)
        scale = max(1.0, float(np.abs(expected).max()))
        assert np.abs(found - expected).max() < 1e-4 * scale, (height, width)
        assert np.ptp(expected) > 1e-3


def test_road_inside_the_graph_is_that_of_preprocess():
    """The stretch before the network alone: sizes of hostile pictures, and pixels."""
    session = onnxruntime.InferenceSession(onnx.parser.parse_model(before_network()).SerializeToString())
    rng = np.random.default_rng(0)
    sizes = [(1, 1), (480, 640), (300, 200), (9, 9000), (1, 40000), *rng.integers(1, 500, (40, 2)).tolist()]
    for height, width in sizes:
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for input_size in (14, 28, 98):
            found = session.run(None, {"image": image, "input_size": np.array([input_size])})[0]
            size = network_size(height, width, input_size)
            assert found.shape == (1, 3, *size), (height, width, input_size)
            np.testing.assert_allclose(found, to_tensor(image, size).numpy(), atol=2e-5)


def test_half_halves_the_file_and_keeps_the_answer(relative, tmp_path):
    path = relative[1]
    graph = onnx.load(path)
    store_half(graph)
    half = tmp_path / "half.onnx"
    onnx.save(graph, half)
    assert half.stat().st_size < 0.8 * path.stat().st_size
    image = picture(61, 47)
    np.testing.assert_allclose(OnnxBackend(half)([image], 70)[0], OnnxBackend(path)([image], 70)[0], atol=1e-5)


def test_metadata_says_what_the_file_is(metric):
    backend = OnnxBackend(metric[1])
    assert b"dpt.py" not in metric[1].read_bytes()  # no traces of the machine that exported it
    assert backend.variant.quantity == "depth_m"
    assert backend.variant.max_depth == 20.0
    assert [output.name for output in backend.session.get_outputs()] == ["depth_m"]


def test_bundled_onnx_equals_bundled_weights():
    """The two files of nano, at three sizes, on a picture with the statistics of a photograph."""
    model = DepthAnything.from_pretrained("nano")
    exported = OnnxBackend(NANO_ONNX)
    for height, width in [(480, 640), (512, 300), (333, 1000)]:
        image = picture(height, width)
        found = exported([image], model.variant.input_size)[0]
        assert np.abs(found - model.infer_rgb(image)).max() < 1e-4


def test_not_an_export(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"broken\.onnx"):
        OnnxBackend(broken)
    with pytest.raises(ValueError, match="no such file"):
        OnnxBackend(tmp_path / "absent.onnx")
