"""Steps that go wrong: those that are not finite are skipped, spikes are reported, and both name their images."""

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
"""So many steps in a row that are not finite are no accident: the run ends."""
SPIKE = 10.0
"""A gradient's norm of so many times the median of the last ones is a spike."""
REMEMBERED, FEWEST = 200, 50
"""Norms that the median is taken over."""
NAMED = 3
"""Images in a warning; the file has all of them."""


class OddSteps:
    """What went wrong in a run: a line of `odd_steps.jsonl` for each such step, up to the step that it goes on from."""

    def __init__(self, folder: Path, step: int, steps: int, first: bool):
        self.path, self.first, self.steps = folder / ODD_FILE, first, steps
        kept = json_lines.cut_back(self.path, lambda entry: entry["step"] < step) if first else []
        self.skipped = sum(entry["skipped"] for entry in kept)
        """Steps of the whole run so far; only the first process knows."""
        self.in_a_row = 0
        self.norms: deque[float] = deque(maxlen=REMEMBERED)

    def skip(self, step: int, losses: list[float], norm: float, names: Callable[[list[int]], list[str]]) -> None:
        """Count and name a step that is not finite. All processes call this together.

        Args:
            losses: of this process's slices.
            names: keys of the images of some of this process's slices, by their place among them.

        Raises:
            ValueError: it is one of many in a row.
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
                f"{self.path}): go on from the last state with a lower --learning-rate, or behind them with --skip-to"
            )
        if self.first:
            LOG.warning("skipped step %d: its %s is not finite; images: %s", step, what, named)

    def taken(self, step: int, losses: list[float], norm: float, names: Callable[[list[int]], list[str]]) -> None:
        """A finite step; names it if its gradient is a spike. All processes call this with the same norm."""
        self.in_a_row = 0
        usual = median(self.norms) if len(self.norms) >= FEWEST else math.inf
        if norm > SPIKE * usual:
            named = self.write(step, False, "spike", losses, norm, names(list(range(len(losses)))))
            if self.first:
                LOG.warning("step %d: a gradient of %.3g, usually %.3g; images: %s", step, norm, usual, named)
        self.norms.append(norm)

    def write(self, step: int, skipped: bool, what: str, losses: list[float], norm: float, images: list[str]) -> str:
        """Add a line with what all processes say; answers the first few images."""
        said = gathered({"losses": [printed(loss) for loss in losses], "images": images})
        if self.first:
            about = {"step": step, "skipped": skipped, "what": what, "gradient_norm": printed(norm)}
            json_lines.append(self.path, about | {"processes": said})
        every = [name for one in said for name in one["images"]]
        further = len(every) - NAMED
        return ", ".join(every[:NAMED]) + (f" and {further} more" if further > 0 else "")


def printed(value: float) -> float | str:
    """A number for a file of JSON, which has no NaN."""
    return value if math.isfinite(value) else str(value)


def refuse_broken(run: Run, device: str) -> None:
    """Weights, running mean and moments are finite. All processes call this together, before they save.

    Raises:
        ValueError: they are not.
    """
    state = [*run.model.state_dict().values(), *run.average.values()]
    state += [value for moments in run.optimizer.state.values() for value in moments.values()]
    own = [one.to_local() if isinstance(one, DTensor) else one for one in state if isinstance(one, Tensor)]
    own = [one.detach() for one in own if one.is_floating_point() and one.numel()]
    largest = torch.stack([one.to(device, torch.float32) for one in torch._foreach_norm(own, math.inf)])
    if any_rank([not bool(largest.isfinite().all())], device)[0]:
        raise ValueError(
            f"weights or moments are not finite after step {run.step}: not saved. Go on from the last state with a "
            "lower --learning-rate"
        )
