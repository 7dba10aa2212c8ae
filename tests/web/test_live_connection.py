"""Live depth over a WebSocket: in this process, and with a server and a client in processes of their own."""

import asyncio
import base64
import io
import json
import signal
import threading
import time

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra web is not installed")
from serving import MetricModel, serving
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from depth_anything.predict.prediction import Prediction
from depth_anything.predict.predictor import Predictor
from depth_anything.variants import VARIANTS
from depth_anything.web.live import NO_FRAME, PROTOCOL, follow
from depth_anything.web.middleware import Limits, Metrics
from depth_anything.web.responses import EncodedMap
from depth_anything.web.server import create_app
from depth_anything.web.site import Site

TIMEOUT_S = 3


def frame(value: int = 0, size: tuple[int, int] = (40, 30)) -> bytes:
    """A PNG with noise; its first value is `value`."""
    pixels = np.random.default_rng(value).integers(0, 256, (size[1], size[0], 3), np.uint8)
    pixels[0, 0, 0] = value
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def received(connection) -> tuple[dict, bytes | None]:
    """The next reply: what it says, and the map."""
    said = json.loads(connection.receive_text())
    return said, connection.receive_bytes() if said["status"] == 200 else None


@pytest.fixture(scope="module")
def nano() -> Predictor:
    return Predictor("nano", threads=1)


@pytest.fixture(scope="module")
def client(nano):
    limits = Limits(max_bytes=80_000, max_pixels=10_000)
    with TestClient(create_app({"nano": nano, "metric": MetricModel()}, limits)) as client:
        yield client


@pytest.mark.parametrize("query", ["", "?format=color&colors=inferno", "?format=npz&fov=50", "?model=metric"])
def test_each_map_is_the_response_of_v1_depth(client, query):
    with client.websocket_connect(f"/v1/live{query}") as live:
        for number in (1, 2, 3):
            live.send_bytes(frame(number))
            said, body = received(live)
            answer = client.post(f"/v1/depth{query}", content=frame(number))
            assert body == answer.content
            assert said["frame"] == number and said["media_type"] == answer.headers["content-type"]
            assert 0 < said["seconds"] < 60


def test_a_bad_frame_is_one_message_and_the_connection_continues(client):
    bad = {
        422: (b"hello", "not an image"),
        413: (bytes(80_001), "MiB"),
        415: ("a text", "text message"),
    }
    with client.websocket_connect("/v1/live") as live:
        for number, (status, (content, words)) in enumerate(bad.items(), 1):
            (live.send_text if isinstance(content, str) else live.send_bytes)(content)
            said, _ = received(live)
            assert (said["frame"], said["status"]) == (number, status)
            assert words in said["detail"] and "\n" not in said["detail"]
        live.send_bytes(frame(1, (200, 100)))
        said, _ = received(live)
        assert said["status"] == 413 and "200 x 100" in said["detail"]
        live.send_bytes(frame(1))
        said, _ = received(live)
        assert (said["frame"], said["status"]) == (5, 200)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("format=gif", "format: "),
        ("path=/etc/passwd", "path: "),
        ("model=v2-small", "this server has nano, metric"),
        ("format=npz&format=color", "format: given more than once"),
        ("fov=180", "fov: "),
    ],
)
def test_a_bad_option_is_refused_before_the_connection(client, query, words):
    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect(f"/v1/live?{query}"):
        pass
    assert refused.value.status_code == 422
    assert words in refused.value.json()["detail"] and "\n" not in refused.value.json()["detail"]


def test_options_that_need_more_are_said_for_each_frame(client):
    with client.websocket_connect("/v1/live?format=glb") as live:
        live.send_bytes(frame())
        assert "near and far" in received(live)[0]["detail"]


def test_pages_of_others_are_refused(nano):
    site = Site("127.0.0.1", (), ("https://app.example.org",))
    with TestClient(create_app({"nano": nano}, site=site), base_url="http://127.0.0.1:8000") as client:
        for headers, status in (
            ({"Origin": "http://evil.example"}, 403),
            ({"Origin": "http://127.0.0.1:3000"}, 403),
            ({"Origin": "null"}, 403),
            ({"Host": "evil.example:8000"}, 421),
            ({"Host": "evil.example", "Origin": "http://evil.example"}, 421),
        ):
            with (
                pytest.raises(WebSocketDenialResponse) as refused,
                client.websocket_connect("/v1/live", headers={"Host": "127.0.0.1:8000", **headers}),
            ):
                pass
            assert refused.value.status_code == status, headers
        for origin in ({}, {"Origin": "http://127.0.0.1:8000"}, {"Origin": "https://app.example.org"}):
            with client.websocket_connect("/v1/live", headers={"Host": "127.0.0.1:8000", **origin}) as live:
                live.send_bytes(frame())
                assert received(live)[0]["status"] == 200
        lines = client.get("/metrics").text.splitlines()
    for status, count in ((101, 3), (403, 3), (421, 2)):
        assert f'depth_anything_requests_total{{path="/v1/live",status="{status}"}} {count}.0' in lines


def subprotocol(token: str) -> str:
    return "bearer." + base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")


def test_the_token(nano):
    with TestClient(create_app({"nano": nano}, token="s3cret/?~")) as client:
        for wrong in (
            {},
            {"headers": {"Authorization": "Bearer wrong"}},
            {"headers": {"Authorization": "Basic s3cret/?~"}},
            {"subprotocols": [PROTOCOL, subprotocol("wrong")]},
            {"subprotocols": [PROTOCOL, "bearer.s3cret", "bearer.!"]},
            {"subprotocols": [PROTOCOL, "bearer._w"]},  # no UTF-8
        ):
            with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/v1/live", **wrong):
                pass
            assert refused.value.status_code == 401 and refused.value.headers["www-authenticate"] == "Bearer"
        with client.websocket_connect("/v1/live", headers={"Authorization": "Bearer s3cret/?~"}) as live:
            live.send_bytes(frame())
            assert received(live)[0]["status"] == 200 and live.accepted_subprotocol is None
        with client.websocket_connect("/v1/live", subprotocols=[subprotocol("s3cret/?~"), PROTOCOL]) as live:
            live.send_bytes(frame())
            assert received(live)[0]["status"] == 200
            assert live.accepted_subprotocol == PROTOCOL  # never the token


class Held:
    """A predictor that waits for the test before each image, whose first value it notes."""

    backend, batch_size, input_size, variant = None, 1, 224, VARIANTS["nano"]

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.began, self.go = threading.Semaphore(0), threading.Semaphore(0)

    def predict(self, images: list[np.ndarray]) -> list[Prediction]:
        self.seen += [int(image[0, 0, 0]) for image in images]
        self.began.release()
        assert self.go.acquire(timeout=30)
        return [Prediction(disparity=image[..., 0].astype(np.float32), model="nano") for image in images]


def metric(client: TestClient, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(f"{name} ")), 0.0)


def until(condition) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("never")


def test_frames_that_arrive_during_a_map_are_dropped_except_the_newest():
    held = Held()
    with TestClient(create_app({"held": held})) as client, client.websocket_connect("/v1/live?format=npy") as live:
        live.send_bytes(frame(10))
        assert held.began.acquire(timeout=30)
        for value in (20, 30, 40):
            live.send_bytes(frame(value))
        until(lambda: metric(client, 'depth_anything_live_frames_total{status="dropped"}') == 2)
        assert metric(client, "depth_anything_pictures_inside") == 1
        assert metric(client, "depth_anything_live_connections") == 1
        for _ in range(2):
            held.go.release()
        replies = [received(live) for _ in range(2)]
        assert [said["frame"] for said, _ in replies] == [1, 4]
        assert [np.load(io.BytesIO(body))[0, 0] for _, body in replies] == [10, 40] == held.seen
        until(lambda: metric(client, 'depth_anything_live_frames_total{status="200"}') == 2)
        assert metric(client, "depth_anything_live_seconds_count") == 2
        assert metric(client, "depth_anything_pictures_inside") == 0


def test_a_client_that_leaves_frees_its_place():
    held = Held()
    with TestClient(create_app({"held": held}, Limits(live_at_once=1))) as client:
        with client.websocket_connect("/v1/live") as live:
            live.send_bytes(frame(10))
            assert held.began.acquire(timeout=30)
            with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/v1/live"):
                pass
            assert refused.value.status_code == 429 and refused.value.headers["retry-after"]
            assert "1 live connections are open" in refused.value.json()["detail"]
        held.go.release()
        until(lambda: metric(client, "depth_anything_live_connections") == 0)
        with client.websocket_connect("/v1/live") as live:
            live.send_bytes(frame(20))
            held.go.release()
            assert received(live)[0]["frame"] == 1
    assert held.seen == [10, 20]


def test_a_connection_without_frames_ends_and_a_slow_map_is_said(nano):
    held = Held()
    with TestClient(create_app({"held": held}, Limits(seconds=0.3))) as client:
        with client.websocket_connect("/v1/live") as live:
            live.send_bytes(frame(10))
            said, _ = received(live)
            assert said["status"] == 429 and "0.3 s" in said["detail"]
            with pytest.raises(WebSocketDisconnect) as ended:
                live.receive_text()
            assert ended.value.code == NO_FRAME and "no frame arrived within 0.3 s" in ended.value.reason
        held.go.release()


def test_a_client_that_does_not_receive_its_maps_is_disconnected():
    metrics, sent = Metrics(), []
    messages = iter([{"type": "websocket.connect"}, {"type": "websocket.receive", "bytes": b"image"}])

    async def receive():
        return next(messages, None) or await asyncio.Event().wait()

    async def send(message):
        sent.append(message)
        if "bytes" in message:
            await asyncio.Event().wait()

    async def predict(data):
        return EncodedMap(b"map", "image/png", "picture_disparity.png")

    scope = {"type": "websocket", "headers": [], "subprotocols": []}

    async def connection():
        async with asyncio.timeout(10):
            await follow(WebSocket(scope, receive, send), predict, Limits(seconds=0.1), metrics)

    asyncio.run(connection())
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.send", "websocket.send"]
    assert metrics.registry.get_sample_value("depth_anything_live_frames_total", {"status": "slow reader"}) == 1
    assert metrics.registry.get_sample_value("depth_anything_pictures_inside") == 0


def test_a_failure_inside_ends_the_connection_without_details():
    class Broken:
        backend, batch_size, input_size, variant = None, 1, 224, VARIANTS["nano"]

        def predict(self, images):
            raise RuntimeError("secret")

    with TestClient(create_app({"broken": Broken()}), raise_server_exceptions=False) as client:
        with pytest.raises(RuntimeError, match="secret"), client.websocket_connect("/v1/live") as live:
            live.send_bytes(frame())
            with pytest.raises(WebSocketDisconnect) as ended:
                live.receive_text()
            assert ended.value.code == 1011 and "secret" not in ended.value.reason
        assert client.get("/healthz").status_code == 200
        assert metric(client, "depth_anything_live_connections") == 0


def test_frames_are_kept_where_images_are(nano, tmp_path):
    kept = tmp_path / "kept"
    with TestClient(create_app({"nano": nano}, keep=kept)) as client, client.websocket_connect("/v1/live") as live:
        live.send_bytes(frame())
        _, body = received(live)
    assert {path.read_bytes() for path in kept.iterdir()} == {frame(), body}


# -- a server of its own ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server():
    with serving("--timeout", str(TIMEOUT_S), "--max-megabytes", "1") as server:
        yield server


def dial(server, query: str = "", **options):
    client = pytest.importorskip("websockets.sync.client")
    return client.connect(f"ws://127.0.0.1:{server.port}/v1/live{query}", max_size=None, **options)


def test_a_connection_outlives_the_timeout_while_frames_arrive(server):
    with dial(server) as live:
        began, number = time.monotonic(), 0
        while time.monotonic() < began + 2 * TIMEOUT_S:
            number += 1
            live.send(frame(number))
            assert json.loads(live.recv(30))["frame"] == number
            assert live.recv(30).startswith(b"\x89PNG")
            time.sleep(0.2)


def test_without_frames_it_ends(server):
    from websockets.exceptions import ConnectionClosed

    with dial(server) as live, pytest.raises(ConnectionClosed) as ended:
        live.recv(30)
    assert ended.value.rcvd.code == NO_FRAME and "no frame" in ended.value.rcvd.reason


def test_a_message_beyond_the_limit_is_not_read(server):
    from websockets.exceptions import ConnectionClosed

    with dial(server) as live, pytest.raises(ConnectionClosed) as ended:
        live.send(bytes(2**20 + 1))
        live.recv(30)
    assert ended.value.rcvd.code == 1009


def test_a_browsers_page_of_others_cannot_connect(server):
    from websockets.exceptions import InvalidStatus

    with pytest.raises(InvalidStatus) as refused:
        dial(server, origin="http://evil.example")
    assert refused.value.response.status_code == 403
    assert "http://evil.example" in json.loads(refused.value.response.body)["detail"]


def test_a_stop_ends_connections_with_a_code():
    from websockets.exceptions import ConnectionClosed

    with serving() as server, dial(server) as busy, dial(server) as idle:
        busy.send(frame(1, (900, 600)))
        time.sleep(0.1)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        for live in (busy, idle):
            with pytest.raises(ConnectionClosed) as ended:
                while True:
                    live.recv(30)
            assert ended.value.rcvd.code == 1012
        assert server.process.wait(30) in (0, -signal.SIGTERM)
        assert time.monotonic() - began < 40
        assert "Traceback" not in server.process.stderr.read()
