"""Reading an image and its options from a request, within the limits and without using the disk.

The image is the body, or the file field `image` of a form; the options are in the query, or in the other form fields.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from depth_anything.web.middleware import Limits

_MOST_FIELDS, _FIELD_BYTES = 32, 4096


class Refused(Exception):
    """A refused request: a status of 4xx and a message."""

    def __init__(self, status: int, detail: str):
        super().__init__(detail)
        self.status, self.detail = status, detail


async def read_upload(request: Request, limits: Limits) -> tuple[bytes, list[tuple[str, str]]]:
    """The encoded image in a request, and the other fields of the form.

    Raises:
        Refused: 400 malformed form, 408 too slow, 413 too large, 415 unsupported body, 422 no image.
        ClientDisconnect: the client disconnected.
    """
    check_bytes(int(request.headers.get("content-length", "0")), limits)
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refused(415, "the body is compressed: send the image file without compression")
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    fields: list[tuple[str, str]] = []
    try:
        async with asyncio.timeout(limits.seconds):
            if kind == "multipart/form-data":
                data, fields = await _from_form(request, limits)
            elif kind.startswith("image/") or kind in ("", "application/octet-stream"):
                data = b"".join([chunk async for chunk in _bounded(request, limits)])
            else:
                raise Refused(
                    415, f"content type {kind!r}: expected an image/* body, or multipart/form-data with a file image"
                )
    except TimeoutError:
        raise Refused(408, f"the image did not arrive within {limits.seconds:g} s") from None
    if not data:
        raise Refused(422, "no image: send one as the body, or as the file field image of a form")
    return data, fields


async def _bounded(request: Request, limits: Limits) -> AsyncGenerator[bytes, None]:
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        check_bytes(received, limits)
        yield chunk


async def _from_form(request: Request, limits: Limits) -> tuple[bytes, list[tuple[str, str]]]:
    parser = MultiPartParser(
        request.headers, _bounded(request, limits), max_files=1, max_fields=_MOST_FIELDS, max_part_size=_FIELD_BYTES
    )
    parser.spool_max_size = limits.max_bytes + 1  # kept in memory, never written to the disk
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Refused(400, f"the form cannot be read: {error.message}") from None
    try:
        image = form.get("image")
        if not isinstance(image, UploadFile):
            raise Refused(422, f"the form has no file field image; its fields: {', '.join(map(repr, form)) or 'none'}")
        return await image.read(), [(name, text) for name, text in form.multi_items() if isinstance(text, str)]
    finally:
        await form.close()


def check_bytes(received: int, limits: Limits) -> None:
    """Raise Refused if a client sends more bytes than it may."""
    if received > limits.max_bytes:
        raise Refused(413, f"more than {limits.max_bytes / 2**20:g} MiB: send a smaller file")
