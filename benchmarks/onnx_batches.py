"""Whether images of one size gain by going through ONNX Runtime or OpenVINO together, on the processor.

    python benchmarks/onnx_batches.py --out benchmarks/results/onnx_batches.md

The bare network (a batch of normalised images in, maps out) of nano, and of v2-small with random weights, at the sizes
of a 3:2 photograph. An exported file takes one image, so that batches would need another graph: this says whether it
would pay. Rounds are interleaved; the figure is processor time for an image, relative to a batch of one, because other
programs' load falls on wall time.
"""

import argparse
import datetime
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from depth_anything.export.export_model import export_network
from depth_anything.network.model import DepthAnything
from depth_anything.predict.openvino_graph import core

SIZES = {"nano": (224, 320), "v2-small": (518, 770)}
BATCHES = (1, 2, 4, 8)

Run = Callable[[np.ndarray], object]


def runtimes(path: Path, threads: int) -> dict[str, Run]:
    """Name -> a function that runs the network on a batch."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting is no work
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": str(threads)}
    model = core().compile_model(core().read_model(path), "CPU", settings)
    return {
        "ONNX Runtime": lambda images: session.run(None, {"network_input": images}),
        "OpenVINO": lambda images: model({"network_input": images})[0],
    }


def cost(run: Run, images_B3HW: np.ndarray, images: int) -> tuple[float, float]:
    """Processor and wall milliseconds for each of so many images."""
    processor, wall = time.process_time(), time.perf_counter()
    for _ in range(images // len(images_B3HW)):
        run(images_B3HW)
    return (time.process_time() - processor) / images * 1e3, (time.perf_counter() - wall) / images * 1e3


def measure(path: Path, name: str, size: tuple[int, int], threads: int, rounds: int) -> list[str]:
    """Rows of the table for one model."""
    rng = np.random.default_rng(0)
    runs = runtimes(path, threads)
    batches = {count: rng.normal(size=(count, 3, *size)).astype(np.float32) for count in BATCHES}
    costs: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for _ in range(rounds + 1):
        for runtime, run in runs.items():
            for count, images_B3HW in batches.items():
                costs.setdefault((runtime, count), []).append(cost(run, images_B3HW, max(BATCHES)))
    rows = []
    for runtime in runs:
        medians = {}
        for count in BATCHES:
            processor, wall = zip(*costs[runtime, count][1:], strict=True)  # the first round compiles
            medians[count] = statistics.median(processor), statistics.median(wall)
        ratios = [
            f"{medians[count][0] / medians[1][0]:.2f} ({medians[count][1] / medians[1][1]:.2f})" for count in BATCHES
        ]
        rows.append(
            f"| {name} {size[1]}x{size[0]} | {runtime} | {threads} | {medians[1][0]:.0f} | {' | '.join(ratios[1:])} |"
        )
        print(rows[-1], flush=True)
    return rows


def network(name: str, path: Path) -> Path:
    """The bare network of a model as a file."""
    model = DepthAnything.from_pretrained(name) if name == "nano" else DepthAnything(name)
    onnx.save(export_network(model), path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, os.cpu_count() or 1])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    lines = [
        f"{datetime.date.today()}, {arguments.rounds} interleaved rounds; processor time for an image, relative to",
        "a batch of one (wall time in brackets).\n",
        "| network | runtime | threads | ms, batch of 1 | " + " | ".join(f"batch of {n}" for n in BATCHES[1:]) + " |",
        "|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.models:
            path = network(name, Path(folder) / f"{name}.onnx")
            for threads in arguments.threads:
                lines += measure(path, name, SIZES[name], threads, arguments.rounds)
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
