"""`depth-anything serve`: an HTTP API, and a web page that uses it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tyro.conf import OmitArgPrefixes

from depth_anything.cli.options import ModelOptions
from depth_anything.system.extras import needs


def serve(
    model: tuple[str, ...] = ("nano",),
    host: str = "127.0.0.1",
    host_name: tuple[str, ...] = (),
    allow_origin: tuple[str, ...] = (),
    port: int = 8000,
    token: str | None = None,
    max_megabytes: float = 32,
    max_megapixels: float = 50,
    timeout: float = 30,
    at_once: int = 64,
    live_at_once: int = 8,
    keep: Path | None = None,
    *,
    network: OmitArgPrefixes[ModelOptions],
) -> None:
    """Serve an HTTP API and a web page that uses it (extra web).

    Args:
        model: one or more models; clients choose among them, and the first is the default.
        host: address to listen on; the default accepts connections from this machine only.
        host_name: further names under which browsers may reach this server, besides the loopback's and --host: names of
            a proxy, a container, or this machine in its network. Pages under these names may send images too.
        allow_origin: pages of other servers that may use the API from the browser (CORS), such as
            https://app.example.org; by default none.
        port: port to listen on; 0 chooses a free one.
        token: bearer token that clients must send. The environment variable DEPTH_ANYTHING_TOKEN does the same and is
            not shown in the list of processes.
        max_megabytes: largest request in MiB.
        max_megapixels: largest image.
        timeout: seconds for a client to send, for the result to be computed, and for the client to receive it.
        at_once: images in progress, from upload to response; further requests get status 429.
        live_at_once: connections for live depth (WebSockets); further ones get status 429.
        keep: folder in which to keep images and results; by default nothing is kept.
    """
    with needs("web", "serve"):
        from depth_anything.web.middleware import Limits
        from depth_anything.web.server import create_app, run
        from depth_anything.web.site import Site, is_loopback
    from depth_anything.system.files import check_writable

    if not all(0 < number < float("inf") for number in (max_megabytes, max_megapixels, timeout, at_once, live_at_once)):
        raise ValueError(
            "--max-megabytes, --max-megapixels, --timeout, --at-once and --live-at-once: expected numbers above 0"
        )
    if not 0 <= port <= 65535:
        raise ValueError(f"--port {port}: expected 1 to 65535, or 0 for a free one")
    token = token or os.environ.get("DEPTH_ANYTHING_TOKEN") or None
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise ValueError("--token: expected printable ASCII without spaces, as HTTP headers carry it")
    site = Site(host, host_name, allow_origin)
    predictors = {Path(name).stem if Path(name).exists() else name: network.predictor(name) for name in model}
    if len(predictors) < len(model):
        raise ValueError(f"--model {' '.join(model)}: two of them have the same name; rename a file")
    if keep is not None:
        check_writable(keep / "image")  # report a folder that cannot be written now, not to every client
    limits = Limits(
        max_bytes=int(max_megabytes * 2**20), max_pixels=int(max_megapixels * 1e6), seconds=timeout, at_once=at_once,
        live_at_once=live_at_once,
    )  # fmt: skip
    if token is None and not is_loopback(host):
        print(f"warning: other machines can reach {host}, and no token is required: see --token", file=sys.stderr)

    def ready(address: str) -> None:
        print(f"{', '.join(predictors)} at {address}  (Ctrl-C stops)", flush=True)

    run(create_app(predictors, limits, token, keep, site), host, port, limits, ready)
