"""kill -9 at random moments: what is left under a final name, and whether the same command ends as if undisturbed.

    python benchmarks/kills.py --moments 10 --seed 0 --only label,train,finetune,video,predict

Each command runs once undisturbed, then once for each moment: its whole process group is killed there (of `label-ranks`
and `train-ranks`, jobs of two processes, one process only), everything under a final name is compared with the
undisturbed run, the command runs again, and all is compared: bytes, but for measurements in curve.jsonl and for states.
A temporary file that is still there then is a fault too. Processes are forked from one that has imported everything, so
a run costs what its work costs. POSIX only.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

from depth_anything.__main__ import main
from depth_anything.checkpoints.official import load
from depth_anything.data.labeled.user_folder import UserFolder
from depth_anything.label import launch  # noqa: F401 (imported before the fork)
from depth_anything.network.model import DepthAnything
from depth_anything.predict.predictor import Predictor  # noqa: F401
from depth_anything.train import distributed, finetune, loop
from depth_anything.train.batches import Data
from depth_anything.video import run as video_run

GROWING = ("state", "curve.jsonl", "recipe.json", "events")
"""Files of a run in progress: whole at any moment, and compared only at the end."""
CLOCKS = ("seconds", "images_per_second", "data_wait", "data_wait_min", "forward", "forward_min", "memory_gib")
RANKS = "-ranks"
"""Ends the name of a job of two processes."""


def command(*words: object) -> Callable[[], None]:
    return lambda: main([str(word) for word in words])


def train(inputs: Path, out: Path) -> None:
    """A run with a state after every step."""
    recipe = finetune.disparity_recipe(DepthAnything("nano").variant, 4, 2, 2, 1e-4, 0)
    recipe = replace(recipe, ema=0.9, precision="float32")
    weights = load("nano")[0]
    with distributed.join() as ranks:
        loop.train(recipe, out, Data(UserFolder(inputs / "own")), weights=weights, ranks=ranks, save_seconds=0)


def jobs(inputs: Path, out: Path) -> dict[str, Callable[[], None]]:
    photos, own = inputs / "own/images", inputs / "own"
    label = command("label", photos, out, "--shard-size", 2, "--threads", 1)
    return {
        "label": label,
        "label-ranks": label,
        "train": lambda: train(inputs, out),
        "train-ranks": lambda: train(inputs, out),
        "finetune": command("finetune", "nano", own, out, "--epochs", 1, "--batch", 2),
        "video": command("video", photos, "-o", out, "--save", "gray16,npz,png16"),
        "predict": command("predict", photos, "-o", out, "--save", "npz,color,pfm"),
    }


def started(name: str, work: Callable[[], None]) -> list[int]:
    """The process ids of forks that do the work, each alone in its group, and end with its exit code."""
    if not name.endswith(RANKS):
        return [fork(work, {})]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [fork(work, {**shared, "RANK": rank, "LOCAL_RANK": rank}) for rank in "01"]


def fork(work: Callable[[], None], environment: dict[str, str]) -> int:
    process = os.fork()
    if process:
        return process
    os.setsid()
    silent = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silent, stream)
    os.environ |= environment
    try:
        work()
        os._exit(0)
    except SystemExit as stop:
        os._exit(int(stop.code or 0))
    except BaseException:
        os._exit(70)


def give_up(process: int, seconds: float = 10) -> None:
    """Kill a process that has not ended by itself until then; it remains to be waited for."""
    until = time.monotonic() + seconds
    while os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None and time.monotonic() < until:
        time.sleep(0.1)
    os.killpg(process, signal.SIGKILL)


def ended(processes: list[int]) -> list[int]:
    """The exit codes."""
    return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]


def pixels(path: Path) -> bytes:
    """The frames of a video: its file has a random name of its own in it."""
    try:
        with av.open(str(path)) as container:
            return b"".join(frame.to_ndarray(format="gray16le").tobytes() for frame in container.decode(video=0))
    except av.FFmpegError as error:
        return str(error).encode()


def visible(out: Path) -> dict[str, bytes]:
    """The files with final names, without those for TensorBoard."""
    found = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out)
        if path.is_file() and not any(part.startswith(".") or part == "events" for part in name.parts):
            found[name.as_posix()] = pixels(path) if path.suffix == ".mkv" else path.read_bytes()
    if "curve.jsonl" in found:
        lines = [json.loads(line) for line in found["curve.jsonl"].splitlines(keepends=True) if line.endswith(b"\n")]
        kept = [{key: value for key, value in line.items() if key not in CLOCKS} for line in lines]
        found["curve.jsonl"] = json.dumps(kept).encode()
    return found


def hidden(out: Path) -> set[str]:
    """The other files."""
    names = (path.relative_to(out) for path in out.rglob("*") if path.is_file())
    return {name.as_posix() for name in names if any(part.startswith(".") for part in name.parts)}


def faults(
    name: str, before: dict[str, bytes], after: dict[str, bytes], codes: list[int], whole: dict[str, bytes]
) -> list[str]:
    """What is wrong after a kill, and after the command ran again."""
    found = [f"half-written: {path}" for path, content in before.items()
             if not path.startswith(GROWING) and content != whole.get(path)]  # fmt: skip
    found += [f"lost: {path}" for path in whole if path not in after]
    found += [f"differs: {path}" for path in after if not path.startswith("state") and after[path] != whole.get(path)]
    fine = (0, 1, 2) if name in ("predict", "video") else (0,)  # these refuse to replace what is there
    return [*found, *(f"exit code {code}" for code in codes if code not in fine)]


def trial(
    name: str, inputs: Path, folder: Path, seconds: float, whole: dict[str, bytes], beside: set[str]
) -> tuple[bool, list[str]]:
    """Whether the process was alive when it was killed, and what is wrong."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    work = jobs(inputs, out)[name]
    processes = started(name, work)
    time.sleep(seconds)
    victim = int(seconds * 1000) % len(processes)
    os.killpg(processes[victim], signal.SIGKILL)
    if name == f"train{RANKS}":  # torchrun, too, ends the others, which may wait for each other for half an hour
        give_up(processes[1 - victim])
    killed = ended(processes)[victim] == -signal.SIGKILL
    before = visible(out) if out.exists() else {}
    codes = ended(started(name, work))
    left = [f"temporary file left: {path}" for path in sorted(hidden(out) - beside)]
    return killed, faults(name, before, visible(out), codes, whole) + left


def make_inputs(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for place in ("own/images", "own/disparity"):
        (folder / place).mkdir(parents=True)
    for number in range(8):
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)).save(folder / f"own/images/{number}.png")
        disparity_HW = rng.integers(1, 999, (48, 64)).astype(np.uint16)
        Image.fromarray(disparity_HW).save(folder / f"own/disparity/{number}.png")


def measure(name: str, moments: int, seed: int, folder: Path) -> list[str]:
    """All trials of a command; prints a line and returns the failures."""
    inputs, out = folder / "inputs", folder / "out"
    if not inputs.exists():
        make_inputs(inputs)
    shutil.rmtree(out, ignore_errors=True)
    began = time.monotonic()
    codes = ended(started(name, jobs(inputs, out)[name]))
    assert not any(codes), f"{name}: exit codes {codes} undisturbed"
    whole, beside, seconds = visible(out), hidden(out), time.monotonic() - began
    draw, alive, wrong = random.Random(f"{name} {seed}"), 0, []
    for _ in range(moments):
        moment = draw.uniform(0, seconds)
        killed, found = trial(name, inputs, folder, moment, whole, beside)
        alive += killed
        wrong += [f"{name}, killed after {moment:.3f} s: {one}" for one in found]
    print(
        f"{name}: {len(whole)} files in {seconds:.1f} s; {moments} moments, {alive} alive; {len(wrong)} faults",
        flush=True,
    )
    return wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=10, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="label,label-ranks,train,train-ranks,finetune,video,predict")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    video_run.CHUNK = 2
    assert loop.train.__kwdefaults__ is not None
    loop.train.__kwdefaults__["save_seconds"] = 0.0  # of finetune too: a state after every step
    with tempfile.TemporaryDirectory() as folder:
        wrong = [
            one for name in asked.only.split(",") for one in measure(name, asked.moments, asked.seed, Path(folder))
        ]
    print("\n".join(wrong))
    sys.exit(int(bool(wrong)))
