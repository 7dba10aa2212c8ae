"""`depth-anything video`: the depth maps of a video, stabilised over time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import OmitArgPrefixes, Positional

from depth_anything.cli.options import ModelOptions
from depth_anything.images.formats import ExrChannel


def video(
    input: Positional[str | None] = None,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("out"),
    source: str | None = None,
    live: bool = False,
    model: str = "nano",
    save: str = "color",
    stabilise: Literal["on", "off"] = "on",
    codec: Literal["vp9", "av1", "mpeg4", "h264"] = "vp9",
    colors: str = "Spectral_r",
    ends: tuple[float, float] | None = None,
    fps: float | None = None,
    frames: int | None = None,
    exr_channel: ExrChannel = "auto",
    eye_distance: float = 0.03,
    overwrite: bool = False,
    *,
    network: OmitArgPrefixes[ModelOptions],
) -> None:
    """Depth maps of a video, stabilised over time. Run the same command again to resume an interrupted run.

    Args:
        input: a video, a folder or a pattern of images ('shots/*.png', shot_%04d.png).
        out: folder for the results, or the name of one video.
        source: number of a camera, or address of a stream (rtsp, http, ...), instead of a file; Ctrl-C ends the
            recording.
        live: with --source, show the newest frame and its map in a window instead of recording; q ends.
        model: a name that `depth-anything models` lists, a hub id, a checkpoint, a transformers folder, an .onnx file.
        save: what to write, separated by commas: color, gray, side, sbs, anaglyph (videos), gray16 (lossless
            FFV1), png16, exr, npz, confidence.
        stabilise: off leaves the map of every frame as the model predicted it.
        codec: codec of all videos except gray16; h264 is x264 from PyAV's wheel, under the GPL.
        colors: Spectral_r, inferno, turbo, gray.
        ends: the values at both ends of the colour map; by default a range that follows the clip slowly, for metric
            models from 0 to the model's maximum.
        fps: frames per second of an image sequence, 25 by default.
        frames: stop after this many frames.
        exr_channel: name of the map's EXR channel: auto is Z for metres, disparity for disparity; viewers show Y and R.
        eye_distance: shift between the nearest and the farthest point in sbs and anaglyph, as a share of the width.
        overwrite: replace existing results.
    """
    import signal
    from functools import partial

    from tqdm import tqdm

    from depth_anything.images.formats import split_formats
    from depth_anything.video.decode import open_clip
    from depth_anything.video.frame_pixels import load_av
    from depth_anything.video.live import Window, watch
    from depth_anything.video.run import VideoOptions, convert

    if (input is None) == (source is None):
        raise ValueError(
            "expected one input: a video, a folder or a pattern of images, or --source with the number of a camera"
        )
    if frames is not None and frames < 1:
        raise ValueError(f"--frames {frames}: expected 1 or more")
    if live and source is None:
        raise ValueError("--live: expected a camera or a stream; add --source 0, or --source rtsp://...")
    if live and save != "color":
        raise ValueError(f"--save {save}: --live writes nothing; leave out one of them")
    if not live:
        load_av()  # its wheel and OpenCV's each have a libxcb: a window that is opened after PyAV is loaded hangs
    clip = open_clip(source_of(source) if source is not None else str(input), fps)
    window = Window(clip.stem) if live else None
    predictor = network.predictor(model)
    options = VideoOptions(
        tuple(split_formats(save)), stabilise == "on", codec, colors, ends, exr_channel, eye_distance
    )
    if clip.transfer:
        print(f"{input}: HDR ({clip.transfer}); the model sees its frames tone-mapped to SDR", file=sys.stderr)
    stop: list[int] = []
    if clip.is_live:
        signal.signal(signal.SIGINT, lambda number, _: stop.append(number))
    if window is not None:
        say = partial(print, file=sys.stderr)
        print(watch(clip, predictor, options, window.show, lambda: bool(stop), say, frames))
        return
    total = min(clip.count, frames) if clip.count and frames else frames or clip.count
    named = Path(model)
    weights = [
        model,
        network.backend,
        network.dtype,
        *([named.stat().st_size, named.stat().st_mtime_ns] if named.is_file() else []),
    ]
    earlier = 0
    with tqdm(total=total, unit="frame", disable=None) as progress:

        def begun(done: int) -> None:
            nonlocal earlier
            progress.initial = earlier = done
            progress.reset(total)
            progress.update(done)

        def advance() -> None:
            progress.update()

        converted = convert(
            clip,
            predictor,
            out,
            options,
            limit=frames,
            stopped=lambda: bool(stop),
            weights=weights,
            overwrite=overwrite,
            begun=begun,
            advance=advance,
        )
    if frames is None and (lacking := clip.lacking(converted.frames)):
        print(lacking, file=sys.stderr)
    if clip.is_live and earlier:
        print(
            f"{clip.stem}: these are the frames of an interrupted recording; repeat the command to record",
            file=sys.stderr,
        )
    elif clip.is_live and not stop and converted.frames != frames:
        print(f"{clip.stem}: no more frames came after {converted.frames}", file=sys.stderr)
    for path in converted.paths:
        print(path)


def source_of(text: str) -> int | str:
    """Number of a camera (0, /dev/video0), or the address of a stream.

    Raises:
        ValueError: neither.
    """
    from depth_anything.video.decode import STREAMS

    if (number := text.removeprefix("/dev/video")).isdecimal():
        return int(number)
    if text.partition("://")[0] in STREAMS and "://" in text:
        return text
    raise ValueError(f"--source {text}: expected the number of a camera, or an address such as rtsp:// or http://")
