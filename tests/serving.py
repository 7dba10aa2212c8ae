"""A real `depth-anything serve` in a process of its own, for tests."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Serving:
    """A server that runs."""

    process: subprocess.Popen
    url: str
    port: int


@contextmanager
def serving(*options: str, **environment: str) -> Iterator[Serving]:
    """Starts a server with nano on a free port of the loopback; ends it as Ctrl-C would."""
    command = [sys.executable, "-m", "depth_anything", "serve", "--port", "0", "--threads", "1", *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert found, f"no address in {line!r}: {process.communicate(timeout=30)[1]}"
        yield Serving(process, found[0], int(found[1]))
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
