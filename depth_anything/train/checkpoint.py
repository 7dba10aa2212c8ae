"""A run on disk: everything that decides how it goes on, in one file that is whole or not there."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

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

from depth_anything.system.files import atomic_path
from depth_anything.train.distributed import whole
from depth_anything.train.recipes.base import as_json, changed_fields

STATE_FILE = "state.pt"


class AnyRecipe(Protocol):
    """What the loop asks of a recipe, a frozen dataclass."""

    @property
    def steps(self) -> int:
        """Of the whole run."""
        ...

    @property
    def clip(self) -> float:
        """Largest norm of a step's gradient."""
        ...

    def seen(self, steps: int) -> int:
        """Pictures of the first `steps` steps."""
        ...


R = TypeVar("R", bound=AnyRecipe)
M = TypeVar("M", bound=nn.Module)


@dataclass
class Run(Generic[R, M]):
    """A training in progress. The data's position and all random draws follow from `step` and the recipe's seed."""

    recipe: R
    model: M
    network: nn.Module
    """The model as the machine runs it: in parts, in copies, or as it is."""
    optimizer: Optimizer
    average: dict[str, Tensor] = field(default_factory=dict)
    """Running mean of the weights, by state-dict key; empty where the recipe has none."""
    decay: float = 0.0
    """Of the running mean, a step."""
    step: int = 0
    """Steps done."""
    seconds: float = 0.0
    """Wall clock spent, over all sittings."""

    def whole_average(self) -> dict[str, Tensor]:
        """The running mean, or the weights, in one piece on the processor. All processes call this together."""
        return {key: whole(tensor) for key, tensor in (self.average or self.model.state_dict()).items()}

    def save(self, folder: Path, first: bool = True) -> None:
        """Write the state into `folder`, replacing the last one at once. All processes call this, the first writes."""
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state = {
            "recipe": as_json(self.recipe),
            "step": self.step,
            "seconds": self.seconds,
            "model": {key: whole(tensor) for key, tensor in self.model.state_dict().items()},
            "optimizer": get_optimizer_state_dict(self.network, self.optimizer, options=options),
            "average": {key: whole(tensor) for key, tensor in self.average.items()},
        }
        if first:
            with atomic_path(folder / STATE_FILE) as temporary:
                torch.save(state, temporary)

    def resume(self, folder: Path) -> bool:
        """Go on from the state in `folder`, if there is one. Every process reads the file.

        Raises:
            ValueError: the state is broken or belongs to another recipe (`changed_fields`).
        """
        path = folder / STATE_FILE
        if not path.exists():
            return False
        state = read(path)
        changed = changed_fields(self.recipe, json.loads(state["recipe"]))
        if changed:
            raise ValueError(
                f"{path} belongs to another recipe (recipe.json beside it; other {', '.join(changed)}): "
                "choose another output folder"
            )
        options = StateDictOptions(full_state_dict=True)
        set_model_state_dict(self.model, state["model"], options=options)
        if 0 in state["optimizer"]["state"]:  # a segmenter's or a ControlNet's, written by version 0.1
            self.optimizer.load_state_dict(state["optimizer"])
        else:
            set_optimizer_state_dict(self.network, self.optimizer, state["optimizer"], options=options)
        self.average = {key: like(state["average"][key], tensor) for key, tensor in self.average.items()}
        self.step, self.seconds = state["step"], state.get("seconds", 0.0)
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
