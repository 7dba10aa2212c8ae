"""Reading frames: upright RGB images with their time, from a video file, an image sequence or a camera."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from depth_anything.images import hdr
from depth_anything.images.inputs import find_images
from depth_anything.images.read import read_image
from depth_anything.system.files import missing
from depth_anything.video.frame_pixels import as_shown, decode, load_av, unknown_colours, video_track
from depth_anything.video.stabilise import load_cv2

DEFAULT_FPS = 25.0
"""Frame rate of an image sequence, which states none."""

STREAMS = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "srt")
"""Schemes of addresses that FFmpeg opens as streams."""
STALL = 5
"""Seconds without a frame after which a stream has ended."""

IMAGE_BRANDS = ("avif", "avis", "heic", "heix", "hevc", "hevx", "heim", "heis", "mif1", "msf1")
"""Brands of image files in the MP4 container; FFmpeg splits their tiles, transparency and animation into tracks."""


@dataclass(frozen=True)
class Frame:
    """One upright image and its time."""

    index: int
    pts: int
    """Time since the start of the clip in units of its time_base; increases from frame to frame."""
    duration: int
    """Duration in the same units; 0 if the file does not state it."""
    image_HW3: np.ndarray


@dataclass(frozen=True)
class Clip:
    """A source of frames, and what is known about them before decoding."""

    stem: str
    """Base name of the outputs."""
    time_base: Fraction
    """Seconds per unit of pts."""
    rate: Fraction
    """Average number of frames per second."""
    count: int | None
    """Number of frames, as stated or estimated from the duration; None for a camera."""
    promised: int | None = None
    """Number of frames that the file states."""
    path: Path | None = None
    """A video file, whose audio tracks are kept."""
    images: tuple[Path, ...] = ()
    camera: int | str | None = None
    """Number of a camera, or address of a stream."""
    pixel_aspect: Fraction = Fraction(1)
    """Ratio of width to height of a pixel in the upright frame."""
    transfer: hdr.Transfer | None = None
    """Transfer function of an HDR file; its frames are returned as SDR."""

    def lacking(self, frames: int) -> str | None:
        """A message if the file states more than the `frames` frames that could be decoded."""
        if not self.promised or frames >= self.promised:
            return None
        return f"{self.path}: states {self.promised} frames, {frames} of them could be decoded"

    @property
    def is_live(self) -> bool:
        """Whether the clip can be read only once."""
        return self.camera is not None

    def identity(self) -> list[Any]:
        """Properties that must be the same when a run is resumed."""
        files = [self.path] if self.path else self.images
        return [[str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def open_clip(source: str | Path | int, fps: float | None = None) -> Clip:
    """A clip from a video file, a folder or pattern of images (`shots/*.png`, `shot_%04d.png`), a camera's number, or
    the address of a stream.

    Args:
        source: path, pattern, camera number, or an address with one of STREAMS.
        fps: frames per second of an image sequence, 25 by default; video files state their own.

    Raises:
        ValueError: the source has no frames.
    """
    if isinstance(source, int):
        return Clip(f"camera{source}", Fraction(1, 1000), Fraction(30), None, camera=source)
    if isinstance(source, str) and (scheme := urlsplit(source)).scheme in STREAMS:
        name = re.sub(r"[^\w.-]+", "_", f"{scheme.hostname}{scheme.path}").strip("_")  # without user and password
        return Clip(name, Fraction(1, 1000), Fraction(30), None, camera=source)
    text = str(source) if Path(source).exists() else re.sub(r"%0?\d*d", "*", str(source))
    if fps is not None and not 1 / 1000 <= fps <= 1000:
        raise ValueError(f"{fps:g} frames per second: expected 0.001 to 1000")
    if Path(text).is_dir() or (re.search(r"[*?\[]", text) and not Path(text).exists()):
        images = sorted((image.path for image in find_images([text]) if image.path), key=_natural)
        rate = Fraction(fps or DEFAULT_FPS).limit_denominator(1001)
        stem = (
            Path(text).name
            if Path(text).is_dir()
            else re.split(r"[*?\[]", Path(text).stem)[0].rstrip("_.- ") or "sequence"
        )
        return Clip(stem, 1 / rate, rate, len(images), images=tuple(images))
    if fps is not None:
        raise ValueError(f"{source}: states its own number of frames per second; --fps is for image sequences")
    return _open_file(Path(text))


def frames(clip: Clip, skip: int = 0) -> Iterator[Frame]:
    """The frames of a clip, after the first `skip` of them, one at a time in memory.

    Damaged parts of a file are skipped, as players do.

    Raises:
        ValueError: an image of a sequence cannot be read, or a frame differs in size from the frames before it.
    """
    if clip.camera is not None:
        yield from _camera_frames(clip)
    elif clip.path is not None:
        yield from _of_one_size(file_frames(clip, skip), clip)
    else:
        yield from _of_one_size(_image_frames(clip, skip), clip)


def _of_one_size(frames: Iterator[Frame], clip: Clip) -> Iterator[Frame]:
    """The frames; raises ValueError at the first one that differs in size."""
    size = None
    for frame in frames:
        size = size or frame.image_HW3.shape
        if frame.image_HW3.shape != size:
            got, expected = (f"{shape[1]} x {shape[0]}" for shape in (frame.image_HW3.shape, size))
            where = clip.images[frame.index] if clip.images else f"{clip.path}: frame {frame.index}"
            raise ValueError(f"{where}: {got} pixels, the frames before it {expected}; expected one size")
        yield frame


def _natural(path: Path) -> list[Any]:
    """Sort key that puts frame_2 before frame_10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", str(path))]


# -- files -----------------------------------------------------------------------------------------------------------


def _open_file(path: Path) -> Clip:
    av = load_av()
    if not path.is_file():
        raise ValueError(missing(path, "expected a video, or a folder or pattern of images"))
    try:
        with av.open(str(path)) as container:
            if container.metadata.get("major_brand") in IMAGE_BRANDS:
                raise ValueError(
                    f"{path}: an AVIF or HEIC image, not a video; give it to predict, or its frames as images"
                )
            stream = video_track(container)
            if stream is None:
                raise ValueError(f"{path}: no video track in it; expected a video")
            rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            count = stream.frames or None
            if count is None and container.duration is not None:
                count = max(1, round(container.duration / av.time_base * rate))
            first = next(decode(container, stream), None)
            if first is None:
                raise ValueError(f"{path}: no frame of it can be decoded; it is damaged or cut short")
            if unknown := unknown_colours(first):
                raise ValueError(f"{path}: {unknown}; save it as SDR (BT.709) with a video editor first")
            aspect = Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)
            return Clip(
                path.stem,
                stream.time_base,
                rate,
                count,
                promised=stream.frames or None,
                path=path,
                pixel_aspect=1 / aspect if first.turn >= 5 else aspect,
                transfer=first.transfer,
            )
    except (av.error.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ValueError(f"{path}: not a video that can be read ({reason}); it may be damaged or cut short") from None


def file_frames(clip: Clip, skip: int = 0, every: int = 1) -> Iterator[Frame]:
    """The frames of a video file as a player shows them. All video files are decoded here.

    The display matrix is applied, including mirroring; transparent parts are composited on white; HDR is converted to
    SDR (hdr.py). Frames may differ in size.

    Args:
        clip: clip of a video file.
        skip: number of frames to omit at the beginning.
        every: return every n-th of the remaining frames.
    """
    av = load_av()
    to_rgb = av.video.reformatter.VideoReformatter()
    with av.open(str(clip.path)) as container:
        stream = video_track(container)
        start = start_time(container, stream.time_base)
        step = max(1, round(1 / (clip.rate * stream.time_base)))
        last = -1
        for index, decoded in enumerate(decode(container, stream)):
            pts = decoded.frame.pts - start if decoded.frame.pts is not None else last + step
            last = pts = max(pts, last + 1)
            if index >= skip and (index - skip) % every == 0:
                yield Frame(index, pts, decoded.frame.duration or 0, as_shown(decoded, to_rgb))


def start_time(container: Any, time_base: Fraction) -> int:
    """Start time of a file in units of a stream's time base; it is subtracted from the times of every stream."""
    if container.start_time is None:
        return 0
    return max(0, round(Fraction(container.start_time, load_av().time_base) / time_base))


# -- images and cameras ----------------------------------------------------------------------------------------------


def _image_frames(clip: Clip, skip: int) -> Iterator[Frame]:
    for index, path in enumerate(clip.images[skip:], skip):
        yield Frame(index, index, 1, read_image(path))


def open_capture(clip: Clip) -> Any:
    """OpenCV's reader of a camera or a stream. A stream that stalls for STALL seconds ends.

    Raises:
        ValueError: nothing is there.
    """
    cv2 = load_cv2()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    if isinstance(clip.camera, int):
        capture = cv2.VideoCapture(clip.camera)
        expected = f"camera {clip.camera}: none there, or another program holds it; try --source 0, 1, ..."
    else:
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # FFmpeg's own words about what is said here once
        patience = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 2000 * STALL, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 1000 * STALL]
        capture = cv2.VideoCapture(clip.camera, cv2.CAP_FFMPEG, patience)
        expected = f"{clip.stem}: no video stream there; check the address, and that FFmpeg plays it"
    if not capture.isOpened():
        capture.release()
        raise ValueError(expected)
    return capture


def _camera_frames(clip: Clip) -> Iterator[Frame]:
    """Frames of a camera or a stream until it stops, with times from the camera's clock, or from the machine's if it
    has none."""
    cv2 = load_cv2()
    capture = open_capture(clip)
    try:
        first, last = None, -1
        for index in count():
            there, image_bgr = capture.read()
            if not there:
                return
            # Capture time, if the driver states it: frames wait in its buffer while the network runs. A stream of JPEG
            # files has none, and FFmpeg counts 25 a second.
            clock = capture.get(cv2.CAP_PROP_POS_MSEC) if isinstance(clip.camera, int) else 0.0
            now = clock, 1000 * time.monotonic()
            first = first or now
            taken, read = now[0] - first[0], now[1] - first[1]
            last = max(last + 1, round(taken if taken > 0 else read))
            yield Frame(index, last, 0, np.ascontiguousarray(image_bgr[..., ::-1]))
    finally:
        capture.release()
