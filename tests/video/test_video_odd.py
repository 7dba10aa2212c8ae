"""What goes wrong with videos and cameras, and clips as phones and programs really write them."""

import os
import shutil
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import clips
import numpy as np
import pytest
from command import run
from PIL import Image

from depth_anything.predict.backends import NANO_ONNX
from depth_anything.system.lock import alone
from depth_anything.video import run as video_run
from depth_anything.video.decode import open_clip

av = pytest.importorskip("av")
cv2 = pytest.importorskip("cv2")
FAST = ("--input-size", 32, "--threads", 1)


def convert(source: Path, out: Path, *options: object) -> int:
    return run("video", source, "-o", out, *FAST, *options)


def said(capsys) -> str:
    """The one line of an error."""
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error:")
    return error


# -- clips -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["vp9", "av1", "mpeg4", "h264"])
def test_any_rate_in_every_codec(tmp_path, codec, capfd):
    """A phone's rate (an average of uneven times), slow motion, a camera of 119.88, a time lapse: times are kept."""
    rng = np.random.default_rng(0)
    uneven = np.cumsum(rng.integers(10, 90, 8) / 1000)
    videos = [clips.write_video(tmp_path / "phone.mp4", 8, seconds=list(uneven - uneven[0]), sound=None)]
    for rate in (Fraction(960), Fraction(120000, 1001), Fraction(1, 5)):
        videos.append(clips.write_video(tmp_path / f"{int(rate)}.mkv", 6, fps=rate, codec="ffv1", sound=None))
    assert open_clip(videos[0]).rate.denominator > 1001  # no encoder's rate
    for video in videos:
        assert convert(video, tmp_path / codec, "--codec", codec) == 0
        expected, made = clips.read_video(video)[1], clips.read_video(tmp_path / codec / f"{video.stem}_color.mp4")[1]
        assert made == pytest.approx(expected, abs=0.0011)
    assert "Svt[" not in capfd.readouterr().err  # SVT-AV1 writes past Python's streams


def test_an_unknown_audio_track_is_dropped(tmp_path):
    """As phones record it beside the usual one: a track whose codec FFmpeg has no name for."""
    video = clips.write_video(tmp_path / "video.mp4", 6)
    data = video.read_bytes()
    at = data.index(b"mp4a")
    video.write_bytes(data[:at] + data[at:].replace(b"mp4a", b"apac").replace(b"esds", b"xsds"))
    with av.open(str(video)) as container:
        assert container.streams.audio[0].codec_context is None
    assert convert(video, tmp_path / "out") == 0
    made = tmp_path / "out" / "video_color.mp4"
    assert len(clips.read_video(made)[0]) == 6
    with av.open(str(made)) as container:
        assert not container.streams.audio


@pytest.mark.parametrize("codec", ["vp9", "av1", "mpeg4", "h264"])
def test_pixels_that_are_not_square_and_turned_ones(tmp_path, codec):
    for rotation, expected in ((0, Fraction(4, 3)), (90, Fraction(3, 4))):
        video = clips.write_video(
            tmp_path / f"{rotation}.mp4", 3, sound=None, rotation=rotation, pixel_aspect=Fraction(4, 3)
        )
        assert convert(video, tmp_path / "out", "--codec", codec) == 0
        with av.open(str(tmp_path / "out" / f"{rotation}_color.mp4")) as container:
            assert container.streams.video[0].sample_aspect_ratio == expected


@pytest.mark.parametrize("size", [(16, 16), (2, 2), (640, 6), (34, 640)])
def test_sizes_that_hardly_hold_a_patch(tmp_path, size):
    video = clips.write_video(tmp_path / "video.mkv", 3, size=size, codec="ffv1", sound=None)
    assert convert(video, tmp_path / "out", "--save", "color,gray16") == 0
    assert clips.read_video(tmp_path / "out" / "video_color.mp4")[0][0].shape == (size[1], size[0], 3)


def write_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="flt", layout="mono")
        frame.sample_rate, frame.pts = 44100, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_nothing(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    return path


@pytest.mark.parametrize(
    ("name", "write", "expected"),
    [("video.m4a", write_sound, "no video track"), ("video.mkv", write_nothing, "video.mkv: ")],
)
def test_files_without_a_frame(tmp_path, capsys, name, write, expected):
    assert convert(write(tmp_path / name), tmp_path / "out") == 2
    assert expected in said(capsys)
    assert not (tmp_path / "out").exists()


def test_a_percent_sign_is_a_name_where_such_a_file_exists(tmp_path):
    video = clips.write_video(tmp_path / "50%d off.mp4", 3, sound=None)
    assert convert(video, tmp_path / "out") == 0
    assert (tmp_path / "out" / "50%d off_color.mp4").exists()


@pytest.mark.parametrize(
    ("pattern", "stem", "count"),
    [("s_?.png", "s", 3), ("s_[01].png", "s", 2), ("s_%d.png", "s", 3), ("*.png", "sequence", 3), ("s*0.png", "s", 1)],
)
def test_patterns_and_the_names_of_their_results(tmp_path, pattern, stem, count):
    for index in range(3):
        Image.new("RGB", (32, 32)).save(tmp_path / f"s_{index}.png")
    clip = open_clip(tmp_path / pattern)
    assert (clip.stem, clip.count) == (stem, count)


@pytest.mark.parametrize("fps", ["nan", "inf", "0", "-3", "1e-9", "1e9"])
def test_rates_that_make_no_sense(tmp_path, capsys, fps):
    Image.new("RGB", (32, 32)).save(tmp_path / "s_0.png")
    assert convert(tmp_path, tmp_path / "out", "--fps", fps) == 2
    assert "frames per second: expected 0.001 to 1000" in said(capsys)


def test_a_sequence_whose_size_changes_names_the_frame(tmp_path, capsys):
    for index, size in enumerate([(32, 32), (32, 32), (40, 32)]):
        Image.new("RGB", size).save(tmp_path / f"s_{index}.png")
    assert convert(tmp_path, tmp_path / "out") == 2
    assert "s_2.png: 40 x 32 pixels" in said(capsys)


# -- runs that break off ----------------------------------------------------------------------------------------------


def break_off(*_):
    raise ValueError("stopped")


@pytest.mark.parametrize("frames", [5, 8])  # the last chunk short, and whole
def test_a_run_that_was_interrupted_at_its_end_resumes(tmp_path, monkeypatch, frames):
    monkeypatch.setattr(video_run, "CHUNK", 4)
    video = clips.write_video(tmp_path / "video.mp4", frames, sound=None)
    with monkeypatch.context() as patched:
        patched.setattr(video_run, "_finish", break_off)
        assert convert(video, tmp_path / "out") == 2
    assert convert(video, tmp_path / "out") == 0
    assert len(clips.read_video(tmp_path / "out" / "video_color.mp4")[0]) == frames


def test_a_run_does_not_resume_with_other_weights(tmp_path, monkeypatch, capsys):
    video, weights = clips.write_video(tmp_path / "video.mp4", 5, sound=None), tmp_path / "own.onnx"
    shutil.copy(NANO_ONNX, weights)
    with monkeypatch.context() as patched:
        patched.setattr(video_run, "_finish", break_off)
        assert convert(video, tmp_path / "out", "--model", weights) == 2
    os.utime(weights, (1, 1))  # the file was replaced
    assert convert(video, tmp_path / "out", "--model", weights) == 2
    assert "another clip, model or options" in said(capsys)
    assert convert(video, tmp_path / "out", "--model", weights, "--overwrite") == 0


def test_two_runs_do_not_write_one_clip(tmp_path, capsys):
    video = clips.write_video(tmp_path / "video.mp4", 5, sound=None)
    with alone(tmp_path / "out", ".video_color.lock"):
        assert convert(video, tmp_path / "out") == 2
        assert "another job writes there" in said(capsys)
    assert convert(video, tmp_path / "out") == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["video_color.mp4"]


def test_killed_while_the_hidden_folder_is_removed(tmp_path, capsys, monkeypatch):
    """What is left of it is not taken for a run that goes on."""
    video = clips.write_video(tmp_path / "video.mp4", 10, sound=None)
    remove = shutil.rmtree

    def killed(path, *rest, **more):
        if (Path(path) / "000000").exists():
            remove(Path(path) / "000000")
            raise KeyboardInterrupt
        remove(path, *rest, **more)

    with monkeypatch.context() as during:
        during.setattr(video_run, "CHUNK", 4)
        during.setattr(shutil, "rmtree", killed)
        assert convert(video, tmp_path / "out") == 130
    capsys.readouterr()
    assert convert(video, tmp_path / "out") == 2
    assert "exists already" in said(capsys)
    assert len(clips.read_video(tmp_path / "out/video_color.mp4")[0]) == 10
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["video_color.mp4"]


FULL = """
import resource, sys
from depth_anything.__main__ import main
from depth_anything.video import run
run.CHUNK = 4
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
main(sys.argv[2:])
"""


@pytest.mark.parametrize(("form", "room"), [("gray16", 9000), ("npz", 40000), ("png16,exr", 3000)])
def test_a_full_disk_is_one_line_and_the_run_resumes_later(tmp_path, monkeypatch, form, room):
    """No file may grow beyond `room` bytes: as where the disk is full."""
    video = clips.write_video(tmp_path / "video.mp4", 10, sound=None)
    command = ["video", video, "-o", tmp_path / "out", *FAST, "--save", form]
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(room), *map(str, command)], capture_output=True, text=True, timeout=120
    )
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == 2 and len(errors) == 1 and "Traceback" not in done.stderr, done.stderr
    assert all(path.name.startswith(".") for path in (tmp_path / "out").iterdir())  # nothing that looks finished
    monkeypatch.setattr(video_run, "CHUNK", 4)
    assert run(*command) == 0
    assert not list((tmp_path / "out").glob(".*"))


# -- cameras ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def camera(monkeypatch):
    """The class of camera 0, and Ctrl-C as it was afterwards."""
    kind = type("Camera", (clips.Camera,), {})
    monkeypatch.setattr(cv2, "VideoCapture", kind)
    previous = signal.getsignal(signal.SIGINT)
    yield kind
    signal.signal(signal.SIGINT, previous)


def record(out: Path, *options: object) -> int:
    return run("video", "--source", 0, "-o", out, *FAST, "--save", "side", *options)


def test_a_camera_that_is_unplugged_leaves_what_it_gave(tmp_path, camera, capsys):
    assert record(tmp_path) == 0
    assert "camera0: no more frames came after 9" in capsys.readouterr().err
    images, seconds = clips.read_video(tmp_path / "camera0_side.mp4")
    assert len(images) == 9 and np.diff(seconds).min() > 0
    assert images[0][:, :64, 0].mean() > images[8][:, :64, 0].mean() + 100  # red stayed red


def test_frames_have_the_time_at_which_they_were_taken(tmp_path, camera):
    """Four of them are fetched at once, when the network is free; the driver says when each was taken."""
    camera.clock_ms = 5000.0
    assert record(tmp_path) == 0
    assert clips.read_video(tmp_path / "camera0_side.mp4")[1] == pytest.approx([0.04 * index for index in range(9)])


def test_a_camera_that_gives_nothing(tmp_path, camera, capsys):
    camera.left = 0
    assert record(tmp_path) == 2
    assert "no frame came" in said(capsys)
    assert not list(tmp_path.iterdir())


def test_ctrl_c_ends_a_recording(tmp_path, camera, capsys):
    class Pressed(camera):
        def read(self):
            if type(self).left == 3:
                os.kill(os.getpid(), signal.SIGINT)
            return super().read()

    camera.left = 10**6
    Pressed.left = 40
    cv2.VideoCapture = Pressed
    assert record(tmp_path) == 0
    assert "no more frames" not in capsys.readouterr().err
    assert 30 < len(clips.read_video(tmp_path / "camera0_side.mp4")[0]) <= 40


def test_a_recording_that_was_killed_is_kept(tmp_path, camera, monkeypatch, capsys):
    """What cannot be recorded again is not thrown away: the next run finishes it."""
    monkeypatch.setattr(video_run, "CHUNK", 4)
    with monkeypatch.context() as patched:
        patched.setattr(video_run, "_finish", break_off)  # 9 frames: two whole chunks, and one frame
        assert record(tmp_path) == 2
    last = sorted(tmp_path.glob(".*/00000?"))[-1]
    shutil.rmtree(last)  # a kill leaves whole chunks only
    camera.left = 9
    assert record(tmp_path) == 0
    assert camera.opened == 1 and "an interrupted recording" in capsys.readouterr().err
    assert len(clips.read_video(tmp_path / "camera0_side.mp4")[0]) == 8
    assert record(tmp_path) == 2 and "--overwrite" in said(capsys)
    assert record(tmp_path, "--overwrite") == 0 and camera.opened == 2
    assert len(clips.read_video(tmp_path / "camera0_side.mp4")[0]) == 9
