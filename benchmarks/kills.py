"""kill -9 at random moments: what is left under a final name, and whether the same command ends as if undisturbed.

    python benchmarks/kills.py --moments 10 --seed 0 --only label,train,finetune,video,predict

Each command runs once undisturbed, then once for each moment: its whole process group is killed there (of `ranks`, a
labelling job of two processes, one process only), everything under a final name is compared with the undisturbed run,
the command runs again, and all is compared: bytes, but for the clock in curve.jsonl. Processes are forked from one that
has imported everything, so a run costs what its work costs. POSIX only.
"""

import argparse
import json
import os
import random
import shutil
import signal
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
from depth_anything.train import finetune, loop
from depth_anything.train.batches import Data
from depth_anything.video import run as video_run

GROWING = ("state.pt", "curve.jsonl", "recipe.json", "events")
"""Files of a run in progress: whole at any moment, and compared only at the end."""
CLOCKS = ("seconds", "images_per_second")


def command(*words: object) -> Callable[[], None]:
    return lambda: main([str(word) for word in words])


def train(inputs: Path, out: Path) -> None:
    """A run with a state after every step."""
    recipe = finetune.disparity_recipe(DepthAnything("nano").variant, 6, 2, 2, 1e-4, 0)
    recipe = replace(recipe, ema=0.9, precision="float32")
    weights = load("nano")[0]
    loop.train(recipe, out, Data(UserFolder(inputs / "own")), weights=weights, save_seconds=0)


def jobs(inputs: Path, out: Path) -> dict[str, Callable[[], None]]:
    photos, own = inputs / "own/images", inputs / "own"
    label = command("label", photos, out, "--shard-size", 2, "--threads", 1)
    return {
        "label": label,
        "ranks": label,
        "train": lambda: train(inputs, out),
        "finetune": command("finetune", "nano", own, out, "--epochs", 2, "--batch", 2),
        "video": command("video", photos, "-o", out, "--save", "gray16,npz,png16"),
        "predict": command("predict", photos, "-o", out, "--save", "npz,color,pfm"),
    }


def started(work: Callable[[], None], rank: int | None = None, world: int = 1) -> int:
    """The process id of a fork that does the work, alone in its group, and ends with its exit code."""
    process = os.fork()
    if process:
        return process
    os.setsid()
    silent = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silent, stream)
    if rank is not None:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_PORT": "1"}
    try:
        work()
        os._exit(0)
    except SystemExit as stop:
        os._exit(int(stop.code or 0))
    except BaseException:
        os._exit(70)


def ended(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


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


def faults(
    name: str, before: dict[str, bytes], after: dict[str, bytes], code: int, whole: dict[str, bytes]
) -> list[str]:
    """What is wrong after a kill, and after the command ran again."""
    found = [f"half-written: {path}" for path, content in before.items()
             if not path.startswith(GROWING) and content != whole.get(path)]  # fmt: skip
    found += [f"lost: {path}" for path in whole if path not in after]
    found += [f"differs: {path}" for path in after if path != "state.pt" and after[path] != whole.get(path)]
    fine = (0, 1, 2) if name in ("predict", "video") else (0,)  # these refuse to replace what is there
    return found if code in fine else [*found, f"exit code {code}"]


def trial(name: str, inputs: Path, folder: Path, seconds: float, whole: dict[str, bytes]) -> tuple[bool, list[str]]:
    """Whether the process was alive when it was killed, and what is wrong."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    work = jobs(inputs, out)[name]
    other = started(work, rank=1, world=2) if name == "ranks" else None
    process = started(work, rank=0, world=2) if name == "ranks" else started(work)
    time.sleep(seconds)
    victim = other if other is not None and int(seconds * 1000) % 2 else process
    os.killpg(victim, signal.SIGKILL)
    killed = ended(victim) == -signal.SIGKILL
    if other is not None:
        ended(process if victim == other else other)
    before = visible(out) if out.exists() else {}
    code = ended(started(work))
    return killed, faults(name, before, visible(out), code, whole)


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
    assert ended(started(jobs(inputs, out)["label" if name == "ranks" else name])) == 0, name
    whole, seconds = visible(out), time.monotonic() - began
    draw, alive, wrong = random.Random(f"{name} {seed}"), 0, []
    for _ in range(moments):
        moment = draw.uniform(0, seconds)
        killed, found = trial(name, inputs, folder, moment, whole)
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
    parser.add_argument("--only", default="label,ranks,train,finetune,video,predict")
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
