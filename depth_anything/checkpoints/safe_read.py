"""Safe reading of tensors from files: safetensors, torch pickles, folders with config.json. Independent of models.

Pickles are read as tensors only (`weights_only=True`): code in them never runs. docs/checkpoints.md lists the results
for unusual files; tests/checkpoints/test_odd_checkpoints.py writes such files.
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from depth_anything.checkpoints.hub import no_such_model
from depth_anything.system.files import read_json, told_by

State = dict[str, Tensor]

IN_FOLDER = ("model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin")
"""Files with the weights in a transformers folder; the first that exists is read."""
WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "module", "net", "network", "weights", "params",
    "model_ema", "ema", "ema_state_dict", "model_ema_state_dict", "state_dict_ema", "ema_model", "teacher", "student",
)  # fmt: skip
"""Keys under which training scripts save the weights of the model, beside the state of the optimizer and others."""
IN_BETWEEN = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""Parts that torch.compile, FSDP and activation checkpointing add to the names of modules."""


@dataclass
class Contents:
    """Unmodified content of a file or folder."""

    state: State
    metadata: dict[str, str] = field(default_factory=dict)
    """Metadata of a safetensors file."""
    config: dict[str, Any] | None = None
    """config.json of a transformers folder."""


def read(path: Path, mapped: bool = False) -> Contents:
    """The tensors of a checkpoint file or a transformers folder, with their metadata.

    Args:
        mapped: leave the tensors of torch's files in the file, as those of safetensors are left anyway: pages that many
            processes share, and that the machine takes back when it needs them. The file must not change meanwhile.

    Raises:
        ValueError: the path does not exist, cannot be read as weights, or holds NaN or infinite values.
    """
    if not path.exists():
        raise ValueError(no_such_model(str(path)))
    folder = path if path.is_dir() else path.parent
    if path.is_dir():
        path = weights_in(folder)
    if path.name.endswith(".index.json"):
        parts = [read_file(shard, mapped) for shard in shards_of(path)]
        contents = Contents({key: tensor for part in parts for key, tensor in part.state.items()})
    else:
        contents = read_file(path, mapped)
    in_layout = any(key.endswith("embeddings.cls_token") or key.startswith("backbone.") for key in contents.state)
    if in_layout and (folder / "config.json").exists():
        contents.config = read_json(folder / "config.json")
    return contents


def weights_in(folder: Path) -> Path:
    """The file with the weights, or with their index, in a folder in the transformers layout.

    Raises:
        ValueError: there is none; the message names what the folder holds instead.
    """
    found = next((folder / name for name in IN_FOLDER if (folder / name).exists()), None)
    if found is not None:
        return found
    expected = f"a folder in the transformers layout ({', '.join(IN_FOLDER)})"
    if (folder / ".metadata").is_file():
        raise ValueError(
            f"{folder} is a checkpoint of torch.distributed in parts: join them with "
            "`python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE`"
        )
    suffixes = (".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".onnx", ".xml")
    files = sorted(path.name for path in folder.iterdir() if path.suffix in suffixes and path.name[0] != ".")
    if files:
        raise ValueError(f"{folder}: give the path of a file in it ({', '.join(files[:3])}), or {expected}")
    others = [name for name in ("tf_model.h5", "flax_model.msgpack") if (folder / name).exists()]
    if others:
        raise ValueError(f"{folder} holds weights for another library only ({', '.join(others)}): expected {expected}")
    raise ValueError(f"{folder} holds none of {', '.join(IN_FOLDER)}: expected a folder in the transformers layout")


def shards_of(index: Path) -> list[Path]:
    """The files that an index names, in the folder of the index, whatever folders it names."""
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise ValueError(f"{index} holds no weight_map (tensor -> file): download it again")
    shards = [index.parent / Path(name).name for name in sorted(set(names.values()))]
    for shard in shards:
        if not shard.exists():
            raise ValueError(f"no file {shard}, which its index names: download all parts")
    return shards


def read_file(path: Path, mapped: bool = False) -> Contents:
    """The tensors of one file, safetensors or a pickle of tensors only. Its first bytes decide, not its name."""
    if not path.is_file():
        raise ValueError(f"{path} is not a regular file: expected a checkpoint")
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise ValueError(f"{path} is not a checkpoint (it is empty): download or copy it again")
    metadata: dict[str, str] = {}
    if head[8:9] == b"{" and not head.startswith(b"PK"):
        try:
            with safe_open(path, framework="pt") as file:
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                metadata = file.metadata() or {}
        except (
            SafetensorError,
            OSError,
            RuntimeError,
            AttributeError,
        ) as error:  # the last one: a type that torch does not have
            raise damaged(path, error) from None
    elif head.startswith((b"PK", b"\x80")):
        if head.startswith(b"PK"):
            refuse_other_zip(path)
        state = tensors_of(path, unpickle(path, mapped and head.startswith(b"PK")))
    else:
        if what := told_by(head):
            raise ValueError(f"{path} is not a checkpoint but {what}: expected .pth or .safetensors")
        if head.startswith(b"\x08"):  # the first field of its protobuf
            raise ValueError(f"{path} is not a checkpoint but perhaps an ONNX model: give it a name that ends in .onnx")
        raise ValueError(f"{path} is not a checkpoint (it begins with {head[:9]!r}): expected .pth or .safetensors")
    state = {IN_BETWEEN.sub("", key): tensor for key, tensor in state.items()}
    if state and all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    refuse_not_finite(path, state)
    return Contents(state, metadata)


def refuse_other_zip(path: Path) -> None:
    """Raise ValueError for a zip file that torch.save did not write; the message states what it holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise damaged(path, error) from None
    ends = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in ends:
        raise ValueError(
            f"{path} is a TorchScript archive (torch.jit), a network with its code: save the state dict of the "
            "original model instead, or export it with `depth-anything export`"
        )
    if "data.pkl" in ends:
        return
    if ends & {"serialized_exported_program.json", "archive_format"}:
        raise ValueError(f"{path} is a program of torch.export: save the state dict of the original model instead")
    if names and all(name.endswith(".npy") for name in names):
        raise ValueError(f"{path} is an NPZ of NumPy arrays: expected .pth or .safetensors")
    first = f", first {names[0]}" if names else ""
    raise ValueError(
        f"{path} is a zip archive ({len(names)} files{first}), not a checkpoint of torch: unpack it and give the "
        "checkpoint in it"
    )


def unpickle(path: Path, mapped: bool = False) -> object:
    """Read a torch file, restricted to tensors and plain values.

    Raises:
        ValueError: the file contains code, or is damaged.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        wish = re.search(r"unsupported global:? (?:global )?([\w.]+)", str(error), re.IGNORECASE)
        if wish is None and "Unsupported" not in str(error):
            raise damaged(path, error) from None
        code = f"code in it ({wish[1]})" if wish else "more in it than tensors, or damage"
        raise ValueError(
            f"{path} is a pickle with {code}; nothing of it was run: save tensors only "
            "(torch.save(model.state_dict(), FILE)), preferably as .safetensors"
        ) from None
    except Exception as error:  # damaged files may raise any exception
        raise damaged(path, error) from None


def damaged(path: Path, error: Exception) -> ValueError:
    """The error for a file that is truncated or damaged."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
    return ValueError(
        f"{path} is damaged or cut short ({path.stat().st_size} bytes; {reason}): download or copy it again"
    )


def tensors_of(path: Path, value: object) -> State:
    """The state dict in an unpickled object: the object itself, or under one of `WRAPPERS`, which may be nested.

    Raises:
        ValueError: there is no state dict, or there are several.
    """
    while isinstance(value, Mapping) and not is_state(value):
        inner = [name for name in WRAPPERS if isinstance(value.get(name), Mapping)]
        states = [name for name in inner if is_state(value[name])] or inner
        if len(states) > 1:
            raise ValueError(
                f"{path} holds several sets of weights ({', '.join(states)}): save only the one you mean, for example "
                f"with torch.save(torch.load(FILE)[{states[-1]!r}], NEW_FILE)"
            )
        if not states:
            keys = ", ".join(str(key)[:40] for key in list(value)[:5]) or "nothing"
            raise ValueError(
                f"{path} holds a dict that is no state dict (its keys: {keys}): expected key -> tensor, alone or under "
                f"{', '.join(WRAPPERS[:4])}"
            )
        value = value[states[0]]
    if not isinstance(value, Mapping):
        raise ValueError(f"{path} holds a {type(value).__name__} that is no state dict: expected key -> tensor")
    return {str(key): tensor for key, tensor in value.items()}


def is_state(value: Mapping) -> bool:
    """Whether this is a dict from names to tensors, with at least one entry."""
    return len(value) > 0 and all(isinstance(tensor, Tensor) for tensor in value.values())


def refuse_not_finite(path: Path, state: State) -> None:
    """Raise ValueError, which names the first tensor that has NaN, infinite or no values."""
    for key, tensor in state.items():
        if tensor.is_meta:
            raise ValueError(f"{path}: the tensor {key} has no values (it was saved from the meta device)")
        if not tensor.is_floating_point() or tensor.numel() == 0 or torch.isfinite(tensor.float().sum()):
            continue
        wrong = int((~torch.isfinite(tensor.float())).sum())
        if wrong:  # 0 if only the sum overflowed
            raise ValueError(
                f"{path}: {wrong} of the {tensor.numel()} numbers in the tensor {key} are NaN or infinite, so the "
                "training that wrote it had diverged: use an earlier checkpoint"
            )
