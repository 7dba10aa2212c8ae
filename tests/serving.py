"""A real `depth-anything serve` in a process of its own, for tests."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from depth_anything.predict.prediction import Prediction
from depth_anything.variants import VARIANTS


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


class MetricModel:
    """Stands in for a metric Predictor without its weights: 2 m at the bottom, 20 m at the top, unknown at the left."""

    backend, batch_size, input_size = None, 1, 518
    variant = VARIANTS["v2-metric-indoor-small"]

    def predict(self, images: list[np.ndarray]) -> list[Prediction]:
        return [self._one(image) for image in images]

    def _one(self, image: np.ndarray) -> Prediction:
        height, width = image.shape[:2]
        depth_m = np.repeat(np.linspace(20, 2, height, dtype=np.float32)[:, None], width, axis=1)
        depth_m[:, : width // 10] = 0
        return Prediction(depth_m=depth_m, model=self.variant.name, licence=self.variant.licence, image=image)
