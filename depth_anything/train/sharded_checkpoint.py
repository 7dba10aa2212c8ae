"""The state of a run that FSDP2 has split (torch.distributed.checkpoint): every process writes and reads its share.

    OUT/checkpoints/step-00001200/run.json           recipe, step, seconds, processes
    OUT/checkpoints/step-00001200/__0_0.distcp ...   a file of each process
    OUT/checkpoints/step-00001200/.metadata          which tensor lies where

A folder gets this name when everything in it is on the disk; until then it is called `.step-00001200.part`. So what has
the name is whole, whenever a process is killed.

The shares are written by a thread beside the steps, from a copy in the host's memory (another share). The processes
agree about it in a group of their own: two threads of a process must not use one group at a time.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import shutil
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from depth_anything.system.files import read_json, sync
from depth_anything.train.checkpoint import Run, deliberate
from depth_anything.train.recipes.base import as_json

FOLDER, RUN_FILE = "checkpoints", "run.json"
NAME = re.compile(r"step-(\d{8,})")
PLAIN = (
    "torch.distributed.checkpoint.metadata",
    "torch.distributed.checkpoint.filesystem",
    "torch.serialization",
    "pathlib",
    "collections",
)
"""Modules whose values stand in `.metadata`."""


def step_folder(out: Path, step: int) -> Path:
    """Where the whole checkpoint of a step lies."""
    return out / FOLDER / f"step-{step:08d}"


def saved_steps(out: Path) -> list[int]:
    """The steps of the whole checkpoints, in order."""
    folder = out / FOLDER
    names = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return sorted(int(match[1]) for match in map(NAME.fullmatch, names) if match)


def tensors_of(run: Run) -> dict[str, Tensor]:
    """The tensors that a run goes on from, by name: weights, their running mean, the optimiser's of each parameter."""
    names = {parameter: name for name, parameter in run.model.named_parameters()}
    tensors = {f"model.{name}": tensor for name, tensor in run.model.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in run.average.items()}
    for parameter, state in run.optimizer.state.items():
        tensors |= {f"optimizer.{names[parameter]}.{key}": value for key, value in state.items()}
    return tensors


class StepWriter(dcp.FileSystemWriter):
    """Writes a step's folder under its temporary name; renamed, and older ones deleted, when all shares are written."""

    def __init__(self, run: Run, out: Path, keep: int, ranks: int):
        self.out, self.step, self.keep = out, run.step, keep
        about = {"recipe": json.loads(as_json(run.recipe)), "step": run.step, "seconds": run.seconds, "ranks": ranks}
        self.about = json.dumps(about, indent=1) + "\n"
        final = step_folder(out, run.step)
        self.part = final.with_name(f".{final.name}.part")
        super().__init__(self.part)

    def finish(self, metadata: Metadata, results: list) -> None:
        """What the first process does behind the others."""
        super().finish(metadata, results)
        (self.part / RUN_FILE).write_text(self.about)
        sync(self.part / RUN_FILE)
        sync(self.part)
        final = step_folder(self.out, self.step)
        shutil.rmtree(final, ignore_errors=True)
        self.part.rename(final)
        sync(final.parent)
        for step in saved_steps(self.out)[: -self.keep]:
            delete(step_folder(self.out, step))


def delete(folder: Path) -> None:
    """Delete a checkpoint, which loses its name first: what has the name is whole."""
    gone = folder.with_name(f".{folder.name}.part")
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def clean(out: Path) -> None:
    """Delete what was not finished. For one process, while none saves."""
    for path in (out / FOLDER).glob(".step-*.part"):
        shutil.rmtree(path, ignore_errors=True)


def start_saving(run: Run, out: Path, keep: int, group: dist.ProcessGroup) -> Future:
    """Copy this process's share and write it in a thread; all processes call this, with no other save under way.

    Args:
        keep: whole checkpoints that stay, this one included.
        group: of processors' memory (gloo), used for nothing else.

    Returns:
        Done on every process when the checkpoint is whole; its error is that of any process.
    """
    writer = StepWriter(run, out, keep, dist.get_world_size())
    if dist.get_rank() == 0:
        shutil.rmtree(writer.part, ignore_errors=True)
    # Buffers are no parts: each process has its own statistics, and those of the first one count, as in one file.
    planner = dcp.DefaultSavePlanner(dedup_save_to_lowest_rank=True)
    future = dcp.async_save(tensors_of(run), storage_writer=writer, planner=planner, process_group=group)
    assert isinstance(future, Future)
    return future


class PlainReader(dcp.FileSystemReader):
    """Reads `.metadata`, a pickle, without running code that may be in it."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        data = (Path(self.path) / ".metadata").read_bytes()
        metadata = Plain(io.BytesIO(data)).load()
        metadata.storage_meta.load_id = self.load_id
        return metadata


class Plain(pickle.Unpickler):
    """Values of torch's checkpoints only."""

    def find_class(self, module: str, name: str) -> Any:
        of_torch = module == "torch" and (name == "Size" or isinstance(getattr(torch, name, None), torch.dtype))
        if of_torch or module in PLAIN:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it wants {module}.{name}")


def resume(run: Run, out: Path, step: int) -> None:
    """Go on from the whole checkpoint of a step, written by any number of processes. All processes call this.

    Raises:
        ValueError: it is broken or belongs to another recipe.
    """
    folder = step_folder(out, step)
    about = read_json(folder / RUN_FILE)
    run.changes = deliberate(folder, run, about["recipe"], about["step"])
    load(run, folder)
    run.step, run.seconds, run.saved = about["step"], about["seconds"], about["step"]


def load(run: Run, folder: Path) -> None:
    """Read this process's share of every tensor into a run, however many processes wrote them. All call this together.

    Raises:
        ValueError: not all tensors are there, or a file is missing or damaged.
    """
    try:
        reader = PlainReader(folder)
        entries = reader.read_metadata().state_dict_metadata
        make_optimizer_state(run, entries)
        dcp.load(tensors_of(run), storage_reader=reader, no_dist=not dist.is_initialized())
    except Exception as error:
        reason = root_cause(error)
        earlier = [step for step in saved_steps(folder.parents[1]) if step_folder(folder.parents[1], step) != folder]
        otherwise = f"go on from step {earlier[-1]}" if earlier else "start the run again"
        raise ValueError(f"{folder} cannot be read ({reason}): delete it to {otherwise}") from None


def make_optimizer_state(run: Run, entries: dict[str, Any]) -> None:
    """Room for the optimiser's tensors as they were saved: like the parameter, or single numbers."""
    run.optimizer.state.clear()
    for name, parameter in run.model.named_parameters():
        prefix = f"optimizer.{name}."
        for key, entry in entries.items():
            if key.startswith(prefix):
                assert isinstance(entry, TensorStorageMetadata)
                single = not entry.size and parameter.ndim > 0
                room = torch.zeros((), device=parameter.device) if single else torch.empty_like(parameter.detach())
                run.optimizer.state[parameter][key.removeprefix(prefix)] = room


def root_cause(error: BaseException) -> str:
    """One line for an error of torch's checkpoints, which gather those of all processes."""
    failures = getattr(error, "failures", None)
    if failures:
        rank, wrapped = next(iter(failures.items()))
        return f"rank {rank}: {root_cause(wrapped[0])}"
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
