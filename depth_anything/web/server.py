"""The HTTP API and the web page: `create_app` builds the application, `run` serves it until a signal stops it."""

from __future__ import annotations

import asyncio
import hmac
import math
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import prometheus_client
import uvicorn
from fastapi import Depends, FastAPI, Query, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol

from depth_anything import __version__
from depth_anything.images import colormap
from depth_anything.images.formats import FORMATS
from depth_anything.web import live, responses
from depth_anything.web.middleware import Limits, Metrics, RequestGuard, too_busy
from depth_anything.web.page_files import STATIC
from depth_anything.web.pipeline import Work
from depth_anything.web.site import Site
from depth_anything.web.upload import Refused, read_upload

if TYPE_CHECKING:
    from depth_anything.predict.predictor import Predictor

T = TypeVar("T")


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str


class Model(BaseModel):
    """One row of /v1/models."""

    name: str
    quantity: str
    max_depth: float | None
    licence: str
    commercial: bool | None
    input_size: int | tuple[int, int]
    note: str


class Server(BaseModel):
    """Response of /v1/models."""

    version: str
    models: list[Model]
    formats: list[str]
    needs: dict[str, list[str]]
    """What a format needs in addition to the map: metres, camera, image."""
    says_camera: list[str]
    """Formats that contain the camera if it is known."""
    colormaps: list[str]
    max_bytes: int
    max_pixels: int
    keeps_pictures: bool


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text}
    for status, text in {
        400: "The form is malformed, or the client disconnected.",
        401: "A bearer token is required.",
        408: "The image did not arrive in time.",
        413: "Too many bytes or pixels.",
        415: "Neither an image nor a form, or compressed.",
        422: "No image, a damaged image, or options that cannot be applied.",
        429: "Too busy: try again after Retry-After seconds.",
        507: "The result could not be created or kept (`--keep`), for example because the disk is full.",
    }.items()
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_DEPTH_DOCS: dict[str, Any] = {
    "responses": {
        **_PROBLEMS,
        200: {
            "description": "The map in the requested format.",
            "content": {
                media: {"schema": {"type": "object"}} if media == "application/json" else _BINARY
                for media in sorted({FORMATS[form].media_type for form in responses.FORMS})
            },
        },
    },
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "description": "An image as the body, or as the file field `image` of a form, whose other fields are "
            "the options of the query.",
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["image"],
                        "properties": {
                            "image": _BINARY["schema"],
                            **responses.Options.model_json_schema()["properties"],
                        },
                        "additionalProperties": False,
                    }
                },
                "image/*": _BINARY,
                "application/octet-stream": _BINARY,
            },
        }
    },
}


def create_app(
    predictors: Mapping[str, Predictor],
    limits: Limits | None = None,
    token: str | None = None,
    keep: Path | None = None,
    site: Site | None = None,
) -> FastAPI:
    """The application.

    Args:
        predictors: models by the names that clients choose; the first is the default.
        limits: limits of the server.
        token: bearer token that clients must send; None requires none. The page itself needs no token.
        keep: folder in which images and results are kept, named by the SHA-256 of the image; None keeps nothing.
        site: host names under which browsers may reach this server, as `serve` sets them; None accepts any.
    """
    limits = limits or Limits()
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with Work(predictors, limits, metrics, keep).running() as app.state.work:
            yield

    app = FastAPI(
        title="Depth Anything", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        description="Predicts a dense depth map for an image. See docs/serve.md.",
    )  # fmt: skip
    paths = frozenset(
        {"/", "/healthz", "/metrics", "/openapi.json", "/v1/colormaps", "/v1/depth", "/v1/live", "/v1/models"}
    )
    app.add_middleware(RequestGuard, limits=limits, metrics=metrics, bounded="/v1/depth", paths=paths, site=site)
    if site is not None and site.origins:
        # Outermost, so that these pages can read refusals too.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=site.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Content-Disposition", "Retry-After"],
        )
    app.mount("/static", StaticFiles(directory=STATIC), name="static")

    @app.exception_handler(Refused)
    def refused(_: Request | None, refusal: Refused) -> JSONResponse:
        headers = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else None
        return JSONResponse({"detail": refusal.detail}, refusal.status, headers)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return refused(request, _invalid([{**e, "loc": e["loc"][1:]} for e in error.errors()]))

    @app.exception_handler(ClientDisconnect)
    def gone(_: Request, __: ClientDisconnect) -> JSONResponse:
        return JSONResponse({"detail": "the client disconnected"}, 400)

    def check_token(sent: str | None) -> None:
        if token is not None and (sent is None or not hmac.compare_digest(sent.encode(), token.encode())):
            raise Refused(401, "this server requires a bearer token: Authorization: Bearer TOKEN")

    async def authorize(
        sent: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))],
    ) -> None:
        check_token(sent.credentials if sent else None)

    def chosen_model(options: responses.Options) -> str:
        name = options.model or next(iter(predictors))
        if name not in predictors:
            raise Refused(422, f"model: this server has {', '.join(predictors)}, not {name!r}")
        return name

    def stated(fields: Sequence[tuple[str, str]]) -> tuple[str, responses.Options]:
        """Model and options by their text in a query or a form."""
        repeated = [name for name, times in Counter(name for name, _ in fields).items() if times > 1]
        if repeated:
            raise Refused(422, f"{', '.join(repeated)}: given more than once")
        try:
            options = responses.Options.model_validate(dict(fields))
        except ValidationError as error:
            raise _invalid(error.errors()) from None
        return chosen_model(options), options

    @app.post("/v1/depth", response_class=Response, dependencies=[Depends(authorize)], **_DEPTH_DOCS)
    async def depth(request: Request, options: Annotated[responses.Options, Query()]) -> Response:
        """The map of one image."""
        chosen_model(options)  # before the image is read
        data, fields = await read_upload(request, limits)
        name, options = stated(request.query_params.multi_items() + fields)
        try:
            async with asyncio.timeout(limits.seconds):
                result = await _unless_gone(request, app.state.work.predict(data, name, options))
        except TimeoutError:
            return too_busy(
                f"no result within {limits.seconds:g} s: try again, or send a smaller image", limits.seconds
            )
        except ValueError as error:  # about the image or the options, in one line
            raise Refused(422, str(error).removeprefix("image bytes: ")) from None
        return Response(
            result.body, media_type=result.media_type,
            headers={"Content-Disposition": f'inline; filename="{result.name}"', "Cache-Control": "no-store"},
        )  # fmt: skip

    @app.websocket("/v1/live")
    async def live_depth(websocket: WebSocket) -> None:
        try:
            check_token(live.sent_token(websocket))
            name, options = stated(websocket.query_params.multi_items())
        except Refused as refusal:
            await websocket.send_denial_response(refused(None, refusal))
            return
        await live.follow(websocket, partial(app.state.work.predict, model=name, options=options), limits, metrics)

    @app.get("/v1/models", dependencies=[Depends(authorize)], responses={401: _PROBLEMS[401]})
    async def models() -> Server:
        """The models of this server, its output formats and its limits."""
        rows = [
            Model(
                name=name, quantity=row.quantity, max_depth=row.max_depth, licence=row.licence,
                commercial=row.commercial, input_size=predictor.input_size, note=row.note,
            )
            for name, predictor in predictors.items() for row in [predictor.variant]
        ]  # fmt: skip
        return Server(
            version=__version__, models=rows, formats=list(responses.FORMS),
            needs={form: list(FORMATS[form].needs) for form in responses.FORMS},
            says_camera=[form for form in responses.FORMS if FORMATS[form].says_camera],
            colormaps=list(colormap.COLORMAPS),
            max_bytes=limits.max_bytes, max_pixels=limits.max_pixels, keeps_pictures=keep is not None,
        )  # fmt: skip

    @app.get("/v1/colormaps")
    async def colormaps() -> dict[str, list[list[int]]]:
        """The 256 colours of every colour map as [red, green, blue], farthest first."""
        return {name: colormap.table(name).tolist() for name in colormap.COLORMAPS}

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the server is up."""
        return {"status": "ok"}

    @app.get("/metrics", dependencies=[Depends(authorize)], response_class=Response, responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, 401: _PROBLEMS[401],
    })  # fmt: skip
    async def show_metrics() -> Response:
        """Prometheus' text format."""
        return Response(
            prometheus_client.generate_latest(metrics.registry), media_type=prometheus_client.CONTENT_TYPE_LATEST
        )

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    return app


def _invalid(errors: Sequence[Any]) -> Refused:
    """Pydantic's errors in one line."""
    lines = [f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}" for error in errors]
    return Refused(422, "; ".join(lines))


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled if the client disconnects.

    Raises:
        ClientDisconnect: the client disconnected.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(request.receive())  # the body has been read: the next message can only be a disconnect
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


def protocol_of(seconds: float) -> type[H11Protocol]:
    """HTTP protocol for uvicorn that closes a connection if no complete request head arrives in the given time."""

    class Protocol(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.seen: object = None
            self.look = self.loop.call_later(seconds, self.close_idle)

        def close_idle(self) -> None:
            if (self.cycle is None or self.cycle.response_complete) and self.cycle is self.seen:
                self.transport.close()
                return
            self.seen = self.cycle
            self.look = self.loop.call_later(seconds, self.close_idle)

        def handle_websocket_upgrade(self, event: Any) -> None:
            self.look.cancel()  # the connection continues with another protocol
            super().handle_websocket_upgrade(event)

        def connection_lost(self, exc: Exception | None) -> None:
            self.look.cancel()
            super().connection_lost(exc)

    return Protocol


def run(app: FastAPI, host: str, port: int, limits: Limits, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; then accept no more requests, finish those in progress, and return.

    Args:
        port: port to listen on; 0 chooses a free one.
        limits: `seconds` is the time for a client to send the head of its request, and for requests in progress at
            shutdown; `max_bytes` is the largest message of a WebSocket.
        ready: called with the address as soon as connections are accepted.

    Raises:
        ValueError: the address cannot be used.
    """
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ValueError(f"cannot listen on {host} port {port} ({error.strerror}): choose another --port") from None
    with listener:
        shown = f"[{host}]" if ":" in host else host
        ready(f"http://{shown}:{listener.getsockname()[1]}")
        config = uvicorn.Config(
            app,
            http=protocol_of(limits.seconds),
            ws_max_size=limits.max_bytes,
            ws_per_message_deflate=False,  # images are compressed, and a small message must not grow
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=math.ceil(limits.seconds),
        )
        with suppress(KeyboardInterrupt):  # uvicorn raises it again after the shutdown
            uvicorn.Server(config).run(sockets=[listener])
