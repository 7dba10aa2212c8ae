"""Scores on disk, one line an image, so that a stopped evaluation resumes."""

import re
from pathlib import Path
from typing import Any

from depth_anything.system import json_lines
from depth_anything.system.files import make_folder


class Journal:
    """A file of JSON lines: first what was measured and how, then one object per image.

    Every line is written as soon as it is known. A last line that was cut short by an interrupt is dropped, and
    its image is evaluated again.

    Args:
        path: the file; made, with its folders, where it is not there.
        definition: what every score in it depends on. A file that was made under another one is refused. Floats may
            differ by a thousandth of the largest of them: another processor is not another model.
        trusted: False begins anew whatever is there.

    Raises:
        ValueError: the file holds scores of another definition, or is damaged.
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
                f"{path} holds scores of another {' and '.join(other)}: choose another --out, or remove the file"
            )
        self.entries = {line["key"]: line for line in lines[1:]}

    def add(self, key: str, **entry: Any) -> None:
        """Keep an image's entry; the first one stays."""
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
