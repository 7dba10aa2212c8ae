"""The layout of the transformers library: its key names, its config.json and its preprocessor_config.json.

The names are those of the published `*-hf` files, which transformers 5 reads and writes; in memory it uses others. The
network and the weights are the same; the query, key and value projections are three tensors there and one here.
docs/checkpoints.md describes where results differ.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from depth_anything.network.resize import IMAGENET_MEAN, IMAGENET_STD, PATCH
from depth_anything.variants import VARIANTS, Variant, with_max_depth

NAMES = [
    ("pretrained.cls_token", "backbone.embeddings.cls_token"),
    ("pretrained.mask_token", "backbone.embeddings.mask_token"),
    ("pretrained.pos_embed", "backbone.embeddings.position_embeddings"),
    ("pretrained.patch_embed.proj.", "backbone.embeddings.patch_embeddings.projection."),
    ("pretrained.norm.", "backbone.layernorm."),
    ("pretrained.blocks.", "backbone.encoder.layer."),
    (".attn.proj.", ".attention.output.dense."),
    (".ls1.gamma", ".layer_scale1.lambda1"),
    (".ls2.gamma", ".layer_scale2.lambda1"),
    (".mlp.w12.", ".mlp.weights_in."),
    (".mlp.w3.", ".mlp.weights_out."),
    *((f"depth_head.projects.{i}.", f"neck.reassemble_stage.layers.{i}.projection.") for i in range(4)),
    *((f"depth_head.resize_layers.{i}.", f"neck.reassemble_stage.layers.{i}.resize.") for i in range(4)),
    *((f"depth_head.scratch.layer{i + 1}_rn.", f"neck.convs.{i}.") for i in range(4)),
    # transformers numbers the fusion blocks in the order in which they run: from coarse to fine
    *((f"depth_head.scratch.refinenet{4 - i}.", f"neck.fusion_stage.layers.{i}.") for i in range(4)),
    (".out_conv.", ".projection."),
    (".resConfUnit1.conv", ".residual_layer1.convolution"),
    (".resConfUnit2.conv", ".residual_layer2.convolution"),
    ("depth_head.scratch.output_conv1.", "head.conv1."),
    ("depth_head.scratch.output_conv2.0.", "head.conv2."),
    ("depth_head.scratch.output_conv2.2.", "head.conv3."),
]
"""Parts of names: official, transformers. Names in no pair (norm1, norm2, mlp.fc1, mlp.fc2) are the same in both."""
IN_MEMORY = [
    *((f".attention.{part[0]}_proj.", f".attention.attention.{part}.") for part in ("query", "key", "value")),
    (".attention.o_proj.", ".attention.output.dense."),
    (".mlp.down_proj.", ".mlp.weights_out."),
]
"""Parts of names: in memory of transformers 5 (as `torch.save(model.state_dict())` writes them), and as published."""


def transformers_names(key: str) -> tuple[str, ...]:
    """The names in transformers of the official `key`: one, or three if query, key and value are split."""
    for official, theirs in NAMES:
        key = key.replace(official, theirs)
    if ".attn.qkv." not in key:
        return (key,)
    return tuple(key.replace(".attn.qkv.", f".attention.attention.{part}.") for part in ("query", "key", "value"))


def to_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename official keys to those of the published `*-hf` files."""
    theirs: dict[str, Tensor] = {}
    for key, tensor in state.items():
        names = transformers_names(key)
        theirs.update(zip(names, tensor.chunk(len(names)), strict=True))
    return theirs


def published_names(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename keys of transformers 5 in memory to those of the published files; published names stay unchanged."""
    state = {}
    for key, tensor in theirs.items():
        for in_memory, published in IN_MEMORY:
            key = key.replace(in_memory, published)
        state[key] = tensor
    for key in [key for key in state if ".mlp.gate_proj." in key]:  # two tensors there, one in the files
        up, joined = key.replace(".gate_proj.", ".up_proj."), key.replace(".gate_proj.", ".weights_in.")
        if up in state:
            state[joined] = torch.cat([state.pop(key), state.pop(up)])
    return state


def from_transformers(theirs: dict[str, Tensor], keys: list[str]) -> dict[str, Tensor]:
    """Rename keys of published `*-hf` files, or of transformers in memory, to the official `keys`.

    Incomplete tensors are omitted and unknown names kept, so that a comparison with `keys` reports both.
    """
    rest = published_names(theirs)
    state: dict[str, Tensor] = {}
    for key in keys:
        names = transformers_names(key)
        if all(name in rest for name in names):
            state[key] = torch.cat([rest.pop(name) for name in names])
    return {**state, **rest}


def transformers_config(variant: Variant) -> dict[str, Any]:
    """config.json of a variant, for `transformers.AutoModelForDepthEstimation`."""
    max_depth = variant.max_depth or 1  # transformers multiplies relative maps by it too, and accepts integers only
    return {
        "architectures": ["DepthAnythingForDepthEstimation"],
        "model_type": "depth_anything",
        "backbone_config": {
            "model_type": "dinov2",
            "hidden_size": variant.width,
            "num_hidden_layers": variant.depth,
            "num_attention_heads": variant.heads,
            "mlp_ratio": 4,
            "use_swiglu_ffn": variant.swiglu,
            "image_size": variant.table_side * PATCH,
            "patch_size": PATCH,
            "layer_norm_eps": 1e-6,
            "apply_layernorm": True,
            "out_indices": [tap + 1 for tap in variant.taps],  # 0 is the state before the first block
            "reshape_hidden_states": False,
        },
        "patch_size": PATCH,
        "reassemble_hidden_size": variant.width,
        "reassemble_factors": [4, 2, 1, 0.5],
        "neck_hidden_sizes": list(variant.out_channels),
        "fusion_hidden_size": variant.features,
        "head_in_index": -1,
        "head_hidden_size": 32,
        "depth_estimation_type": "relative" if variant.max_depth is None else "metric",
        "max_depth": int(max_depth) if float(max_depth).is_integer() else max_depth,
    }


def preprocessor_config(variant: Variant) -> dict[str, Any]:
    """preprocessor_config.json of a variant: the published values; its size rule is not the official one."""
    return {
        "image_processor_type": "DPTImageProcessor",
        "do_resize": True,
        "size": {"height": variant.input_size, "width": variant.input_size},
        "keep_aspect_ratio": True,
        "ensure_multiple_of": PATCH,
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(IMAGENET_MEAN),
        "image_std": list(IMAGENET_STD),
        "do_pad": False,
    }


BACKBONE_DEFAULTS = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "mlp_ratio": 4, "use_swiglu_ffn": False,
    "image_size": 224, "patch_size": 14, "layer_norm_eps": 1e-6, "apply_layernorm": True,
}  # fmt: skip
"""Defaults of a published config.json for fields that are absent from its backbone_config."""
DEFAULTS = {
    "patch_size": 14, "reassemble_hidden_size": 384, "reassemble_factors": [4, 2, 1, 0.5],
    "neck_hidden_sizes": [48, 96, 192, 384], "fusion_hidden_size": 64, "head_in_index": -1, "head_hidden_size": 32,
    "depth_estimation_type": "relative",
}  # fmt: skip


def network_of(config: dict[str, Any]) -> dict[str, Any]:
    """The fields of a config.json that determine the result, completed with the defaults of transformers."""
    backbone = config.get("backbone_config") or transformers_config(VARIANTS["v1-small"])["backbone_config"]
    stages = backbone.get("out_indices") or [int(name[len("stage") :]) for name in backbone.get("out_features", [])]
    return {
        **{key: config.get(key, default) for key, default in DEFAULTS.items()},
        "max_depth": config.get("max_depth") or 1,
        **{f"backbone {key}": backbone.get(key, default) for key, default in BACKBONE_DEFAULTS.items()},
        "backbone out_indices": list(stages),
    }


def variant_of_config(config: dict[str, Any], path: Path, wanted: Variant | None = None) -> Variant:
    """The variant that a config.json describes. V1 and V2 differ in `out_indices`, metric models in head and range.

    Args:
        wanted: a variant of the caller, which is considered besides `VARIANTS`.

    Raises:
        ValueError: not a Depth Anything config, or a network that is not in `VARIANTS`.
    """
    if config.get("model_type") != "depth_anything":
        raise ValueError(f"{path}: model_type {config.get('model_type')!r}: expected 'depth_anything'")
    try:
        network = network_of(config)
        metres = float(network["max_depth"])
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: config.json has a value of the wrong type ({error}): download it again") from None
    rows = [row for row in (wanted, *VARIANTS.values()) if row is not None and row.head != "bins"]
    if network["depth_estimation_type"] == "metric":  # a range other than the published ones
        rows += [with_max_depth(row, metres) for row in rows if row.head == "linear"]
    differing = []
    for row in rows:
        ours = network_of(transformers_config(row))
        differing.append([key for key in ours if ours[key] != network[key]])
        if not differing[-1]:
            return row
    faults, nearest = min(zip(differing, rows, strict=True), key=lambda pair: len(pair[0]))
    raise ValueError(
        f"{path}: config.json matches no known variant; it differs from {nearest.name} in {', '.join(faults)}"
    )
