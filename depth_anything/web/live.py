"""Live depth over a WebSocket: a client sends frames and receives the map of the newest one, again and again.

A frame is a binary message with the bytes of an image. Frames that arrive while a map is computed replace each other:
only the newest is kept. Each map is two messages: JSON that names the frame, and the bytes of the map.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from depth_anything.web.middleware import Limits, Metrics
from depth_anything.web.responses import EncodedMap
from depth_anything.web.upload import Refused, check_bytes

PROTOCOL = "depth-anything"
"""The subprotocol of the connection. Browsers must offer it if they send a token."""
_TOKEN = "bearer."
NO_FRAME, FAILED = 4408, 1011
"""Codes with which the server ends a connection: no frame arrived in time; a programming error."""


def sent_token(websocket: WebSocket) -> str | None:
    """The bearer token: from the header Authorization, or from a subprotocol, because browsers cannot set the header.

    The subprotocol is `bearer.` followed by the token in base64url without padding.
    """
    scheme, _, token = websocket.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token
    for name in websocket.scope["subprotocols"]:
        if name.startswith(_TOKEN):
            text = name.removeprefix(_TOKEN)
            with suppress(ValueError):
                return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    return None


@dataclass(frozen=True)
class _Frame:
    number: int
    """Counted from 1 in the order in which frames arrive."""
    content: bytes | str
    arrived: float


async def follow(
    websocket: WebSocket,
    predict: Callable[[bytes], Awaitable[EncodedMap]],
    limits: Limits,
    metrics: Metrics,
) -> None:
    """Accept the connection, and send maps of its newest frames until it ends.

    Args:
        predict: from the bytes of an image to its map; raises Refused or ValueError about the image.
    """
    await websocket.accept(PROTOCOL if PROTOCOL in websocket.scope["subprotocols"] else None)
    newest: asyncio.Queue[_Frame] = asyncio.Queue(1)
    tasks = {
        asyncio.create_task(_receive(websocket, newest, metrics)),
        asyncio.create_task(_reply(websocket, newest, predict, limits, metrics)),
    }
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            with suppress(WebSocketDisconnect):
                task.result()
    except TimeoutError:
        await _close(websocket, NO_FRAME, f"no frame arrived within {limits.seconds:g} s")
    except Exception:
        await _close(websocket, FAILED, "the server failed")
        raise
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _close(websocket: WebSocket, code: int, reason: str) -> None:
    if websocket.client_state == WebSocketState.CONNECTED:
        with suppress(WebSocketDisconnect, RuntimeError):
            await websocket.close(code, reason)


async def _receive(websocket: WebSocket, newest: asyncio.Queue[_Frame], metrics: Metrics) -> None:
    """Keep the newest frame, until the client disconnects."""
    number = 0
    while (message := await websocket.receive())["type"] != "websocket.disconnect":
        number += 1
        content = message.get("bytes")
        if newest.full():
            newest.get_nowait()
            metrics.live_frames.labels("dropped").inc()
        newest.put_nowait(_Frame(number, message["text"] if content is None else content, time.perf_counter()))


async def _reply(
    websocket: WebSocket,
    newest: asyncio.Queue[_Frame],
    predict: Callable[[bytes], Awaitable[EncodedMap]],
    limits: Limits,
    metrics: Metrics,
) -> None:
    """Send the map of one frame after the other; return if the client does not receive it in time.

    Raises:
        TimeoutError: no frame arrived in time.
    """
    while True:
        async with asyncio.timeout(limits.seconds):
            frame = await newest.get()
        with metrics.inside.track_inprogress():
            head, body = await _map_of(frame, predict, limits)
            seconds = time.perf_counter() - frame.arrived
            try:
                async with asyncio.timeout(limits.seconds):
                    await websocket.send_text(json.dumps({"frame": frame.number, "seconds": round(seconds, 4), **head}))
                    if body is not None:
                        await websocket.send_bytes(body)
            except TimeoutError:
                metrics.live_frames.labels("slow reader").inc()
                return
        metrics.live_frames.labels(str(head["status"])).inc()
        metrics.live_seconds.observe(time.perf_counter() - frame.arrived)


async def _map_of(
    frame: _Frame, predict: Callable[[bytes], Awaitable[EncodedMap]], limits: Limits
) -> tuple[dict[str, Any], bytes | None]:
    """The two messages about a frame; without a map, the first says why."""
    try:
        if isinstance(frame.content, str):
            raise Refused(415, "a text message; expected the bytes of an image as a binary message")
        check_bytes(len(frame.content), limits)
        async with asyncio.timeout(limits.seconds):
            encoded = await predict(frame.content)
    except Refused as refusal:
        return {"status": refusal.status, "detail": refusal.detail}, None
    except TimeoutError:
        return {"status": 429, "detail": f"no map within {limits.seconds:g} s: send smaller or fewer frames"}, None
    except ValueError as error:  # about the image or the options, in one line
        return {"status": 422, "detail": str(error).removeprefix("image bytes: ")}, None
    return {"status": 200, "media_type": encoded.media_type}, encoded.body
