"""Tensors in files, safely: safetensors, torch pickles, folders with config.json. Knows nothing of models.

Pickles are read as tensors only (`weights_only=True`): code in them never runs.
"""

import json
import pickle
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

State = dict[str, Tensor]


@dataclass
class Contents:
    """What a file or folder holds, as found."""

    state: State
    metadata: dict[str, str] = field(default_factory=dict)
    """Of safetensors files."""
    config: dict[str, Any] | None = None
    """config.json of a transformers folder."""


def read(path: Path) -> Contents:
    """The tensors of a checkpoint file or a transformers folder, with what stands beside them.

    Raises:
        ValueError: nothing there, or not readable as weights.
    """
    if not path.exists():
        raise ValueError(
            f"no file or folder {path}: expected a checkpoint, a transformers folder, or one of `depth-anything models`"
        )
    folder = path if path.is_dir() else path.parent
    if path.is_dir():
        names = ("model.safetensors.index.json", "model.safetensors", "pytorch_model.bin")
        path = next((folder / name for name in names if (folder / name).exists()), path)
        if path.is_dir():
            raise ValueError(f"{folder} holds none of {', '.join(names)}: expected a folder in the transformers layout")
    if path.name.endswith(".index.json"):
        shards = sorted(set(read_json(path).get("weight_map", {}).values()))
        parts = [read_file(folder / Path(shard).name) for shard in shards]
        contents = Contents({key: tensor for part in parts for key, tensor in part.state.items()})
    else:
        contents = read_file(path)
    in_layout = any(key.startswith(("backbone.", "embeddings.")) for key in contents.state)
    if in_layout and (folder / "config.json").exists():
        contents.config = read_json(folder / "config.json")
    return contents


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; ValueError where it is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not readable as JSON ({error}): bring it again") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds a JSON {type(values).__name__}: expected an object")
    return values


def read_file(path: Path) -> Contents:
    """The tensors of one file: safetensors, or a pickle of tensors alone. Its first bytes decide, not its name."""
    if not path.exists():
        raise ValueError(f"no file {path}, which its index names: bring all parts")
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:9] == b"{":
        try:
            with safe_open(path, framework="pt") as file:
                return Contents({key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {})  # noqa: SIM118
        except SafetensorError as error:
            raise damaged(path, error) from None
    if head[:2] == b"PK" or head[:1] == b"\x80":
        return Contents(tensors_of(path, unpickle(path)))
    raise ValueError(f"{path} is not a checkpoint (it begins with {head!r}): expected .pth or .safetensors")


def unpickle(path: Path) -> object:
    """A torch file, tensors and plain values only.

    Raises:
        ValueError: it wants to run code, or it is damaged.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wish = re.search(r"unsupported global:? (?:global )?([\w.]+)", str(error), re.IGNORECASE)
        if wish is None and "Unsupported" not in str(error):
            raise damaged(path, error) from None
        code = f"code in it ({wish[1]})" if wish else "more in it than tensors, or damage"
        raise ValueError(
            f"{path} is a pickle with {code}; nothing of it was run: bring tensors only, .safetensors best"
        ) from None
    except Exception as error:  # what is broken inside a file may surface as any error
        raise damaged(path, error) from None


def damaged(path: Path, error: Exception) -> ValueError:
    """The line for a file that ends early or is broken inside."""
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
    return ValueError(
        f"{path} is damaged or cut short ({path.stat().st_size} bytes; {reason}): download or copy it again"
    )


def tensors_of(path: Path, value: object) -> State:
    """The state dict in what was unpickled: itself, or under "model" or "state_dict", as training scripts save it.

    V2's metric training saves `{"model": ..., "optimizer": ...}` from a DistributedDataParallel, whose keys start with
    `module.`.
    """
    for wrapper in ("model", "state_dict"):
        if isinstance(value, dict) and isinstance(value.get(wrapper), dict):
            value = value[wrapper]
    if not isinstance(value, dict) or not all(isinstance(tensor, Tensor) for tensor in value.values()):
        raise ValueError(f"{path} holds a {type(value).__name__} that is no state dict: expected key -> tensor")
    if value and all(str(key).startswith("module.") for key in value):
        return {str(key).removeprefix("module."): tensor for key, tensor in value.items()}
    return {str(key): tensor for key, tensor in value.items()}
