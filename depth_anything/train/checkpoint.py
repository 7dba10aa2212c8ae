"""A run on disk: everything that decides how it goes on, in one file that is whole or not there."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from depth_anything.network.model import DepthAnything
from depth_anything.system.files import atomic_path
from depth_anything.train.distributed import whole
from depth_anything.train.recipes.base import Recipe

STATE_FILE = "state.pt"


@dataclass
class Run:
    """A training in progress. The data's position and all random draws follow from `step` and the recipe's seed."""

    recipe: Recipe
    model: DepthAnything
    network: nn.Module
    """The model as the machine runs it: in parts, in copies, or as it is."""
    optimizer: Optimizer
    average: dict[str, Tensor]
    """Running mean of the weights, by state-dict key; the weights' own copies where the recipe has none."""
    step: int = 0
    """Steps done."""
    seconds: float = 0.0
    """Wall clock spent, over all sittings."""

    def whole_average(self) -> dict[str, Tensor]:
        """The running mean in one piece on the processor. All processes call this together."""
        return {key: whole(tensor) for key, tensor in self.average.items()}

    def save(self, folder: Path, first: bool = True) -> None:
        """Write the state into `folder`, replacing the last one at once. All processes call this, the first writes."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state = {
            "recipe": self.recipe.as_json(),
            "step": self.step,
            "seconds": self.seconds,
            "model": {key: whole(tensor) for key, tensor in self.model.state_dict().items()},
            "optimizer": get_optimizer_state_dict(self.network, self.optimizer, options=options),
            "average": self.whole_average(),
        }
        if first:
            with atomic_path(folder / STATE_FILE) as temporary:
                torch.save(state, temporary)

    def resume(self, folder: Path) -> bool:
        """Go on from the state in `folder`, if there is one. Every process reads the file.

        Raises:
            ValueError: the state is broken or belongs to another recipe.
        """
        path = folder / STATE_FILE
        if not path.exists():
            return False
        state = read(path)
        if state["recipe"] != self.recipe.as_json():
            raise ValueError(f"{path} belongs to another recipe (recipe.json beside it): choose another output folder")
        options = StateDictOptions(full_state_dict=True)
        set_model_state_dict(self.model, state["model"], options=options)
        set_optimizer_state_dict(self.network, self.optimizer, state["optimizer"], options=options)
        self.average = {key: like(tensor, self.average[key]) for key, tensor in state["average"].items()}
        self.step, self.seconds = state["step"], state["seconds"]
        return True


def like(tensor: Tensor, other: Tensor) -> Tensor:
    """A whole tensor, in parts where the other one is, on its device."""
    if isinstance(other, DTensor):
        return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements)
    return tensor.to(other.device)


def read(path: Path) -> dict[str, Any]:
    """The raw state, tensors and plain values only.

    Raises:
        ValueError: not a state that this module wrote.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} cannot be read ({error}): delete it to start the run again") from None
