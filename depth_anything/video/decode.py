"""Frames in: upright RGB pictures with their time, from a video file, a sequence of pictures, or a camera."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from depth_anything.images.inputs import find_images
from depth_anything.images.read import read_image
from depth_anything.video.stabilise import load_cv2

DEFAULT_FPS = 25.0
"""Of a sequence of pictures, which does not say how fast it is."""


@dataclass(frozen=True)
class Frame:
    """One upright picture and its time."""

    index: int
    pts: int
    """Time in units of the clip's time_base, from the clip's start; grows from frame to frame."""
    duration: int
    """In the same units; 0 where the file does not say."""
    image_HW3: np.ndarray


@dataclass(frozen=True)
class Clip:
    """Where frames come from, and what is known before they are decoded."""

    stem: str
    """How outputs are called."""
    time_base: Fraction
    """Seconds per unit of pts."""
    rate: Fraction
    """Frames per second, on average."""
    count: int | None
    """Frames, as far as the file says or its length tells; None for a camera."""
    promised: int | None = None
    """Frames that the file says it has."""
    path: Path | None = None
    """A video file, of which the sound is kept."""
    pictures: tuple[Path, ...] = ()
    camera: int | None = None
    pixel_aspect: Fraction = Fraction(1)
    """Width by height of a pixel of the upright picture."""

    @property
    def is_live(self) -> bool:
        """Whether it can be read only once."""
        return self.camera is not None

    def identity(self) -> list[Any]:
        """What must not change between a run that was killed and the one that goes on."""
        files = [self.path] if self.path else self.pictures
        return [[str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def open_clip(source: str | Path | int, fps: float | None = None) -> Clip:
    """A clip from a video file, a folder or pattern of pictures (`shots/*.png`, `shot_%04d.png`), or a camera's number.

    Args:
        source: as above.
        fps: frames per second of a sequence of pictures; 25 unless told. A file says its own.

    Raises:
        ValueError: nothing there that holds frames; one line.
    """
    if isinstance(source, int):
        return Clip(f"camera{source}", Fraction(1, 1000), Fraction(30), None, camera=source)
    text = str(source) if Path(source).exists() else re.sub(r"%0?\d*d", "*", str(source))
    if fps is not None and not 1 / 1000 <= fps <= 1000:
        raise ValueError(f"{fps:g} frames per second: expected 0.001 to 1000")
    if Path(text).is_dir() or (re.search(r"[*?\[]", text) and not Path(text).exists()):
        pictures = sorted((picture.path for picture in find_images([text]) if picture.path), key=_natural)
        rate = Fraction(fps or DEFAULT_FPS).limit_denominator(1001)
        stem = (
            Path(text).name
            if Path(text).is_dir()
            else re.split(r"[*?\[]", Path(text).stem)[0].rstrip("_.- ") or "sequence"
        )
        return Clip(stem, 1 / rate, rate, len(pictures), pictures=tuple(pictures))
    if fps is not None:
        raise ValueError(f"{source}: says itself how many frames per second it has; --fps is for sequences of pictures")
    return _open_file(Path(text))


def frames(clip: Clip, skip: int = 0) -> Iterator[Frame]:
    """The frames of a clip, after the first `skip` of them, one at a time in memory.

    Broken pieces of a file are passed over, as players do.

    Raises:
        ValueError: a picture of a sequence cannot be read or has another size, or the camera stops.
    """
    if clip.camera is not None:
        yield from _camera_frames(clip.camera)
    elif clip.path is not None:
        yield from _file_frames(clip, skip)
    else:
        yield from _picture_frames(clip, skip)


def load_av() -> Any:
    """The module av (PyAV, FFmpeg's libraries), quiet.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import av
        import av.logging
    except ImportError:
        raise ValueError('video needs one more package: pip install "depth-anything[video]"') from None
    av.logging.set_level(av.logging.PANIC)
    return av


def _natural(path: Path) -> list[Any]:
    """Sorts frame_2 before frame_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(path))]


# -- files -----------------------------------------------------------------------------------------------------------


def _open_file(path: Path) -> Clip:
    av = load_av()
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected a video, or a folder or pattern of pictures")
    try:
        with av.open(str(path)) as container:
            streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
            if not streams:
                raise ValueError(f"{path}: no moving picture in it; expected a video")
            stream = streams[0]
            rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            count = stream.frames or None
            if count is None and container.duration is not None:
                count = max(1, round(container.duration / av.time_base * rate))
            first = next(_decoded(container, stream), None)
            if first is None:
                raise ValueError(f"{path}: no frame of it can be decoded; it is damaged or cut short")
            aspect = Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)
            if first.rotation % 180:
                aspect = 1 / aspect
            promised = stream.frames or None
            return Clip(path.stem, stream.time_base, rate, count, promised, path=path, pixel_aspect=aspect)
    except (av.error.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ValueError(f"{path}: not a video that can be read ({reason}); it may be damaged or cut short") from None


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Frames of a stream; packets that cannot be decoded are passed over."""
    av = load_av()
    # Not by frames: FFmpeg's frame threads and Python's lock wait for each other when a stream is left half read.
    stream.thread_type = "SLICE"
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.error.FFmpegError):  # the file's end, or where it was cut off
            return
        try:
            yield from packet.decode()
        except av.error.FFmpegError:
            continue


def _file_frames(clip: Clip, skip: int) -> Iterator[Frame]:
    av = load_av()
    to_rgb = av.video.reformatter.VideoReformatter()
    with av.open(str(clip.path)) as container:
        stream = next(s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic)
        start = start_time(container, stream.time_base)
        step = max(1, round(1 / (clip.rate * stream.time_base)))
        last, size = -1, None
        for index, decoded in enumerate(_decoded(container, stream)):
            pts = decoded.pts - start if decoded.pts is not None else last + step
            last = pts = max(pts, last + 1)
            if index < skip:
                continue
            picture = to_rgb.reformat(decoded, format="rgb24").to_ndarray()
            upright = np.ascontiguousarray(np.rot90(picture, round(decoded.rotation / 90)))
            size = size or upright.shape
            if upright.shape != size:
                raise ValueError(f"{clip.path}: its size changes at frame {index}; cut it there first")
            yield Frame(index, pts, decoded.duration or 0, upright)


def start_time(container: Any, time_base: Fraction) -> int:
    """Where a file's clock begins, in units of a stream's time base; subtracted from every stream of the file."""
    if container.start_time is None:
        return 0
    return max(0, round(Fraction(container.start_time, load_av().time_base) / time_base))


# -- pictures and cameras ----------------------------------------------------------------------------------------------


def _picture_frames(clip: Clip, skip: int) -> Iterator[Frame]:
    size = None
    for index, path in enumerate(clip.pictures[skip:], skip):
        picture = read_image(path)
        size = size or picture.shape
        if picture.shape != size:
            got, expected = (f"{shape[1]} x {shape[0]}" for shape in (picture.shape, size))
            raise ValueError(f"{path}: {got} pixels, the frames before it {expected}; a sequence has one size")
        yield Frame(index, index, 1, picture)


def _camera_frames(number: int) -> Iterator[Frame]:
    """Frames of a camera until it stops; their times are the camera's clock, or else the machine's."""
    import time

    cv2 = load_cv2()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    capture = cv2.VideoCapture(number)
    try:
        if not capture.isOpened():
            raise ValueError(f"camera {number}: none there, or another program holds it; try --source 0, 1, ...")
        first, last = None, -1
        for index in count():
            there, picture_bgr = capture.read()
            if not there:
                return
            # When it was taken, where the driver says so: frames wait in its buffer while the network works.
            now = capture.get(cv2.CAP_PROP_POS_MSEC), 1000 * time.monotonic()
            first = first or now
            taken, read = now[0] - first[0], now[1] - first[1]
            last = max(last + 1, round(taken if taken > 0 else read))
            yield Frame(index, last, 0, np.ascontiguousarray(picture_bgr[..., ::-1]))
    finally:
        capture.release()
