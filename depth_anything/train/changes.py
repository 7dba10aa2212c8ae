"""Deliberate changes when a run resumes: allowed by the field's name, and recorded in recipe.json."""

import getpass
import json
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from depth_anything.system.files import atomic_path
from depth_anything.train.recipes.base import as_json

RECIPE_FILE = "recipe.json"


@dataclass(frozen=True, kw_only=True)
class Changes:
    """The deliberate differences of a run from its saved state."""

    fields: tuple[str, ...] = ()
    """Names of the recipe's fields that may have a new value."""
    skip_to: int | None = None
    """Continue with this step if it is later than the saved one; the steps between are skipped."""


def change(name: str, before: Any, after: Any, step: int) -> dict[str, Any]:
    """A change as it is recorded in recipe.json."""
    return {
        "step": step,
        "field": name,
        "from": before,
        "to": after,
        "by": f"{user()}@{platform.node()}",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def user() -> str:
    """Name of the user who runs this process; `unknown` if the machine has no name for it."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def record(folder: Path, recipe: Any, made: list[dict[str, Any]]) -> None:
    """Write recipe.json: every field, and under `changes` what was changed during the run, at which step, by whom."""
    path = folder / RECIPE_FILE
    earlier = []
    if path.exists():
        try:
            earlier = json.loads(path.read_text(encoding="utf-8")).get("changes", [])
        except ValueError:
            earlier = []
    known = {(one["field"], json.dumps(one["to"])): one["step"] for one in earlier}
    new = [one for one in made if known.get((one["field"], json.dumps(one["to"]))) != one["step"]]
    text = as_json(recipe)
    if earlier or new:
        text = json.dumps(json.loads(text) | {"changes": [*earlier, *new]}, indent=1) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
