"""From an encoded image to an encoded map: decode, wait for the network, encode; bounded in memory."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from depth_anything.geometry import camera
from depth_anything.images.formats import FORMATS
from depth_anything.images.read import ImageInfo, read_image_with_info, stored_size
from depth_anything.predict.confidence import mirror, with_confidence
from depth_anything.system.files import atomic_path
from depth_anything.web import responses
from depth_anything.web.middleware import Limits, Metrics
from depth_anything.web.queueing import Batcher, Budget
from depth_anything.web.upload import Refused

if TYPE_CHECKING:
    from depth_anything.predict.predictor import Predictor

T = TypeVar("T")


class Work:
    """The processing behind the routes, from start to shutdown of the application.

    Args:
        predictors: predictors by the names that clients choose.
        keep: folder for images and results, or None.
    """

    def __init__(self, predictors: Mapping[str, Predictor], limits: Limits, metrics: Metrics, keep: Path | None):
        self._limits, self._keep = limits, keep
        self._budget = Budget(limits.max_pixels)
        self._batchers = {name: Batcher(predictor, metrics.batch) for name, predictor in predictors.items()}
        self._threads = ThreadPoolExecutor(os.cpu_count() or 1, "images")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Work]:
        """The context in which `predict` may be called."""
        tasks = [asyncio.create_task(batcher.run()) for batcher in self._batchers.values()]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._threads.shutdown()

    async def predict(self, data: bytes, model: str, options: responses.Options) -> responses.EncodedMap:
        """The map of an encoded image.

        Raises:
            Refused: 413 too many pixels; 507 the result could not be created or kept on the disk.
            ValueError: the image cannot be read, or the options cannot be applied to it.
        """
        width, height = await self._in_thread(stored_size, data)
        if width * height > self._limits.max_pixels:
            most = self._limits.max_pixels / 1e6
            raise Refused(413, f"the image has {width} x {height} pixels; expected {most:g} megapixels at most")
        batcher = self._batchers[model]
        async with self._budget.of(width * height):
            row = batcher.predictor.variant
            image_HW3, info = await self._in_thread(read_image_with_info, data)
            K = _intrinsics(info, options, row.canonical_focal is not None)
            responses.check(options, row.quantity, K is not None)
            if "confidence" in FORMATS[options.format].needs:
                pair = await asyncio.gather(batcher.predict(image_HW3), batcher.predict(mirror(image_HW3)))
                prediction = await self._in_thread(with_confidence, *pair)
            else:
                prediction = await batcher.predict(image_HW3)
            prediction = prediction if K is None else prediction.with_camera(K)
            encoded = await self._written(responses.encode, prediction, options)
        if self._keep is not None:
            await self._written(_keep, self._keep, data, info.format, encoded)
        return encoded

    async def _written(self, function: Callable[..., T], *arguments: object) -> T:
        try:
            return await self._in_thread(function, *arguments)
        except OSError as error:
            what = "this server keeps images and cannot" if function is _keep else "the result cannot be created"
            raise Refused(507, f"{what}: {error.strerror}") from error

    async def _in_thread(self, function: Callable[..., T], *arguments: object) -> T:
        """The result of the function. A cancelled caller returns once the thread has finished its image.

        Until then the pixels are in memory, and their share of the budget stays occupied.
        """
        job = self._threads.submit(function, *arguments)
        encoded = asyncio.wrap_future(job)
        try:
            return await asyncio.shield(encoded)
        except asyncio.CancelledError:
            if not job.cancel():  # it has started
                await asyncio.wait({encoded})
            raise


def _intrinsics(info: ImageInfo, options: responses.Options, camera_aware: bool) -> np.ndarray | None:
    """K from the options, or else from EXIF, as in the command `predict`; None if neither states it."""
    row = FORMATS[options.format]
    wanted = camera_aware or row.says_camera or "camera" in row.needs
    if not wanted and options.fov is None and options.focal_mm is None:
        return None
    return camera.intrinsics(
        info.width, info.height, fov=options.fov, focal_mm=options.focal_mm, exif_focal_35mm=info.focal_35mm
    )


def _keep(folder: Path, data: bytes, form: str | None, encoded: responses.EncodedMap) -> None:
    """Save an image and its result under the hash of the image: 0123456789abcdef.jpeg, ..._disparity.png."""
    stem = hashlib.sha256(data).hexdigest()[:16]
    files = {f"{stem}.{(form or 'picture').lower()}": data, encoded.name.replace("picture", stem, 1): encoded.body}
    for name, content in files.items():
        with atomic_path(folder / name) as part:
            part.write_bytes(content)
