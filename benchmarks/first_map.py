"""Process start to the first map of one photograph with nano, beside `python -c 'import torch'` in the same run.

    python benchmarks/first_map.py --base .venv/base/bin/python

`--base` is a Python that has the base install (no torch); this script's own Python needs torch. Rounds are interleaved,
because machines are noisy; the figure that counts is the ratio of the medians.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PHOTO = Path(__file__).parents[1] / "examples" / "kodak_19.jpg"


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=tempfile.gettempdir())
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=sys.executable, help="a Python with the base install")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        predict = [arguments.base, "-m", "depth_anything", "predict", str(PHOTO), "--out", folder, "--overwrite"]
        commands = {
            "nano: first map written": [str(part) for part in predict],
            "import torch": [sys.executable, "-c", "import torch"],
            "depth-anything --help": [arguments.base, "-m", "depth_anything", "--help"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(arguments.rounds + 1):
            for name, command in commands.items():
                times[name].append(seconds(command))
    reference = statistics.median(times["import torch"][1:])
    print("| process | median s | min | max | x `import torch` |\n|---|---|---|---|---|")
    for name, all_rounds in times.items():
        rounds = all_rounds[1:]  # the first round fills the disk cache
        median = statistics.median(rounds)
        print(f"| {name} | {median:.2f} | {min(rounds):.2f} | {max(rounds):.2f} | {median / reference:.2f} |")


if __name__ == "__main__":
    main()
