"""A thousand damaged files: each gives an image or one line, in bounded memory and time, and nothing is printed.

Run in a process of its own (this file as a program), because decoders can print behind Python's back, and because peak
memory belongs to a process.
"""

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sample_images import seeds

from depth_anything.images.read import ImageError, read_image

COUNT = 1000
SUFFIXES = (".jpg", ".png", ".tif", ".webp", ".gif", "")


def mutants(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """(name, content) of damaged files: cut short, bytes changed, blocks repeated or lost; the suffix may lie too."""
    random = np.random.default_rng(seed)
    whole = sorted(seeds().items())
    for index in range(count):
        name, content = whole[index % len(whole)]
        data = bytearray(content)
        kind = random.choice(["cut", "bytes", "header", "lose", "repeat"])
        start, stop = sorted(random.integers(0, len(data) + 1, 2))
        if kind == "cut":
            del data[start:]
        elif kind == "lose":
            del data[start:stop]
        elif kind == "repeat":
            data[start:start] = data[start:stop]
        else:
            reach = min(64, len(data)) if kind == "header" else len(data)
            for _ in range(random.integers(1, 9)):
                data[random.integers(reach)] = random.integers(256)
        yield f"{index:04d}-{kind}-{Path(name).stem}{random.choice(SUFFIXES)}", bytes(data)


def test_a_thousand_damaged_files(tmp_path):
    command = [sys.executable, "-W", "error", __file__, str(COUNT), str(tmp_path)]
    tests = Path(__file__).parents[1]
    search = os.pathsep.join([str(tests.parent), str(tests), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": search}, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "a decoder printed"
    result = json.loads(done.stdout)
    assert result["pictures"] + result["refused"] == COUNT
    assert result["pictures"] > 100 and result["refused"] > 300, "the mutations are too weak or too strong to show much"
    assert result["other"] == [], "a failure that is not one line"
    # a damaged header may honestly promise 200 megapixels; a decoder may hold 20 bytes for each
    assert result["peak_bytes"] < 20 * 200e6 and result["slowest_seconds"] < 30


def main(count: int, folder: Path) -> None:
    """Read every mutant from disk and print what came of it as JSON."""
    images = refused = 0
    slowest = 0.0
    other = []
    for name, data in mutants(count, seed=20261121):
        path = folder / name
        path.write_bytes(data)
        start = time.process_time()
        try:
            image = read_image(path)
            images += 1
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
                other.append(f"{name}: {image.dtype} {image.shape}")
        except ImageError as error:
            refused += 1
            if "\n" in str(error) or not str(error).startswith(f"{path}: ") or len(str(error)) > len(str(path)) + 300:
                other.append(f"{name}: {error}")
        except Exception as error:
            other.append(f"{name}: {type(error).__name__}: {error}")
        slowest = max(slowest, time.process_time() - start)
        path.unlink()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) * 1024  # not ru_maxrss: that is inherited from the process that started this
    result = {"pictures": images, "refused": refused, "other": other}
    sys.stdout.write(json.dumps({**result, "slowest_seconds": slowest, "peak_bytes": peak}))


if __name__ == "__main__":
    warnings.simplefilter("error")
    main(int(sys.argv[1]), Path(sys.argv[2]))
