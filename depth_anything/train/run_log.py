"""The log of a run: curve.jsonl, the same for TensorBoard, and predictions of held-out images."""

import logging
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np

from depth_anything.data.sample import Sample, min_max
from depth_anything.data.samples import usable
from depth_anything.images.colormap import colored
from depth_anything.system import json_lines
from depth_anything.system.files import NotWritten, naming
from depth_anything.train.tracker import Tracker

LOG = logging.getLogger(__name__)
CURVE_FILE = "curve.jsonl"
SHOWN = 4
"""Number of held-out images in TensorBoard."""


class RunLog:
    """Writes curve.jsonl, a line per log and validation. On resuming, lines after the resumed step are removed."""

    def __init__(self, folder: Path, step: int, tracker: Tracker | None = None):
        self.path, self.tracker = folder / CURVE_FILE, tracker
        json_lines.cut_back(self.path, lambda entry: entry["step"] <= step)
        self.board = open_board(folder, step)

    def add(self, entry: dict) -> None:
        """Write one log or validation; `entry` has the step. On a full disk, lines are lost and the run continues."""
        LOG.info("  ".join(f"{name} {value:.5g}" for name, value in entry.items()))
        try:
            json_lines.append(self.path, entry)
            if self.tracker is not None:
                self.tracker.add(entry)
            if self.board is not None:
                with naming(self.path.with_name("events")):
                    for name, value in entry.items():
                        if name != "step":
                            self.board.add_scalar(name, value, entry["step"])
        except NotWritten as failure:
            LOG.warning("%s; training continues", failure)

    def show(self, step: int, predict: Callable[[np.ndarray], np.ndarray], samples) -> None:
        """Write image, ground truth and prediction of a few held-out images to TensorBoard."""
        if self.board is not None:
            for number, sample in islice(usable(samples), SHOWN):
                page_HW3 = side_by_side(sample, predict(sample.image_HW3))
                with naming(self.path.with_name("events")):
                    self.board.add_image(f"held_out/{number}", page_HW3, step, dataformats="HWC")


def open_board(folder: Path, step: int):
    """TensorBoard's writer into `folder`/events, or None without TensorBoard (extra train)."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        LOG.info('no TensorBoard: pip install "depth-anything[train]" for scalars and images')
        return None
    return SummaryWriter(str(folder / "events"), purge_step=step + 1)


def side_by_side(sample: Sample, map_HW: np.ndarray) -> np.ndarray:
    """Image, ground truth (black where unknown) and prediction, uint8 (H, 3 W, 3)."""
    known_HW = sample.valid_HW
    ground_truth_HW3 = colored(min_max(sample.disparity_HW, known_HW)) * known_HW[..., None].astype(np.uint8)
    guess_HW3 = colored(min_max(map_HW, np.ones_like(known_HW)))
    return np.concatenate([sample.image_HW3, ground_truth_HW3, guess_HW3], axis=1)
