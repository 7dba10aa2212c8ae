"""Frames of video files by their number, decoded from the key frame before them instead of from the beginning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from depth_anything.video.frame_pixels import as_shown, decode, load_av, video_track


@dataclass(frozen=True)
class FrameTimes:
    """When the frames of a file are shown, in units of the stream's time base."""

    shown: np.ndarray
    """int64 (N,): of all frames, in the order in which they are shown."""
    keys: np.ndarray
    """int64 (K,): of the key frames."""


def count_frames(path: str) -> int:
    """Number of frames that a video file states; if it states none, its packets are counted.

    Raises:
        ValueError: no readable video.
    """
    av = load_av()
    try:
        with av.open(path) as container:
            stream = video_track(container)
            if stream is None:
                raise ValueError(f"{path}: no video track in it; expected a video")
            return stream.frames or sum(1 for _ in shown_packets(container, stream))
    except (av.error.FFmpegError, OSError) as error:
        raise ValueError(f"{path}: {_reason(error)}; it may be damaged or cut short") from None


def frame(path: str, number: int) -> np.ndarray:
    """uint8 RGB (H, W, 3) of frame `number` of a file, upright: the frame that `decode.file_frames` yields.

    Raises:
        ValueError: there is no such frame, or it is damaged.
    """
    av = load_av()
    try:
        found = _decoded(path, number, frame_times(path))
    except (av.error.FFmpegError, OSError) as error:
        raise ValueError(f"{path}: {_reason(error)}; it may be damaged or cut short") from None
    if found is None:
        raise ValueError(f"{path}: frame {number} cannot be decoded; it may be damaged or cut short")
    return found


def _decoded(path: str, number: int, times: FrameTimes | None) -> np.ndarray | None:
    """A frame, decoded from the last key frame that is shown before it, or else from the beginning."""
    if times is None:
        return _first(path, lambda index, _: index == number)
    if number >= len(times.shown):
        return None
    wanted = int(times.shown[number])
    before = times.keys[times.keys <= wanted]
    found = _first(path, lambda _, shown: shown == wanted, int(before[-1])) if len(before) else None
    return _first(path, lambda _, shown: shown == wanted) if found is None else found


def _first(path: str, fits: Callable[[int, int], bool], key: int | None = None) -> np.ndarray | None:
    """The first frame whose index and time fit, decoded from the key frame of a time on, or from the beginning."""
    with load_av().open(path) as container:
        stream = video_track(container)
        if key is not None:
            container.seek(key, stream=stream)
        for index, decoded in enumerate(decode(container, stream)):
            if fits(index, decoded.frame.pts):
                return as_shown(decoded, load_av().video.reformatter.VideoReformatter())
    return None


@lru_cache(maxsize=4096)
def frame_times(path: str) -> FrameTimes | None:
    """From the packets of a file, which are read once and not decoded; None if they do not state different times.

    AVI files state when a frame is decoded, not when it is shown.
    """
    shown, keys = [], []
    with load_av().open(path) as container:
        if container.format.name == "avi":
            return None
        for packet in shown_packets(container, video_track(container)):
            if packet.pts is None:
                return None
            shown.append(packet.pts)
            if packet.is_keyframe:
                keys.append(packet.pts)
    if len(set(shown)) < len(shown) or not keys:
        return None
    return FrameTimes(np.array(sorted(shown), np.int64), np.array(sorted(keys), np.int64))


def shown_packets(container: Any, stream: Any) -> Iterator[Any]:
    """The packets of a stream up to its end, or to where the file is cut off, without those that an edit list hides."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, load_av().error.FFmpegError):
            return
        if packet.size and not packet.is_discard:
            yield packet


def _reason(error: Exception) -> str:
    return f"not a video that can be read ({getattr(error, 'strerror', None) or type(error).__name__})"
