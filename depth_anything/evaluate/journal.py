"""Scores on disk, one line an image, so that a stopped evaluation goes on where it was."""

import json
import re
from pathlib import Path
from typing import Any

from depth_anything.system.files import make_folder, naming


class Journal:
    """A file of JSON lines: first what was measured and how, then one object per image.

    Every line is written as soon as it is known. A last line that was cut short, by a stop in the middle of writing,
    is dropped and its image done again.

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
        lines = self._whole_lines()
        if not lines:
            self._append(definition)
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
            self._append({"key": key} | entry)
            self.entries[key] = {"key": key} | entry

    def _append(self, line: dict[str, Any]) -> None:
        with naming(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _whole_lines(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            with self.path.open("r+b") as file:
                file.truncate(len(whole))
        try:
            return [json.loads(line) for line in whole.decode().splitlines()]
        except ValueError as error:
            raise ValueError(f"{self.path} is damaged ({error}): remove it, its images are then done again") from None


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return all(abs(x - y) <= 1e-3 * max(map(abs, a)) for x, y in zip(a, b, strict=True))
    return a == b


def file_name(model: str) -> str:
    """A model's name as a file name: hf:Intel/dpt-large becomes hf_Intel_dpt-large."""
    return re.sub(r"[^\w.-]+", "_", model).strip("_")
