"""The whole chain of both papers, rehearsed with the commands of a real run: what a laboratory runs first.

    python scripts/rehearse.py --out out/rehearse
    python scripts/rehearse.py --out out/rehearse --device cuda --chain paper

Only sizes are small: a few generated images in the official layout of every set, a few steps, ViT-S in the place of L
and giant (`--chain paper`: the papers' own), random weights in the layout of DINOv2's files and of SegFormer. Every
command is printed, its exit code and its files are checked, and the first failure ends the rehearsal with one line.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from layouts import benchmarks, labeled, unlabeled

from depth_anything.checkpoints.official import load
from depth_anything.data.pseudo_labels import PseudoLabels
from depth_anything.network.model import DepthAnything
from depth_anything.predict.predictor import Predictor
from depth_anything.system.device import check_device
from depth_anything.system.files import read_json
from depth_anything.train.recipes.all_recipes import get_recipe
from depth_anything.train.recipes.v1 import V1_LABELED
from depth_anything.train.recipes.v2 import V2_SYNTHETIC
from depth_anything.train.sharded_checkpoint import saved_steps
from depth_anything.variants import PATCH, get_variant

BENCHMARKS = ("kitti", "nyuv2", "sintel", "ddad", "eth3d", "diode")
"""Test sets of V1 Table 2."""
ON_RAY = ("lsun",)
"""Unlabelled sets that are labelled on Ray; the others on torchrun's processes."""
FOR_V2 = ("sa1b", "lsun")
"""Unlabelled sets that V2's teacher labels, too: the readers of all eight have been seen by then."""


@dataclass(frozen=True)
class Chain:
    """The recipes of a rehearsal."""

    v1_teacher: str
    v1_student: str
    v2_teacher: str
    v2_student: str


CHAINS = {
    "small": Chain("v1-table9-labeled-small", "v1-student-small", "v2-teacher-small", "v2-student-small"),
    "paper": Chain("v1-teacher-large", "v1-student-large", "v2-teacher-giant", "v2-student-large"),
}
"""`small`: the same runs with a ViT-S. V1's Table 9 begins with one that sees what the teacher sees."""


class Broken(Exception):
    """What is wrong with a step, in one line."""


@dataclass(frozen=True)
class Step:
    """A command, and what must be there when it is done."""

    name: str
    words: Sequence[str | Path]
    file: Path
    """Its result."""
    check: Callable[[], None] = lambda: None
    killed: bool = False
    """kill -9 to all of its processes as soon as a state is saved."""


@dataclass
class Rehearsal:
    """Carries out commands in an environment in which they are found by name."""

    out: Path
    done: list[tuple[Step, float]] = field(default_factory=list)

    def run(self, step: Step) -> None:
        """Carry out a step and check it.

        Raises:
            Broken: another exit code than 0, or a result that is not as it should be.
        """
        words = [str(word) for word in step.words]
        log = self.out / "logs" / f"{len(self.done) + 1:02d} {step.name}.log".replace(" ", "-")
        print(f"\n{step.name}\n  {shlex.join(words)}{'  # killed on the way' if step.killed else ''}", flush=True)
        began = time.monotonic()
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with log.open("w") as file:
                process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, env=environment())
                if step.killed:
                    kill_when_saved(process, step.file)
                code = process.wait()
            if code != (-signal.SIGKILL if step.killed else 0):
                raise Broken(f"exit code {code}: {last_line(log)}")
            step.check()
        except Broken as broken:
            raise Broken(f"{step.name}: {broken}; the whole output is in {log}") from None
        self.done.append((step, time.monotonic() - began))

    def table(self) -> str:
        """Steps, seconds and files."""
        rows = [("step", "seconds", "file"), *((one.name, f"{s:.0f}", str(one.file)) for one, s in self.done)]
        rows.append(("all", f"{sum(seconds for _, seconds in self.done):.0f}", ""))
        width = max(len(name) for name, _, _ in rows)
        return "\n".join(f"{name:{width}}  {seconds:>7}  {file}".rstrip() for name, seconds, file in rows)


def environment() -> dict[str, str]:
    """Of the commands: those of this Python are found by name, nothing is downloaded, no usage is reported."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    quiet = {"HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONWARNINGS": "ignore"}
    return os.environ | quiet | {"PATH": programs}


def last_line(log: Path) -> str:
    """The last line that names an error, or else the last one."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error") or "Error: " in line]
    return (errors or lines or ["no output"])[-1][:500]


def kill_when_saved(process: subprocess.Popen, out: Path) -> None:
    """kill -9 to torchrun and its workers, which have process groups of their own, as a power failure would.

    Raises:
        Broken: the run ended before.
    """
    while not saved_steps(out):
        if process.poll() is not None:
            raise Broken(f"exit code {process.returncode} before a state was saved")
        time.sleep(0.02)
    workers = [int(one) for one in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    for number in (process.pid, *workers):
        os.kill(number, signal.SIGKILL)
    process.wait()
    while any(running(number) for number in workers):  # until the lock of the folder is free
        time.sleep(0.02)
    if (out / "final.safetensors").exists():
        raise Broken("the run ended before it was killed: use more --steps")


def running(number: int) -> bool:
    """Whether a process exists and is more than an entry that nobody has asked about."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def write_sets(data: Path) -> dict[str, int]:
    """Every set in its official layout; how many images each unlabelled one has."""
    for name in sorted({*V1_LABELED, *V2_SYNTHETIC}):
        labeled.WRITERS[name](data / name)
    (data / "benchmarks").mkdir(parents=True)
    for name in BENCHMARKS:
        benchmarks.WRITERS[name](data / "benchmarks")
    counts = {}
    for name, write in unlabeled.WRITERS.items():
        (data / name).mkdir()
        counts[name] = len(write(data / name))
    return counts


def write_dinov2(variant: str, folder: Path) -> Path:
    """A file as DINOv2 releases them, with random weights."""
    row = get_variant(variant)
    path = folder / f"dinov2_{row.encoder_name}14_pretrain.pth"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        torch.save(DepthAnything(row).pretrained.state_dict(), path)
    return path


def write_segformer(folder: Path) -> Path:
    """A tiny SegFormer for the classes of ADE20K, with random weights."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    widths = dict(hidden_sizes=[8] * 4, decoder_hidden_size=8, depths=[1] * 4, num_attention_heads=[1] * 4)
    SegformerForSemanticSegmentation(SegformerConfig(num_labels=150, **widths)).save_pretrained(folder)  # type: ignore[call-arg]
    return folder


def check_training(out: Path, variant: str, steps: int) -> None:
    """The log reaches the last step with finite numbers and no skipped step; the weights are finite and complete."""
    curve = [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]
    logged = [entry["step"] for entry in curve if "rate" in entry]
    if logged != sorted(set(logged)) or logged[-1] != steps:
        raise Broken(f"{out}/curve.jsonl: steps {logged}; expected each once, up to {steps}")
    for entry in curve:
        odd = [name for name, value in entry.items() if not math.isfinite(value)]
        if odd or entry.get("skipped_steps"):
            raise Broken(f"{out}/curve.jsonl: step {entry['step']}: {', '.join(odd) or 'skipped'}")
    try:
        state, row = load(out / "final.safetensors")  # checks names and shapes
    except ValueError as error:
        raise Broken(str(error)) from None
    odd = [key for key, tensor in state.items() if not tensor.isfinite().all()]
    if row.name != variant or odd:
        raise Broken(f"{out}/final.safetensors: {row.name}, {len(odd)} tensors that are not finite; expected {variant}")


def check_resumed(out: Path, variant: str, steps: int, log: Path) -> None:
    """The same, and the run went on from a saved step."""
    if "resuming after step" not in log.read_text():
        raise Broken("started again from nothing; expected the saved state")
    check_training(out, variant, steps)


def check_labels(out: Path, images: int) -> None:
    """Every image has a map of whole patches with finite numbers, and no manifest lists a failure."""
    try:
        found = PseudoLabels(out)
        samples = [found[number] for number in range(len(found))]
    except ValueError as error:
        raise Broken(str(error)) from None
    if len(samples) != images:
        raise Broken(f"{out}: {len(samples)} labelled images; expected {images}")
    for one in samples:
        height, width = one.disparity_HW.shape
        if height % PATCH or width % PATCH or not np.isfinite(one.disparity_HW).all():
            raise Broken(f"{out}: {one.key}: a map of {height} x {width} pixels, or with numbers that are not finite")


def check_table(out: Path, sets: int) -> None:
    """A finite number for every set and metric."""
    numbers = read_json(out / "report.json")["lines"]
    names = {one["set"] for one in numbers}
    odd = [one for one in numbers if one["ours"] is None or not math.isfinite(one["ours"])]
    if len(names) != sets or odd:
        raise Broken(f"{out}/report.json: {len(names)} sets, {len(odd)} numbers that are not finite; expected {sets}")


def check_export(path: Path) -> None:
    """The file predicts a map of an image's size, without torch."""
    image_HW3 = np.arange(120 * 160 * 3).astype(np.uint8).reshape(120, 160, 3)
    disparity_HW = Predictor(str(path))(image_HW3).disparity
    if disparity_HW is None or disparity_HW.shape != image_HW3.shape[:2]:
        raise Broken(f"{path}: {disparity_HW if disparity_HW is None else disparity_HW.shape}; expected (120, 160)")


def rehearse(
    out: Path = Path("out/rehearse"),
    device: str = "cpu",
    processes: int | None = None,
    chain: Literal["small", "paper"] = "small",
    steps: int | None = None,
    batch: int | None = None,
) -> None:
    """Teacher, labels, student, evaluation and export of V1; the same of V2 with FSDP2, killed and resumed.

    Args:
        out: folder for sets, weights, runs and logs; new or empty.
        device: cpu, or cuda for one GPU per process.
        processes: of torchrun; by default 2, or one per GPU.
        chain: small: ViT-S everywhere; paper: ViT-L and ViT-g.
        steps: of each training, by default 3, or 60 on GPUs: the run that is killed must not be over before.
        batch: images in a step; by default one per process, and at least 3.
    """
    check_device(device)
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out}: not empty; delete it, or give another --out")
    on_cpu = device == "cpu"
    processes = processes or (2 if on_cpu else torch.cuda.device_count())
    steps, batch = steps or (3 if on_cpu else 60), batch or max(3, processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))

    began = time.monotonic()
    recipes, data = CHAINS[chain], out / "data"
    images = write_sets(data)
    segformer = write_segformer(out / "segformer")
    print(f"sets in {data}, {time.monotonic() - began:.0f} s")
    rehearsal = Rehearsal(out)
    torchrun = ["torchrun", "--standalone", "--nproc-per-node", str(processes), "-m", "depth_anything"]
    on_device = ["--device", device]

    def train(recipe: str, run: str, *more: str | Path, kill: bool = False) -> Path:
        """A training; once more where it is killed before. Returns its weights."""
        chosen, folder = get_recipe(recipe), out / run
        part = steps * batch / sum(stage.samples for stage in chosen.stages)
        words = [*torchrun, "train", recipe, folder, "--size", f"{part:.6g}", "--batch", str(batch)]
        words += ["--backbone", write_dinov2(chosen.variant, out / "dinov2"), "--scenes", out / "scenes"]
        words += [*on_device, *more]
        name = f"train {recipe}"
        if kill:
            words += ["--save-minutes", "0"]
            rehearsal.run(Step(f"{name}, kill -9", words, folder, killed=True))
            log = out / "logs" / f"{len(rehearsal.done) + 1:02d}-train-{recipe},-resumed.log"
            check = partial(check_resumed, folder, chosen.variant, steps, log)
            name = f"{name}, resumed"
        else:
            check = partial(check_training, folder, chosen.variant, steps)
        rehearsal.run(Step(name, words, folder / "final.safetensors", check))
        return folder / "final.safetensors"

    def label(teacher: Path, run: str, sets: Sequence[str], ray: Sequence[str] = ()) -> list[Path]:
        """Labels of some sets, each in a folder of its own."""
        folders = []
        for name in sets:
            folder = out / run / name
            start = ["depth-anything"] if name in ray else torchrun
            words = [*start, "label", data / name, folder, "--kind", name, "--teacher", teacher, "--shard-size", "2"]
            words += [
                *on_device,
                *(("--input-size", "266") if on_cpu else ()),
                *(("--ray", "local") if name in ray else ()),
            ]
            check = partial(check_labels, folder, images[name])
            rehearsal.run(Step(f"label {name}{' on Ray' if name in ray else ''}", words, folder, check))
            folders.append(folder)
        return folders

    def finish(weights: Path, table: str, sets: int) -> None:
        """Evaluation and export of a student."""
        scores, exported = weights.parent / table, weights.with_name("student.onnx")
        words = ["depth-anything", "evaluate", table, "--data", data / "benchmarks", "--model", weights]
        words += ["--partial", "-o", scores, *on_device]
        rehearsal.run(Step(f"evaluate {table}", words, scores / "report.md", partial(check_table, scores, sets)))
        words = ["depth-anything", "export", weights, "-o", exported]
        rehearsal.run(Step(f"export {weights.parent.name}", words, exported, partial(check_export, exported)))

    given = ["--data", *(f"{name}={data / name}" for name in V1_LABELED), "--segformer", segformer]
    teacher = train(recipes.v1_teacher, "v1-teacher", *given)
    labels = label(teacher, "v1-labels", tuple(images), ON_RAY)
    student = train(recipes.v1_student, "v1-student", *given, "--pseudo-labels", *labels)
    finish(student, "v1-table2", 6)

    given = ["--data", *(f"{name}={data / name}" for name in V2_SYNTHETIC), "--segformer", segformer, "--shard"]
    teacher = train(recipes.v2_teacher, "v2-teacher", *given)
    labels = label(teacher, "v2-labels", FOR_V2)
    student = train(recipes.v2_student, "v2-student", "--pseudo-labels", *labels, "--shard", kill=True)
    finish(student, "v2-table2", 5)
    print(f"\n{rehearsal.table()}")


if __name__ == "__main__":
    try:
        tyro.cli(rehearse)
    except (Broken, ValueError) as error:
        sys.exit(f"error: {error}")
