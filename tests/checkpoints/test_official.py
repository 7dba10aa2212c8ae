"""Weights in every layout come back bit for bit, and what does not fit is refused in one line."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from golden_rule import fill
from safetensors.torch import load_file, save_file

from depth_anything.checkpoints import file_metadata, safe_write
from depth_anything.checkpoints.official import load, load_backbone, load_state, save, save_transformers
from depth_anything.network.model import DepthAnything
from depth_anything.variants import VARIANTS, Variant, with_max_depth

NANO = VARIANTS["nano-vit"]
TINY = replace(
    NANO, width=24, depth=5, heads=2, table_side=4, taps=(0, 1, 2, 4), features=8, out_channels=(4, 6, 8, 10)
)


@pytest.fixture(scope="module")
def nano() -> DepthAnything:
    return fill(DepthAnything("nano-vit"))


@pytest.fixture(scope="module")
def small() -> DepthAnything:
    return fill(DepthAnything("v2-small"))


def same(found: dict, expected: dict) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


def refusal(path: Path | str, variant: Variant | str | None = None, read=load_state) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(ValueError) as error:
        read(path, variant)
    assert "\n" not in str(error.value)
    return str(error.value)


# official files


@pytest.mark.parametrize("name", ["v1-small", "v2-small", "v2-metric-indoor-small", "v2-metric-outdoor-small"])
def test_official_pth_needs_its_variant(tmp_path, small, name):
    """The same bytes are four models: only the caller knows which."""
    torch.save(small.state_dict(), tmp_path / "model.pth")
    state, row = load_state(tmp_path / "model.pth", name)
    assert row is VARIANTS[name]
    assert same(state, small.state_dict())
    message = refusal(tmp_path / "model.pth")
    assert "pass variant=, one of v1-small, v2-small, v2-metric-indoor-small, v2-metric-outdoor-small" in message


def test_official_name_objects_but_does_not_choose(tmp_path, small):
    path = tmp_path / "depth_anything_v2_vits.pth"
    torch.save(small.state_dict(), path)
    assert "its name is that of v2-small" in refusal(path)
    assert "variant is v1-small, but its name states v2-small" in refusal(path, "v1-small")
    assert "variant is v2-metric-indoor-small, but its name states v2-small" in refusal(path, "v2-metric-indoor-small")
    assert load_state(path, "v2-small")[1] is VARIANTS["v2-small"]


def test_from_pretrained_predicts_as_the_saved_model(tmp_path, nano):
    torch.save({"model": {f"module.{key}": tensor for key, tensor in nano.state_dict().items()}}, tmp_path / "x.pth")
    image_13HW = torch.randn(1, 3, 56, 84, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = nano(image_13HW)
        assert torch.equal(DepthAnything.from_pretrained(tmp_path / "x.pth", variant="nano-vit")(image_13HW), expected)


def test_wrong_size_names_both(tmp_path, nano, small):
    torch.save(nano.state_dict(), tmp_path / "n.pth")
    torch.save(small.state_dict(), tmp_path / "s.pth")
    message = refusal(tmp_path / "s.pth", "v2-base")
    assert "holds ViT-S (width 384, 12 blocks), but v2-base is ViT-B (width 768, 12 blocks)" in message
    assert "holds nano-vit (width 192, 6 blocks), but v2-giant is ViT-g" in refusal(tmp_path / "n.pth", "v2-giant")


def test_other_keys_and_shapes_are_counted_and_named(tmp_path, nano):
    state = dict(nano.state_dict())
    del state["pretrained.norm.bias"]
    state["depth_head.extra"] = torch.zeros(1)
    state["depth_head.projects.0.bias"] = torch.zeros(3)
    torch.save(state, tmp_path / "x.pth")
    message = refusal(tmp_path / "x.pth", "nano-vit")
    assert "1 missing (first: pretrained.norm.bias)" in message
    assert "1 unexpected (first: depth_head.extra)" in message
    assert "1 of another shape (first: depth_head.projects.0.bias)" in message


def test_other_models_are_recognised(tmp_path):
    save_file({"conv.weight": torch.zeros(1)}, tmp_path / "x.safetensors")
    assert "no Depth Anything weights (first key: conv.weight)" in refusal(tmp_path / "x.safetensors", "nano-vit")
    zoedepth = {"core.core.pretrained.cls_token": torch.zeros(1, 1, 1024), "conv2.weight": torch.zeros(1)}
    torch.save({"model": zoedepth}, tmp_path / "zoe.pt")
    assert "one of v1-metric-nyu-large, v1-metric-kitti-large" in refusal(tmp_path / "zoe.pt")
    assert "has ZoeDepth head, which does not fit v1-large" in refusal(tmp_path / "zoe.pt", "v1-large")


# ours


@pytest.mark.parametrize("name", ["nano", "nano-vit", "v1-small", "v2-metric-outdoor-small"])
def test_our_files_state_what_they_are(tmp_path, name):
    model = fill(DepthAnything(name))
    save(model, tmp_path / "new" / "m.safetensors")
    state, row = load_state(tmp_path / "new" / "m.safetensors")
    assert row == VARIANTS[name]
    assert same(state, model.state_dict())
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["m.safetensors"]


def test_half_on_disk_is_float32_in_hand(tmp_path, nano):
    save(nano, tmp_path / "m.safetensors", torch.float16)
    assert (tmp_path / "m.safetensors").stat().st_size < 0.55 * sum(4 * p.numel() for p in nano.parameters())
    state, _ = load_state(tmp_path / "m.safetensors")
    assert same(state, {key: tensor.half().float() for key, tensor in nano.state_dict().items()})


def test_variances_are_float32_in_every_file(tmp_path):
    """A float16 would lose those of channels that hardly vary."""
    model = DepthAnything("nano")
    key = "pretrained.blocks.3.project.norm.running_var"
    model.state_dict()[key].fill_(1e-9)
    save(model, tmp_path / "m.safetensors", torch.float16)
    state, _ = load_state(tmp_path / "m.safetensors")
    assert torch.equal(state[key], model.state_dict()[key])


def test_metadata_against_the_argument(tmp_path, nano, small):
    save(small, tmp_path / "m.safetensors")
    assert load_state(tmp_path / "m.safetensors", "v2-small")[1] == VARIANTS["v2-small"]
    assert "its metadata states v2-small, but variant is v1-small" in refusal(tmp_path / "m.safetensors", "v1-small")
    assert "but variant is v2-metric-indoor-small" in refusal(tmp_path / "m.safetensors", "v2-metric-indoor-small")
    assert "but v2-large is ViT-L" in refusal(tmp_path / "m.safetensors", "v2-large")

    metadata = {**file_metadata.metadata_of(NANO), "version": "v1"}
    save_file(dict(nano.state_dict()), tmp_path / "lie.safetensors", metadata)
    assert "states v1 and disparity beside nano-vit, which is v2 and disparity" in refusal(tmp_path / "lie.safetensors")
    save_file(dict(nano.state_dict()), tmp_path / "new.safetensors", {**metadata, "variant": "v9-small"})
    assert "states the model 'v9-small', which is unknown to this version" in refusal(tmp_path / "new.safetensors")


def test_a_range_and_a_licence_of_its_own(tmp_path):
    """A model fine-tuned to 10.5 m under another licence keeps both, also beside the argument."""
    row = replace(with_max_depth(NANO, 10.5), licence="CC-BY-4.0")
    save(DepthAnything(row), tmp_path / "m.safetensors")
    for variant in (None, with_max_depth(NANO, 10.5)):
        found = load_state(tmp_path / "m.safetensors", variant)[1]
        assert (found.max_depth, found.quantity, found.licence, found.commercial) == (
            10.5,
            "depth_m",
            "CC-BY-4.0",
            None,
        )
    assert "states nano-vit in metres up to 10.5, but variant is nano-vit" in refusal(
        tmp_path / "m.safetensors", "nano-vit"
    )


def test_a_network_of_the_callers_own(tmp_path):
    model = DepthAnything(TINY)
    save(model, tmp_path / "m.safetensors")
    save_transformers(model, tmp_path / "folder")
    for path in (tmp_path / "m.safetensors", tmp_path / "folder"):
        state, row = load_state(path, TINY)
        assert row == TINY
        assert same(state, model.state_dict())


def test_saving_is_all_or_nothing(tmp_path, nano, monkeypatch):
    path = tmp_path / "m.safetensors"
    path.write_text("the file of yesterday")

    def full_disk(state, file, metadata):
        Path(file).write_text("half")
        raise OSError("no space left on device")

    monkeypatch.setattr(safe_write, "save_file", full_disk)
    with pytest.raises(OSError, match="no space"):
        save(nano, path)
    assert path.read_text() == "the file of yesterday"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match=r"ends in \.safetensors"):
        save(nano, tmp_path / "m.pth")


# the transformers layout


@pytest.mark.parametrize("name", ["nano-vit", "v1-small", "v2-small", "v2-metric-indoor-small"])
def test_transformers_folder_states_what_it_is(tmp_path, name):
    model = fill(DepthAnything(name))
    save_transformers(model, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json", "model.safetensors", "preprocessor_config.json",
    ]  # fmt: skip
    for path in (tmp_path, tmp_path / "model.safetensors"):
        state, row = load_state(path)
        assert row == VARIANTS[name]
        assert same(state, model.state_dict())


def test_published_folder(tmp_path, small):
    """As on the hub: no metadata of ours, so config.json alone tells V1 from V2; then without even that."""
    save_transformers(small, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    names = sorted(tensors)
    index = {name: f"model-0000{1 + (i % 2)}-of-00002.safetensors" for i, name in enumerate(names)}
    for shard in set(index.values()):
        save_file({name: tensors[name] for name in names if index[name] == shard}, tmp_path / shard, {"format": "pt"})
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))

    state, row = load_state(tmp_path)
    assert row == VARIANTS["v2-small"]
    assert same(state, small.state_dict())
    config = json.loads((tmp_path / "config.json").read_text())
    config["backbone_config"]["out_indices"] = [9, 10, 11, 12]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_state(tmp_path)[1] == VARIANTS["v1-small"]
    assert "its config.json states v1-small, but variant is v2-small" in refusal(tmp_path, "v2-small")

    (tmp_path / "config.json").unlink()
    assert "does not state which model it holds" in refusal(tmp_path)
    assert same(load_state(tmp_path, "v2-small")[0], small.state_dict())


def test_metadata_and_config_must_agree(tmp_path, small):
    save_transformers(small, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config.update(depth_estimation_type="metric", max_depth=20)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "its metadata states v2-small, but its config.json states v2-metric-indoor-small" in refusal(tmp_path)


def test_fractional_range_does_not_fit_transformers(tmp_path):
    with pytest.raises(ValueError, match=r"range of 10\.5 m: transformers holds whole metres only"):
        save_transformers(DepthAnything(with_max_depth(TINY, 10.5)), tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


# names and hub ids


def test_names_that_are_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "v3-small: no such file; did you mean v2-small?" in refusal("v3-small", read=load)
    assert "unknown model 'v3-small'" in refusal("x.pth", "v3-small", read=load)
    assert "v1-small is v1-small, but variant is v2-small" in refusal("v1-small", "v2-small", read=load)


def test_names_and_ids_offline(tmp_path, monkeypatch, small, nano):
    """A file brought by hand serves its name; the hub's own cache serves ids."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "download https://huggingface.co/spaces/LiheYoung/Depth-Anything/resolve/main/" in refusal(
        "v1-small", read=load
    )

    brought = tmp_path / "cache" / "depth-anything" / "depth_anything_vits14.pth"
    brought.parent.mkdir(parents=True)
    torch.save(small.state_dict(), brought)
    for name in ("v1-small", "LiheYoung/depth_anything_vits14"):
        state, row = load(name)
        assert row is VARIANTS["v1-small"]
        assert same(state, small.state_dict())

    def cache(repo: str, folder: Path) -> None:
        place = tmp_path / "hub" / f"models--{repo.replace('/', '--')}"
        shutil.copytree(folder, place / "snapshots" / ("0" * 40))
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text("0" * 40)

    save_transformers(small, tmp_path / "small")
    save_transformers(nano, tmp_path / "nano-vit")
    cache("depth-anything/Depth-Anything-V2-Small-hf", tmp_path / "small")
    cache("somebody/their-nano", tmp_path / "nano-vit")
    assert load("depth-anything/Depth-Anything-V2-Small-hf")[1] == VARIANTS["v2-small"]
    assert "commercial use is not clearly allowed" in refusal("somebody/their-nano", read=load)
    row = load("somebody/their-nano", accept_license=True)[1]
    assert (row.name, row.licence, row.commercial) == (
        "nano-vit",
        "see https://huggingface.co/somebody/their-nano",
        None,
    )


# backbones


def test_dinov2_backbone(tmp_path, small):
    """The official file is the encoder's keys without their prefix; a whole model gives its encoder, too."""
    encoder = small.pretrained.state_dict()
    torch.save(encoder, tmp_path / "dinov2_vits14_pretrain.pth")
    save(small, tmp_path / "whole.safetensors")
    save_transformers(small, tmp_path / "folder")
    for path in (tmp_path / "dinov2_vits14_pretrain.pth", tmp_path / "whole.safetensors", tmp_path / "folder"):
        assert same(load_backbone(path), encoder)
        assert same(load_backbone(path, "v2-small"), encoder)
    assert "is a DINOv2 backbone without a decoder" in refusal(tmp_path / "dinov2_vits14_pretrain.pth", "v2-small")
    message = refusal(tmp_path / "dinov2_vits14_pretrain.pth", "v2-large", read=load_backbone)
    assert "holds ViT-S (width 384, 12 blocks), but v2-large is ViT-L (width 1024, 24 blocks)" in message

    torch.save({**encoder, "register_tokens": torch.zeros(1, 4, 384)}, tmp_path / "reg4.pth")
    message = refusal(tmp_path / "reg4.pth", read=load_backbone)
    assert "does not fit the encoder of" in message
    assert "1 unexpected (first: pretrained.register_tokens)" in message


def test_equal_weights_are_equal_bytes(tmp_path):
    """The safetensors library alone writes its metadata in a new random order each time."""
    model = DepthAnything("nano-vit")
    for name in "abcdef":
        save(model, tmp_path / f"{name}.safetensors")
    assert len({(tmp_path / f"{name}.safetensors").read_bytes() for name in "abcdef"}) == 1
    loaded, _ = load_state(tmp_path / "a.safetensors")
    assert all(torch.equal(loaded[key], tensor) for key, tensor in model.state_dict().items())
