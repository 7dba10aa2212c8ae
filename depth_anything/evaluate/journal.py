"""Scores on disk, one line per image, from which an interrupted evaluation resumes."""

import re
from pathlib import Path
from typing import Any

from depth_anything.system import json_lines
from depth_anything.system.files import make_folder


class Journal:
    """A file of JSON lines: first the definition of the scores, then one object per image.

    Every line is written immediately. An incomplete last line is dropped, and its image is evaluated again.

    Args:
        path: the file; created with its folders if missing.
        definition: everything that the scores depend on. A file with another definition is refused. Floats may differ
            by a thousandth of the largest of them, because CPUs differ.
        trusted: False starts a new file in any case.

    Raises:
        ValueError: the file has scores of another definition, or is damaged.
    """

    def __init__(self, path: Path, definition: dict[str, Any], trusted: bool = True):
        self.path = path
        self.entries: dict[str, dict[str, Any]] = {}
        make_folder(path.parent)
        if not trusted:
            path.unlink(missing_ok=True)
        lines = json_lines.cut_back(path)
        if not lines:
            json_lines.append(path, definition)
            return
        other = [key for key in definition if not _same(definition[key], lines[0].get(key))]
        if other:
            raise ValueError(
                f"{path} has scores of another {' and '.join(other)}: choose another --out, or remove the file"
            )
        self.entries = {line["key"]: line for line in lines[1:]}

    def add(self, key: str, **entry: Any) -> None:
        """Add the entry of an image, unless there is one already."""
        if key not in self.entries:
            self.entries[key] = {"key": key} | entry
            json_lines.append(self.path, self.entries[key])


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return all(abs(x - y) <= 1e-3 * max(map(abs, a)) for x, y in zip(a, b, strict=True))
    return a == b


def file_name(model: str) -> str:
    """A model's name as a file name: hf:Intel/dpt-large becomes hf_Intel_dpt-large."""
    return re.sub(r"[^\w.-]+", "_", model).strip("_")
