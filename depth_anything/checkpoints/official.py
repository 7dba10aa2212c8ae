"""Reading and writing weights: official .pth, the transformers layout, DINOv2 backbones, our safetensors files.

Inside the package, weights have the official key names and are in float32. V1 and V2 files have the same keys and
shapes, and so do relative and metric ones. Which model a file holds is determined by the `variant` argument, by our
metadata or by a transformers config, and never guessed.
"""

import json
import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import torch

from depth_anything.checkpoints import hub
from depth_anything.checkpoints.file_metadata import metadata_of, variant_of_metadata
from depth_anything.checkpoints.safe_read import Contents, State, read
from depth_anything.checkpoints.safe_write import write_tensors
from depth_anything.checkpoints.transformers import (
    from_transformers,
    preprocessor_config,
    to_transformers,
    transformers_config,
    variant_of_config,
)
from depth_anything.checkpoints.zoedepth import METRIC, from_zoedepth, is_zoedepth, to_zoedepth, with_bins_of
from depth_anything.network import beit_sam, efficientnet
from depth_anything.network.dpt import DPTHead
from depth_anything.network.metric_bins import BinsHead
from depth_anything.system.files import write_text
from depth_anything.variants import NANO, NANO_VIT, VARIANTS, Variant, get_variant, official_file

ENCODER, DECODER = "pretrained.", "depth_head."
SIZE_NAMES = {
    192: "nano-vit", 320: "EfficientNet-Lite0 or 1", 352: "EfficientNet-Lite2",
    384: "ViT-S", 768: "ViT-B", 1024: "ViT-L", 1536: "ViT-g",
}  # fmt: skip
WHOLE = re.compile(
    r"(?P<prefix>(?:.*?\.)??)(?:core\.core\.)?"
    r"(?:pretrained\.(?:cls_token|pos_embed|patch_embed\.conv\.weight)|backbone\.embeddings\.cls_token)"
)
"""Keys by which a whole model, and the prefix that a training script put before all its keys, are recognised."""
BACKBONE = re.compile(r"(?P<prefix>(?:.*?\.)??)(?:embeddings\.)?cls_token")
"""The same for an encoder alone."""


class Model(Protocol):
    """A network with its variant, which can be saved."""

    variant: Variant

    def state_dict(self) -> State: ...


def load(
    id_or_path: str | Path, variant: Variant | str | None = None, accept_license: bool = False
) -> tuple[State, Variant]:
    """Load weights by name, hub id or path.

    Args:
        id_or_path: a name of `VARIANTS`, a checkpoint file, a transformers folder, or a hub id in that layout.
        variant: the model in the file, if the file does not state it (official .pth files do not).
        accept_license: needed once for weights from the hub whose owner does not clearly allow commercial use.

    Returns:
        The state dict with official keys in float32, and its variant.

    Raises:
        ValueError: unknown, ambiguous, damaged or unsuitable; the message states what to do.
    """
    name = str(id_or_path)
    wanted = get_variant(variant) if isinstance(variant, str) else variant
    row = VARIANTS.get(name)
    if row is None and hub.is_repository(name) and not Path(name).expanduser().exists():
        row = hub.variant_of_repository(name)
        if row is None:
            state, found = load_state(hub.find_folder(name, accept_license), wanted)
            return state, replace(found, licence=hub.stated_at(name), commercial=None)
        if name == row.transformers_repo:
            return load_state(hub.find_folder(name, accept_license), wanted or row)
    if row is None:
        return load_state(id_or_path, wanted)
    if wanted is not None and wanted != row:
        raise ValueError(f"{name} is {row.name}, but variant is {wanted.name}: omit variant")
    return load_state(hub.find_weights(row, accept_license), row)


def load_state(path: str | Path, variant: Variant | str | None = None) -> tuple[State, Variant]:
    """Weights from a checkpoint file or a transformers folder; arguments, result and errors as in `load`."""
    path = Path(path).expanduser()
    wanted = get_variant(variant) if isinstance(variant, str) else variant
    contents = read(path)
    contents.state = state = from_zoedepth(without_prefix(path, contents.state))
    for keys, family in (
        (("cls_token", "embeddings.cls_token"), "a DINOv2"),
        ((efficientnet.FOREIGN,), "an EfficientNet"),
    ):
        if any(key in state for key in keys):
            raise ValueError(
                f"{path} is {family} backbone without a decoder: expected a whole model (training may start here)"
            )
    if wanted == NANO and size_of(path, state) == (NANO_VIT.width, NANO_VIT.depth):
        wanted = NANO_VIT  # early versions called it nano; no other row has its size
    row = with_bins_of(path, state, decide_variant(path, contents, wanted))
    refuse_other_size(path, state, row)
    shapes = official_shapes(row)
    if "backbone.embeddings.cls_token" in state:
        state = from_transformers(state, list(shapes))
    refuse_other_keys(path, state, shapes, row.name)
    return {key: state[key].float() for key in shapes}, row


def load_backbone(
    path: str | Path, variant: Variant | str | None = None, accept_license: bool = False, mapped: bool = False
) -> State:
    """Initial weights of the encoder for training, with keys as in `encoder_of(variant).state_dict()`.

    Args:
        path: an official DINOv2 file (`dinov2_vits14_pretrain.pth`), a transformers Dinov2 folder, any whole model that
            `load_state` reads, or a name of `VARIANTS`; a decoder is ignored (V2's metric fine-tuning starts this way).
            For V2's other teachers: a transformers folder of BEiT or SAM, or SynCLR's file. For an EfficientNet: the
            file of its PyPI package.
        variant: the model to train, whose size is then checked; required for the other teachers.
        accept_license: as in `load`.
        mapped: as in `safe_read.read`.

    Raises:
        ValueError: the file does not exist, is damaged, has another size, or has foreign keys (such as registers).
    """
    named = VARIANTS.get(str(path))
    path = hub.find_weights(named, accept_license) if named else Path(path).expanduser()
    wanted = get_variant(variant) if isinstance(variant, str) else variant
    if wanted is not None and wanted.encoder != "dinov2" and path.is_dir():
        return beit_sam.read_folder(path, wanted)
    state = from_zoedepth(without_prefix(path, without_prefix(path, read(path, mapped).state), BACKBONE))
    if wanted is not None and beit_sam.SYNCLR + "cls_token" in state:
        state = beit_sam.from_synclr(state, wanted)
    if efficientnet.FOREIGN in state:
        state = efficientnet.from_package(state)
    if "cls_token" in state or "patch_embed.conv.weight" in state:
        state = {ENCODER + key: tensor for key, tensor in state.items()}
    elif "embeddings.cls_token" in state:
        state = {f"backbone.{key}": tensor for key, tensor in state.items()}
    state = {key: tensor for key, tensor in state.items() if not key.startswith((DECODER, METRIC, "neck.", "head."))}
    if wanted is None:
        fitting = [row for row in VARIANTS.values() if (row.width, row.depth) == size_of(path, state)]
        row = fitting[0] if fitting else VARIANTS["v2-small"]
    else:
        row = wanted
    refuse_other_size(path, state, row)
    shapes = {key: shape for key, shape in official_shapes(row).items() if key.startswith(ENCODER)}
    if "backbone.embeddings.cls_token" in state:
        state = from_transformers(state, list(shapes))
    refuse_other_keys(path, state, shapes, f"the encoder of {row.name}")
    return {key.removeprefix(ENCODER): state[key].float() for key in shapes}


def save(model: Model, path: str | Path, dtype: torch.dtype = torch.float32) -> None:
    """Write our format: safetensors with official keys, and metadata that states the model.

    Args:
        dtype: type of the numbers in the file; float16 halves its size. Loading always returns float32.
            Variances of batch normalisation are float32 in every file.

    Raises:
        ValueError: the name does not end in .safetensors.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: expected a name that ends in .safetensors")
    state = {
        key: tensor.detach().to("cpu", torch.float32 if key.endswith(efficientnet.VARIANCE) else dtype)
        for key, tensor in model.state_dict().items()
    }
    if model.variant.head == "bins":
        state = to_zoedepth(state)
    write_tensors(path, state, metadata_of(model.variant))


def save_transformers(model: Model, folder: str | Path) -> None:
    """Write the transformers layout: model.safetensors, preprocessor_config.json, and config.json last.

    `transformers.AutoModelForDepthEstimation.from_pretrained(folder)`, `pipeline("depth-estimation", folder)` and
    `load` read it. docs/checkpoints.md describes where their results differ from ours.

    Raises:
        ValueError: the transformers layout has no such encoder, head or camera, or the metric range is not a whole
            number of metres, which its config cannot store.
    """
    folder, variant = Path(folder), model.variant
    if variant.encoder != "dinov2":
        raise ValueError(f"{variant.name}: transformers knows this decoder on DINOv2 only; use checkpoints.save")
    if variant.head in ("bins", "log"):
        raise ValueError(
            f"{variant.name} with the head {variant.head!r}: transformers has none such; use checkpoints.save"
        )
    if variant.canonical_focal is not None:
        raise ValueError(
            f"{variant.name} is camera-aware: transformers would take its metres as they are; use checkpoints.save"
        )
    if variant.max_depth is not None and not float(variant.max_depth).is_integer():
        raise ValueError(
            f"range of {variant.max_depth:g} m: transformers holds whole metres only; use checkpoints.save"
        )
    official = {key: tensor.detach().to("cpu", torch.float32) for key, tensor in model.state_dict().items()}
    metadata = {"format": "pt", **metadata_of(variant)}
    write_tensors(folder / "model.safetensors", to_transformers(official), metadata)
    for name, values in (
        ("preprocessor_config.json", preprocessor_config(variant)),
        ("config.json", transformers_config(variant)),
    ):
        write_text(folder / name, json.dumps(values, indent=2) + "\n")


def decide_variant(path: Path, contents: Contents, wanted: Variant | None) -> Variant:
    """The variant on which the metadata, config.json and the argument agree.

    An official file name does not select a variant, but it must not contradict the other sources.

    Raises:
        ValueError: no source states the variant, or two sources disagree.
    """
    claims: dict[str, Variant] = {}
    if "variant" in contents.metadata:
        claims["its metadata states"] = variant_of_metadata(path, contents.metadata, wanted)
    if contents.config is not None:
        claims["its config.json states"] = variant_of_config(contents.config, path, wanted)
    declared = next(iter(claims.values()), None)
    if wanted is not None:
        claims["variant is"] = wanted
    named = next((row for row in VARIANTS.values() if official_file(row) == path.name), None)
    if not claims:
        width, _ = size_of(path, contents.state)
        bins = is_zoedepth(contents.state)
        names = ", ".join(row.name for row in VARIANTS.values() if row.width == width and (row.head == "bins") == bins)
        raise ValueError(
            f"{path} does not state which model it holds (V1, V2 and metric files have the same keys): "
            f"pass variant=, one of {names or ', '.join(VARIANTS)}"
            + (f"; its name is that of {named.name}" if named else "")
        )
    if named is not None:
        claims["its name states"] = named
    (first, row), *others = claims.items()
    for other, claimed in others:
        if (claimed.version, claimed.head, claimed.max_depth) != (row.version, row.head, row.max_depth):
            raise ValueError(
                f"{path}: {first} {label(row)}, but {other} {label(claimed)}: "
                "use the file of the model you mean, or correct (or rename) this one if you are sure"
            )
    if wanted is None:
        return row
    if not declared:
        return wanted
    # Sizes from the argument, which may be a variant of the caller; licence and camera from the file.
    focal = row.canonical_focal or wanted.canonical_focal
    return replace(wanted, licence=row.licence, commercial=row.commercial, canonical_focal=focal)


def label(row: Variant) -> str:
    """Name of a variant, with its range if that differs from the row in `VARIANTS`."""
    usual = VARIANTS.get(row.name)
    if row.head == "log":
        return f"{row.name} in metres without an upper end"
    if row.max_depth is None or (usual is not None and usual.max_depth == row.max_depth):
        return row.name
    return f"{row.name} in metres up to {row.max_depth:g}"


def without_prefix(path: Path, state: State, known: re.Pattern[str] = WHOLE) -> State:
    """The model in the state dict of a training script that also held other modules (`model.pretrained...`,
    `criterion...`), without the prefix of its keys. Any other state dict is returned unchanged.

    Raises:
        ValueError: the state dict holds several models.
    """
    prefixes = sorted({match["prefix"] for key in state if (match := known.fullmatch(key))} - {beit_sam.SYNCLR})
    if len(prefixes) > 1:
        names = ", ".join(prefix or "none" for prefix in prefixes)
        raise ValueError(f"{path} holds several models (prefixes: {names}): save only the one you mean")
    if not prefixes:
        return state
    before = prefixes[0]
    return {key.removeprefix(before): tensor for key, tensor in state.items() if key.startswith(before)}


def size_of(path: Path, state: State) -> tuple[int, int]:
    """Width and number of blocks of the encoder in a state dict with official or transformers keys."""
    blocks = [re.match(r"(?:pretrained\.blocks|backbone\.encoder\.layer)\.(\d+)\.", key) for key in state]
    depth = 1 + max((int(match[1]) for match in blocks if match), default=-1)
    keys = (ENCODER + "cls_token", "backbone.embeddings.cls_token", ENCODER + "pos_embed")  # SAM has no class token
    token = next((state[key] for key in keys if key in state), None)
    if token is not None:
        return token.shape[-1], depth
    last = state.get(f"{ENCODER}blocks.{depth - 1}.project.conv.weight")
    if last is None:
        first = next(iter(state), "none")
        if any("lora_" in key for key in state):
            raise ValueError(f"{path} holds an adapter (LoRA) without its model: merge both and save the whole model")
        raise ValueError(
            f"{path} holds no Depth Anything weights (first key: {first}): expected an official checkpoint"
        )
    return last.shape[0], depth


def refuse_other_size(path: Path, state: State, row: Variant) -> None:
    """Raise ValueError, which names both sizes, if a file does not have the size of `row`."""
    (width, depth), sizes = size_of(path, state), (row.width, row.depth)
    if (width, depth) != sizes:
        found, expected = (f"{SIZE_NAMES.get(w, 'a ViT')} (width {w}, {d} blocks)" for w, d in ((width, depth), sizes))
        raise ValueError(f"{path} holds {found}, but {row.name} is {expected}: pass the file or the variant that fits")


def refuse_other_keys(path: Path, state: State, shapes: dict[str, torch.Size], what: str) -> None:
    """Raise ValueError if keys are missing or unexpected, or have another shape."""
    missing = [key for key in shapes if key not in state]
    unexpected = [key for key in state if key not in shapes]
    reshaped = [key for key, shape in shapes.items() if key in state and state[key].shape != shape]
    whole = [key for key in shapes if key in state and not state[key].is_floating_point()]
    faults = []
    for keys, fault in (
        (missing, "missing"),
        (unexpected, "unexpected"),
        (reshaped, "of another shape"),
        (whole, "not of floats, perhaps quantised"),
    ):
        if keys:
            faults.append(f"{len(keys)} {fault} (first: {keys[0]})")
    if faults:
        raise ValueError(
            f"{path} does not fit {what}: keys {', '.join(faults)}; expected the {len(shapes)} official ones"
        )


@lru_cache(maxsize=4)
def official_shapes(variant: Variant) -> dict[str, torch.Size]:
    """Key -> shape of the state dict of a variant with our names, without allocating it."""
    with torch.device("meta"):
        parts = {ENCODER: beit_sam.encoder_of(variant).state_dict(), DECODER: DPTHead(variant).state_dict()}
        if variant.bins is not None and variant.max_depth is not None:
            parts[METRIC] = BinsHead(variant.features, variant.bins, variant.max_depth).state_dict()
    return {prefix + key: tensor.shape for prefix, part in parts.items() for key, tensor in part.items()}
