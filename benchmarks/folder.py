"""`predict` on a folder beside the bare network: 200 JPEGs of 640x480 with nano, png16 written.

    python benchmarks/folder.py --out benchmarks/results/folder.md

The bare network is nano's graph without pre- and post-processing, run repeatedly on one tensor, in the same runtime
with the same threads. Each round times `predict` (inside one process, without its start) and as many calls of the
network.
"""

import argparse
import contextlib
import datetime
import io
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = run(Path(folder), arguments.images, arguments.rounds, arguments.threads)
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text)


def run(folder: Path, images: int, rounds: int, threads: int) -> str:
    """The table, in Markdown."""
    from depth_anything.__main__ import main as depth_anything

    make_images(folder / "in", images)
    network, image_13hw = bare_network(folder, threads)
    command = ["predict", str(folder / "in"), "-o", str(folder / "out"), "--save", "png16", "--overwrite"]
    command += ["--threads", str(threads)]
    rates: dict[str, list[float]] = {"predict --save png16": [], "the bare network": []}
    for number in range(rounds + 1):
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            depth_anything(command)
        middle = time.perf_counter()
        for _ in range(images):
            network(image_13hw)
        end = time.perf_counter()
        if number:
            rates["predict --save png16"].append(images / (middle - start))
            rates["the bare network"].append(images / (end - middle))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    lines = [
        f"{datetime.date.today()}. {images} JPEGs of 640x480, nano, {threads} threads of {os.cpu_count()} cores, "
        f"{rounds} interleaved rounds, load average {os.getloadavg()[0]:.1f} at the end. Most memory of the process: "
        f"{peak_memory():.0f} MB.\n",
        "| | pictures/s | of the bare network |",
        "|---|---|---|",
    ]
    bare = medians["the bare network"]
    lines += [f"| {name} | {median:.1f} | {median / bare:.0%} |" for name, median in medians.items()]
    return "\n".join(lines) + "\n"


def make_images(folder: Path, count: int) -> None:
    """Crops of the examples at many places, so that no two are the same."""
    folder.mkdir()
    sources = [Image.open(path).convert("RGB") for path in sorted(EXAMPLES.glob("*.jpg"))]
    rng = np.random.default_rng(0)
    for number in range(count):
        source = sources[number % len(sources)]
        left, top = (int(rng.integers(0, side // 4)) for side in source.size)
        box = (left, top, left + source.width * 3 // 4, top + source.height * 3 // 4)
        source.crop(box).resize((640, 480)).save(folder / f"{number:03d}.jpg", quality=90)


def bare_network(folder: Path, threads: int):
    """nano without pre- and post-processing, and an input for it."""
    import onnx
    import onnxruntime

    from depth_anything.network.resize import network_size
    from depth_anything.predict.backends import NANO_ONNX
    from depth_anything.variants import NANO

    path = folder / "network.onnx"
    onnx.utils.extract_model(NANO_ONNX, path, ["network_input"], ["network_map"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    height, width = network_size(480, 640, NANO.input_size)
    image_13hw = np.random.default_rng(0).normal(size=(1, 3, height, width)).astype(np.float32)
    return lambda image: session.run(None, {"network_input": image}), image_13hw


def peak_memory() -> float:
    """Of this process, MB; 0 where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


if __name__ == "__main__":
    main()
