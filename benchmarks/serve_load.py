"""64 clients at one `depth-anything serve` on the loopback for a minute: what they get, how long it takes, its memory.

    python benchmarks/serve_load.py [--clients 64] [--seconds 60] [--at-once 64] [--format png16] [--threads N]

Every response for one image must have the same bytes. Prints one line per figure.
"""

import argparse
import asyncio
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx2

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.jpg"))


def resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def client(number: int, url: str, until: float, seen: dict, statuses: Counter, latencies: list[float]) -> None:
    images = [path.read_bytes() for path in EXAMPLES]
    async with httpx2.AsyncClient(timeout=120) as http:
        turn = number
        while time.monotonic() < until:
            which = turn % len(images)
            turn += 1
            began = time.monotonic()
            reply = await http.post(url, content=images[which])
            statuses[reply.status_code] += 1
            if reply.status_code == 200:
                latencies.append(time.monotonic() - began)
                if seen.setdefault(which, reply.content) != reply.content:
                    raise SystemExit(f"{EXAMPLES[which].name}: two different responses")
            else:
                await asyncio.sleep(0.25)


async def watch(pid: int, until: float, resident: list[float]) -> None:
    while time.monotonic() < until:
        resident.append(resident_mib(pid))
        await asyncio.sleep(0.5)


async def load(options: argparse.Namespace, url: str, pid: int) -> None:
    statuses, latencies, resident = Counter(), [], []
    began, until = time.monotonic(), time.monotonic() + options.seconds
    url = f"{url}/v1/depth?format={options.format}"
    seen: dict[int, bytes] = {}
    clients = [client(number, url, until, seen, statuses, latencies) for number in range(options.clients)]
    await asyncio.gather(watch(pid, until, resident), *clients)
    seconds = time.monotonic() - began
    percentiles = statistics.quantiles(latencies, n=100)
    print(f"responses  {dict(statuses)} in {seconds:.0f} s: {statuses[200] / seconds:.1f} images per second")
    print(f"latency    p50 {percentiles[49]:.2f} s, p90 {percentiles[89]:.2f} s, p99 {percentiles[98]:.2f} s")
    quarters = [max(resident[len(resident) * i // 4 : len(resident) * (i + 1) // 4]) for i in range(4)]
    ticks = sum(int(field) for field in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13])
    print(f"processor  {ticks / os.sysconf('SC_CLK_TCK') / max(statuses[200], 1):.2f} s of one core for each image")
    print("resident   " + ", ".join(f"{mib:.0f}" for mib in quarters) + " MiB: the most in each quarter")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--at-once", default="64")
    parser.add_argument("--format", default="png16")
    parser.add_argument("--threads", help="of the network; by default the runtime's choice")
    options = parser.parse_args()
    command = [sys.executable, "-m", "depth_anything", "serve", "--port", "0", "--at-once", options.at_once]
    command += ["--threads", options.threads] if options.threads else []
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found, "the server did not start"
        asyncio.run(load(options, found[0], server.pid))
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)


if __name__ == "__main__":
    main()
