"""`depth-anything serve`: an HTTP API, and a page to play with."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal


def serve(
    model: tuple[str, ...] = ("nano",),
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    variant: str | None = None,
    backend: Literal["onnx", "openvino", "torch"] | None = None,
    device: str = "cpu",
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32",
    input_size: int | None = None,
    threads: int | None = None,
    accept_license: bool = False,
    max_megabytes: float = 32,
    max_megapixels: float = 50,
    timeout: float = 30,
    at_once: int = 64,
    keep: Path | None = None,
) -> None:
    """An HTTP API, and a page to play with (extra web).

    Args:
        model: one or more models; clients choose among them, and the first is the default.
        host: address to listen on; the default is reached from this machine only.
        port: 0 takes a free one.
        token: what clients must send as a bearer token. The environment variable DEPTH_ANYTHING_TOKEN does the same
            and is not shown in the list of processes.
        variant: which model a checkpoint holds, where the file does not say it.
        backend: as for predict.
        device: cpu, cuda, mps.
        dtype: fp32, bf16, fp16.
        input_size: lower bound of the shorter side at the network; by default the model's own.
        threads: processor threads of the network.
        accept_license: as for predict.
        max_megabytes: of a request (MiB).
        max_megapixels: of a picture.
        timeout: seconds for a client to send, for the answer to be ready, and for the client to take it.
        at_once: pictures that are received, wait, run or are being answered; the next is told 429.
        keep: folder in which to keep pictures and answers; by default nothing is kept.
    """
    try:
        from depth_anything.web.middleware import Limits
        from depth_anything.web.server import create_app, run
    except ModuleNotFoundError as error:
        raise ValueError(f'serve needs {error.name}: pip install "depth-anything[web]"') from None
    from depth_anything.predict.predictor import Predictor
    from depth_anything.system.files import atomic_path

    if not all(0 < number < float("inf") for number in (max_megabytes, max_megapixels, timeout, at_once)):
        raise ValueError("--max-megabytes, --max-megapixels, --timeout and --at-once: expected numbers above 0")
    if not 0 <= port <= 65535:
        raise ValueError(f"--port {port}: expected 1 to 65535, or 0 for a free one")
    token = token or os.environ.get("DEPTH_ANYTHING_TOKEN") or None
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise ValueError("--token: expected printable ASCII without spaces, as HTTP headers carry it")
    predictors = {
        Path(name).stem if Path(name).exists() else name: Predictor(
            name,
            backend=backend,
            variant=variant,
            device=device,
            dtype=dtype,
            input_size=input_size,
            accept_license=accept_license,
            threads=threads,
        )
        for name in model
    }
    if len(predictors) < len(model):
        raise ValueError(f"--model {' '.join(model)}: two of them have one name; rename a file")
    if keep is not None:
        with atomic_path(keep / "writable"):  # a folder that cannot be written is told now, not to every client
            pass
        (keep / "writable").unlink()
    limits = Limits(
        max_bytes=int(max_megabytes * 2**20), max_pixels=int(max_megapixels * 1e6), seconds=timeout, at_once=at_once
    )
    if token is None and host not in ("127.0.0.1", "::1", "localhost"):
        print(f"warning: {host} can be reached by others, and no token is asked for: see --token", file=sys.stderr)

    def ready(address: str) -> None:
        print(f"{', '.join(predictors)} at {address}  (Ctrl-C stops)", flush=True)

    run(create_app(predictors, limits, token, keep), host, port, timeout, ready)
