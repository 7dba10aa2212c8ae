"""Writing tensors as safetensors: whole or not at all, equal tensors as equal bytes. Independent of models."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from depth_anything.system.files import atomic_path


def write_tensors(path: str | os.PathLike[str], state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors on any device under their names.

    The library writes under a hidden name of its own and renames, so a folder is made for it: what is left there by a
    process that was killed is recognised and removed.

    Raises:
        NotWritten: no space, or no permission.
    """
    on_cpu = {key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}
    with atomic_path(path, own_folder=True) as temporary:
        save_file(on_cpu, temporary, dict(metadata))
        _sort_metadata(temporary)


def _sort_metadata(path: Path) -> None:
    """Sort the metadata of a file, whose order the library does not fix: equal weights then give equal bytes.

    The order of keys does not change the length of the header.
    """
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
        assert len(text) == length, "the header changed its length"
        file.seek(8)
        file.write(text)
