"""What stands between many callers and one network, with a network that the test holds in its hand."""

import asyncio
import os
import threading
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra web is not installed")
from starlette.responses import Response

from depth_anything.predict.backends import TorchBackend
from depth_anything.predict.prediction import Prediction
from depth_anything.variants import VARIANTS
from depth_anything.web.middleware import Limits, Metrics, RequestGuard
from depth_anything.web.pipeline import Work
from depth_anything.web.queueing import Batcher, Budget


class HeldPredictor:
    """Answers with each image's first value; its batches wait until `go` is set."""

    def __init__(self, batch_size: int = 4):
        self.batch_size, self.input_size, self.variant = batch_size, 224, VARIANTS["v2-small"]
        self.backend = TorchBackend.__new__(TorchBackend)  # the one that runs several images at once
        self.batches: list[list[int]] = []
        self.go = threading.Event()

    def predict(self, images):
        self.batches.append([int(image[0, 0, 0]) for image in images])
        assert self.go.wait(20)
        if any(image[0, 0, 0] == 99 for image in images):
            raise ValueError("image 99")
        return [Prediction(disparity=np.full(image.shape[:2], image[0, 0, 0], np.float32)) for image in images]


def image(value: int, size: tuple[int, int] = (30, 40)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


async def soon(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def run_batcher(steps, **options):
    """Carries out `steps(batcher, predictor)` beside a running batcher."""

    async def scene():
        predictor = HeldPredictor(**options)
        batcher = Batcher(predictor)  # type: ignore[arg-type]
        running = asyncio.create_task(batcher.run())
        try:
            return await steps(batcher, predictor)
        finally:
            predictor.go.set()
            running.cancel()

    return asyncio.run(scene())


def test_batches_hold_one_shape_and_the_oldest_goes_first():
    async def steps(batcher, predictor):
        first = asyncio.create_task(batcher.predict(image(0)))
        await soon(lambda: predictor.batches)  # it runs alone; these gather meanwhile:
        sizes = {1: (30, 40), 2: (60, 30), 3: (30, 40), 4: (60, 80), 5: (30, 40), 6: (30, 40), 7: (30, 40)}
        tasks = {}
        for value, size in sizes.items():
            tasks[value] = asyncio.create_task(batcher.predict(image(value, size)))
            await asyncio.sleep(0)
        predictor.go.set()
        answers = {value: await task for value, task in {0: first, **tasks}.items()}
        for value, prediction in answers.items():
            assert (prediction.disparity == value).all()
            assert prediction.disparity.shape == sizes.get(value, (30, 40))
        # 60 x 80 has another size than 30 x 40 but the same at the network, so 4 runs with 1 and 3
        assert predictor.batches == [[0], [1, 3, 4, 5], [2], [6, 7]]

    run_batcher(steps)


def test_a_caller_that_went_away_costs_nothing():
    async def steps(batcher, predictor):
        first = asyncio.create_task(batcher.predict(image(0)))
        await soon(lambda: predictor.batches)
        gone = asyncio.create_task(batcher.predict(image(1)))
        stays = asyncio.create_task(batcher.predict(image(2)))
        await asyncio.sleep(0)
        gone.cancel()
        first.cancel()  # while it runs: its answer is dropped
        await asyncio.sleep(0)
        predictor.go.set()
        assert ((await stays).disparity == 2).all()
        assert predictor.batches == [[0], [2]]

    run_batcher(steps)


def test_a_failing_batch_fails_its_callers_only():
    async def steps(batcher, predictor):
        predictor.go.set()
        with pytest.raises(ValueError, match="image 99"):
            await batcher.predict(image(99))
        assert ((await batcher.predict(image(7))).disparity == 7).all()

    run_batcher(steps)


def test_the_budget_is_never_exceeded_and_every_request_ends():
    async def scene():
        budget, inside, most, done = Budget(100), 0, 0, []
        rng = np.random.default_rng(0)

        async def visit(number: int, pixels: int):
            nonlocal inside, most
            async with budget.of(pixels):
                inside += pixels
                most = max(most, inside)
                try:
                    await asyncio.sleep(0.001 * rng.random())
                finally:
                    inside -= pixels
            done.append(number)

        sizes = [int(size) for size in rng.integers(1, 101, 200)]
        tasks = [asyncio.create_task(visit(number, size)) for number, size in enumerate(sizes)]
        await asyncio.sleep(0.01)
        for number in range(0, 200, 7):  # some give up: waiting, or inside
            tasks[number].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert budget.free == 100 and 90 < most <= 100
        assert len(done) >= 200 - 29
        # first come, first served: what is finished early came early, up to what fits in at once
        assert all(abs(number - place) < 100 for place, number in enumerate(done))

    asyncio.run(scene())


def test_an_image_counts_until_its_thread_is_done_with_it():
    """A caller that goes away in the middle of decoding takes no thread back: memory is bounded all the same."""

    async def scene():
        work = Work({}, Limits(max_pixels=100), Metrics(), None)
        go, begun, ran = threading.Event(), [], []

        def decode():
            begun.append(1)
            assert go.wait(20)

        async def caller(pixels: int, function) -> None:
            async with work._budget.of(pixels):
                await work._in_thread(function)

        threads = os.cpu_count() or 1
        inside = [asyncio.create_task(caller(1, decode)) for _ in range(threads)]
        await soon(lambda: len(begun) == threads)
        queued = asyncio.create_task(caller(1, lambda: ran.append(1)))
        await soon(lambda: work._budget.free == 100 - threads - 1)
        for task in [*inside, queued]:
            task.cancel()
        await soon(queued.done)  # nothing was begun for it
        await asyncio.sleep(0.05)
        assert work._budget.free == 100 - threads and not any(task.done() for task in inside)
        go.set()
        await asyncio.gather(*inside, return_exceptions=True)
        assert work._budget.free == 100 and not ran and all(task.cancelled() for task in inside)

    asyncio.run(scene())


def test_beyond_at_once_the_response_is_429_before_the_body_is_read():
    async def scene():
        go, calls = asyncio.Event(), []

        async def app(scope, receive, send):
            calls.append(scope["path"])
            await go.wait()
            await Response("done")(scope, receive, send)

        metrics = Metrics()
        gate = RequestGuard(app, Limits(at_once=2), metrics, "/v1/depth", frozenset({"/v1/depth"}))

        async def request(path: str = "/v1/depth", headers=()):
            sent, reads = [], 0

            async def receive():
                nonlocal reads
                reads += 1
                return {"type": "http.request", "body": b"x" * 65536, "more_body": True}

            async def send(message):
                sent.append(message)

            await gate({"type": "http", "path": path, "method": "POST", "headers": headers}, receive, send)
            return SimpleNamespace(status=sent[0]["status"], headers=dict(sent[0]["headers"]), reads=reads)

        inside = [asyncio.create_task(request()) for _ in range(2)]
        await soon(lambda: len(calls) == 2)
        refused = await request()
        assert refused.status == 429 and int(refused.headers[b"retry-after"]) >= 1 and refused.reads == 0
        # with a body on its way, some of it is read so that the client sees the answer; then the connection is closed
        refused = await request(headers=[(b"content-length", b"1000000000")])
        assert refused.status == 429 and refused.headers[b"connection"] == b"close"
        assert refused.reads * 65536 <= 17 * 2**20
        assert len(calls) == 2
        other = asyncio.create_task(request("/healthz"))  # is never refused
        await soon(lambda: len(calls) == 3)
        go.set()
        assert [(await task).status for task in [*inside, other]] == [200, 200, 200]
        assert (await request()).status == 200 and gate.inside == 0
        refusals = metrics.registry.get_sample_value(
            "depth_anything_requests_total", {"path": "/v1/depth", "status": "429"}
        )
        assert refusals == 2

    asyncio.run(scene())


def test_a_client_that_does_not_read_its_response_is_disconnected():
    async def scene():
        async def app(scope, receive, send):
            await Response(bytes(1_000_000))(scope, receive, send)

        async def stuck(message):
            if message["type"] == "http.response.body":
                await asyncio.sleep(60)

        gate = RequestGuard(app, Limits(seconds=0.1), Metrics(), "/v1/depth", frozenset())
        scope = {"type": "http", "path": "/v1/depth", "method": "POST", "headers": []}
        async with asyncio.timeout(20):
            await gate(scope, None, stuck)  # type: ignore[arg-type]
        assert gate.inside == 0

    asyncio.run(scene())
