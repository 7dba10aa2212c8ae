"""The state of a run, from which it resumes, in one file that is written atomically."""

import json
import os
import pickle
import re
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

from depth_anything.system.files import atomic_path, sync
from depth_anything.train.changes import change
from depth_anything.train.distributed import whole
from depth_anything.train.recipes.base import as_json, changed_fields

STATE_FILE = "state.pt"
"""The newest state."""
OLDER = re.compile(r"state-(\d{8,})\.pt")
"""States of earlier steps."""


class AnyRecipe(Protocol):
    """What the loop needs of a recipe, a frozen dataclass."""

    @property
    def steps(self) -> int:
        """Number of steps of the whole run."""
        ...

    @property
    def clip(self) -> float:
        """Maximum norm of a step's gradient."""
        ...

    def seen(self, steps: int) -> int:
        """Images of the first `steps` steps."""
        ...


R = TypeVar("R", bound=AnyRecipe)
M = TypeVar("M", bound=nn.Module)


@dataclass
class Run(Generic[R, M]):
    """A run in progress. The position in the data and all random draws follow from `step` and the recipe's seed."""

    recipe: R
    model: M
    network: nn.Module
    """The model as prepared for this machine: sharded, replicated, or as it is."""
    optimizer: Optimizer
    average: dict[str, Tensor] = field(default_factory=dict)
    """Running mean of the weights, by state-dict key; empty where the recipe has none."""
    decay: float = 0.0
    """Decay of the running mean per step."""
    step: int = 0
    """Number of completed steps."""
    seconds: float = 0.0
    """Wall-clock time of all steps, also before interruptions."""
    saved: int = 0
    """Step of the newest saved state; 0 if there is none."""
    allowed: tuple[str, ...] = ()
    """Fields of the recipe that may differ from the saved state: deliberate changes."""
    changes: list[dict[str, Any]] = field(default_factory=list)
    """Changes made when the run resumed (`changes.change`)."""

    def whole_average(self, kept: bool = True) -> dict[str, Tensor]:
        """The running mean, or else the weights, unsharded in CPU memory. All processes call this together.

        Args:
            kept: if False, this process only contributes its parts, and gets an empty dict.
        """
        pieces = ((key, whole(tensor)) for key, tensor in (self.average or self.model.state_dict()).items())
        return {key: tensor for key, tensor in pieces if kept}

    def save(self, folder: Path, first: bool = True, keep: int = 1) -> None:
        """Write the state into `folder`, replacing the last one atomically. All processes call this; the first writes.

        Args:
            keep: number of states to keep, including this one; earlier ones are renamed after their step.
        """
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        state = {
            "recipe": as_json(self.recipe),
            "step": self.step,
            "seconds": self.seconds,
            "model": {key: whole(tensor) for key, tensor in self.model.state_dict().items()},
            "optimizer": self._optimizer_state(options),
            "average": {key: whole(tensor) for key, tensor in self.average.items()},
        }
        if first:
            with atomic_path(folder / STATE_FILE) as temporary:
                torch.save(state, temporary)
                sync(temporary)
                if keep > 1:
                    keep_state(folder, self.saved)
            sync(folder)
            for step in older_steps(folder)[: -(keep - 1) or None]:
                older(folder, step).unlink(missing_ok=True)
        self.saved = self.step

    def _optimizer_state(self, options: StateDictOptions) -> dict[str, Any]:
        if not self.optimizer.state:
            # Before the first step, torch creates the state by a step with learning rate 0, and counts that step.
            get_optimizer_state_dict(self.network, self.optimizer, options=options)
            for state in self.optimizer.state.values():
                state["step"].zero_()
        return get_optimizer_state_dict(self.network, self.optimizer, options=options)

    def resume(self, folder: Path) -> bool:
        """Load the newest state file in `folder`, if there is one; return whether there was. Every process reads it.

        Raises:
            ValueError: the state is damaged or belongs to another recipe (`changed_fields`).
        """
        path = newest_state(folder)
        if path is None:
            return False
        state = read(path, mapped=any(isinstance(parameter, DTensor) for parameter in self.model.parameters()))
        written = json.loads(as_named_now(state["recipe"], state["model"]))
        self.changes = deliberate(path, self, written, state["step"])
        options = StateDictOptions(full_state_dict=True)
        set_model_state_dict(self.model, state["model"], options=options)
        if 0 in state["optimizer"]["state"]:  # a segmenter's or a ControlNet's, written by version 0.1
            self.optimizer.load_state_dict(state["optimizer"])
        else:
            set_optimizer_state_dict(self.network, self.optimizer, state["optimizer"], options=options)
        self.average = {key: like(state["average"][key], tensor) for key, tensor in self.average.items()}
        self.step, self.seconds = state["step"], state.get("seconds", 0.0)
        self.saved = self.step
        return True


def older(folder: Path, step: int) -> Path:
    """Path of the state of an earlier step."""
    return folder / f"state-{step:08d}.pt"


def older_steps(folder: Path) -> list[int]:
    """The steps of all states in `folder` except the newest, in order."""
    matches = [OLDER.fullmatch(path.name) for path in folder.glob("state-*.pt")]
    return sorted(int(match[1]) for match in matches if match)


def keep_state(folder: Path, step: int) -> None:
    """Keep the newest state, which is of this step, under the name of an earlier one before the next replaces it."""
    if step and (folder / STATE_FILE).exists():
        name = older(folder, step)
        name.unlink(missing_ok=True)
        try:
            os.link(folder / STATE_FILE, name)
        except OSError:  # no hard links here: there is no state.pt until the next is renamed (see `newest_state`)
            os.replace(folder / STATE_FILE, name)


def newest_state(folder: Path) -> Path | None:
    """The newest state file in `folder`."""
    if (folder / STATE_FILE).exists():
        return folder / STATE_FILE
    steps = older_steps(folder)
    return older(folder, steps[-1]) if steps else None


def state_step(folder: Path) -> int:
    """The step of the newest state file in `folder`; -1 without one.

    Raises:
        ValueError: the file is damaged.
    """
    path = newest_state(folder)
    return -1 if path is None else read(path, mapped=True)["step"]


def deliberate(path: Path, run: Run, written: dict[str, Any], step: int) -> list[dict[str, Any]]:
    """The deliberate changes of a run's recipe relative to `written`, the recipe in the state of `step` at `path`.

    Raises:
        ValueError: a field that may not change differs, too.
    """
    changed = changed_fields(run.recipe, written)
    other = [name for name in changed if name not in run.allowed]
    if other:
        raise ValueError(
            f"{path} belongs to another recipe (see recipe.json beside it; different {', '.join(other)}): "
            "choose another output folder"
        )
    return [change(name, written.get(name), getattr(run.recipe, name), step) for name in changed]


def is_state(path: str | Path) -> bool:
    """Whether a file has the name of a run's state."""
    return Path(path).suffix == ".pt" and Path(path).name.startswith(Path(STATE_FILE).stem)


def weights_of(path: str | Path) -> dict[str, Tensor]:
    """The model's weights in a state: the running mean if the run keeps one, as in final.safetensors.

    Raises:
        ValueError: it is not a state of training for depth.
    """
    if not Path(path).exists():
        raise ValueError(f"{path}: no such file")
    state = read(Path(path))
    if "variant" not in json.loads(state["recipe"]):
        raise ValueError(f"{path} is the state of another kind of training: expected one of depth-anything train")
    return state.get("average") or state["model"]


def as_named_now(recipe: str, weights: dict[str, Tensor]) -> str:
    """A recipe's JSON with the current names: in version 0.1, `nano` was the ViT that is called `nano-vit` now."""
    if json.loads(recipe).get("variant") == "nano" and "pretrained.cls_token" in weights:
        return re.sub(r'"nano(?=["-])', '"nano-vit', recipe)
    return recipe


def like(tensor: Tensor, other: Tensor) -> Tensor:
    """A whole tensor, sharded as `other` is and on its device."""
    if isinstance(other, DTensor):
        return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements)
    return tensor.to(other.device)


def read(path: Path, mapped: bool = False) -> dict[str, Any]:
    """The raw state: tensors and plain values only.

    Args:
        mapped: map the file into memory, so that tensors are read when they are used; the file must exist until then.

    Raises:
        ValueError: it is not a state that this module wrote.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a damaged file may cause any error
        what = "not a file that torch wrote" if isinstance(error, pickle.UnpicklingError) else str(error).strip()
        reason = (what.splitlines() or [type(error).__name__])[0][:120]
        steps = older_steps(path.parent)
        otherwise = f"resume from step {steps[-1]}" if steps else "start the run again"
        raise ValueError(
            f"{path} is damaged or cut short ({path.stat().st_size} bytes; {reason}): delete it to {otherwise}"
        ) from None
    lacking = {"recipe", "step", "model", "optimizer"} - (state.keys() if isinstance(state, dict) else set())
    if lacking:
        raise ValueError(f"{path} is not the state of a run (no {', '.join(sorted(lacking))}): move it away")
    return state
