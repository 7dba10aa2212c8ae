"""Seeds to labelled images, and to shards of them."""

import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from multiprocessing import parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from tqdm import tqdm

from depth_anything.data.check import draw, write_sheet
from depth_anything.data.labeled.rendered import read_scenes
from depth_anything.data.scenes.layout import make_scene
from depth_anything.data.scenes.model_library import Library, load_library, open_library
from depth_anything.data.scenes.objects import CLASSES
from depth_anything.data.scenes.stage import Device, Rendered, Stage, load_mitsuba
from depth_anything.data.shards import write_shard
from depth_anything.system.files import read_json, write_text
from depth_anything.system.lock import alone

GENERATOR = 3  # raised whenever a change makes other images from the same seed


@lru_cache(maxsize=1)
def stage(size: tuple[int, int], spp: int, device: Device = "cpu") -> Stage:
    return Stage(size, spp, device)


def render_scene(
    seed: int, size: tuple[int, int] = (256, 192), spp: int = 4, library: Library | None = None, device: Device = "cpu"
) -> Rendered:
    """The labelled image of a seed; size is (width, height); library holds ready-made models to place.

    If the camera of a seed sees too little, the next attempt of the same seed is taken, always the same one.
    """
    place = stage(size, spp, device)
    for attempt in range(100):
        rendered = place.render(make_scene(seed, attempt, library))
        if rendered is not None:
            return rendered
    raise AssertionError(f"seed {seed}: no attempt gave an image")


def encode(rendered: Rendered) -> dict[str, bytes]:
    """The members of one sample in a scene shard."""
    from PIL import Image

    def image(array: np.ndarray, format: str, **options: Any) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, format, **options)
        return buffer.getvalue()

    numbers = io.BytesIO()
    np.savez_compressed(numbers, disparity=rendered.disparity)
    about = {
        "K": rendered.K.tolist(),
        "pose": rendered.pose.tolist(),
        "seed": rendered.seed,
        "kind": rendered.kind,
        "classes": list(CLASSES),
        "generator": GENERATOR,
        "models": list(rendered.models),
    }
    return {
        "rgb.jpg": image(rendered.image, "JPEG", quality=90),
        "disparity.npz": numbers.getvalue(),
        "valid.png": image(np.full(rendered.sky.shape, 255, np.uint8), "PNG"),
        "sky.png": image(rendered.sky.astype(np.uint8) * 255, "PNG"),
        "class.png": image(rendered.classes, "PNG"),
        "json": json.dumps(about).encode(),
    }


@dataclass(frozen=True)
class _Job:
    """One shard: seeds first .. first + count - 1; pack is a prepared library of models."""

    path: Path
    first: int
    count: int
    size: tuple[int, int]
    spp: int
    pack: Path | None
    device: Device


def _end_with_command() -> None:
    """In a worker: end at once when the command was killed, for its next run writes to the same temporary names."""
    command = parent_process()
    if command:
        Thread(target=lambda: (command.join(), os._exit(1)), daemon=True).start()


def _render_shard(job: _Job) -> int:
    """Render one complete shard in this process."""
    library = load_library(job.pack) if job.pack else None

    def samples() -> Iterator[tuple[str, dict[str, bytes]]]:
        for seed in range(job.first, job.first + job.count):
            yield f"{seed:09d}", encode(render_scene(seed, job.size, job.spp, library, job.device))

    write_shard(job.path, samples())
    return job.count


def _claim(out: Path, asked: dict[str, Any]) -> None:
    """Note in out/render.json what is rendered there; ValueError when something else is there already."""
    note, asked = out / "render.json", {**asked, "generator": GENERATOR}
    if note.exists():
        found = read_json(note)
        if found != asked:
            raise ValueError(
                f"{out} holds another render ({found}) than the one asked for ({asked}): use another folder"
            )
        return
    write_text(note, json.dumps(asked))


def finished_scenes(out: str | os.PathLike[str]) -> int:
    """Number of scenes of a complete rendering in `out`; 0 if anything is missing."""
    note = Path(out) / "render.json"
    if not note.exists():
        return 0
    asked = read_json(note)
    shards = range(-(-asked["count"] // asked["shard_size"]))
    return asked["count"] if all((Path(out) / f"scenes-{index:05d}.tar").exists() for index in shards) else 0


def render_shards(
    out: str | os.PathLike[str],
    count: int,
    seed: int = 0,
    size: tuple[int, int] = (256, 192),
    spp: int = 4,
    processes: int | None = None,
    shard_size: int = 256,
    progress: bool = True,
    models: str | os.PathLike[str] | None = None,
    device: Device = "cpu",
) -> list[Path]:
    """Render the seeds seed .. seed + count - 1 into `scenes-{index:05d}.tar` under out; returns their paths.

    Existing shards are kept, so that an interrupted run resumes. The bytes do not depend on the number
    of processes (default: one for each core). Same seed, machine, versions and models: same bytes.
    models is a folder of ready-made models to place among the computed ones (`models.open_library`). device "cuda"
    traces the light on an NVIDIA GPU, which all processes share.
    Raises ValueError for numbers that make no sense, a folder that holds another render or into which another process
    renders now, a missing library, a folder without models, and when a process was killed.
    """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool

    processes = (os.cpu_count() or 1) if processes is None else processes
    for name, number, least in (
        ("count", count, 1), ("shard_size", shard_size, 1), ("samples a pixel", spp, 1), ("processes", processes, 1),
        ("width or height", min(size), 16), ("seed", seed, 0),
    ):  # fmt: skip
        if number < least:
            raise ValueError(f"{name} {number}: expected {least} or more")
    load_mitsuba(device)
    out = Path(out)
    asked: dict[str, Any] = {"seed": seed, "count": count, "size": list(size), "spp": spp, "shard_size": shard_size}
    library = open_library(os.fspath(models), progress) if models else None
    if library:
        asked["models"] = library.digest
    if device != "cpu":
        asked["device"] = device
    with alone(out):
        _claim(out, asked)
        pack = library.pack if library else None
        jobs = [
            _Job(out / f"scenes-{index:05d}.tar", seed + start, min(shard_size, count - start), size, spp, pack, device)
            for index, start in enumerate(range(0, count, shard_size))
        ]
        missing = [job for job in jobs if not job.path.exists()]
        workers = min(processes, max(1, len(missing)))
        with tqdm(
            total=count, initial=count - sum(job.count for job in missing), unit="scene", disable=not progress
        ) as bar:
            if missing:
                context = multiprocessing.get_context("spawn")
                with ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_command) as pool:
                    try:
                        for done in as_completed([pool.submit(_render_shard, job) for job in missing]):
                            bar.update(done.result())
                    except BrokenProcessPool:
                        raise ValueError(
                            f"a process that rendered into {out} was killed (too little memory?): "
                            "run the same command again, finished shards are kept"
                        ) from None
                    except BaseException:
                        pool.shutdown(wait=False, cancel_futures=True)
                        raise
    return [job.path for job in jobs]


def contact_sheet(folder: str | os.PathLike[str], path: str | os.PathLike[str], count: int = 40) -> None:
    """A PNG of the first `count` scenes of a folder of shards, each beside its disparity as in `data check`."""
    write_sheet(Path(path), [draw(scene) for scene in islice(read_scenes(folder), count)], columns=4)
