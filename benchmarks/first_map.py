"""Process start to the first map of one photograph, cold, beside `python -c 'import torch'` in the same run.

    python benchmarks/first_map.py --base .venv/base/bin/python
    python benchmarks/first_map.py --official ../Depth-Anything-V2 --work out/peers    # beside the official ViT-S

`--base` is a Python that has the base install (no torch); this script's own Python needs torch. With `--official`, and
the files that peers.py made in `--work`, also the official code, and ViT-S exported. Rounds are interleaved, because
machines are noisy; the figure that counts is the ratio of the medians.
"""

import argparse
import datetime
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PHOTO = Path(__file__).parents[1] / "examples" / "kodak_19.jpg"
PEERS = Path(__file__).parent / "peers.py"
VIT_S = {
    "official code, ViT-S": ("official, eager", "fp32"),
    "ours, ViT-S in torch": ("ours, torch", "fp32"),
    "ours, ViT-S in ONNX Runtime": ("ours, ONNX Runtime", "fp32"),
    "ours, ViT-S in OpenVINO, bf16": ("ours, OpenVINO", "bf16"),
}


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default=sys.executable, help="a Python with the base install")
    parser.add_argument("--official", type=Path, help="a checkout of DepthAnything/Depth-Anything-V2; else left out")
    parser.add_argument("--work", type=Path, default=Path("out/peers"), help="the folder that peers.py filled")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        predict = [arguments.base, "-m", "depth_anything", "predict", str(PHOTO), "--out", folder, "--overwrite"]
        commands = {
            "import torch": [sys.executable, "-c", "import torch"],
            "nano: first map written": [str(part) for part in predict],
            "depth-anything --help": [arguments.base, "-m", "depth_anything", "--help"],
        }
        if arguments.official is not None:
            peers = [sys.executable, str(PEERS), "--official", str(arguments.official), "--work", str(arguments.work)]
            commands |= {
                name: [*peers, "--cold", contender, "v2-small", dtype, "518x518"]
                for name, (contender, dtype) in VIT_S.items()
            }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(arguments.rounds + 1):
            for name, command in commands.items():
                times[name].append(seconds(command))
    medians = {name: statistics.median(rounds[1:]) for name, rounds in times.items()}  # the first fills the disk cache
    reference = "official code, ViT-S" if arguments.official is not None else "import torch"
    lines = [
        f"{datetime.date.today()}, {arguments.rounds} interleaved rounds.\n",
        f"| process | median s | min | max | ratio to {reference} |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {median:.2f} | {min(times[name][1:]):.2f} | {max(times[name][1:]):.2f} | "
        f"{median / medians[reference]:.2f} |"
        for name, median in medians.items()
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
