"""A server in a process of its own: hostile clients, stopping, load. All traffic stays on the loopback."""

import asyncio
import io
import json
import os
import signal
import socket
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra web is not installed")
import httpx2
from serving import Serving, serving

from depth_anything.__main__ import main
from depth_anything.predict.predictor import Predictor

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 3


@pytest.fixture(scope="module")
def server():
    with serving("--timeout", str(TIMEOUT_S), "--max-megabytes", "4") as server:
        yield server


@pytest.fixture(autouse=True)
def alive(request):
    """After every attack the same process answers."""
    yield
    if "server" in request.fixturenames:
        server = request.getfixturevalue("server")
        assert server.process.poll() is None
        assert httpx2.get(f"{server.url}/healthz", timeout=30).json() == {"status": "ok"}


def photo(width: int = 96, height: int = 64) -> bytes:
    data = io.BytesIO()
    with Image.open(ROOT / "examples/kodak_20.jpg") as image:
        image.resize((width, height)).save(data, format="JPEG")
    return data.getvalue()


def dial(server: Serving, length: int | None, extra: str = "", path: str = "/v1/depth") -> socket.socket:
    """A connection on which the head of a request for depth has been sent."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n{size}\r\n{extra}\r\n"
    connection.sendall(head.encode())
    return connection


def answer(connection: socket.socket) -> tuple[int, dict]:
    """Status and JSON of what the server says before it closes the connection."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionResetError:
        pass  # it closed while we were still sending; what it said before has arrived
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
def test_a_gigabyte_is_refused_early(server, announced):
    gigabyte, mebibyte, sent = 2**30, bytes(2**20), 0
    with dial(server, gigabyte if announced else None) as connection:
        try:
            for _ in range(1024):
                connection.sendall(mebibyte if announced else b"100000\r\n" + mebibyte + b"\r\n")
                sent += 1
        except OSError:
            pass
        status, body = answer(connection)
    assert status == 413 and "4 MiB" in body["detail"]
    assert sent < 64, f"{sent} MiB were taken before the connection was closed"


def test_refusals_come_before_the_body_is_sent(server):
    with dial(server, 2**30, "Expect: 100-continue\r\n") as connection:
        assert connection.recv(12) == b"HTTP/1.1 413"


def test_a_slow_client_gets_408(server):
    began = time.monotonic()
    with dial(server, 1000) as connection:
        connection.sendall(b"\xff\xd8")
        status, body = answer(connection)
    assert status == 408 and f"{TIMEOUT_S} s" in body["detail"]
    assert time.monotonic() - began < 10 * TIMEOUT_S


def test_chunks_without_end_get_408(server):
    began = time.monotonic()
    with dial(server, None) as connection:
        try:
            while time.monotonic() - began < 10 * TIMEOUT_S:
                connection.sendall(b"1\r\nx\r\n")
                time.sleep(0.05)
        except OSError:
            pass
        status, body = answer(connection)
    assert status == 408 and f"{TIMEOUT_S} s" in body["detail"]


PART = b'--B\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'


@pytest.mark.parametrize(
    ("body", "statuses"),
    [
        (b"".join(PART % (b"f%d" % number, b"", b"1") for number in range(10_000)), {400}),
        (b"".join(PART % (b"f%d" % number, b'; filename="a"', b"1") for number in range(10_000)), {400}),
        (PART % (b"format", b"", b"x" * 3_000_000), {400}),
        (PART % (b"n" * 3_000_000, b"", b"1"), {400}),
        (b"--B\r\n" + b"X-A: b\r\n" * 300_000, {400}),
        (b"\r\n" * 1_500_000, {400, 422}),
        (PART % (b"image", b'; filename="a"', b"\r\n--" * 700_000), {422}),
    ],
    ids=["fields", "files", "long field", "long name", "many headers", "line ends", "boundaries almost"],
)
def test_forms_made_to_hurt(server, body, statuses):
    before, began = resident_mib(server.process.pid), time.monotonic()
    kind = {"Content-Type": "multipart/form-data; boundary=B"}
    said = httpx2.post(f"{server.url}/v1/depth", content=body + b"--B--\r\n", headers=kind, timeout=60)
    assert said.status_code in statuses, said.text
    assert time.monotonic() - began < 40
    assert resident_mib(server.process.pid) < before + 40


@pytest.mark.parametrize("head", [b"", b"GET /healthz HTT", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"])
def test_a_head_that_never_ends_is_cut_off(server, head):
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head)
        try:
            while True:
                connection.settimeout(0.2)
                try:
                    assert connection.recv(100) == b""
                    break
                except TimeoutError:
                    connection.sendall(b"X" if head.endswith(b"\n") else b"")  # still there, and never done
        except ConnectionError:
            pass
    assert time.monotonic() - began < 10 * TIMEOUT_S


def test_a_kept_connection_is_cut_off_in_its_second_head(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 200"
        connection.sendall(b"GET /hea")
        began = time.monotonic()
        while connection.recv(65536):
            pass
    assert time.monotonic() - began < 10 * TIMEOUT_S


def test_killed_clients_leave_nothing_behind(server):
    data = photo()
    for sent in (0, 10, len(data) // 2, len(data)):
        for _ in range(5):
            with dial(server, len(data)) as connection:
                connection.sendall(data[:sent])
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closes with a reset
    for _ in range(100):
        lines = httpx2.get(f"{server.url}/metrics", timeout=30).text.splitlines()
        if "depth_anything_pictures_inside 0.0" in lines:
            return
        time.sleep(0.1)
    raise AssertionError("requests of dead clients are still inside")


@pytest.mark.slow
def test_a_client_that_never_reads_is_cut_off():
    with serving("--timeout", "8") as server:
        data = photo(2400, 1600)
        with dial(server, len(data), path="/v1/depth?format=pfm") as connection:  # 15 MB: no system buffers as much
            connection.sendall(data)
            for _ in range(300):
                text = httpx2.get(f"{server.url}/metrics", timeout=30).text
                if 'status="slow reader"' in text:
                    break
                time.sleep(0.1)
        assert 'status="slow reader"' in text and "depth_anything_pictures_inside 0.0" in text


def test_garbage_instead_of_http(server):
    for garbage in (
        b"\0\1\2\3" * 100,
        b"GET\r\n\r\n",
        b"POST /v1/depth HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(garbage)
            assert connection.recv(12) == b"HTTP/1.1 400"


def test_a_graceful_stop_finishes_requests_in_progress():
    with serving() as server:
        data = photo(1200, 800)
        with dial(server, len(data)) as inside:
            inside.sendall(data[:-1])
            httpx2.get(f"{server.url}/healthz", timeout=30)  # the request above has been taken
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            inside.sendall(data[-1:])
            assert inside.recv(12) == b"HTTP/1.1 200"
            while inside.recv(65536):
                pass
        assert server.process.wait(30) in (0, -signal.SIGTERM)
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", server.port), timeout=5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--port", "{taken}"], "--port"),
        (["--port", "99999"], "--port 99999"),
        (["--port", "-1"], "--port -1"),
        (["--at-once", "0"], "--at-once"),
        (["--timeout", "inf"], "--timeout"),
        (["--max-megapixels", "nan"], "--max-megapixels"),
        (["--keep", "{file}"], "{file}"),
        (["--token", "two words"], "--token"),
        (["--model", "nano", "absent.onnx"], "absent.onnx"),
    ],
)
def test_bad_options_are_one_line(options, said, capsys, tmp_path):
    (tmp_path / "file").touch()
    said = said.format(file=tmp_path / "file")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        options = [option.format(taken=taken.getsockname()[1], file=tmp_path / "file") for option in options]
        with pytest.raises(SystemExit) as stop:
            main(["serve", *options])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error.startswith("error: ") and said in error and error.count("\n") == 1


def resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_memory_after_two_thousand_requests():
    """Good images, cut ones and junk, in four forms, one after the other."""
    data = photo()
    bodies, resident = [data, data, data[:200], b"junk"], []
    with serving() as server, httpx2.Client(timeout=60) as client:
        for number in range(2000):
            form = ("png16", "npz", "json", "color")[number // 4 % 4]
            said = client.post(f"{server.url}/v1/depth?format={form}", content=bodies[number % 4])
            assert said.status_code == (200 if number % 4 < 2 else 422)
            resident.append(resident_mib(server.process.pid))
        assert len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) < 40
    assert max(resident[1000:]) < max(resident[:1000]) + 10


@pytest.mark.slow
def test_load(capsys):
    """64 clients at once: answers equal to the command's, no status but 200 and 429, memory flat."""
    sizes = [(96, 64), (64, 96), (200, 140), (320, 240)]
    images = [photo(*size) for size in sizes]
    nano = Predictor("nano", threads=1)
    expected = [nano(image).disparity for image in images]
    seconds, statuses, latencies, resident = 20.0, {}, [], []

    async def client(number: int, url: str, until: float) -> None:
        async with httpx2.AsyncClient(timeout=60) as http:
            turn = number
            while time.monotonic() < until:
                which = turn % len(images)
                turn += 1
                began = time.monotonic()
                reply = await http.post(f"{url}/v1/depth?format=npz", content=images[which])
                statuses[reply.status_code] = statuses.get(reply.status_code, 0) + 1
                if reply.status_code == 429:
                    await asyncio.sleep(0.2)
                    continue
                latencies.append(time.monotonic() - began)
                with np.load(io.BytesIO(reply.content)) as npz:
                    assert np.array_equal(npz["disparity"], expected[which])

    async def watch(pid: int, until: float) -> None:
        while time.monotonic() < until:
            await asyncio.sleep(0.5)
            resident.append(resident_mib(pid))

    async def scene(server: Serving) -> None:
        until = time.monotonic() + seconds
        await asyncio.gather(watch(server.process.pid, until), *(client(i, server.url, until) for i in range(64)))

    with serving("--at-once", "48") as server:
        asyncio.run(scene(server))
    percentiles = statistics.quantiles(latencies, n=100)
    third = len(resident) // 3
    early, late = max(resident[third : 2 * third]), max(resident[2 * third :])
    with capsys.disabled():
        sys.stdout.write(
            f"\nserve, 64 clients, {seconds:.0f} s: {statuses}, p50 {percentiles[49]:.2f} s, "
            f"p99 {percentiles[98]:.2f} s, resident {early:.0f} then {late:.0f} MiB\n"
        )
    assert set(statuses) <= {200, 429} and statuses[200] > 20 and statuses[429] > 0
    assert late < 1.1 * early + 10
