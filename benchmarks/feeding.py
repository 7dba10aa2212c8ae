"""Images per second that a process reads for `v1-student-large`: reading threads beside worker processes.

    nice -n 10 python benchmarks/feeding.py --seconds 30 --out benchmarks/results/feeding.md

The recipe's mix: two pseudo-labelled images (JPEG of 1.5 megapixels, a map of 518 x 784 as png16) to one labelled image
(JPEG, 16-bit PNG and mask of 1.5 megapixels, in the layout of HR-WSI), each cropped to 518 x 518. On a GPU, colours,
blur, normalisation and CutMix are computed there: the device `meta` stands for one, `--colours` computes them here.
Rows alternate in `--rounds`, and the best round of each counts: other programs only ever make a row slower. Worker
processes are those of torch's DataLoader, a step at a time.
"""

from __future__ import annotations

import io
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image

from depth_anything.data.labeled.sets import open_labeled
from depth_anything.data.pseudo_labels import PseudoLabels, encode, from_codes, sample
from depth_anything.data.sample import cut, min_max, random_crop
from depth_anything.data.shards import write_shard
from depth_anything.images.read import read_image
from depth_anything.losses import Losses
from depth_anything.train.batches import (
    LABELED,
    LABELED_DRAWS,
    UNLABELED,
    UNLABELED_DRAWS,
    Data,
    build_slice,
    numbers,
    places,
    read_crop,
    rngs,
)
from depth_anything.train.recipes.base import Recipe
from depth_anything.train.recipes.v1 import v1_student
from depth_anything.train.steps import Task, batches

EXAMPLES = Path(__file__).parents[1] / "examples"
SIZE = 1500, 1000
MAP = 518, 784
"""(H, W) of a teacher's map of such an image."""
TARGET = 400
"""Images per second from 16 cores."""


@dataclass
class Row:
    """One way to read."""

    name: str
    images_per_s: float = 0.0
    processor_ms: float = float("inf")
    """Of all threads and processes, per image."""


def write_data(folder: Path, count: int) -> Data:
    """A labelled and a pseudo-labelled set made of the example photographs, enlarged."""
    rng, photos = np.random.default_rng(0), sorted(EXAMPLES.glob("*.jpg"))
    samples = []
    for number in range(count):
        with Image.open(photos[number % len(photos)]) as photo:
            image_HW3 = np.asarray(photo.convert("RGB").resize(SIZE, Image.Resampling.LANCZOS))
        noisy_HW3 = np.clip(image_HW3 + rng.normal(0, 2, image_HW3.shape), 0, 255).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(noisy_HW3).save(stream, "JPEG", quality=92)
        grey_HW = np.asarray(Image.fromarray(noisy_HW3).convert("L").resize(SIZE, Image.Resampling.BOX), np.float32)
        small_HW = np.asarray(Image.fromarray(grey_HW).resize((MAP[1], MAP[0]), Image.Resampling.BICUBIC))
        members, _ = encode(small_HW, "png16")
        json = f'{{"min": {small_HW.min()}, "max": {small_HW.max()}}}'.encode()
        samples.append((f"{number:04d}", {"jpg": stream.getvalue(), **members, "json": json}))
        for place, content in (
            ("imgs", stream.getvalue()),
            ("gts", png(Image.fromarray((grey_HW * 257).astype(np.uint16)))),
            ("valid_masks", png(Image.fromarray((grey_HW > 20).astype(np.uint8) * 255))),
        ):
            path = folder / f"hrwsi/train/{place}/{number:04d}.{'jpg' if place == 'imgs' else 'png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    write_shard(folder / "labels/labels/a.tar", samples)
    (folder / "labels/manifest").mkdir()
    (folder / "labels/manifest/a.json").write_text(f'{{"shard": "a", "labelled": {count}}}')
    return Data(open_labeled("hrwsi", folder / "hrwsi"), PseudoLabels(folder / "labels"))


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def recipe(batch: int, colours: bool) -> Recipe:
    """v1-student-large with one labelled set and the batch of one process; without colours where a GPU makes them."""
    student = v1_student("large")
    assert student.unlabeled is not None
    unlabeled = student.unlabeled if colours else replace(student.unlabeled, perturbation="none", cutmix=0.0)
    stages = tuple(replace(stage, batch=batch) for stage in student.stages)
    return replace(student, data=("hrwsi",), stages=stages, unlabeled=unlabeled)


class Steps(torch.utils.data.Dataset):
    """The images of steps by number, for DataLoader: as they go to a GPU, uint8, with maps and masks."""

    def __init__(self, chosen: Recipe, data: Data):
        self.chosen, self.data = chosen, data

    def __len__(self) -> int:
        return self.chosen.steps

    def __getitem__(self, step: int) -> list[torch.Tensor]:
        stage, _ = self.chosen.stage_of(step)
        found = []
        for kind, order, samples, chosen in zip(
            (LABELED_DRAWS, UNLABELED_DRAWS),
            (LABELED, UNLABELED),
            (self.data.labeled, self.data.unlabeled),
            places(self.chosen, stage, 1, 0),
            strict=True,
        ):
            assert samples is not None
            of_step = numbers(self.chosen, self.data, step, order, chosen)
            draws = [rng.random(5) for rng in rngs(self.chosen, kind, step, chosen)]
            crops = [read_crop(samples, self.chosen, stage.sizes[0], *one) for one in zip(of_step, draws, strict=True)]
            for field in ("image_HW3", "disparity_HW", "valid_HW"):
                found.append(torch.from_numpy(np.stack([getattr(one, field) for one in crops])))
        return found


def by_threads(chosen: Recipe, data: Data, readers: int, device: str) -> Iterator[object]:
    """As a run reads."""
    task = Task(
        build=lambda step, index, pool: build_slice(chosen, data, step, device=device, pool=pool),
        losses=lambda *_: Losses(torch.zeros(()), {}),
        set_rate=lambda *_: 0.0,
    )
    return batches(task, 0, chosen.steps, range(1), readers)


def by_processes(chosen: Recipe, data: Data, workers: int) -> Iterator[object]:
    """DataLoader: a step per worker at a time, through shared memory."""
    return iter(torch.utils.data.DataLoader(Steps(chosen, data), batch_size=None, num_workers=workers))


def measure(row: Row, source: Callable[[], Iterator[object]], batch: int, seconds: float) -> None:
    """Read for some seconds behind the first step; keeps the best of both figures."""
    used, stream, images = processor_seconds(), source(), 0
    next(stream)
    began = time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds or images < 2 * batch:
        next(stream)
        images += batch
    del stream
    row.images_per_s = max(row.images_per_s, images / passed)
    row.processor_ms = min(row.processor_ms, 1000 * (processor_seconds() - used) / (images + batch))


def processor_seconds() -> float:
    """Of this process and the children that have ended."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


def stages_of_one(folder: Path, repeats: int) -> dict[str, float]:
    """Milliseconds of one thread for the parts of a pseudo-labelled image; the least of some repeats."""
    from depth_anything.data.shards import read_shard

    members = next(iter(read_shard(folder / "labels/labels/a.tar")))[1]
    whole = sample("a", members)
    image_HW3, crop = read_image(members["jpg"]), random_crop(*MAP, (518, 518), (1.0, 1.0), 1.0, 0.5, np.full(5, 0.4))
    with Image.open(io.BytesIO(members["disparity.png"])) as opened:
        codes_HW = np.asarray(opened)
    parts = {
        "decode the JPEG": lambda: read_image(members["jpg"]),
        "decode the map's PNG": lambda: Image.open(io.BytesIO(members["disparity.png"])).load(),
        "codes to disparity": lambda: from_codes(codes_HW, 0.0, 1.0),
        "resize the image to the map": lambda: Image.fromarray(image_HW3).resize(
            (MAP[1], MAP[0]), Image.Resampling.BICUBIC
        ),
        "crop": lambda: cut(whole, crop),
        "min-max": lambda: min_max(whole.disparity_HW, whole.valid_HW),
    }
    found = {}
    for name, part in parts.items():
        times = []
        for _ in range(repeats):
            began = time.thread_time()
            part()
            times.append(time.thread_time() - began)
        found[name] = 1000 * min(times)
    return found


def run(
    seconds: float = 10.0,
    rounds: int = 2,
    batch: int = 12,
    images: int = 48,
    readers: tuple[int, ...] = (1, 2, 4, 8, 16),
    workers: tuple[int, ...] = (1, 2, 4),
    colours: bool = False,
    out: Path | None = None,
) -> str:
    """Measure; the table in Markdown.

    Args:
        seconds: of each row and round.
        batch: images of one step in this process.
        images: files of each set.
        colours: also compute the colours, the blur and CutMix here.
    """
    torch.set_num_threads(1)
    chosen = recipe(batch, colours)
    with tempfile.TemporaryDirectory() as place:
        data = write_data(Path(place), images)
        parts = stages_of_one(Path(place), 20)
        by_device = partial(by_threads, device="cpu" if colours else "meta")
        sources = {f"threads: {count}": (by_device, count) for count in readers}
        sources |= {f"worker processes: {count}": (by_processes, count) for count in workers if not colours}
        rows = {name: Row(name) for name in sources}
        for _ in range(rounds):
            for name, (by, count) in sources.items():
                measure(rows[name], lambda by=by, count=count: by(chosen, data, count), batch, seconds)
    cheapest = min(row.processor_ms for row in rows.values())
    lines = [
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, {os.getloadavg()[0]:.0f} programs that run or wait, "
        f"torch {torch.__version__}, colours {'here' if colours else 'on the GPU'}",
        "",
        "| | images/s, best round | processor time per image |",
        "|---|---|---|",
        *(f"| {row.name} | {row.images_per_s:.1f} | {row.processor_ms:.0f} ms |" for row in rows.values()),
        "",
        "| part of a pseudo-labelled image, one thread | ms |",
        "|---|---|",
        *(f"| {name} | {value:.1f} |" for name, value in parts.items()),
        "",
        f"The cheapest row takes {cheapest:.0f} ms of a core per image: 16 cores with nothing else to do read "
        f"{16_000 / cheapest:.0f} images/s at most (target: {TARGET}).",
    ]
    text = "\n".join(lines) + "\n"
    if out:
        out.write_text(text)
    return text


if __name__ == "__main__":
    print(tyro.cli(run))
