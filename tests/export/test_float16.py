"""Files that compute in float16: within the limit of torch, and float32 where float16 would overflow."""

import copy

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from tiny_models import random_model, tiny

from depth_anything.export import float16, parity
from depth_anything.export.agreement import HALF, relative_difference
from depth_anything.export.export_model import (
    export,
    export_network,
    network_inputs,
    save_onnx,
    set_metadata,
    with_image_input,
)
from depth_anything.export.options import ExportOptions
from depth_anything.images.read import read_image
from depth_anything.network.model import DepthAnything
from depth_anything.predict.backends import OnnxBackend
from depth_anything.variants import VARIANTS

Exported = tuple[DepthAnything, onnx.ModelProto]


@pytest.fixture(scope="module")
def exported() -> Exported:
    """A model with values of some 10^6 in its second block, as a few channels of a large transformer have them, and
    its bare network."""
    model = random_model(tiny())
    weights = model.state_dict()
    for name in ("qkv.weight", "qkv.bias"):
        weights[f"pretrained.blocks.1.attn.{name}"][64:] *= 2**20
    weights["pretrained.blocks.1.attn.proj.weight"] *= 2**-20
    return model, export_network(copy.deepcopy(model))


def converted(exported: Exported) -> tuple[onnx.ModelProto, list[str]]:
    """A copy of the network in float16, and what was kept because of a large value."""
    network = onnx.ModelProto()
    network.CopyFrom(exported[1])
    return network, float16.convert(network, network_inputs(exported[0].variant, None, ()))


def test_what_would_overflow_stays_in_float32(exported):
    network, kept = converted(exported)
    onnx.checker.check_model(network, full_check=True)
    kind, nodes = float16.element_types(network), {node.name: node for node in network.graph.node}
    in_half = {name for name, node in nodes.items() if kind[node.output[0]] == TensorProto.FLOAT16}
    layers = {name for name, node in nodes.items() if node.op_type in ("MatMul", "Conv", "ConvTranspose")}
    assert len(layers & set(kept)) == 3, "the block's qkv, attention times v, and proj"
    assert len(in_half & layers) > len(layers) / 2
    assert not in_half & {name for name, node in nodes.items() if node.op_type == "LayerNormalization"}
    assert not any("output_conv2.2" in name for name in in_half)
    assert {kind[one.name] for one in (*network.graph.input, *network.graph.output)} == {TensorProto.FLOAT}
    sizes = [
        sum(onnx.numpy_helper.to_array(weight).nbytes for weight in graph.graph.initializer)
        for graph in (network, exported[1])
    ]
    assert sizes[0] < 0.8 * sizes[1]


def test_the_map_is_within_the_limit_and_without_that_it_overflows(exported, tmp_path, monkeypatch):
    model = exported[0]
    image_HW3 = read_image(parity.photographs()[0])
    expected_HW = model.infer_rgb(image_HW3)
    costs = {}
    for safe in (float16.SAFE, float("inf")):
        monkeypatch.setattr(float16, "SAFE", safe)
        graph = with_image_input(converted(exported)[0], model.variant)
        set_metadata(graph, model.variant)
        save_onnx(graph, tmp_path / "half.onnx")
        map_HW = OnnxBackend(tmp_path / "half.onnx")([image_HW3], model.variant.input_size)[0]
        costs[safe] = relative_difference(map_HW, expected_HW, "disparity")
        if safe < float("inf"):
            steps = len(np.unique(map_HW.astype(np.float16)))
            assert len(np.unique(map_HW)) > 4 * steps, "the map has steps of float16"
    assert 1e-6 < costs[float16.MOST / 8] < HALF.abs_rel
    assert not costs[float("inf")] <= HALF.abs_rel


@pytest.mark.slow
def test_a_float16_export_is_guarded(exported, tmp_path, monkeypatch):
    report = export(copy.deepcopy(exported[0]), tmp_path / "half.onnx", ExportOptions(fp16=True))
    assert report.form == "onnx fp16" and not report.failures
    stated = {entry.key: entry.value for entry in onnx.load(tmp_path / "half.onnx").metadata_props}
    assert "node_matmul" in stated["kept_float32"]
    monkeypatch.setattr(float16, "SAFE", float("inf"))
    with pytest.raises(ValueError, match=r"differs from torch|values are NaN or infinite"):
        export(copy.deepcopy(exported[0]), tmp_path / "overflow.onnx", ExportOptions(fp16=True))
    assert not (tmp_path / "overflow.onnx").exists()


@pytest.mark.parametrize("options", [{"half": True}, {"int8": True}, {"to": "openvino"}])
def test_options_that_do_not_go_together(options):
    with pytest.raises(ValueError, match="--fp16"):
        ExportOptions(fp16=True, **options).check(VARIANTS["v2-small"])
