"""Odd steps: those that are not finite are skipped, gradient spikes are reported, and both name their images; a run
whose gradient is 0 ends."""

import logging
import math
from collections import deque
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from depth_anything.system import json_lines
from depth_anything.train.checkpoint import Run
from depth_anything.train.distributed import any_rank, gathered

LOG = logging.getLogger(__name__)
ODD_FILE = "odd_steps.jsonl"
MOST_IN_A_ROW = 10
"""Number of consecutive steps that are not finite after which the run ends."""
SPIKE = 10.0
"""A gradient norm above this multiple of the median of the last ones is a spike."""
REMEMBERED, FEWEST = 200, 50
"""Largest and smallest number of norms for the median."""
NAMED = 3
"""Number of images in a warning; the file has all of them."""


class ConstantOutput(ValueError):
    """The network's last ReLU passes nothing, so that no step changes its output."""


class OddSteps:
    """Writes a line of `odd_steps.jsonl` per odd step. On resuming, lines after the resumed step are removed."""

    def __init__(self, folder: Path, step: int, steps: int, first: bool):
        self.path, self.first, self.steps = folder / ODD_FILE, first, steps
        kept = json_lines.cut_back(self.path, lambda entry: entry["step"] < step) if first else []
        self.skipped = sum(entry["skipped"] for entry in kept)
        """Number of skipped steps of the whole run so far; only in the first process."""
        self.in_a_row = 0
        self.norms: deque[float] = deque(maxlen=REMEMBERED)

    def skip(self, step: int, losses: list[float], norm: float, names: Callable[[list[int]], list[str]]) -> None:
        """Record a step that is not finite. All processes call this together.

        Args:
            losses: of this process's slices.
            names: returns the keys of the images in the given slices, by their positions among this process's slices.

        Raises:
            ValueError: it is the last of MOST_IN_A_ROW such steps in a row.
        """
        lost = [place for place, loss in enumerate(losses) if not math.isfinite(loss)]
        elsewhere = any(gathered(bool(lost)))
        suspects = lost if elsewhere else list(range(len(losses)))
        what = "loss" if elsewhere else "gradient"
        named = self.write(step, True, what, losses, norm, names(suspects))
        self.skipped += 1
        self.in_a_row += 1
        if self.in_a_row == min(MOST_IN_A_ROW, self.steps):
            raise ValueError(
                f"the {what} is not finite at step {step}, as at all of the last {self.in_a_row} (their images: "
                f"{self.path}): resume from the last state with a lower --learning-rate, or after them with --skip-to"
            )
        if self.first:
            LOG.warning("skipped step %d: its %s is not finite; images: %s", step, what, named)

    def taken(self, step: int, losses: list[float], norm: float, names: Callable[[list[int]], list[str]]) -> None:
        """Note a finite step; report it if its gradient is a spike. All processes call this with the same norm.

        Raises:
            ConstantOutput: most of the last gradients were exactly 0.
        """
        self.in_a_row = 0
        usual = median(self.norms) if len(self.norms) >= FEWEST else math.inf
        if usual == 0:
            raise ConstantOutput(
                f"the gradient was exactly 0 at most of the last {len(self.norms)} steps (step {step}): the output is "
                "constant, and training cannot recover. Start again in another folder with a lower --learning-rate or "
                "another --seed"
            )
        if norm > SPIKE * usual:
            named = self.write(step, False, "spike", losses, norm, names(list(range(len(losses)))))
            if self.first:
                LOG.warning("step %d: a gradient of %.3g, usually %.3g; images: %s", step, norm, usual, named)
        self.norms.append(norm)

    def write(self, step: int, skipped: bool, what: str, losses: list[float], norm: float, images: list[str]) -> str:
        """Add a line with the losses and images of all processes; return the first few images as text."""
        processes = gathered({"losses": [printed(loss) for loss in losses], "images": images})
        if self.first:
            about = {"step": step, "skipped": skipped, "what": what, "gradient_norm": printed(norm)}
            json_lines.append(self.path, about | {"processes": processes})
        every = [name for one in processes for name in one["images"]]
        further = len(every) - NAMED
        return ", ".join(every[:NAMED]) + (f" and {further} more" if further > 0 else "")


def printed(value: float) -> float | str:
    """A number as a JSON value; NaN and infinities, which JSON lacks, become text."""
    return value if math.isfinite(value) else str(value)


def refuse_broken(run: Run, device: str) -> None:
    """Check that weights, running mean and moments are finite. All processes call this together, before they save.

    Raises:
        ValueError: they are not.
    """
    state = [*run.model.state_dict().values(), *run.average.values()]
    state += [value for moments in run.optimizer.state.values() for value in moments.values()]
    own = [one.to_local() if isinstance(one, DTensor) else one for one in state if isinstance(one, Tensor)]
    own = [one.detach() for one in own if one.is_floating_point() and one.numel()]
    largest = torch.stack([one.to(device, torch.float32) for one in torch._foreach_norm(own, math.inf)])
    if any_rank(not bool(largest.isfinite().all()), device):
        raise ValueError(
            f"weights or moments are not finite after step {run.step}: not saved. Resume from the last state with a "
            "lower --learning-rate"
        )
