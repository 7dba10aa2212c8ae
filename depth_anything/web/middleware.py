"""The outermost layer of the application: limits, secures and counts every request."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from depth_anything.web.page_files import CONTENT_POLICY
from depth_anything.web.site import Site

_CHUNK_BYTES = 64 * 1024
_LINGER_BYTES, _LINGER_SECONDS = 16 * 2**20, 2.0
_HEADERS = {
    "content-security-policy": f"{CONTENT_POLICY}; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a server."""

    max_bytes: int = 32 * 2**20
    """Largest body of a request."""
    max_pixels: int = 50_000_000
    """Largest number of pixels of an image, and of all images that are decoded at the same time."""
    seconds: float = 30.0
    """Time for a client to send its image, for the result to be computed, and for the client to receive it."""
    at_once: int = 64
    """Images in progress, from upload to response; further requests get status 429."""
    live_at_once: int = 8
    """Connections for live depth; further ones get status 429."""


class Metrics:
    """The metrics at /metrics (Prometheus)."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "depth_anything_requests", "Requests by path and status", ["path", "status"], registry=registry
        )
        self.seconds = Histogram(
            "depth_anything_request_seconds",
            "From the head of a request to the end of its response",
            ["path"],
            registry=registry,
        )
        self.inside = Gauge(
            "depth_anything_pictures_inside", "Images in progress, from upload to response", registry=registry
        )
        self.network_seconds = Histogram("depth_anything_network_seconds", "Seconds of one batch", registry=registry)
        self.batch_images = Histogram(
            "depth_anything_batch_pictures", "Images in a batch", buckets=(1, 2, 4, 8, 16, 32), registry=registry
        )

        self.live_connections = Gauge("depth_anything_live_connections", "Open WebSockets", registry=registry)
        self.live_frames = Counter(
            "depth_anything_live_frames",
            "Frames on WebSockets by the status of their reply, or dropped for a newer frame",
            ["status"],
            registry=registry,
        )
        self.live_seconds = Histogram(
            "depth_anything_live_seconds", "From the arrival of a frame to the end of its reply", registry=registry
        )

    def batch(self, images: int, seconds: float) -> None:
        """Record one run of the network."""
        self.network_seconds.observe(seconds)
        self.batch_images.observe(images)


class RequestGuard:
    """ASGI middleware around the whole application.

    - Requests to a foreign host name, or from a foreign page, are refused (see Site).
    - At most `limits.at_once` requests to the path `bounded` run at the same time; further ones get status 429 with
      Retry-After before their body is read.
    - At most `limits.live_at_once` WebSockets are open; further ones get status 429.
    - A client that does not receive its response within `limits.seconds` is disconnected.
    - If a response is ready before the body was read, a little more of the body is read, so that the client gets the
      response instead of a connection reset; then the connection is closed.

    Args:
        paths: paths that have their own label in the metrics; all others are "other".
        site: the host names of this server; None accepts any.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits,
        metrics: Metrics,
        bounded: str,
        paths: frozenset[str],
        site: Site | None = None,
    ):
        self.app, self.limits, self.metrics, self.bounded, self.paths = app, limits, metrics, bounded, paths
        self.site = site
        self.inside, self.live = 0, 0
        self.mean_seconds = 1.0
        """Mean time of recent images, for Retry-After."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self.limits.seconds)
        began = time.perf_counter()
        bounded = scope["path"] == self.bounded and scope["method"] == "POST"
        stranger = self._stranger(scope)
        admitted = bounded and stranger is None and self.inside < self.limits.at_once
        app: ASGIApp = stranger or (self.app if admitted or not bounded else self._too_many())
        self.inside += admitted
        self.metrics.inside.inc(admitted)
        try:
            await app(scope, exchange.receive, exchange.send)
        except _SlowReader:
            exchange.status = "slow reader"
        except Exception:
            exchange.status = "500"
            raise
        finally:
            seconds = time.perf_counter() - began
            if admitted:
                self.inside -= 1
                self.mean_seconds += 0.1 * (seconds - self.mean_seconds)
            self.metrics.inside.dec(admitted)
            self.metrics.requests.labels(self._label(scope), exchange.status).inc()
            self.metrics.seconds.labels(self._label(scope)).observe(seconds)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One WebSocket, or the response that refuses it. Browsers do not apply CORS to it: its Origin decides."""
        stranger = self._stranger(scope)
        admitted = stranger is None and self.live < self.limits.live_at_once
        many = f"{self.limits.live_at_once} live connections are open: try again later"
        app: ASGIApp = stranger or (self.app if admitted else too_busy(many, self.limits.seconds))
        counted = False

        async def count(message: Message) -> None:
            nonlocal counted
            if not counted:
                counted = True
                status = {"websocket.accept": 101, "websocket.close": 403}.get(message["type"]) or message["status"]
                self.metrics.requests.labels(self._label(scope), str(status)).inc()
            await send(message)

        self.live += admitted
        self.metrics.live_connections.inc(admitted)
        try:
            await app(scope, receive, count)
        finally:
            self.live -= admitted
            self.metrics.live_connections.dec(admitted)

    def _label(self, scope: Scope) -> str:
        return scope["path"] if scope["path"] in self.paths else "other"

    def _stranger(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        refused = self.site.refusal(headers.get("host"), headers.get("origin")) if self.site is not None else None
        return None if refused is None else JSONResponse({"detail": refused[1]}, refused[0])

    def _too_many(self) -> JSONResponse:
        return too_busy(f"{self.limits.at_once} images are in progress: try again later", self.mean_seconds)


def too_busy(detail: str, seconds: float) -> JSONResponse:
    """Status 429, with the number of seconds after which to try again."""
    return JSONResponse({"detail": detail}, 429, {"Retry-After": str(max(1, min(60, math.ceil(seconds))))})


class _SlowReader(Exception):
    """A client did not receive its response in time."""


class _Exchange:
    """One request and its response."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, seconds: float):
        self._receive, self._send, self._seconds = receive, send, seconds
        headers = dict(scope["headers"])
        self._unread = b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
        self.status = "closed"
        """Status of the response for the metrics; "closed" if the client disconnected before it."""

    async def receive(self) -> Message:
        message = await self._receive()
        self._unread = message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = str(message["status"])
            added = {**_HEADERS, "connection": "close"} if self._unread else _HEADERS
            pairs = [(name.encode(), value.encode()) for name, value in added.items()]
            message = {**message, "headers": [*message.get("headers", []), *pairs]}
            await self._send(message)
            return
        last = not message.get("more_body", False)
        try:
            async with asyncio.timeout(self._seconds):
                body = message.get("body", b"")
                # in pieces: between two of them, the HTTP server notices that the client does not read
                for start in range(0, len(body), _CHUNK_BYTES):
                    piece = bytes(memoryview(body)[start : start + _CHUNK_BYTES])
                    await self._send({"type": message["type"], "body": piece, "more_body": True})
        except TimeoutError:
            raise _SlowReader from None
        if last and self._unread:
            await self._linger()
        if last:
            await self._send({"type": message["type"], "body": b"", "more_body": False})

    async def _linger(self) -> None:
        read = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while self._unread and read < _LINGER_BYTES:
                    read += len((await self.receive()).get("body", b""))
