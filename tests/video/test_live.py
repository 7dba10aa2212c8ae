"""Live sources: the newest frame first, a delay that does not grow, and connections that are made again."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command import run

from depth_anything.predict.prediction import Prediction
from depth_anything.variants import VARIANTS
from depth_anything.video import live
from depth_anything.video.decode import open_clip
from depth_anything.video.run import VideoOptions

cv2 = pytest.importorskip("cv2", reason="the extra video is not installed")
FAST = ["--input-size", "32", "--threads", "1"]


class Source:
    """A camera in the place of OpenCV's: numbered frames, 2 ms apart, that end after `frames`."""

    def __init__(self, frames: int = 1_000_000, number: int = 0):
        self.left, self.number, self.released = frames, number, False

    def read(self):
        time.sleep(0.002)
        self.left -= 1
        self.number += 1
        return self.left >= 0, numbered(self.number)

    def release(self):
        self.released = True


def numbered(number: int) -> np.ndarray:
    """uint8 (16, 20, 3) that holds the number in two of its channels."""
    return np.full((16, 20, 3), (number % 256, number // 256, 7), np.uint8)  # OpenCV's order: blue, green, red


def number_of(image_HW3: np.ndarray) -> int:
    assert image_HW3[0, 0, 0] == 7  # red comes first here
    return int(image_HW3[0, 0, 2]) + 256 * int(image_HW3[0, 0, 1])


class Slow:
    """A predictor that takes as long as ten more frames of the source need to come."""

    variant = VARIANTS["nano"]

    def __init__(self, source: Source):
        self.source, self.lag, self.seen = source, [], []

    def predict(self, images):
        (image,) = images
        number = number_of(image)
        self.lag.append(self.source.number - number)
        self.seen.append(number)
        until = self.source.number + 10
        while self.source.number < until and self.source.left > 0:
            time.sleep(0.001)
        return [Prediction(disparity=np.linspace(0, 1, 320, dtype=np.float32).reshape(16, 20), image=image)]


def test_a_slow_network_sees_the_newest_frame(monkeypatch):
    source = Source()
    monkeypatch.setattr(live, "open_capture", lambda clip: source)
    predictor, shown = Slow(source), []

    def show(image_HW3):
        shown.append(image_HW3)
        return True

    said: list[str] = []
    options = VideoOptions(stabilise=False)
    delays = live.watch(open_clip(0), predictor, options, show, lambda: False, said.append, limit=12)  # type: ignore[arg-type]
    assert np.diff(predictor.seen).min() >= 9  # those in between were left out, none came twice
    assert np.median(predictor.lag[1:]) < 5  # not the ten that came meanwhile: the delay does not grow
    assert len(delays.seconds) == 12 and delays.delivered >= predictor.seen[-1] - 1
    assert "12 of " in str(delays) and "delay" in str(delays)
    assert shown[0].shape == (16, 40, 3) and (shown[0][:, :20] == shown[0][0, 0]).all()
    assert shown[0][:, 20:].std() > 10  # the map
    assert source.released


def test_a_source_that_stops_and_returns(monkeypatch):
    """Three frames, then nothing; twice there is no answer; then it is there again."""
    monkeypatch.setattr(live, "FIRST_PAUSE", 0.01)
    opened = iter([Source(3), None, None, Source(number=100)])

    def open_capture(clip):
        source = next(opened)
        if source is None:
            raise ValueError("not there")
        return source

    monkeypatch.setattr(live, "open_capture", open_capture)
    said: list[str] = []
    numbers = []
    with live.NewestFrames(open_clip(0), said.append) as newest:
        for frame, _ in newest.until(lambda: len(numbers) > 0 and numbers[-1] > 100):
            numbers.append(number_of(frame.image_HW3))
    assert numbers[0] <= 3 < 100 < numbers[-1]
    pauses = [float(line.split(" in ")[1].removesuffix(" s")) for line in said]
    assert pauses == [0.01, 0.02, 0.04] and said[0].startswith("camera0: no frames come")


def test_the_window_ends_it_and_so_does_a_signal(monkeypatch):
    for show, stopped in ((lambda image: False, lambda: False), (lambda image: True, lambda: True)):
        source = Source()
        monkeypatch.setattr(live, "open_capture", lambda clip, source=source: source)
        delays = live.watch(open_clip(0), Slow(source), VideoOptions(stabilise=False), show, stopped, print)  # type: ignore[arg-type]
        assert len(delays.seconds) <= 1
    assert str(live.Delays([])) == "no frame came"


@pytest.fixture
def window(monkeypatch) -> list[np.ndarray]:
    """A display, and an OpenCV that has windows; what is shown there."""
    shown: list[np.ndarray] = []
    monkeypatch.setenv("DISPLAY", ":99")
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                           GTK3\n")
    monkeypatch.setattr(cv2, "imshow", lambda title, image: shown.append(image), raising=False)
    for name in ("namedWindow", "resizeWindow"):
        monkeypatch.setattr(cv2, name, lambda title, *rest: None, raising=False)
    monkeypatch.setattr(cv2, "waitKey", lambda milliseconds: -1, raising=False)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda title, what: 1.0, raising=False)
    return shown


def test_a_stream_over_http_in_a_window(stream, window, capsys):
    assert run("video", "--source", stream, "--live", "--frames", 3, *FAST) == 0
    assert len(window) == 3 and window[0].shape == (48, 128, 3)
    levels = [image[:, :64].mean() for image in window]
    assert levels[0] < levels[1] < levels[2]
    said = capsys.readouterr().out
    assert "delay" in said and "3 of " in said


def test_a_stream_over_http_is_recorded(stream, tmp_path, capsys):
    pytest.importorskip("av", reason="the extra video is not installed")
    assert run("video", "--source", stream, "-o", tmp_path, "--frames", 4, *FAST) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["127.0.0.1_live_cam_color.mp4"]
    assert "secret" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["clip.mp4", "--live"], "--live: expected a camera or a stream"),
        (["--source", "0", "--live", "--save", "npz"], "--save npz: --live writes nothing"),
        (["--source", "clip.mp4"], "--source clip.mp4: expected the number of a camera, or an address"),
        (["--source", "http://127.0.0.1:9/none"], "127.0.0.1_none: no video stream there"),
    ],
)
def test_what_is_no_live_source_is_one_line(options, said, capsys, tmp_path):
    assert run("video", *options, *FAST, "-o", tmp_path) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and said in error and "\n" not in error


@pytest.mark.parametrize(
    ("gui", "display", "said"),
    [("NONE", ":0", "opencv-python-headless has none"), ("GTK3", "", "DISPLAY is not set")],
)
def test_no_window_is_one_line(gui, display, said, monkeypatch, capsys):
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: f"  GUI:                 {gui}\n")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert run("video", "--source", 0, "--live") == 2
    error = capsys.readouterr().err.strip()
    assert said in error and "\n" not in error


def test_keys_that_close_the_window(window, monkeypatch):
    shown = live.Window("camera0")
    image = np.zeros((2, 2, 3), np.uint8)
    image[..., 0] = 200
    assert shown.show(image) and (window[0][..., 2] == 200).all()  # OpenCV's order
    for key in (ord("q"), 27):
        monkeypatch.setattr(cv2, "waitKey", lambda milliseconds, key=key: key, raising=False)
        assert not shown.show(image)
    monkeypatch.setattr(cv2, "waitKey", lambda milliseconds: -1, raising=False)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda title, what: 0.0, raising=False)
    assert not shown.show(image)


def test_a_window_comes_before_pyav():
    """PyAV's wheel brings a libxcb of its own; a window of OpenCV that is opened after it is loaded hangs."""
    program = """
import sys
from depth_anything.video import live
class Window:
    def __init__(self, title):
        raise ValueError(f"av loaded: {'av' in sys.modules}")
live.Window = Window
from depth_anything.__main__ import main
main(["video", "--source", "0", "--live"])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert "av loaded: False" in done.stderr
