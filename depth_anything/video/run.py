"""Depth maps of a video: decoding, prediction and encoding run in parallel, in chunks, in the memory of a few frames.

A chunk of CHUNK frames is written atomically, with the state that the next chunk needs, into a hidden folder beside the
results. An interrupted run resumes after its last complete chunk and ends with the same frames. At the end the chunks
are joined, the audio tracks are copied, and the folder is removed.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import groupby, islice, takewhile
from pathlib import Path
from typing import Any

import numpy as np

from depth_anything.images import colormap
from depth_anything.images.formats import ExrChannel, check_eye_distance
from depth_anything.predict.confidence import mirror, with_confidence
from depth_anything.predict.prediction import Prediction
from depth_anything.predict.predictor import Predictor
from depth_anything.predict.prefetch import prefetch
from depth_anything.system.files import make_folder, naming, new_file, read_json, replace_folder, write_text
from depth_anything.system.lock import alone
from depth_anything.system.words import one_of
from depth_anything.video.chunks import FORMATS, TO_WATCH, VIDEOS, ChunkWriter, FrameRow, Ranges
from depth_anything.video.decode import Clip, Frame, frames
from depth_anything.video.encode import CodecName, check_codec, container_format, join
from depth_anything.video.stabilise import StabilisedFrame, Stabiliser

CHUNK = 100
"""Number of frames that are written together; an interrupted run loses at most these."""
BATCH = 4
"""Number of frames in a batch of the network."""
MAPS_AHEAD = 4
"""Maps that may wait for the encoder, besides one batch of images for the network; this bounds the memory."""


@dataclass(frozen=True)
class VideoOptions:
    """What to write, and how."""

    formats: tuple[str, ...] = ("color",)
    """Names in FORMATS."""
    stabilise: bool = True
    """Without it every map stays as the model predicted it; the colour range changes slowly in both cases."""
    codec: CodecName = "vp9"
    """Codec of the 8-bit videos; gray16 is always FFV1."""
    colors: str = "Spectral_r"
    ends: tuple[float, float] | None = None
    """Values at both ends of the colour map, for the whole clip."""
    exr_channel: ExrChannel = "auto"
    eye_distance: float = 0.03
    """Of sbs and anaglyph: shift between the nearest and the farthest point, as a share of the width."""


@dataclass(frozen=True)
class Converted:
    """What `convert` wrote."""

    paths: list[Path]
    frames: int


@dataclass(frozen=True)
class Mapped:
    """A frame with its map; the last one of a chunk also has the state that the next chunk needs."""

    frame: Frame
    prediction: Prediction
    stabilised: StabilisedFrame
    state: dict[str, np.ndarray] | None


def output_paths(clip: Clip, out: Path, options: VideoOptions, quantity: str) -> dict[str, Path]:
    """The path of each format: `out` is a folder, or the file name if a single video is requested.

    Raises:
        ValueError: unknown format, or a file name for more than a single video.
    """
    for name in options.formats or ("",):
        if name not in FORMATS:
            raise ValueError(f"unknown output {name!r}: {one_of(name, FORMATS)}")
    if options.ends is not None and not options.ends[0] < options.ends[1]:
        raise ValueError(f"ends of the colours {options.ends[0]:g} {options.ends[1]:g}: expected the lower value first")
    forms = {name: container_format(clip, "ffv1" if name == "gray16" else options.codec) for name in options.formats}
    suffixes = {"mp4": (".mp4", ".mov", ".m4v"), "matroska": (".mkv",)}
    if out.suffix.lower() in (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi"):
        if len(options.formats) != 1 or options.formats[0] not in VIDEOS:
            raise ValueError(f"{out}: one file holds one of {', '.join(VIDEOS)}; for more, give a folder")
        form = forms[options.formats[0]]
        if out.suffix.lower() not in suffixes[form]:
            why = "audio or lossless video that MP4 cannot hold" if form == "matroska" else "MP4"
            raise ValueError(f"{out}: this will be {why}; give a name that ends in {suffixes[form][0]}")
        return {options.formats[0]: out}
    paths = {}
    for name in options.formats:
        if name in VIDEOS:
            kind = quantity if name == "gray16" else name
            paths[name] = out / f"{clip.stem}_{kind}.{'mp4' if forms[name] == 'mp4' else 'mkv'}"
        else:
            paths[name] = out / f"{clip.stem}_{name if name == 'confidence' else f'{quantity}_{name}'}"
    if set(options.formats) - set(TO_WATCH):
        paths["rows"] = out / f"{clip.stem}_frames.csv"
    return paths


def convert(
    clip: Clip,
    predictor: Predictor,
    out: Path,
    options: VideoOptions,
    *,
    limit: int | None = None,
    stopped: Callable[[], bool] = lambda: False,
    weights: Sequence[object] = (),
    overwrite: bool = False,
    begun: Callable[[int], None] = lambda done: None,
    advance: Callable[[], None] = lambda: None,
) -> Converted:
    """Write the maps of a clip.

    Args:
        clip: clip from `decode.open_clip`.
        predictor: the model.
        out: a folder, or the name of one video.
        options: what to write.
        limit: stop after this many frames.
        stopped: called before each frame; True ends the clip (for cameras).
        weights: identifies the predictor; a resumed run must have the same.
        overwrite: replace existing results, and start from the beginning if an unfinished run had other options.
            Without it, the remains of an interrupted camera recording are finished before a new recording can start.
        begun: called once with the number of frames that an earlier run has finished.
        advance: called after each frame.

    Raises:
        ValueError: no frame can be decoded, results exist already, or another unfinished run uses the same folder.
    """
    colormap.table(options.colors)  # refuse unknown formats early
    check_eye_distance(options.eye_distance)
    check_codec(options.codec)
    quantity = predictor.variant.quantity
    paths = output_paths(clip, out, options, quantity)
    folder = out.parent if out in paths.values() else out
    first = next(iter(paths.values()))
    work = folder / f".{clip.stem}_{'_'.join(sorted(options.formats))}.unfinished"
    note = {
        "clip": clip.identity(),
        "options": [str(value) for value in vars(options).values()],
        "model": [predictor.variant.name, predictor.input_size, *weights],
        "limit": limit,
        "chunk": CHUNK,
    }
    with alone(folder, f"{work.stem}.lock"):
        _discarded(work)
        if clip.is_live and (overwrite or not _whole_chunks(work)):
            _discard(work)
        if not work.exists():
            for path in paths.values():
                if path.exists() and not overwrite:
                    raise ValueError(f"{path}: exists already; use --overwrite to replace it, or another folder")
        _claim(work, note, overwrite)
        done = sum(len(np.load(chunk / "rows.npy")) for chunk in _whole_chunks(work))
        begun(done)
        was_all = done % CHUNK > 0 or (clip.is_live and done > 0)  # only the last chunk of a clip is short
        if not was_all:
            images = islice(frames(clip, done), limit and max(0, limit - done))
            images = takewhile(lambda _: not stopped(), images)
            with naming(first):
                _make_chunks(images, clip, predictor, work, options, advance)
        chunks = _whole_chunks(work)
        if not chunks:
            _discard(work)
            raise ValueError(f"{clip.path or clip.stem}: no frame came; the file is damaged, or the camera sends none")
        comment = read_json(work / "comment.json")
        with naming(first):
            count = _finish(clip, chunks, paths, comment, limit)
        _discard(work)
    return Converted(list(paths.values()), count)


def _discard(work: Path) -> None:
    """Remove the hidden folder. A kill in between leaves nothing that a next run would take for the whole."""
    if work.exists():
        os.rename(work, _discarded(work))
    _discarded(work)


def _discarded(work: Path) -> Path:
    """The name of a hidden folder that is being removed; what an earlier run left under it is gone."""
    path = work.with_suffix(".discarded")
    shutil.rmtree(path, ignore_errors=True)
    return path


def _claim(work: Path, note: dict[str, Any], overwrite: bool) -> None:
    """Create the hidden folder, or resume from the one that an interrupted run left."""
    path = work / "note.json"
    if work.exists() and not path.exists():
        _discard(work)
    if path.exists() and read_json(path) != json.loads(json.dumps(note)):
        if not overwrite:
            raise ValueError(
                f"{work}: an unfinished run of another clip, model or options; finish that one, or use --overwrite"
            )
        _discard(work)
    make_folder(work)
    write_text(path, json.dumps(note))


def _whole_chunks(work: Path) -> list[Path]:
    return sorted(path for path in work.glob("*") if path.is_dir() and path.name.isdigit())


def _make_chunks(
    images: Iterator[Frame],
    clip: Clip,
    predictor: Predictor,
    work: Path,
    options: VideoOptions,
    advance: Callable[[], None],
) -> None:
    """Write all missing chunks: those of the frames in `images`."""
    is_metric = predictor.variant.quantity == "depth_m"
    stabiliser = Stabiliser(is_metric) if options.stabilise else None
    ends = options.ends or ((0.0, float(predictor.variant.max_depth or 1)) if is_metric else None)
    ranges = Ranges(ends, is_metric)
    if done := _whole_chunks(work):
        with np.load(done[-1] / "state.npz") as left:
            ranges.restore(left["ranges"])
            if stabiliser is not None:
                stabiliser.restore({name: left[name] for name in left.files if name != "ranges"})
    is_confident = "confidence" in options.formats
    mapped = prefetch(map_frames(prefetch(_batches(images), 1), predictor, stabiliser, is_confident), MAPS_AHEAD)
    try:
        for index, group in groupby(mapped, key=lambda item: item.frame.index // CHUNK):
            _make_chunk(work, index, group, clip, options, ranges, advance)
    finally:
        mapped.close()


def _make_chunk(
    work: Path,
    index: int,
    group: Iterator[Mapped],
    clip: Clip,
    options: VideoOptions,
    ranges: Ranges,
    advance: Callable[[], None],
) -> None:
    """Write one complete chunk."""
    part, item = work / f"{index:06d}.part", None
    writer = ChunkWriter(
        part, options.formats, options.codec, options.colors, options.exr_channel, options.eye_distance, clip
    )
    for item in group:
        ranges.follow(item.prediction.values, item.stabilised.cut)
        writer.add(item.frame, item.prediction, item.stabilised, ranges)
        advance()
    assert item is not None  # groupby yields no empty groups
    writer.close(item.prediction.quantity)
    np.savez(part / "state.npz", ranges=ranges.state(), **(item.state or {}))  # type: ignore[arg-type]
    write_text(work / "comment.json", json.dumps(item.prediction.text()))
    os.rename(part, work / f"{index:06d}")


def _batches(images: Iterator[Frame]) -> Iterator[list[Frame]]:
    """Frames in batches that end where chunks end, so that a resumed run forms the same batches."""
    for _, chunk in groupby(images, key=lambda frame: frame.index // CHUNK):
        while batch := list(islice(chunk, BATCH)):
            yield batch


def map_frames(
    batches: Iterator[list[Frame]], predictor: Predictor, stabiliser: Stabiliser | None, is_confident: bool = False
) -> Iterator[Mapped]:
    """The maps of frames, stabilised if there is a `stabiliser`; with confidence on request."""
    for batch in batches:
        images = [frame.image_HW3 for frame in batch]
        predictions = predictor.predict(images)
        if is_confident:
            mirrored = predictor.predict([mirror(image_HW3) for image_HW3 in images])
            predictions = [with_confidence(*pair) for pair in zip(predictions, mirrored, strict=True)]
        for frame, prediction in zip(batch, predictions, strict=True):
            if stabiliser is None:
                stabilised = StabilisedFrame(prediction.values, frame.index == 0, 1.0, 0.0)
            else:
                stabilised = stabiliser(frame.image_HW3, prediction.values)
                note = "Stabilised over the clip: scale, shift and running mean of the last frames."
                prediction = replace(
                    prediction, notes=(*prediction.notes, note), **{prediction.quantity: stabilised.values_HW}
                )
            state = stabiliser.state() if stabiliser is not None and (frame.index + 1) % CHUNK == 0 else None
            yield Mapped(frame, replace(prediction, image=None), stabilised, state)


def _finish(clip: Clip, chunks: list[Path], paths: dict[str, Path], text: dict[str, str], limit: int | None) -> int:
    """Join the chunks into the results, and count their frames. Can be repeated after a kill."""
    rows = [np.load(chunk / "rows.npy") for chunk in chunks]
    times, time_base = _times(np.concatenate(rows), clip)
    pieces = np.split(times, np.cumsum([len(chunk) for chunk in rows])[:-1])
    until = float(times[-1].sum() * time_base) if limit is not None else float("inf")
    comment = f"{text['meaning']}. Model {text['model']}, licence {text['licence']}. depth-anything {text['version']}."
    for name, path in paths.items():
        if name in VIDEOS:
            form = "matroska" if path.suffix == ".mkv" else "mp4"
            silent = replace(clip, path=None) if name == "gray16" else clip  # audio would move its first frame off 0
            with new_file(path, overwrite=True) as part:
                parts = [chunk / f"{name}.mkv" for chunk in chunks]
                join(part, parts, pieces, time_base, silent, comment, form, until)
        elif name == "rows":
            with new_file(path, overwrite=True) as part:
                _write_rows(part, np.concatenate(rows), times, time_base)
        else:
            _gather(chunks, name, path)
    return len(times)


def _times(rows: np.ndarray, clip: Clip) -> tuple[np.ndarray, Fraction]:
    """int64 (frames, 2), the time and duration of each frame, and their unit in seconds.

    If the frame rate is constant except for the rounding of a coarse clock (a millisecond in Matroska), the unit is one
    frame; otherwise it is the time base of the clip.
    """
    pts, duration = rows[:, 1].astype(np.int64), rows[:, 2].astype(np.int64)
    even = np.arange(len(pts)) / float(clip.rate * clip.time_base)
    if np.abs(pts - even).max() <= 1:
        return np.stack([np.arange(len(pts)), np.ones(len(pts), np.int64)], axis=1), 1 / clip.rate
    shown = np.append(np.diff(pts), duration[-1])
    if shown[-1] <= 0:
        shown[-1] = shown[-2] if len(shown) > 1 else max(1, round(1 / (clip.rate * clip.time_base)))
    return np.stack([pts, shown], axis=1), clip.time_base


def _write_rows(path: Path, rows: np.ndarray, times: np.ndarray, time_base: Fraction) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["frame", "seconds", "cut", "scale", "shift", "low16", "high16"])
        for values, (pts, _) in zip(rows.tolist(), times.tolist(), strict=True):
            row = FrameRow(*values)
            seconds = f"{float(pts * time_base):.6f}"
            writer.writerow([int(row.frame), seconds, int(row.cut), row.scale, row.shift, row.low16, row.high16])


def _gather(chunks: list[Path], name: str, path: Path) -> None:
    """Move the numbered files of all chunks into one folder, which gets its final name at the end."""
    gathered = chunks[0].parent / f"{name}.gathered"
    if name == "npz":
        moves = [(chunk / "maps.npz", f"frames_{int(chunk.name) * CHUNK:06d}.npz") for chunk in chunks]
        moves = [(file, target) for file, target in moves if file.exists()]
    else:
        moves = [(file, file.name) for chunk in chunks for file in sorted((chunk / name).iterdir())]
    if not moves and not gathered.exists():
        return  # left by an earlier run
    gathered.mkdir(exist_ok=True)
    for file, target in moves:
        os.replace(file, gathered / target)
    replace_folder(gathered, path)
