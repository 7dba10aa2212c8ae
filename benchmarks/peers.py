"""Ours and every peer on this machine's processor, interleaved in one run: latency, batches, cold start, memory.

    python benchmarks/peers.py --official ../Depth-Anything-V2 --out benchmarks/results/peers.md
    python benchmarks/peers.py --official ../Depth-Anything-V2 --models v2-base v2-large --rounds 3 --cold-rounds 0
    python benchmarks/peers.py --models nano --shapes 224x288                 # without a checkout of the official code

All contenders run once a round, in an order that is drawn anew, so a noisy moment hits everybody; medians and their
ratios count, not milliseconds. Processor time of the process is a second measure: it does not see waiting. A product of
two 2048x2048 matrices is timed in the same rounds: the share of its rate is how near to the machine's limit one is.
"""

import argparse
import datetime
import gc
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from contenders import CONTENDERS, ENCODERS, Run, make_files

from depth_anything.variants import VARIANTS

GEMM = 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--official", type=Path, help="a checkout of DepthAnything/Depth-Anything-V2; else skipped")
    parser.add_argument("--models", nargs="+", default=["v2-small"], help="v2-small v2-base v2-large nano")
    parser.add_argument("--shapes", nargs="+", default=["518x518", "518x686"], help="height x width at the network")
    parser.add_argument("--dtypes", nargs="+", default=["fp32", "bf16"], help="fp32 bf16 int8")
    parser.add_argument("--only", nargs="+", help="contenders whose names contain one of these")
    parser.add_argument("--batches", type=int, nargs="*", default=[], help="also these batch sizes, of ours in torch")
    parser.add_argument("--compiled", action="store_true", help="also what torch.compile makes: minutes of compiling")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--cold-rounds", type=int, default=3, help="processes for each cold start; 0 leaves them out")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("out/peers"), help="folder for weights and exports")
    parser.add_argument("--out", type=Path, help="also write the tables here")
    parser.add_argument("--cold", nargs=4, help=argparse.SUPPRESS)  # contender, model, dtype, shape: in a new process
    arguments = parser.parse_args()
    shapes = [(int(height), int(width)) for height, width in (shape.split("x") for shape in arguments.shapes)]
    if arguments.cold:
        cold_process(arguments)
        return
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    text = [machine(arguments)]
    for model in arguments.models:
        folder = arguments.work / model
        make_files(folder, model, arguments.official, shapes)
        if "int8" in arguments.dtypes:
            make_int8(folder, model)
        for shape in shapes:
            text.append(latencies(arguments, model, shape))
        if arguments.batches:
            text.append(batches(arguments, model, shapes[0]))
        if arguments.cold_rounds:
            text.append(cold_starts(arguments, model, shapes[0]))
    print("\n".join(text))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text("\n".join(text))


def machine(arguments: argparse.Namespace) -> str:
    """What ran where and when."""
    cpu = next((line.split(":")[1].strip() for line in read("/proc/cpuinfo") if line.startswith("model name")), "?")
    flags = next((line for line in read("/proc/cpuinfo") if line.startswith("flags")), "")
    has = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16") if flag in flags.split()]
    libraries = ("torch", "transformers", "onnxruntime", "openvino", "nncf")
    return (
        f"{datetime.date.today()}. {cpu or platform.processor()}, {os.cpu_count()} cores ({' '.join(has)}), "
        f"{arguments.threads} threads, load average {os.getloadavg()[0]:.1f} at the start. Python "
        f"{platform.python_version()}, {', '.join(f'{name} {version_of(name)}' for name in libraries)}.\n"
    )


def version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def read(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def make_int8(folder: Path, model: str) -> None:
    """Our int8 file, calibrated on noise: speed does not depend on what it is calibrated on."""
    if (folder / "ours_int8.xml").exists():
        return
    import nncf
    import openvino

    from depth_anything.predict.openvino_graph import core

    rng = np.random.default_rng(0)
    side = VARIANTS[model].input_size
    images = [rng.normal(size=(1, 3, side, side)).astype(np.float32) for _ in range(3)]
    quantised = nncf.quantize(
        core().read_model(folder / "ours.xml"),
        nncf.Dataset(images),
        subset_size=len(images),
        model_type=nncf.ModelType.TRANSFORMER,
    )
    openvino.save_model(quantised, folder / "ours_int8.xml", compress_to_fp16=False)


def chosen(arguments: argparse.Namespace, model: str) -> list[tuple[str, str]]:
    """(contender, dtype) in the table's order."""
    pairs = []
    for name, (_, dtypes) in CONTENDERS.items():
        needs_official = name.startswith("official") or "plain" in name
        if needs_official and (arguments.official is None or model not in ENCODERS):
            continue
        if name.startswith("transformers") and model not in ENCODERS:
            continue
        if "compiled" in name and not arguments.compiled:
            continue
        if arguments.only and not any(part in name for part in arguments.only):
            continue
        pairs += [(name, dtype) for dtype in dtypes if dtype in arguments.dtypes]
    return pairs


def build(arguments: argparse.Namespace, name: str, model: str, dtype: str, shape: tuple[int, int]) -> Run:
    import torch

    torch.set_num_threads(arguments.threads)
    folder = arguments.work / model
    return CONTENDERS[name][0](folder, model, dtype, shape, arguments.threads, arguments.official)


def interleave(runs: dict, rounds: int) -> dict[object, tuple[list[float], list[float]]]:
    """Wall and processor seconds of every call, after one round that does not count."""
    seconds: dict = {key: ([], []) for key in runs}
    for number in range(rounds + 1):
        for key in random.sample(list(runs), len(runs)):
            cpu, wall = time.process_time(), time.perf_counter()
            runs[key]()
            if number:
                seconds[key][0].append(time.perf_counter() - wall)
                seconds[key][1].append(time.process_time() - cpu)
    return seconds


def latencies(arguments: argparse.Namespace, model: str, shape: tuple[int, int]) -> str:
    """Batch 1, all contenders."""
    import torch

    image_13HW = np.random.default_rng(0).normal(size=(1, 3, *shape)).astype(np.float32)
    runs: dict = {}
    maps: dict = {}
    for key in chosen(arguments, model):
        run = build(arguments, key[0], model, key[1], shape)
        maps[key] = np.asarray(run(image_13HW)).squeeze()
        runs[key] = lambda run=run: run(image_13HW)
    for dtype in (torch.float32, torch.bfloat16):
        a = torch.randn(GEMM, GEMM).to(dtype)
        runs[dtype] = lambda a=a: a @ a
    seconds = interleave(runs, arguments.rounds)
    rates = {"fp32": torch.float32, "bf16": torch.bfloat16}
    rates = {name: 2e-9 * GEMM**3 / statistics.median(seconds[dtype][0]) for name, dtype in rates.items()}
    flops = 1e-9 * network_flops(arguments.work / model, model, shape)
    keys = list(maps)
    first = keys[0]
    lines = [
        f"\n## {model}, {shape[0]}x{shape[1]}, batch 1, {arguments.rounds} rounds\n",
        f"{flops:.1f} GFLOP (plain graph). Products of matrices: {rates['fp32']:.0f} GFLOP/s in fp32, "
        f"{rates['bf16']:.0f} in bf16. Ratios are to {first[0]} {first[1]}.\n",
        "| contender | format | median ms | min | max | times as fast | by processor time | share of product rate | "
        "correlation | largest difference |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    wall = {key: statistics.median(seconds[key][0]) for key in keys}
    cpu = {key: statistics.median(seconds[key][1]) for key in keys}
    for key in keys:
        name, dtype = key
        share = f"{flops / wall[key] / rates[dtype]:.0%}" if dtype in rates else ""
        apart = np.abs(maps[key] - maps[first]).max()
        same = np.corrcoef(maps[key].ravel(), maps[first].ravel())[0, 1]
        spread = f"{1e3 * min(seconds[key][0]):.0f} | {1e3 * max(seconds[key][0]):.0f}"
        lines.append(
            f"| {name} | {dtype} | {1e3 * wall[key]:.0f} | {spread} | {wall[first] / wall[key]:.2f} | "
            f"{cpu[first] / cpu[key]:.2f} | {share} | {same:.5f} | {apart:.1e} |"
        )
    del runs
    gc.collect()
    return "\n".join(lines)


def network_flops(folder: Path, model: str, shape: tuple[int, int]) -> int:
    """Of the plain graph, two for each multiplication with its addition."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from depth_anything.network.model import DepthAnything

    with torch.device("meta"):
        network = DepthAnything(model)
        image_13HW = torch.zeros(1, 3, *shape)
    with FlopCounterMode(display=False) as counter:
        network(image_13HW)
    return counter.get_total_flops()


def batches(arguments: argparse.Namespace, model: str, shape: tuple[int, int]) -> str:
    """Images a second of our torch path by batch size."""
    lines = [f"\n## {model}, {shape[0]}x{shape[1]}, batches, ours in torch\n", "| batch | format | pictures/s |"]
    lines.append("|---|---|---|")
    runs = {}
    for dtype in (dtype for dtype in arguments.dtypes if dtype != "int8"):
        run = build(arguments, "ours, torch", model, dtype, shape)
        for size in arguments.batches:
            image_B3HW = np.random.default_rng(0).normal(size=(size, 3, *shape)).astype(np.float32)
            runs[size, dtype] = lambda run=run, image_B3HW=image_B3HW: run(image_B3HW)
    seconds = interleave(runs, max(3, arguments.rounds // 3))
    for size, dtype in runs:
        lines.append(f"| {size} | {dtype} | {size / statistics.median(seconds[size, dtype][0]):.2f} |")
    return "\n".join(lines)


def cold_starts(arguments: argparse.Namespace, model: str, shape: tuple[int, int]) -> str:
    """Process start to the first map, and the most memory that the process had."""
    keys = [key for key in chosen(arguments, model) if "compiled" not in key[0]]
    results: dict = {key: [] for key in keys}
    for _ in range(arguments.cold_rounds):
        for name, dtype in random.sample(keys, len(keys)):
            command = [sys.executable, __file__, "--work", str(arguments.work), "--threads", str(arguments.threads)]
            command += ["--official", str(arguments.official)] if arguments.official else []
            command += ["--cold", name, model, dtype, f"{shape[0]}x{shape[1]}"]
            start = time.perf_counter()
            answer = subprocess.run(command, check=True, capture_output=True, text=True)
            results[name, dtype].append((time.perf_counter() - start, json.loads(answer.stdout.splitlines()[-1])))
    lines = [
        f"\n## {model}, {shape[0]}x{shape[1]}, process start to the first map, {arguments.cold_rounds} processes\n",
        "| contender | format | median s | ratio | peak memory MB |",
        "|---|---|---|---|---|",
    ]
    medians = {key: statistics.median(wall for wall, _ in results[key]) for key in keys}
    for key in keys:
        peak = statistics.median(peak for _, peak in results[key])
        lines.append(
            f"| {key[0]} | {key[1]} | {medians[key]:.2f} | {medians[key] / medians[keys[0]]:.2f} | {peak:.0f} |"
        )
    return "\n".join(lines)


def cold_process(arguments: argparse.Namespace) -> None:
    """In a separate process: build one contender, predict one image, and report the memory that this takes."""
    name, model, dtype, shape = arguments.cold
    height, width = map(int, shape.split("x"))
    folder = arguments.work / model
    if "torch" in name or name.startswith(("official", "transformers")):
        import torch

        torch.set_num_threads(arguments.threads)
    run = CONTENDERS[name][0](folder, model, dtype, (height, width), arguments.threads, arguments.official)
    run(np.zeros((1, 3, height, width), np.float32))
    peak = next((int(line.split()[1]) for line in read("/proc/self/status") if line.startswith("VmHWM")), 0)
    print(json.dumps(peak / 1024))


if __name__ == "__main__":
    main()
