"""Delay of `video --live` and of `serve`: from the moment that a camera sends a frame until its map is there.

    python benchmarks/live.py --out live.md
    python benchmarks/live.py --serve --out live_serve.md

A server on this machine sends 640x480 JPEG frames over HTTP, as network cameras do (multipart). Each holds its number
as black and white squares, so the delay includes sending, decoding and waiting. Beside it: every frame in its turn,
without leaving any out. Nothing is drawn on a screen. The second half of the frames counts.

With --serve, the frames go to a server in a process of its own: over the WebSocket /v1/live at the camera's rate, one
frame for each map as the page does, and as requests to /v1/depth, one after the other. The maps are PNGs of 16 bits.
"""

import argparse
import datetime
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image

from depth_anything.predict.predictor import Predictor
from depth_anything.video import live
from depth_anything.video.decode import open_capture, open_clip
from depth_anything.video.run import VideoOptions

EXAMPLE = Path(__file__).parents[1] / "examples" / "kodak_08.jpg"
BITS, SQUARE = 16, 16
SIZE = (640, 480)


def with_number(image_HW3: np.ndarray, number: int) -> np.ndarray:
    """The image with a number in its first row of squares."""
    marked_HW3 = image_HW3.copy()
    for bit in range(BITS):
        marked_HW3[:SQUARE, bit * SQUARE : (bit + 1) * SQUARE] = 255 * (number >> bit & 1)
    return marked_HW3


def number_of(image_HW3: np.ndarray) -> int:
    middle = SQUARE // 2
    return sum(int(image_HW3[middle, bit * SQUARE + middle, 0] > 127) << bit for bit in range(BITS))


@contextmanager
def camera(rate: float) -> Iterator[tuple[str, dict[int, float]]]:
    """A camera that sends `rate` frames a second: its address, and when it sent each number."""
    sent: dict[int, float] = {}
    image_HW3 = camera_image()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            began, number = time.monotonic(), 0
            while True:
                data = jpeg(with_number(image_HW3, number))
                time.sleep(max(0.0, began + number / rate - time.monotonic()))
                sent[number] = time.monotonic()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                try:
                    self.wfile.write(head.encode() + data + b"\r\n")
                except OSError:
                    return
                number += 1

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/camera", sent
        server.shutdown()


def newest_first(
    url: str, predictor: Predictor, stabilise: bool, maps: int, shown: Callable[[np.ndarray], bool]
) -> None:
    options = VideoOptions(stabilise=stabilise)
    live.watch(open_clip(url), predictor, options, shown, lambda: False, print, maps)


def in_turn(url: str, predictor: Predictor, stabilise: bool, maps: int, shown: Callable[[np.ndarray], bool]) -> None:
    capture = open_capture(open_clip(url))
    for _ in range(maps):
        image_HW3 = np.ascontiguousarray(capture.read()[1][..., ::-1])
        predictor(image_HW3)
        shown(image_HW3)
    capture.release()


def jpeg(image_HW3: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(image_HW3).save(data, "JPEG", quality=85)
    return data.getvalue()


@contextmanager
def server(model: str, threads: int) -> Iterator[str]:
    """Host and port of `depth-anything serve`."""
    command = [sys.executable, "-m", "depth_anything", "serve", "--port", "0", "--model", model]
    process = subprocess.Popen([*command, "--threads", str(threads)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"http://(\S+)", process.stdout.readline())
        assert found, "the server did not start"
        yield found[1]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def by_websocket(host: str, rate: float, maps: int) -> list[float]:
    """Delays of the maps. A thread sends frames at the camera's rate."""
    from websockets.sync.client import connect

    frame, sent, delays, enough = jpeg(camera_image()), {}, [], threading.Event()
    with connect(f"ws://{host}/v1/live", max_size=None, compression=None) as live:

        def send() -> None:
            began = time.monotonic()
            for number in range(1, 1_000_000):
                if enough.wait(max(0.0, began + number / rate - time.monotonic())):
                    return
                sent[number] = time.monotonic()
                live.send(frame)

        sender = threading.Thread(target=send)
        sender.start()
        for _ in range(maps):
            reply = json.loads(live.recv())
            assert reply["status"] == 200, reply
            live.recv()
            delays.append(time.monotonic() - sent[reply["frame"]])
        enough.set()
        sender.join()
    return delays


def frame_for_map(host: str, rate: float, maps: int) -> list[float]:
    """The same with a frame sent when the last map has come; the camera's newest one has just arrived."""
    from websockets.sync.client import connect

    frame, delays = jpeg(camera_image()), []
    with connect(f"ws://{host}/v1/live", max_size=None, compression=None) as live:
        for _ in range(maps):
            began = time.monotonic()
            live.send(frame)
            assert json.loads(live.recv())["status"] == 200
            live.recv()
            delays.append(time.monotonic() - began)
    return delays


def by_requests(host: str, rate: float, maps: int) -> list[float]:
    import httpx2

    frame, delays = jpeg(camera_image()), []
    with httpx2.Client(timeout=60) as client:
        for _ in range(maps):
            began = time.monotonic()
            assert client.post(f"http://{host}/v1/depth", content=frame).status_code == 200
            delays.append(time.monotonic() - began)
    return delays


def camera_image() -> np.ndarray:
    return np.asarray(Image.open(EXAMPLE).convert("RGB").resize(SIZE))


def figures(delays: list[float], lasted: float) -> str:
    half = 1000 * np.array(delays[len(delays) // 2 :])
    return f"{np.median(half):.0f} | {half.max():.0f} | {half[-1]:.0f} | {len(delays) / lasted:.1f}"


def served_rows(model: str, threads: int, rates: list[float], maps: int) -> Iterator[str]:
    """Lines of the table for a server."""
    ways = [(f"`/v1/live`, {rate:g} frames/s sent", f"{rate:g}", by_websocket, rate) for rate in rates]
    ways += [("`/v1/live`, a frame for each map", "", frame_for_map, 0), ("`/v1/depth`, requests", "", by_requests, 0)]
    with server(model, threads) as host:
        by_requests(host, 0, 3)
        for name, shown, way, rate in ways:
            began = time.monotonic()
            delays = way(host, rate, maps)
            yield f"| {name} | {shown} | {figures(delays, time.monotonic() - began)} |"


def row(name: str, way: Callable[..., None], predictor: Predictor, stabilise: bool, rate: float, maps: int) -> str:
    """One line of the table."""
    delays: list[float] = []
    with camera(rate) as (url, sent):

        def shown(image_HW3: np.ndarray) -> bool:
            delays.append(time.monotonic() - sent[number_of(image_HW3)])
            return True

        began = time.monotonic()
        way(url, predictor, stabilise, maps, shown)
        lasted = time.monotonic() - began
    return f"| {name} | {rate:g} | {figures(delays, lasted)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--maps", type=int, default=60)
    parser.add_argument("--rates", type=float, nargs="+", default=[5, 30])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    lines = [
        f"{datetime.date.today()}. {arguments.model}, {SIZE[0]}x{SIZE[1]}, {arguments.maps} maps, {os.cpu_count()} "
        f"cores, {arguments.threads} threads, load {os.getloadavg()[0]:.0f}.\n",
        "| | frames/s | median delay ms | longest ms | last ms | maps/s |",
        "|---|---|---|---|---|---|",
    ]
    if arguments.serve:
        for line in served_rows(arguments.model, arguments.threads, arguments.rates, arguments.maps):
            lines.append(line)
            print(line, flush=True)
    predictor = Predictor(arguments.model, threads=arguments.threads)
    for rate in [] if arguments.serve else arguments.rates:
        lines.append(row("`--live`", newest_first, predictor, True, rate, arguments.maps))
        lines.append(row("`--live --stabilise off`", newest_first, predictor, False, rate, arguments.maps))
        lines.append(row("every frame in its turn", in_turn, predictor, False, rate, arguments.maps))
        print("\n".join(lines[-3:]), flush=True)
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
