"""V1's metric files: ZoeDepth's key names, and the kind of bins that a file holds."""

from pathlib import Path

import torch

from depth_anything.checkpoints.safe_read import State
from depth_anything.network.metric_bins import ATTRACTORS, BINS
from depth_anything.variants import Variant, with_bins

METRIC = "metric_head."
RELATIVE = "core.core."
"""Prefix of the relative network's keys in V1's metric files; the other keys belong to our metric head."""
CONSTANTS = "conditional_log_binomial.log_binomial_transform."


def is_zoedepth(state: State) -> bool:
    """Whether a state dict with our names has V1's metric head."""
    return any(key.startswith(METRIC) for key in state)


def from_zoedepth(state: State) -> State:
    """Rename the keys of V1's metric files to ours; any other state dict is returned unchanged."""
    if not any(key.startswith(RELATIVE) for key in state):
        return state
    return {
        key.removeprefix(RELATIVE) if key.startswith(RELATIVE) else METRIC + key: tensor
        for key, tensor in state.items()
        if not key.startswith(CONSTANTS)
    }


def to_zoedepth(state: State) -> State:
    """Rename our keys to those of V1's metric files, and add the constants of the bins that these hold."""
    named = {
        key.removeprefix(METRIC) if key.startswith(METRIC) else RELATIVE + key: tensor for key, tensor in state.items()
    }
    numbers = torch.arange(BINS).view(1, -1, 1, 1)
    constants = {"k_idx": numbers, "K_minus_1": numbers[:, -1:].float()}
    return named | {CONSTANTS + name: tensor for name, tensor in constants.items()}


def with_bins_of(path: Path, state: State, row: Variant) -> Variant:
    """The variant with the kind of bins in the file: bounded bins have twice as many attractor outputs.

    Raises:
        ValueError: the file has a ZoeDepth head and the variant has none, or the reverse.
    """
    if is_zoedepth(state) != (row.head == "bins"):
        has, fits = ("", "v1-metric-nyu-large or v1-metric-kitti-large") if row.head != "bins" else ("no ", "another")
        raise ValueError(f"{path} has {has}ZoeDepth head, which does not fit {row.name}: pass variant={fits}")
    outputs = state.get(f"{METRIC}attractors.0._net.2.bias")
    if outputs is None:
        return row
    return with_bins(row, "normed" if len(outputs) == 2 * ATTRACTORS[0] else "softplus")
