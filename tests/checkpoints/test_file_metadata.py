"""What a file says about itself comes back from every kind of file, and so does what a user gets from it."""

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

from depth_anything.checkpoints import file_metadata, official
from depth_anything.export import export_model
from depth_anything.network.model import DepthAnything
from depth_anything.predict import openvino_graph
from depth_anything.predict.backends import variant_of
from depth_anything.variants import VARIANTS, Variant, get_variant, official_file, with_log_head, with_max_depth

NANO = VARIANTS["nano"]
ROWS = {
    "relative": NANO,
    "of tokens": VARIANTS["nano-vit"],
    "of another range": with_max_depth(NANO, 12.5),
    "without an upper end": with_log_head(NANO),
    "camera-aware": replace(with_max_depth(NANO, 10.0), canonical_focal=250.5),
    "camera-aware without an upper end": replace(with_log_head(NANO), canonical_focal=250.0),
    "under another licence": replace(NANO, licence="mine", commercial=None),
    "V1": VARIANTS["v1-small"],
}


def in_safetensors(row: Variant, folder: Path) -> Variant:
    with torch.device("meta"):
        model = DepthAnything(row)
    official.save(model.to_empty(device="cpu").apply(zeros), folder / "model.safetensors")
    return official.load_state(folder / "model.safetensors")[1]


def zeros(module: torch.nn.Module) -> None:
    for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
        torch.nn.init.zeros_(tensor)


def graph_of(row: Variant) -> onnx.ModelProto:
    graph = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 18]> g (float[H, W] image) => (float[H, W] map) { map = Relu(image) }'
    )
    export_model.set_metadata(graph, row)
    return graph


def in_onnx(row: Variant, folder: Path) -> Variant:
    onnx.save(graph_of(row), folder / "model.onnx")
    return variant_of({entry.key: entry.value for entry in onnx.load(folder / "model.onnx").metadata_props}, folder)


def in_openvino(row: Variant, folder: Path) -> Variant:
    export_model.save_openvino(export_model.openvino_model(graph_of(row)), folder / "model.xml", half=False)
    return variant_of(openvino_graph.metadata_of(openvino_graph.read(folder / "model.xml")), folder)


def onnx_in_openvino(row: Variant, folder: Path) -> Variant:
    onnx.save(graph_of(row), folder / "model.onnx")
    return variant_of(openvino_graph.metadata_of(openvino_graph.read(folder / "model.onnx")), folder)


@pytest.mark.parametrize("carrier", [in_safetensors, in_onnx, in_openvino, onnx_in_openvino])
@pytest.mark.parametrize("kind", ROWS)
def test_every_kind_of_file_states_all_fields(tmp_path, carrier, kind):
    assert carrier(ROWS[kind], tmp_path) == ROWS[kind]


@pytest.mark.parametrize("carrier", [in_onnx, in_openvino])
def test_an_export_keeps_its_own_size(tmp_path, carrier):
    assert carrier(replace(NANO, input_size=252), tmp_path).input_size == 252


def test_only_listed_fields_are_written():
    export_fields = export_model.metadata(ROWS["camera-aware"], bare=False)
    assert export_fields.keys() == file_metadata.FIELDS.keys()
    with pytest.raises(AssertionError):
        file_metadata.metadata_of(NANO, colour="red")


def test_exports_of_earlier_versions_state_no_head():
    for row in ROWS.values():
        fields = file_metadata.metadata_of(row, input_size=str(row.input_size))
        del fields["head"]
        assert file_metadata.variant_of_metadata("x", fields) == row


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variant": "nono"}, "x states the model 'nono', which is unknown to this version"),
        ({"version": "v1"}, "states v1 and disparity beside nano, which is v2 and disparity"),
        ({"max_depth": "far"}, "states max_depth 'far'; expected a number above 0"),
        ({"max_depth": "nan"}, "states max_depth 'nan'"),
        ({"canonical_focal": "-1"}, "states canonical_focal '-1'"),
        ({"input_size": "inf"}, "states input_size 'inf'"),
        ({"max_depth": "10.0"}, "states v2 and disparity beside nano, which is v2 and depth_m"),
    ],
)
def test_fields_that_cannot_be(change, message):
    with pytest.raises(ValueError, match=message):
        file_metadata.variant_of_metadata("x", {**file_metadata.metadata_of(NANO), **change})


def test_the_argument_keeps_the_camera_of_the_file(tmp_path):
    """`variant=` beside a file that names itself says the same model, not: a model that knows no camera."""
    row = replace(with_max_depth(NANO, 10.0), canonical_focal=250.0)
    in_safetensors(row, tmp_path)
    found = official.load_state(tmp_path / "model.safetensors", with_max_depth(NANO, 10.0))[1]
    assert found.canonical_focal == 250.0


def test_a_general_file_name_tells_no_model(tmp_path, monkeypatch):
    """A hub file called model.safetensors would else object to every transformers folder."""
    general = replace(VARIANTS["v2-small"], name="v3-small", hub_file="weights/model.safetensors")
    twice = replace(VARIANTS["v1-small"], name="v4-small", hub_file="other/depth_anything_vits14.pth")
    monkeypatch.setitem(VARIANTS, "v3-small", general)
    assert official_file(general) is None
    assert official_file(VARIANTS["v1-small"]) == "depth_anything_vits14.pth"
    monkeypatch.setitem(VARIANTS, "v4-small", twice)
    assert official_file(twice) is None
    model = DepthAnything("nano-vit")
    official.save_transformers(model, tmp_path)
    save_file(load_file(tmp_path / "model.safetensors"), tmp_path / "model.safetensors")
    assert official.load_state(tmp_path)[1] == VARIANTS["nano-vit"]


# -- names that rows had before --


def before_encoders_were_named(row: Variant, name: str) -> dict[str, str]:
    fields = {**file_metadata.metadata_of(row), "variant": name}
    del fields["encoder"]
    return fields


def test_nano_of_early_files_is_the_vit(tmp_path):
    """Checkpoints, transformers folders, exports, and files without metadata beside `--variant nano`."""
    row = VARIANTS["nano-vit"]
    metres = replace(with_max_depth(row, 10.0), canonical_focal=250.0)
    for one in (row, metres, with_log_head(row)):
        assert file_metadata.variant_of_metadata("x", before_encoders_were_named(one, "nano")) == one
    fields = {**before_encoders_were_named(row, "nano"), "input_size": "168", "form": "road"}
    assert variant_of(fields, tmp_path).patch == 14

    model = DepthAnything("nano-vit")
    state, old = {key: tensor.half() for key, tensor in model.state_dict().items()}, tmp_path / "old.safetensors"
    save_file(state, old, before_encoders_were_named(row, "nano"))
    official.save_transformers(model, tmp_path / "folder")
    theirs = load_file(tmp_path / "folder" / "model.safetensors")
    torch.save(model.state_dict(), tmp_path / "bare.pth")
    torch.save(theirs, tmp_path / "theirs.pth")
    for path, named in ((old, None), (old, "nano"), (old, "nano-vit"), (tmp_path / "bare.pth", "nano"),
                        (tmp_path / "theirs.pth", "nano"), (tmp_path / "folder", "nano")):  # fmt: skip
        found, variant = official.load_state(path, named)
        assert variant == row and found.keys() == state.keys()
    with pytest.raises(ValueError, match=r"holds nano-vit \(width 192, 6 blocks\), but nano is EfficientNet-Lite2"):
        official.load_backbone(old, "nano")


def test_nano_lite2_is_nano():
    assert file_metadata.variant_of_metadata("x", before_encoders_were_named(NANO, "nano-lite2")) == NANO
    assert get_variant("nano-lite2") is NANO
