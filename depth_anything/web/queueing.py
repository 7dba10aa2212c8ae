"""The queue between many callers and one network: it limits the pixels in memory and forms batches."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from depth_anything.network.resize import network_size_of
from depth_anything.predict.backends import TorchBackend
from depth_anything.predict.prediction import Prediction

if TYPE_CHECKING:
    from depth_anything.predict.predictor import Predictor


class Budget:
    """A budget of decoded pixels. Callers wait until there is room, in the order of their requests."""

    def __init__(self, pixels: int):
        self.free = pixels
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def of(self, pixels: int) -> AsyncIterator[None]:
        """Reserve room for this many pixels while the block runs."""
        ticket = asyncio.get_running_loop().create_future()
        self._waiting.append((pixels, ticket))
        self._admit()
        try:
            await ticket
            yield
        finally:
            if ticket.done() and not ticket.cancelled():  # it had been admitted
                self.free += pixels
            self._admit()

    def _admit(self) -> None:
        while self._waiting and (self._waiting[0][1].cancelled() or self._waiting[0][0] <= self.free):
            pixels, ticket = self._waiting.popleft()
            if not ticket.cancelled():
                self.free -= pixels
                ticket.set_result(None)


@dataclass(eq=False)
class _Job:
    image_HW3: np.ndarray
    size: tuple[int, int]
    result: asyncio.Future[Prediction]


class Batcher:
    """Runs one Predictor for many callers, one batch at a time, starting with the image that has waited longest.

    A batch is that image and all waiting images of the same size at the network. Batches fill up while the previous one
    runs; a single image never waits for others. Only torch runs batches; with other backends a batch is one image.

    Args:
        predictor: the predictor; its `batch_size` is the largest number of images in a batch.
        observe: called with the number of images and the seconds of every batch.
    """

    def __init__(self, predictor: Predictor, observe: Callable[[int, float], None] = lambda images, seconds: None):
        self.predictor = predictor
        self.batch_size = predictor.batch_size if isinstance(predictor.backend, TorchBackend) else 1
        self._observe = observe
        self._waiting: deque[_Job] = deque()
        self._arrived = asyncio.Event()

    async def predict(self, image_HW3: np.ndarray) -> Prediction:
        """The map of an upright uint8 RGB image. If the caller is cancelled before its batch starts, nothing runs."""
        height, width = image_HW3.shape[:2]
        size = network_size_of(self.predictor.variant, height, width, self.predictor.input_size)
        job = _Job(image_HW3, size, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        self._arrived.set()
        return await job.result

    async def run(self) -> None:
        """Process the calls of `predict` until cancelled."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "network") as thread:
            while True:
                await self._arrived.wait()
                batch = self._next_batch()
                if not batch:
                    self._arrived.clear()
                    continue
                began = loop.time()
                try:
                    images = [job.image_HW3 for job in batch]
                    predictions = await loop.run_in_executor(thread, self.predictor.predict, images)
                except Exception as error:  # each caller gets the error; the server keeps running
                    for job in batch:
                        if not job.result.done():
                            job.result.set_exception(error)
                    continue
                self._observe(len(batch), loop.time() - began)
                for job, prediction in zip(batch, predictions, strict=True):
                    if not job.result.done():
                        job.result.set_result(prediction)

    def _next_batch(self) -> list[_Job]:
        """Take the oldest waiting image and those of its size; cancelled calls are dropped."""
        waiting = [job for job in self._waiting if not job.result.done()]
        batch = [job for job in waiting if job.size == waiting[0].size][: self.batch_size]
        self._waiting = deque(job for job in waiting if job not in batch)
        return batch
