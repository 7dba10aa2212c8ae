"""Files of JSON objects, one per line, which grow while a program runs and from which it resumes."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from depth_anything.system.files import naming, write_text


def append(path: Path, entry: dict[str, Any]) -> None:
    """Append an object and flush it; if the disk fails, nothing of it remains."""
    line = (json.dumps(entry) + "\n").encode()
    with naming(path), path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            while line:
                line = line[file.write(line) :]
        except OSError:
            with suppress(OSError):
                os.truncate(path, before)
            raise


def cut_back(path: Path, keep: Callable[[dict[str, Any]], bool] = lambda entry: True) -> list[dict[str, Any]]:
    """The objects of a file for which `keep` is true; the others are removed from the file. Empty if there is no file.

    An incomplete last line, from an interrupted write, is removed, too.

    Raises:
        ValueError: a complete line is not JSON; the message names the file.
    """
    if not path.exists():
        return []
    try:
        text = path.read_text(encoding="utf-8")
        *whole, rest = text.split("\n")
        entries = [json.loads(line) for line in whole]
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): remove it") from None
    kept = [entry for entry in entries if keep(entry)]
    if rest or len(kept) < len(entries):
        write_text(path, "".join(json.dumps(entry) + "\n" for entry in kept))
    return kept
