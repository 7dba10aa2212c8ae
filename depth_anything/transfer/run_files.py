"""A run of this folder on disk: its recipe, its curve, and the state from which it goes on."""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from depth_anything.system.files import atomic_path, naming
from depth_anything.train.checkpoint import STATE_FILE, read

LOG = logging.getLogger(__name__)
CURVE = "curve.jsonl"


def save(out: Path, recipe: str, step: int, model: nn.Module, optimizer: Optimizer) -> None:
    """Write state.pt, replacing the last one at once."""
    state = {"recipe": recipe, "step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    with atomic_path(out / STATE_FILE) as temporary:
        torch.save(state, temporary)


def resume(out: Path, recipe: str, model: nn.Module, optimizer: Optimizer) -> int:
    """Go on from state.pt, if there is one; answers the steps done.

    Raises:
        ValueError: the state is broken or belongs to another recipe.
    """
    path = out / STATE_FILE
    if not path.exists():
        return 0
    state = read(path)
    if state["recipe"] != recipe:
        raise ValueError(f"{path} belongs to another recipe (recipe.json beside it): choose another output folder")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def start(out: Path, recipe: str, step: int) -> None:
    """Write recipe.json, and cut from the curve what came behind the state: those steps will be done again."""
    with atomic_path(out / "recipe.json") as temporary:
        temporary.write_text(recipe)
    if not (out / CURVE).exists():
        return
    lines = (out / CURVE).read_text().splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    with atomic_path(out / CURVE) as temporary:
        temporary.write_text("".join(kept))


def note(out: Path, entry: dict[str, Any]) -> None:
    """One line of curve.jsonl, and of the log."""
    LOG.info("  ".join(f"{name} {value:.5g}" for name, value in entry.items()))
    with naming(out / CURVE), (out / CURVE).open("a") as file:
        file.write(json.dumps(entry) + "\n")
