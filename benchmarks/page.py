"""The page without a server in Chromium: what it downloads, and the time of a map on one thread and on several.

    depth-anything page demo
    python benchmarks/page.py demo --out benchmarks/results/page.md

The folder is served twice: as it is (one thread), and with the headers that allow shared memory (as many threads as the
page takes). Both pages and ONNX Runtime in this process get the same photograph in turns. "predict" is the time that
the page prints. Processor time is that of the worker's threads for one image, decoding and writing the 16-bit PNG
included: on a machine that does other things too, the busiest thread's is what an idle machine would need.
"""

import argparse
import datetime
import gzip
import os
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from depth_anything import Predictor
from depth_anything.images.read import read_image

PHOTO = Path(__file__).parents[1] / "examples" / "kodak_19.jpg"
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
WAIT_MS = 600_000


class Files(SimpleHTTPRequestHandler):
    """Static files; notes what was sent."""

    def __init__(self, *arguments, headers: dict[str, str], sent: list[Path], **options):
        self.more, self.sent = headers, sent
        super().__init__(*arguments, **options)

    def end_headers(self) -> None:
        for name, value in self.more.items():
            self.send_header(name, value)
        super().end_headers()

    def log_request(self, code="-", size="-") -> None:
        path = Path(self.translate_path(self.path))
        self.sent.append(path / "index.html" if path.is_dir() else path)


@contextmanager
def published(folder: Path, headers: dict[str, str]) -> Iterator[tuple[str, list[Path]]]:
    """The folder's address on the loopback, and the files that were requested so far."""
    sent: list[Path] = []
    files = partial(Files, headers=headers, sent=sent, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), files) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", sent
        finally:
            server.shutdown()
            thread.join()


def worker_seconds(word: str) -> dict[int, float]:
    """Processor time so far of each worker thread below the process whose command line holds `word`."""
    parents, roots = {}, set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if word.encode() in (entry / "cmdline").read_bytes():
                    roots.add(int(entry.name))
            except OSError:  # it has ended
                continue

    def below(pid: int) -> bool:
        return pid in roots or (parents.get(pid, 0) > 1 and below(parents[pid]))

    seconds = {}
    for pid in filter(below, parents):
        for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
            name, _, rest = stat.read_text().rpartition(")")
            if name.endswith("(DedicatedWorker"):
                fields = rest.split()
                seconds[int(stat.parent.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds


def in_browser(playwright, url: str, profile: Path) -> tuple[Callable[[], list[float]], int]:
    """A function that gives the page the photograph: seconds of the network, processor seconds of the busiest thread
    and of all; and how many threads the page takes."""
    context = playwright.chromium.launch_persistent_context(str(profile), executable_path=CHROMIUM, args=FLAGS)
    page = context.pages[0]
    page.set_default_timeout(WAIT_MS)
    page.goto(url)
    page.wait_for_selector("body[data-ready]")
    threads = page.evaluate("crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1")

    def run() -> list[float]:
        before = worker_seconds(str(profile))
        page.evaluate("document.getElementById('meaning').textContent = ''")
        page.set_input_files("#file", PHOTO)
        page.wait_for_selector("#meaning:not(:empty)", state="attached")
        page.wait_for_timeout(500)
        found = re.search(r"Predicted in ([\d.]+) s", page.inner_text("#meaning"))
        assert found is not None
        used = [seconds - before.get(thread, 0.0) for thread, seconds in worker_seconds(str(profile)).items()]
        return [float(found[1]), max(used), sum(used)]

    return run, threads


def natively() -> Callable[[], list[float]]:
    """The same for ONNX Runtime in this process, on one thread."""
    predictor, image_HW3 = Predictor("nano", threads=1), read_image(PHOTO)

    def run() -> list[float]:
        began, before = time.perf_counter(), time.process_time()
        predictor(image_HW3)
        used = time.process_time() - before
        return [time.perf_counter() - began, used, used]

    return run


def downloads(folder: Path, sent: list[Path]) -> Iterator[str]:
    """A table of the files that a browser requests until the first map."""
    kinds = {"ONNX Runtime": "vendor/onnxruntime-web", "model": "models", "page": ""}
    sizes = {kind: [0, 0] for kind in kinds}
    for path in dict.fromkeys(sent):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and "examples" not in name:
            kind = next(kind for kind, part in kinds.items() if part in name)
            data = path.read_bytes()
            sizes[kind][0] += len(data)
            sizes[kind][1] += len(gzip.compress(data, 6))
    yield "| until the first map | MB | MB with gzip |"
    yield "|---|---|---|"
    for kind, (plain, packed) in [
        *sizes.items(),
        ("all", [sum(column) for column in zip(*sizes.values(), strict=True)]),
    ]:
        yield f"| {kind} | {plain / 1e6:.2f} | {packed / 1e6:.2f} |"


def report(folder: Path, rounds: int) -> Iterator[str]:
    """The lines of the result."""
    from playwright.sync_api import sync_playwright

    width, height = read_image(PHOTO).shape[1::-1]
    with ExitStack() as stack:
        playwright = stack.enter_context(sync_playwright())
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        contenders = {"ONNX Runtime in Python, 1 thread": natively()}
        asked: list[Path] = []
        for headers in ({}, ISOLATED):
            url, sent = stack.enter_context(published(folder, headers))
            run, threads = in_browser(playwright, url, temporary / f"profile-{len(contenders)}")
            contenders[f"page, {threads} thread{'s' * (threads > 1)}"] = run
            asked = asked or sent
        first = {name: run() for name, run in contenders.items()}
        machine = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}"
        yield f"{datetime.date.today()}, {machine}, {PHOTO.name} ({width} x {height}), benchmarks/page.py."
        yield ""
        yield from downloads(folder, asked)
        times: dict[str, list[list[float]]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, run in contenders.items():
                times[name].append(run())
    yield ""
    columns = "predict, s: smallest | median | busiest thread, processor s | all threads | first image, busiest"
    yield f"| {rounds} rounds in turns | {columns} |"
    yield "|---|---|---|---|---|---|"
    for name, rows in times.items():
        walls, busiest, used = (list(column) for column in zip(*rows, strict=True))
        medians = (statistics.median(column) for column in (walls, busiest, used))
        numbers = (min(walls), *medians, first[name][1])
        yield f"| {name} | {' | '.join(f'{number:.2f}' for number in numbers)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what `depth-anything page` wrote")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    text = "\n".join(report(arguments.folder.resolve(), arguments.rounds)) + "\n"
    print(text, end="")
    if arguments.out is not None:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
