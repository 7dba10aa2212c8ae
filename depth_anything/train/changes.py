"""What is changed on purpose when a run goes on: allowed by name, and recorded in recipe.json."""

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
    """What a run does otherwise than its state says."""

    fields: tuple[str, ...] = ()
    """Of the recipe: those that may have another value than so far."""
    skip_to: int | None = None
    """Go on with this step, if it lies ahead; the steps before it are left out."""


def change(name: str, before: Any, after: Any, step: int) -> dict[str, Any]:
    """One change as recipe.json records it."""
    return {
        "step": step,
        "field": name,
        "from": before,
        "to": after,
        "by": f"{user()}@{platform.node()}",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def user() -> str:
    """Who runs this process; its number where a machine has no names."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def record(folder: Path, recipe: Any, made: list[dict[str, Any]]) -> None:
    """Write recipe.json: every field, and below `changes` what was changed on the way, by whom, at which step."""
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
