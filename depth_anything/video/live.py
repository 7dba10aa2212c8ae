"""Live sources: show the map of the newest frame of a camera or a stream in a window, and report the delay.

A thread reads every frame and keeps only the last one, so that no queue grows before the network. The delay of a map is
one run of the network plus at most one interval between frames, however slow the network is. If a source stops or
stalls, it is opened again after a pause that doubles each time.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Condition, Event, Thread
from typing import Any

import numpy as np

from depth_anything.images import colormap
from depth_anything.predict.predictor import Predictor
from depth_anything.video.chunks import Ranges
from depth_anything.video.decode import Clip, Frame, open_capture
from depth_anything.video.run import VideoOptions, map_frames
from depth_anything.video.stabilise import Stabiliser, load_cv2

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
"""Seconds before a source is opened again; they double until frames arrive."""
REPORT = 5.0
"""Seconds between two lines about the delay."""
WIDEST = 1280
"""Width in pixels of a new window at most, of both images; it can be resized."""


class NewestFrames:
    """The frames of a live source, without those that a newer one has replaced before they were requested.

    Args:
        clip: of a camera or a stream.
        say: prints a line about the connection.
    """

    def __init__(self, clip: Clip, say: Callable[[str], None]):
        self.clip, self.say = clip, say
        self.count = 0
        """Number of frames that the source has delivered."""
        self._newest: tuple[float, np.ndarray] | None = None
        self._changed, self._stop = Condition(), Event()
        self._capture = open_capture(clip)
        self._thread = Thread(target=self._follow, name="live source", daemon=True)

    def __enter__(self) -> NewestFrames:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=1)  # a read that stalls ends with the process

    def until(self, stopped: Callable[[], bool]) -> Iterator[tuple[Frame, float]]:
        """Yield the newest frame and its arrival in time.monotonic(), each frame once; waits for the next one."""
        index = 0
        while not stopped():
            with self._changed:
                if not self._changed.wait_for(lambda: self._newest is not None, timeout=0.1):
                    continue
                assert self._newest is not None
                (came, image_HW3), self._newest = self._newest, None
            yield Frame(index, index, 0, image_HW3), came
            index += 1

    def _follow(self) -> None:
        """Read until stopped, and open the source again whenever it ends."""
        pause = FIRST_PAUSE
        while not self._stop.is_set():
            while not self._stop.is_set():
                there, image_bgr = self._capture.read()
                if not there:
                    break
                pause = FIRST_PAUSE
                with self._changed:
                    self.count += 1
                    self._newest = time.monotonic(), np.ascontiguousarray(image_bgr[..., ::-1])
                    self._changed.notify_all()
            self._capture.release()
            while not self._stop.is_set():
                self.say(f"{self.clip.stem}: no frames come; connecting again in {pause:g} s")
                self._stop.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                try:
                    self._capture = open_capture(self.clip)
                    break
                except ValueError:
                    continue


@dataclass
class Delays:
    """Seconds from a frame's arrival until its map was shown."""

    seconds: list[float]
    delivered: int = 0
    """Number of frames that the source has delivered."""
    lasted: float = 0.0
    """Seconds since the start."""

    def __str__(self) -> str:
        if not self.seconds:
            return "no frame came"
        middle, longest = 1000 * np.median(self.seconds), 1000 * max(self.seconds)
        maps = len(self.seconds)
        return (
            f"delay {middle:.0f} ms, at most {longest:.0f} ms; {maps / self.lasted:.1f} maps a second, {maps} of "
            f"{self.delivered} frames"
        )


def watch(
    clip: Clip,
    predictor: Predictor,
    options: VideoOptions,
    show: Callable[[np.ndarray], bool],
    stopped: Callable[[], bool],
    say: Callable[[str], None],
    limit: int | None = None,
) -> Delays:
    """Show the maps of a live source until it is stopped; nothing is written.

    Args:
        clip: of a camera or a stream.
        options: of these stabilise, colors and ends.
        show: shows the image and its map side by side, uint8 (H, 2 W, 3); returns False to end.
        stopped: returns True to end.
        say: prints a line: the delay, every few seconds, and a lost source.
        limit: stop after this many maps.

    Raises:
        ValueError: the source cannot be opened.
    """
    is_metric = predictor.variant.quantity == "depth_m"
    ends = options.ends or ((0.0, float(predictor.variant.max_depth or 1)) if is_metric else None)
    ranges = Ranges(ends, is_metric)
    began = reported = time.monotonic()
    delays, times = Delays([]), [began]

    with NewestFrames(clip, say) as newest:

        def batches() -> Iterator[list[Frame]]:
            for frame, came in newest.until(stopped):
                times.append(came)
                yield [frame]

        stabiliser = Stabiliser(is_metric) if options.stabilise else None
        for mapped in map_frames(batches(), predictor, stabiliser):
            ranges.follow(mapped.prediction.values, mapped.stabilised.cut)
            colored_HW3 = colormap.colored(ranges.nearness(mapped.prediction.values), options.colors)
            goes_on = show(np.concatenate([mapped.frame.image_HW3, colored_HW3], axis=1))
            now = time.monotonic()
            delays.seconds.append(now - times.pop())
            delays.delivered, delays.lasted = newest.count, now - began
            if now - reported > REPORT:
                reported = now
                say(str(delays))
            if not goes_on or len(delays.seconds) == limit:
                break
    return delays


class Window:
    """A window of OpenCV. Q, Escape or its button close it.

    Raises:
        ValueError: this OpenCV has no windows, or there is no display.
    """

    def __init__(self, title: str):
        self.title, self.cv2 = title, load_cv2()
        instead = "leave out --live to record, or use the camera of the page of `depth-anything serve`"
        if has_no_windows(self.cv2):
            raise ValueError(
                "--live needs a window, and opencv-python-headless has none: install opencv-python instead; or "
                f"{instead}"
            )
        if sys.platform.startswith("linux") and not any(os.environ.get(n) for n in ("DISPLAY", "WAYLAND_DISPLAY")):
            raise ValueError(f"--live needs a display, and DISPLAY is not set: {instead}")

        # opencv-python brings no fonts, and Qt would report this for each style.
        os.environ.setdefault("QT_LOGGING_RULES", "default.warning=false")
        self.is_open = False

    def show(self, image_HW3: np.ndarray) -> bool:
        """Show an image; False if the window was closed."""
        if not self.is_open:
            height, width = image_HW3.shape[:2]
            share = min(1, WIDEST / width)
            self.cv2.namedWindow(self.title, self.cv2.WINDOW_NORMAL | self.cv2.WINDOW_GUI_NORMAL)
            self.cv2.resizeWindow(self.title, round(width * share), round(height * share))
            self.is_open = True
        self.cv2.imshow(self.title, np.ascontiguousarray(image_HW3[..., ::-1]))
        key = self.cv2.waitKey(1) & 0xFF
        return key not in (ord("q"), 27) and self.cv2.getWindowProperty(self.title, self.cv2.WND_PROP_VISIBLE) >= 1


def has_no_windows(cv2: Any) -> bool:
    """Whether this OpenCV was built without windows."""
    line = next((line for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")), "")
    return line.split(":")[-1].strip() == "NONE"
