"""Live sources with real programs: an RTSP server (GStreamer's), and a window of OpenCV on a virtual display."""

import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from npm import absent

pytest.importorskip("av", reason="the extra video is not installed")
pytest.importorskip("cv2", reason="the extra video is not installed")
FAST = ["--input-size", "32", "--threads", "1"]
SYSTEM_PYTHON = "/usr/bin/python3"
SERVER = """
import sys, gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
(port,) = sys.argv[1:]
assert all(Gst.ElementFactory.find(name) for name in ("x264enc", "rtph264pay"))
server, factory = GstRtspServer.RTSPServer(service=port), GstRtspServer.RTSPMediaFactory(shared=True)
factory.set_launch(
    "( videotestsrc is-live=true pattern=white "
    "! video/x-raw,format=I420,width=320,height=240,framerate=30/1 "
    "! x264enc tune=zerolatency key-int-max=15 ! rtph264pay name=pay0 pt=96 )"
)
server.get_mount_points().add_factory("/stream1", factory)
server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def line_of(process: subprocess.Popen, seconds: float = 60) -> str:
    """The next line that a program writes; "" if it ends or says nothing."""
    return process.stdout.readline() if select.select([process.stdout], [], [], seconds)[0] else ""


@contextmanager
def rtsp_server(port: int) -> Iterator[subprocess.Popen]:
    """An RTSP server of H.264 video, 320 x 240 white pixels, 30 frames a second; the test is skipped without it."""
    program = [SYSTEM_PYTHON, "-c", SERVER, str(port)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            if line_of(server) != "ready\n":
                pytest.skip("GStreamer's RTSP server and x264enc are not installed (gir1.2-gst-rtsp-server-1.0)")
            yield server
        finally:
            server.kill()


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **more}


def video(*options: object) -> list[str]:
    return [sys.executable, "-m", "depth_anything", "video", *map(str, options), *FAST]


@pytest.mark.slow
@pytest.mark.skipif(not Path(SYSTEM_PYTHON).exists(), reason="no system Python with GStreamer's bindings")
def test_frames_of_an_rtsp_server_and_a_new_connection(tmp_path):
    port = free_port()
    address = f"rtsp://user:secret@127.0.0.1:{port}/stream1"
    with rtsp_server(port):
        done = subprocess.run(
            video("--source", address, "--frames", 6, "-o", tmp_path), env=environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [str(tmp_path / "127.0.0.1_stream1_color.mp4")]

    from depth_anything.video import live
    from depth_anything.video.decode import open_clip

    said: list[str] = []
    server = rtsp_server(port)
    process, until = server.__enter__(), time.monotonic() + 60
    with live.NewestFrames(open_clip(address), said.append) as newest:
        frames = newest.until(lambda: time.monotonic() > until)
        image_HW3 = next(frames)[0].image_HW3
        assert image_HW3.shape == (240, 320, 3) and image_HW3.min() > 230, "white"
        process.kill()
        process.wait()
        while len(said) < 2:  # the frames that are on their way still come
            time.sleep(0.05)
        next(frames)
        with rtsp_server(port):
            assert next(frames)[0].image_HW3.shape == (240, 320, 3), "connected again"
    assert all("connecting again" in line and "secret" not in line for line in said)
    server.__exit__(None, None, None)


def screen(folder: Path) -> np.ndarray:
    """uint8 (H, W, 3): what Xvfb shows, from the file that it keeps in the format of xwd."""
    data = (folder / "Xvfb_screen0").read_bytes()
    head = struct.unpack(">25I", data[:100])
    size, width, height, stride, colors = head[0], head[4], head[5], head[12], head[19]
    start = size + 12 * colors
    pixels = np.frombuffer(data, np.uint8, stride * height, start).reshape(height, stride // 4, 4)
    return pixels[:, :width, 2::-1]


@pytest.mark.slow
def test_the_window_on_a_display(stream, tmp_path):
    """With opencv-python, which has windows, and PyAV installed."""
    if not shutil.which("Xvfb"):
        absent("Xvfb is absent: make system installs it")
    opencv = tmp_path / "opencv"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(opencv)]
    got = subprocess.run([*install, f"opencv-python=={version('opencv-python-headless')}"], capture_output=True)
    if got.returncode:
        absent("opencv-python cannot be installed")
    screens = ["Xvfb", "-displayfd", "1", "-screen", "0", "800x600x24", "-fbdir", str(tmp_path)]
    with subprocess.Popen(screens, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        environ = environment(DISPLAY=f":{line_of(server).strip()}")
        environ["PYTHONPATH"] = f"{opencv}{os.pathsep}{environ['PYTHONPATH']}"
        command = video("--source", stream, "--live")
        with subprocess.Popen(
            command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as live:
            lines = [line_of(live)]
            while lines[-1] and not lines[-1].startswith("delay "):
                lines.append(line_of(live))
            screen_HW3 = screen(tmp_path)
            live.send_signal(signal.SIGINT)
            rest, _ = live.communicate(timeout=60)
        server.kill()
    assert lines[-1], "it says nothing: does the window hang?"
    assert all(line.startswith(("delay ", "127.0.0.1_live_cam: ")) for line in [*lines, *rest.splitlines()])
    assert screen_HW3.shape == (600, 800, 3)
    assert np.ptp(screen_HW3[:48, :60]) < 8 and screen_HW3[:48, :60].max() > 0, "the frame, and no toolbar above it"
    assert np.ptp(screen_HW3[:48, 68:128].reshape(-1, 3), axis=0).max() > 100, "the map has colours"
    assert (screen_HW3[60:] == 0).all(), "no status bar"
