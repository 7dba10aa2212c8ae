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
import resource
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
"""Unlabelled sets that V1's teacher labels on Ray."""
ON_TORCHRUN = ("sa1b", "bdd100k")
"""And on torchrun's processes. The others are labelled by one: their readers are tried, a start of Python is dear."""
FOR_V2 = ("sa1b", "lsun")
"""Unlabelled sets that V2's teacher labels, on torchrun: the readers of all eight have been seen by then."""


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


@dataclass(frozen=True)
class Done:
    """A step that is over."""

    name: str
    file: Path
    seconds: float
    processor: float
    """Seconds of a processor, without those of programs that Ray starts on its own."""


@dataclass
class Rehearsal:
    """Carries out commands in an environment in which they are found by name."""

    out: Path
    processes: int
    """Of torchrun."""
    done: list[Done] = field(default_factory=list)

    def run(self, step: Step) -> None:
        """Carry out a step and check it.

        Raises:
            Broken: another exit code than 0, or a result that is not as it should be.
        """
        words = [str(word) for word in step.words]
        log = self.out / "logs" / f"{len(self.done):02d} {step.name}.log".replace(" ", "-")
        print(f"\n{step.name}\n  {shlex.join(words)}{'  # killed on the way' if step.killed else ''}", flush=True)
        began, used = time.monotonic(), processor_seconds()
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with log.open("w") as file:
                threads = max(1, (os.cpu_count() or 1) // (self.processes if words[0] == "torchrun" else 1))
                process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, env=environment(threads))
                if step.killed:
                    kill_when_saved(process, step.file)
                code = process.wait()
            if code != (-signal.SIGKILL if step.killed else 0):
                raise Broken(f"exit code {code}: {last_line(log)}")
            step.check()
        except Broken as broken:
            raise Broken(f"{step.name}: {broken}; the whole output is in {log}") from None
        self.add(Done(step.name, step.file, time.monotonic() - began, processor_seconds() - used))

    def add(self, done: Done) -> None:
        """Note a step for the table."""
        self.done.append(done)
        print(f"  {done.seconds:.0f} s, {done.processor:.0f} s of a processor", flush=True)

    def table(self) -> str:
        """Steps, seconds, seconds of a processor, and files."""
        rows = [(one.name, f"{one.seconds:.0f}", f"{one.processor:.0f}", str(one.file)) for one in self.done]
        seconds, used = sum(one.seconds for one in self.done), sum(one.processor for one in self.done)
        rows = [("step", "seconds", "processor", "file"), *rows, ("all", f"{seconds:.0f}", f"{used:.0f}", "")]
        width = max(len(row[0]) for row in rows)
        return "\n".join(f"{name:{width}}  {one:>7}  {two:>9}  {file}".rstrip() for name, one, two, file in rows)


def processor_seconds() -> float:
    """Of all children that have ended, and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def environment(threads: int) -> dict[str, str]:
    """Of the commands: those of this Python are found by name, nothing is downloaded, no usage is reported.

    Args:
        threads: of each process, unless OMP_NUM_THREADS says otherwise.
    """
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    quiet = {"HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONWARNINGS": "ignore"}
    return {"OMP_NUM_THREADS": str(threads)} | os.environ | quiet | {"PATH": programs}


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
    """Teacher, labels, student and evaluation of V1; the same of V2 with FSDP2, killed and resumed, and its export.

    Args:
        out: folder for sets, weights, runs and logs; new or empty.
        device: cpu, or cuda for one GPU per process.
        processes: of torchrun; by default 2, or one per GPU.
        chain: small: ViT-S everywhere; paper: ViT-L and ViT-g.
        steps: of each training, by default 2, or 60 on GPUs: the run that is killed must not be over before.
        batch: images in a step; by default one per process, and at least 3.
    """
    check_device(device)
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out}: not empty; delete it, or give another --out")
    on_cpu = device == "cpu"
    processes = processes or (2 if on_cpu else torch.cuda.device_count())
    steps, batch = steps or (2 if on_cpu else 60), batch or max(3, processes)

    began = time.monotonic()
    recipes, data = CHAINS[chain], out / "data"
    images = write_sets(data)
    segformer = write_segformer(out / "segformer")
    rehearsal = Rehearsal(out, processes)
    print(f"sets in {data}")
    rehearsal.add(Done("generate sets", data, time.monotonic() - began, time.process_time()))
    torchrun = ["torchrun", "--standalone", "--nproc-per-node", str(processes), "-m", "depth_anything"]
    on_device = ["--device", device]
    smaller = ["--input-size", "266"] if on_cpu else []

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
            log = out / "logs" / f"{len(rehearsal.done):02d}-train-{recipe},-resumed.log"
            check = partial(check_resumed, folder, chosen.variant, steps, log)
            name = f"{name}, resumed"
        else:
            check = partial(check_training, folder, chosen.variant, steps)
        rehearsal.run(Step(name, words, folder / "final.safetensors", check))
        return folder / "final.safetensors"

    def label(
        teacher: Path, run: str, sets: Sequence[str], several: Sequence[str], ray: Sequence[str] = ()
    ) -> list[Path]:
        """Labels of some sets, each in a folder of its own; of some by several processes, or on Ray."""
        folders = []
        for name in sets:
            folder = out / run / name
            start = torchrun if name in several else ["depth-anything"]
            words = [*start, "label", data / name, folder, "--kind", name, "--teacher", teacher, "--shard-size", "2"]
            words += [*on_device, *smaller, *(("--ray", "local") if name in ray else ())]
            check = partial(check_labels, folder, images[name])
            rehearsal.run(Step(f"label {name}{' on Ray' if name in ray else ''}", words, folder, check))
            folders.append(folder)
        return folders

    def evaluate(weights: Path, table: str, sets: int) -> None:
        """A published table's test sets."""
        scores = weights.parent / table
        words = ["depth-anything", "evaluate", table, "--data", data / "benchmarks", "--model", weights]
        words += ["--partial", "-o", scores, *on_device, *smaller]
        rehearsal.run(Step(f"evaluate {table}", words, scores / "report.md", partial(check_table, scores, sets)))

    def export(weights: Path) -> None:
        """ONNX."""
        exported = weights.with_name("student.onnx")
        words = ["depth-anything", "export", weights, "-o", exported, *smaller]
        rehearsal.run(Step(f"export {weights.parent.name}", words, exported, partial(check_export, exported)))

    given = ["--data", *(f"{name}={data / name}" for name in V1_LABELED), "--segformer", segformer]
    teacher = train(recipes.v1_teacher, "v1-teacher", *given)
    labels = label(teacher, "v1-labels", tuple(images), ON_TORCHRUN, ON_RAY)
    student = train(recipes.v1_student, "v1-student", *given, "--pseudo-labels", *labels)
    evaluate(student, "v1-table2", 6)

    given = ["--data", *(f"{name}={data / name}" for name in V2_SYNTHETIC), "--segformer", segformer, "--shard"]
    teacher = train(recipes.v2_teacher, "v2-teacher", *given)
    labels = label(teacher, "v2-labels", FOR_V2, FOR_V2)
    student = train(recipes.v2_student, "v2-student", "--pseudo-labels", *labels, "--shard", kill=True)
    evaluate(student, "v2-table2", 5)
    export(student)
    print(f"\n{rehearsal.table()}")


if __name__ == "__main__":
    try:
        tyro.cli(rehearse)
    except (Broken, ValueError) as error:
        sys.exit(f"error: {error}")
