"""A run on disk: everything that decides how it goes on, in one file that is whole or not there."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from depth_anything.files import atomic_path
from depth_anything.model import DepthAnything
from depth_anything.train.recipes import Recipe

STATE_FILE = "state.pt"


@dataclass
class Run:
    """A training in progress. The data's position and all random draws follow from `step` and the recipe's seed."""

    recipe: Recipe
    model: DepthAnything
    optimizer: Optimizer
    average: dict[str, Tensor]
    """Running mean of the weights, by state-dict key; the weights' own copies where the recipe has none."""
    step: int = 0
    """Steps done."""
    seconds: float = 0.0
    """Wall clock spent, over all sittings."""

    def save(self, folder: Path) -> None:
        """Write the state into `folder`, replacing the last one at once."""
        state = {
            "recipe": self.recipe.as_json(),
            "step": self.step,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
        }
        with atomic_path(folder / STATE_FILE) as temporary:
            torch.save(state, temporary)

    def resume(self, folder: Path) -> bool:
        """Go on from the state in `folder`, if there is one.

        Raises:
            ValueError: the state is broken or belongs to another recipe.
        """
        path = folder / STATE_FILE
        if not path.exists():
            return False
        state = read(path)
        if state["recipe"] != self.recipe.as_json():
            raise ValueError(f"{path} belongs to another recipe (recipe.json beside it): choose another output folder")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = state["average"]
        self.step, self.seconds = state["step"], state["seconds"]
        return True


def read(path: Path) -> dict[str, Any]:
    """The raw state, tensors and plain values only.

    Raises:
        ValueError: not a state that this module wrote.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} cannot be read ({error}): delete it to start the run again") from None
