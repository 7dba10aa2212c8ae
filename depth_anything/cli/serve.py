"""`depth-anything serve`: an HTTP API, and a page to play with."""

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
    port: int = 8000,
    token: str | None = None,
    max_megabytes: float = 32,
    max_megapixels: float = 50,
    timeout: float = 30,
    at_once: int = 64,
    keep: Path | None = None,
    *,
    network: OmitArgPrefixes[ModelOptions],
) -> None:
    """An HTTP API, and a page to play with (extra web).

    Args:
        model: one or more models; clients choose among them, and the first is the default.
        host: address to listen on; the default is reached from this machine only.
        host_name: names by which browsers may ask this server, beside the loopback's and --host: of a proxy, a
            container, this machine in its network. Pages under these names may send pictures too.
        port: 0 takes a free one.
        token: what clients must send as a bearer token. The environment variable DEPTH_ANYTHING_TOKEN does the same
            and is not shown in the list of processes.
        max_megabytes: of a request (MiB).
        max_megapixels: of a picture.
        timeout: seconds for a client to send, for the answer to be ready, and for the client to take it.
        at_once: pictures that are received, wait, run or are being answered; the next is told 429.
        keep: folder in which to keep pictures and answers; by default nothing is kept.
    """
    with needs("web", "serve"):
        from depth_anything.web.middleware import Limits
        from depth_anything.web.server import create_app, run
        from depth_anything.web.site import Site, is_loopback
    from depth_anything.system.files import atomic_path

    if not all(0 < number < float("inf") for number in (max_megabytes, max_megapixels, timeout, at_once)):
        raise ValueError("--max-megabytes, --max-megapixels, --timeout and --at-once: expected numbers above 0")
    if not 0 <= port <= 65535:
        raise ValueError(f"--port {port}: expected 1 to 65535, or 0 for a free one")
    token = token or os.environ.get("DEPTH_ANYTHING_TOKEN") or None
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise ValueError("--token: expected printable ASCII without spaces, as HTTP headers carry it")
    site = Site(host, host_name)
    predictors = {Path(name).stem if Path(name).exists() else name: network.predictor(name) for name in model}
    if len(predictors) < len(model):
        raise ValueError(f"--model {' '.join(model)}: two of them have one name; rename a file")
    if keep is not None:
        with atomic_path(keep / "writable"):  # a folder that cannot be written is told now, not to every client
            pass
        (keep / "writable").unlink()
    limits = Limits(
        max_bytes=int(max_megabytes * 2**20), max_pixels=int(max_megapixels * 1e6), seconds=timeout, at_once=at_once
    )
    if token is None and not is_loopback(host):
        print(f"warning: {host} can be reached by others, and no token is asked for: see --token", file=sys.stderr)

    def ready(address: str) -> None:
        print(f"{', '.join(predictors)} at {address}  (Ctrl-C stops)", flush=True)

    run(create_app(predictors, limits, token, keep, site), host, port, timeout, ready)
