"""The state of a run under FSDP2 (torch.distributed.checkpoint): every process writes and reads its part.

    OUT/checkpoints/step-00001200/run.json           recipe, step, seconds, processes
    OUT/checkpoints/step-00001200/__0_0.distcp ...   a file per process
    OUT/checkpoints/step-00001200/.metadata          the file and position of each tensor

A folder gets this name when everything in it is on the disk; until then it is called `.step-00001200.part`. A folder
with the final name is therefore complete, even if a process is killed.

A background thread writes the parts from a copy in CPU memory. It uses a separate process group: two threads of a
process must not use one group at the same time.
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
"""Modules of the values in `.metadata`."""


def step_folder(out: Path, step: int) -> Path:
    """The folder of the complete checkpoint of a step."""
    return out / FOLDER / f"step-{step:08d}"


def saved_steps(out: Path) -> list[int]:
    """The steps of the complete checkpoints, in order."""
    folder = out / FOLDER
    names = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return sorted(int(match[1]) for match in map(NAME.fullmatch, names) if match)


def tensors_of(run: Run) -> dict[str, Tensor]:
    """The tensors of a run's state by name: weights, their running mean, and the optimiser's state per parameter."""
    names = {parameter: name for name, parameter in run.model.named_parameters()}
    tensors = {f"model.{name}": tensor for name, tensor in run.model.state_dict().items()}
    tensors |= {f"average.{name}": tensor for name, tensor in run.average.items()}
    for parameter, state in run.optimizer.state.items():
        tensors |= {f"optimizer.{names[parameter]}.{key}": value for key, value in state.items()}
    return tensors


class StepWriter(dcp.FileSystemWriter):
    """Writes a step's folder under a temporary name, renames it when all parts are written, and deletes older ones."""

    def __init__(self, run: Run, out: Path, keep: int, ranks: int):
        self.out, self.step, self.keep = out, run.step, keep
        about = {"recipe": json.loads(as_json(run.recipe)), "step": run.step, "seconds": run.seconds, "ranks": ranks}
        self.about = json.dumps(about, indent=1) + "\n"
        final = step_folder(out, run.step)
        self.part = final.with_name(f".{final.name}.part")
        super().__init__(self.part)

    def finish(self, metadata: Metadata, results: list) -> None:
        """Called in the first process when all processes have written their parts."""
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
    """Delete a checkpoint. It is renamed first, because a folder with the final name must be complete."""
    gone = folder.with_name(f".{folder.name}.part")
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def clean(out: Path) -> None:
    """Delete incomplete checkpoints. One process calls this, while none saves."""
    for path in (out / FOLDER).glob(".step-*.part"):
        shutil.rmtree(path, ignore_errors=True)


def start_saving(run: Run, out: Path, keep: int, group: dist.ProcessGroup) -> Future:
    """Copy this process's part and write it in a thread. All processes call this, while no other save is in progress.

    Args:
        keep: number of complete checkpoints to keep, including this one.
        group: a gloo group that is used for nothing else.

    Returns:
        A future that is done on every process when the checkpoint is complete, with the error of any process.
    """
    writer = StepWriter(run, out, keep, dist.get_world_size())
    if dist.get_rank() == 0:
        shutil.rmtree(writer.part, ignore_errors=True)
    # Buffers are not sharded: each process has its own statistics. Those of the first one are saved, as in one file.
    planner = dcp.DefaultSavePlanner(dedup_save_to_lowest_rank=True)
    future = dcp.async_save(tensors_of(run), storage_writer=writer, planner=planner, process_group=group)
    assert isinstance(future, Future)
    return future


class PlainReader(dcp.FileSystemReader):
    """Reads `.metadata`, a pickle, without running code from it."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        data = (Path(self.path) / ".metadata").read_bytes()
        metadata = Plain(io.BytesIO(data)).load()
        metadata.storage_meta.load_id = self.load_id
        return metadata


class Plain(pickle.Unpickler):
    """Loads only the types of values that torch's checkpoints have."""

    def find_class(self, module: str, name: str) -> Any:
        of_torch = module == "torch" and (name == "Size" or isinstance(getattr(torch, name, None), torch.dtype))
        if of_torch or module in PLAIN:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it contains {module}.{name}")


def resume(run: Run, out: Path, step: int) -> None:
    """Load the checkpoint of a step, written by any number of processes. All processes call this.

    Raises:
        ValueError: it is damaged or belongs to another recipe.
    """
    folder = step_folder(out, step)
    about = read_json(folder / RUN_FILE)
    run.changes = deliberate(folder, run, about["recipe"], about["step"])
    load(run, folder)
    run.step, run.seconds, run.saved = about["step"], about["seconds"], about["step"]


def load(run: Run, folder: Path) -> None:
    """Read this process's part of every tensor into a run. All processes call this together.

    Raises:
        ValueError: tensors are missing, or a file is missing or damaged.
    """
    try:
        reader = PlainReader(folder)
        entries = reader.read_metadata().state_dict_metadata
        make_optimizer_state(run, entries)
        dcp.load(tensors_of(run), storage_reader=reader, no_dist=not dist.is_initialized())
    except Exception as error:
        reason = root_cause(error)
        earlier = [step for step in saved_steps(folder.parents[1]) if step_folder(folder.parents[1], step) != folder]
        otherwise = f"resume from step {earlier[-1]}" if earlier else "start the run again"
        raise ValueError(f"{folder} cannot be read ({reason}): delete it to {otherwise}") from None


def make_optimizer_state(run: Run, entries: dict[str, Any]) -> None:
    """Allocate the optimiser's tensors as they were saved: shaped like the parameter, or scalars."""
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
    """One line about an error of torch.distributed.checkpoint, which combines the errors of all processes."""
    failures = getattr(error, "failures", None)
    if failures:
        rank, wrapped = next(iter(failures.items()))
        return f"rank {rank}: {root_cause(wrapped[0])}"
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
