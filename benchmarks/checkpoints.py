"""States in parts (FSDP2, torch.distributed.checkpoint) on this machine's processors, in processes that gloo connects.

    python benchmarks/checkpoints.py memory            # of starting, saving and resuming, a state of about 1 GB
    python benchmarks/checkpoints.py kills --number 20 # SIGKILL at random moments while states are written

memory: most resident memory of a process above what it had after its imports, beside its share of the state. kills: no
complete state is lost, and the run ends bit-equal to one that was not killed. Temporary files are in --folder.
"""

import argparse
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor

from depth_anything.data.sample import Sample
from depth_anything.train import loop, sharded_checkpoint
from depth_anything.train.batches import Data
from depth_anything.train.distributed import Machine, join
from depth_anything.train.recipes.base import Recipe, Stage
from depth_anything.train.recipes.nano_vit import nano_vit_teacher
from depth_anything.train.saving import Saver
from depth_anything.train.sharded_checkpoint import saved_steps
from depth_anything.variants import VARIANTS

MB = 1e6


class Ramps:
    """Labelled images of noise, by number."""

    def __len__(self) -> int:
        return 16

    def __getitem__(self, number: int) -> Sample:
        disparity_HW = np.random.default_rng(number).random((40, 40), np.float32)
        image_HW3 = np.repeat((disparity_HW[..., None] * 255).astype(np.uint8), 3, axis=2)
        known_HW = np.ones((40, 40), bool)
        return Sample(
            image_HW3=image_HW3, disparity_HW=disparity_HW, valid_HW=known_HW, sky_HW=~known_HW, scale="metric"
        )


def processes(count: int, function: Callable[..., None], *arguments: Any) -> list[int]:
    """Forks that run a function, each as one rank; their ids."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(count):
        child = os.fork()
        if child == 0:
            where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1"}
            os.environ |= {name: str(value) for name, value in (where | {"MASTER_PORT": port}).items()}
            code = 1
            try:
                function(*arguments)
                code = 0
            except BaseException:  # all that may end a child
                traceback.print_exc()
            sys.stdout.flush()
            os._exit(code)
        started.append(child)
    return started


def ended(started: list[int]) -> bool:
    """Wait for processes; whether all of them ended well."""
    return not any([os.waitpid(child, 0)[1] for child in started])


def memory_of(kind: str) -> float:
    """MB of this process: VmRSS, now; VmHWM, the most since `fresh`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(kind)) * 1024 / MB


def fresh() -> float:
    """Measure the most memory from now on; what there is now, in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory_of("VmRSS")


def one_gigabyte() -> Recipe:
    """ViT-B: 97.5 million parameters, three numbers each."""
    return replace(nano_vit_teacher(), variant="v2-base", ema=0.0)


def share_of(run: Any) -> tuple[float, float]:
    """MB of a process's part of the state, and of the largest tensor in it."""
    tensors = sharded_checkpoint.tensors_of(run).values()
    sizes = [(one.to_local() if isinstance(one, DTensor) else one).nbytes / MB for one in tensors]
    return sum(sizes), max(sizes)


def save_state(folder: Path, backbone: Path, parts: bool) -> None:
    """Start, make the optimiser's state, save; what each takes."""
    with join() as ranks:
        machine = Machine(shard=True)
        before = fresh()
        run = loop.start(one_gigabyte(), load_file(backbone), machine, ranks)
        model = share_of(run)[0]
        started = memory_of("VmHWM") - before
        for parameter in run.model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.full_like(parameter.detach(), 1e-3)
        run.optimizer.step()
        run.optimizer.zero_grad(set_to_none=True)
        run.step = 1
        saver = Saver(run, folder, machine, ranks)
        before, began, busy = fresh(), time.monotonic(), time.process_time()
        if parts:
            saver.start()
        else:
            folder.mkdir(exist_ok=True)
            run.save(folder, ranks.first)
        stopped = time.monotonic() - began
        saver.wait()
        took, busy = time.monotonic() - began, time.process_time() - busy
        saved = memory_of("VmHWM") - before
        if ranks.first:
            name = "in parts" if parts else "whole"
            print(
                f"start, rank 0 of {ranks.world}: {started:.0f} MB for {model:.0f} MB of weights | save {name}: "
                f"steps wait {stopped:.1f} s of {took:.1f} s, {busy:.1f} s of processor, {saved:.0f} MB more"
            )


def load_state(folder: Path) -> None:
    """Start and resume, in a process that held nothing."""
    with join() as ranks:
        machine = Machine(shard=True)
        before = fresh()
        run = loop.start(one_gigabyte(), None, machine, ranks)
        saver = Saver(run, folder, machine, ranks)
        assert saver.resume() and run.step == 1
        most = memory_of("VmHWM") - before
        share, largest = share_of(run)
        print(
            f"{folder.name}, rank {ranks.rank} of {ranks.world}: at most {most:.0f} MB; share {share:.0f} MB, "
            f"its largest tensor {largest:.0f} MB; {most / (share + largest):.2f} of their sum"
        )


def memory(folder: Path) -> None:
    """Save and load a state of 1.2 GB on two processes and load it on one, in parts; the same in one file."""
    backbone = folder / "backbone.safetensors"
    torch.manual_seed(0)
    model = loop.kind_of(one_gigabyte()).start_model(one_gigabyte(), None)
    save_file({key: tensor for key, tensor in model.state_dict().items()}, backbone)
    del model
    for name, parts in (("in_parts", True), ("whole", False)):
        assert ended(processes(2, save_state, folder / name, backbone, parts))
        assert ended(processes(2, load_state, folder / name))
        shutil.rmtree(folder / name)


def short_run(out: Path, save_seconds: float, steps: int) -> None:
    """A run of a network of 0.1 million parameters."""
    sizes = dict(width=32, depth=4, heads=2, table_side=5, taps=(0, 1, 2, 3), features=16, out_channels=(8, 8, 16, 16))
    VARIANTS["tiny"] = replace(VARIANTS["v2-small"], name="tiny", **sizes)
    stage = Stage(samples=2 * steps, sizes=((28, 28),), batch=2)
    recipe = replace(
        nano_vit_teacher(), variant="tiny", stages=(stage,), precision="float32", perturbation="none", ema=0.9
    )
    with join() as ranks:
        machine = Machine(shard=True)
        loop.train(recipe, out, Data(Ramps()), machine=machine, ranks=ranks, save_seconds=save_seconds, log_every=1000)


def kills(folder: Path, number: int, seed: int = 0) -> str:
    """Kill a run `number` times while it saves; one line of what came of it.

    Raises:
        AssertionError: a state was lost, or the run ended elsewhere.
    """
    rng, steps = random.Random(seed), 10 + 4 * number
    calm, out = folder / "calm", folder / "killed"

    def under_way() -> bool:
        return bool(list((out / "checkpoints").glob(".*.part")))

    assert ended(processes(2, short_run, calm, 1e9, steps))
    last, unfinished, known = 0, 0, 0.5
    for attempt in range(number):
        began = time.monotonic()
        started = processes(2, short_run, out, 0.0, steps)
        # What the last kill left goes and the first save begins; but for every third kill it ends and the next begins.
        for wanted in (False, True) if attempt % 3 == 2 else (False, True, False, True):
            since = time.monotonic()
            while under_way() != wanted:
                assert os.waitpid(started[0], os.WNOHANG) == (0, 0), "it ended before the last kill"
                time.sleep(0.001)
            if not wanted and saved_steps(out):
                known = time.monotonic() - since  # what a save takes here
        time.sleep(rng.uniform(0, known))
        for child in started:
            os.kill(child, signal.SIGKILL)
        ended(started)
        found = saved_steps(out)
        unfinished += under_way()
        assert not last or found[-1] >= last, "a whole state was lost"
        last = found[-1] if found else 0
        print(f"killed after {time.monotonic() - began:.1f} s; newest whole state: step {last}", flush=True)
    assert ended(processes(2, short_run, out, 1e9, steps))
    weights, same = load_file(calm / "final.safetensors"), load_file(out / "final.safetensors")
    assert all(torch.equal(weights[key], same[key]) for key in weights), "other weights than those of a calm run"
    return (
        f"{number} kills, {unfinished} of them in the middle of a save: no whole state lost; the run ended after "
        f"{steps} steps with the weights of one that was not killed, bit for bit"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("memory", "kills"))
    parser.add_argument("--number", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="on a disk with 5 GB; by default a new one for temporary files")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        if options.what == "memory":
            memory(Path(temporary))
        else:
            print(kills(Path(temporary), options.number))
