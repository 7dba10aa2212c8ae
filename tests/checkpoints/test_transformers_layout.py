"""Names and configs against those of the published `*-hf` files (tests/golden/keys/hf_*)."""

import json
from pathlib import Path

import pytest
import torch

from depth_anything.checkpoints.official import official_shapes
from depth_anything.checkpoints.transformers import (
    from_transformers,
    to_transformers,
    transformers_config,
    variant_of_config,
)
from depth_anything.variants import VARIANTS

KEYS = Path(__file__).parents[1] / "golden" / "keys"
SIZES = {"vits": "small", "vitb": "base", "vitl": "large", "vitg": "giant"}
READABLE = [row for row in VARIANTS.values() if row.head != "bins"]


@pytest.mark.parametrize("path", sorted(KEYS.glob("hf_*_file.json")), ids=lambda path: path.stem)
def test_published_names_both_ways(path):
    """Every key and shape of every published file, from ours and back to ours."""
    version, encoder = path.stem.split("_")[1:3]
    shapes = official_shapes(VARIANTS[f"{version}-{SIZES[encoder]}"])
    published = json.loads(path.read_text())
    ours = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    assert {key: list(tensor.shape) for key, tensor in to_transformers(ours).items()} == published

    theirs = {key: torch.empty(shape, device="meta") for key, shape in published.items()}
    assert {key: tensor.shape for key, tensor in from_transformers(theirs, list(shapes)).items()} == shapes


def test_values_survive_both_ways():
    generator = torch.Generator().manual_seed(0)
    state = {
        key: torch.randn(shape, generator=generator) for key, shape in official_shapes(VARIANTS["nano-vit"]).items()
    }
    theirs = to_transformers(state)
    query = theirs["backbone.encoder.layer.3.attention.attention.query.weight"]
    assert torch.equal(query, state["pretrained.blocks.3.attn.qkv.weight"][:192])
    back = from_transformers(theirs, list(state))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_what_is_missing_or_unknown_stays_visible():
    state = {key: torch.zeros(shape) for key, shape in official_shapes(VARIANTS["nano-vit"]).items()}
    theirs = to_transformers(state)
    del theirs["backbone.encoder.layer.0.attention.attention.key.bias"]
    theirs["backbone.embeddings.register_tokens"] = torch.zeros(1, 4, 192)
    back = from_transformers(theirs, list(state))
    assert "pretrained.blocks.0.attn.qkv.bias" not in back
    assert "backbone.embeddings.register_tokens" in back


@pytest.mark.parametrize("row", READABLE, ids=lambda row: row.name)
def test_every_variant_knows_its_config(row):
    config = json.loads(json.dumps(transformers_config(row)))
    assert variant_of_config(config, Path("x")) == row


def test_published_configs_leave_defaults_out():
    """Published files keep what differs from the defaults, and may name stages instead of indices."""
    backbone = {"model_type": "dinov2", "image_size": 518, "out_indices": [3, 6, 9, 12]}
    base = {"fusion_hidden_size": 128, "neck_hidden_sizes": [96, 192, 384, 768], "reassemble_hidden_size": 768}
    config = {"model_type": "depth_anything", "backbone_config": backbone, **base}
    assert variant_of_config(config, Path("x")).name == "v2-base"
    backbone["out_indices"] = [9, 10, 11, 12]
    assert variant_of_config(config, Path("x")).name == "v1-base"
    del backbone["out_indices"]
    backbone["out_features"] = ["stage3", "stage6", "stage9", "stage12"]
    assert variant_of_config(config, Path("x")).name == "v2-base"
    assert variant_of_config({"model_type": "depth_anything"}, Path("x")).name == "v1-small"


def test_metric_range_comes_from_the_config():
    config = transformers_config(VARIANTS["v2-metric-indoor-small"])
    config["max_depth"] = 10
    row = variant_of_config(config, Path("x"))
    assert (row.max_depth, row.head, row.taps) == (10.0, "sigmoid", VARIANTS["v2-small"].taps)


def test_other_networks_are_named():
    with pytest.raises(ValueError, match="model_type 'dpt'"):
        variant_of_config({"model_type": "dpt"}, Path("x"))
    config = transformers_config(VARIANTS["v2-small"])
    config["backbone_config"]["out_indices"] = [2, 5, 8, 11]
    with pytest.raises(ValueError, match=r"differs from \S+-small in backbone out_indices"):
        variant_of_config(config, Path("x"))
    config = transformers_config(VARIANTS["v2-small"])
    config["max_depth"] = 3  # transformers would multiply a relative map by it
    with pytest.raises(ValueError, match="in max_depth"):
        variant_of_config(config, Path("x"))
