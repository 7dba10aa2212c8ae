"""Delay of `video --live`: from the moment that a camera sends a frame until its map is shown.

    python benchmarks/live.py --out benchmarks/results/live.md

A server on this machine sends 640x480 JPEG frames over HTTP, as network cameras do (multipart). Each holds its number
as black and white squares, so the delay includes sending, decoding and waiting. Beside it: every frame in its turn,
without leaving any out. Nothing is drawn on a screen. The second half of the frames counts.
"""

import argparse
import datetime
import io
import os
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
    image_HW3 = np.asarray(Image.open(EXAMPLE).convert("RGB").resize(SIZE))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            began, number = time.monotonic(), 0
            while True:
                data = io.BytesIO()
                Image.fromarray(with_number(image_HW3, number)).save(data, "JPEG", quality=85)
                time.sleep(max(0.0, began + number / rate - time.monotonic()))
                sent[number] = time.monotonic()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {data.tell()}\r\n\r\n"
                try:
                    self.wfile.write(head.encode() + data.getvalue() + b"\r\n")
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
    half = 1000 * np.array(delays[maps // 2 :])
    figures = f"{np.median(half):.0f} | {half.max():.0f} | {delays[-1] * 1000:.0f} | {maps / lasted:.1f}"
    return f"| {name} | {rate:g} | {figures} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--maps", type=int, default=60)
    parser.add_argument("--rates", type=float, nargs="+", default=[5, 30])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    predictor = Predictor(arguments.model, threads=arguments.threads)
    lines = [
        f"{datetime.date.today()}. {arguments.model}, {SIZE[0]}x{SIZE[1]}, {arguments.maps} maps, {os.cpu_count()} "
        f"cores, {arguments.threads} threads, load {os.getloadavg()[0]:.0f}.\n",
        "| | frames/s | median delay ms | longest ms | last ms | maps/s |",
        "|---|---|---|---|---|---|",
    ]
    for rate in arguments.rates:
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
