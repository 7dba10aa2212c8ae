"""The command video: what goes in comes out, with its times, size and sound; killed runs; bad input."""

import csv
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import clips
import numpy as np
import pytest
from command import run
from PIL import Image

from depth_anything.images import map_files
from depth_anything.predict.confidence import predict_with_confidence
from depth_anything.predict.predictor import Predictor
from depth_anything.video import run as video_run
from depth_anything.video.chunks import Ranges
from depth_anything.video.decode import frames, open_clip

av = pytest.importorskip("av")
pytest.importorskip("cv2")
FAST = ("--input-size", 32, "--threads", 1)  # few pixels: what is tested here is not the network


def convert(source: Path, out: Path, *options: object) -> int:
    return run("video", source, "-o", out, *FAST, *options)


def test_frames_size_rate_duration_and_sound_are_kept(tmp_path):
    video = clips.write_video(tmp_path / "video.mp4")
    assert convert(video, tmp_path / "out", "--save", "color,side,gray") == 0
    _, seconds = clips.read_video(video)
    for kind, width in (("color", 64), ("side", 128), ("gray", 64)):
        made = tmp_path / "out" / f"video_{kind}.mp4"
        images, made_seconds = clips.read_video(made)
        assert len(images) == 30 and images[0].shape == (48, width, 3)
        assert made_seconds == pytest.approx(seconds)
        assert clips.sound_packets(made) == clips.sound_packets(video)
        with av.open(str(video)) as before, av.open(str(made)) as after:
            assert after.streams.video[0].average_rate == before.streams.video[0].average_rate == 24
            assert after.duration == before.duration
            assert after.streams.audio[0].duration == before.streams.audio[0].duration
            assert "larger is nearer" in after.metadata["comment"]
    side, _ = clips.read_video(tmp_path / "out" / "video_side.mp4")
    original, _ = clips.read_video(video)
    assert np.abs(side[9][:, :64].astype(int) - original[9]).mean() < 8  # left the image, after a lossy codec
    assert not list((tmp_path / "out").glob(".*"))


def test_variable_frame_rate_is_kept(tmp_path):
    rng = np.random.default_rng(0)
    seconds = np.cumsum(rng.integers(10, 90, 20) / 1000) - 0.01
    video = clips.write_video(tmp_path / "video.mkv", 20, codec="libvpx-vp9", seconds=list(seconds - seconds[0]))
    assert convert(video, tmp_path / "out", "--save", "color,gray16") == 0
    for name in ("video_color.mp4", "video_disparity.mkv"):
        _, made = clips.read_video(tmp_path / "out" / name)
        assert made == pytest.approx(list(seconds - seconds[0]), abs=0.0011)


def test_a_rate_that_milliseconds_cannot_say(tmp_path):
    """Matroska's clock makes 33, 33, 34 of 30000/1001 frames a second; the answer says 30000/1001 again."""
    rate = Fraction(30000, 1001)
    video = clips.write_video(tmp_path / "video.mkv", 40, fps=rate, codec="libvpx-vp9", sound=None)
    assert convert(video, tmp_path / "out") == 0
    with av.open(str(tmp_path / "out" / "video_color.mp4")) as container:
        assert container.streams.video[0].average_rate == rate and container.streams.video[0].frames == 40


def test_rotated_videos_become_upright(tmp_path):
    video = clips.write_video(tmp_path / "video.mp4", 6, rotation=90)
    assert convert(video, tmp_path / "out", "--save", "side") == 0
    upright, _ = clips.read_video(video)
    made, _ = clips.read_video(tmp_path / "out" / "video_side.mp4")
    assert made[0].shape == (64, 96, 3)
    assert np.abs(made[3][:, :48].astype(int) - upright[3]).mean() < 8


@pytest.mark.parametrize("codec", ["vp9", "av1", "mpeg4", "h264"])
def test_odd_sizes_in_every_codec(tmp_path, codec):
    video = clips.write_video(tmp_path / "video.mkv", 5, size=(67, 51), codec="libvpx-vp9", sound=None)
    assert convert(video, tmp_path / "out", "--codec", codec, "--save", "color,gray16") == 0
    for name in ("video_color.mp4", "video_disparity.mkv"):
        images, _ = clips.read_video(tmp_path / "out" / name)
        assert len(images) == 5 and images[0].shape[:2] == (51, 67)


def test_a_single_frame(tmp_path):
    video = clips.write_video(tmp_path / "video.mp4", 1, sound=None)
    assert convert(video, tmp_path / "out") == 0
    assert len(clips.read_video(tmp_path / "out" / "video_color.mp4")[0]) == 1


def test_sound_that_mp4_cannot_hold_makes_matroska(tmp_path):
    video = clips.write_video(tmp_path / "video.mkv", 10, sound="tta")
    assert convert(video, tmp_path / "out") == 0
    assert clips.sound_packets(tmp_path / "out" / "video_color.mkv") == clips.sound_packets(video)


@pytest.mark.parametrize("stabilise", ["on", "off"])
def test_the_confidence_of_a_frame_is_that_of_its_image(tmp_path, stabilise):
    video = clips.write_video(tmp_path / "video.mp4", 5, sound=None)
    assert convert(video, tmp_path / "out", "--save", "confidence,npz", "--stabilise", stabilise) == 0
    predictor = Predictor("nano", input_size=32, threads=1)
    pictures, _ = clips.read_video(video)
    written = sorted((tmp_path / "out" / "video_confidence").iterdir())
    assert [path.name for path in written] == [f"frame_{index:06d}.png" for index in range(5)]
    for path, picture_HW3 in zip(written, pictures, strict=True):
        with Image.open(path) as image:
            expected = predict_with_confidence(predictor, picture_HW3).confidence
            np.testing.assert_allclose(np.asarray(image) / 255, expected, atol=0.5 / 255 + 1e-6)
            assert image.text["model"] == "nano"
    assert expected.min() < 0.95, "nothing was compared"
    assert (tmp_path / "out" / "video_frames.csv").exists()


def test_every_exact_form_holds_the_same_map(tmp_path):
    """NPZ and EXR are the numbers; FFV1 and PNG give them back to half a step of their stated range."""
    video = clips.write_video(tmp_path / "video.mp4", 12, sound=None)
    assert convert(video, tmp_path / "out", "--save", "npz,exr,png16,gray16") == 0
    out = tmp_path / "out"
    arrays, text = map_files.read_npz(out / "video_disparity_npz" / "frames_000000.npz")
    maps = arrays["disparity"]
    assert maps.shape == (12, 48, 64) and maps.dtype == np.float32 and text["model"] == "nano"
    with (out / "video_frames.csv").open() as file:
        rows = list(csv.DictReader(file))
    lossless, _ = clips.read_video(out / "video_disparity.mkv")
    for index, row in enumerate(rows):
        exr, _ = map_files.read_exr(out / "video_disparity_exr" / f"frame_{index:06d}.exr")
        np.testing.assert_array_equal(exr, maps[index])
        low, high = float(row["low16"]), float(row["high16"])
        half = (high - low) / 65535 / 2 * 1.01
        png, _ = map_files.read_png16(out / "video_disparity_png16" / f"frame_{index:06d}.png")
        assert np.abs(png - maps[index]).max() <= half
        assert np.abs(low + lossless[index] / 65535 * (high - low) - maps[index]).max() <= half


def test_a_cut_is_seen(tmp_path):
    video = clips.write_video(tmp_path / "video.mp4", 24, size=(160, 120), cut_at=13)
    assert convert(video, tmp_path / "out", "--save", "npz") == 0
    with (tmp_path / "out" / "video_frames.csv").open() as file:
        assert [int(row["frame"]) for row in csv.DictReader(file) if row["cut"] == "1"] == [0, 13]


def test_stabilise_off_is_the_models_own_prediction(tmp_path):
    from depth_anything.predict.predictor import Predictor

    video = clips.write_video(tmp_path / "video.mp4", 4, sound=None)
    assert convert(video, tmp_path / "out", "--save", "npz", "--stabilise", "off") == 0
    maps = map_files.read_npz(tmp_path / "out" / "video_disparity_npz" / "frames_000000.npz")[0]["disparity"]
    images, _ = clips.read_video(video)
    raw = Predictor("nano", input_size=32, threads=1)(np.ascontiguousarray(images[3])).disparity
    assert np.abs(maps[3] - raw).max() < 1e-4 * np.ptp(raw)


@pytest.mark.parametrize("form", ["folder", "pattern", "numbers"])
def test_sequences_of_images(tmp_path, form):
    folder = tmp_path / "shot"
    folder.mkdir()
    for index in (1, 2, 9, 10, 11):  # sorted as people count
        Image.new("RGB", (64, 48), (20 * index, 90, 60)).save(folder / f"shot_{index}.png")
    source = {"folder": folder, "pattern": folder / "shot_*.png", "numbers": folder / "shot_%d.png"}[form]
    assert convert(source, tmp_path / "out", "--save", "side", "--fps", 12) == 0
    images, seconds = clips.read_video(tmp_path / "out" / "shot_side.mp4")
    assert seconds == pytest.approx([index / 12 for index in range(5)])
    assert np.diff([image[:, :64, 0].mean() for image in images]).min() > 0


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.with_name("absent.mp4"), "no such file"),
        (lambda path: path.write_bytes(b"no video at all" * 99) and path, "not a video that can be read"),
        (lambda path: path.touch() or path, "not a video that can be read"),
        (lambda path: clips.write_video(path) and path.write_bytes(path.read_bytes()[:2000]) and path, "cut short"),
    ],
)
def test_broken_videos_are_one_line(tmp_path, capsys, make, said):
    assert convert(make(tmp_path / "video.mp4"), tmp_path / "out") == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error:") and said in error and "\n" not in error
    assert not (tmp_path / "out").exists()


def test_a_truncated_video_gives_its_frames(tmp_path):
    video = clips.write_video(tmp_path / "video.mkv", 30, size=(160, 120), codec="libvpx-vp9", sound=None)
    video.write_bytes(video.read_bytes()[: video.stat().st_size * 2 // 3])
    assert convert(video, tmp_path / "out") == 0
    assert 5 < len(clips.read_video(tmp_path / "out" / "video_color.mp4")[0]) < 30


def test_bad_options_are_one_line(tmp_path, capsys):
    video = clips.write_video(tmp_path / "video.mp4", 3)
    for options, said in (
        (["--save", "gif"], "gif"),
        (["--fps", 12], "--fps is for image sequences"),
        (["--source", 0], "expected one input"),
        (["--colors", "jet"], "jet"),
        (["--frames", 0], "--frames 0"),
        (["--ends", 5, 1], "the lower value first"),
        (["--ends", "nan", 1], "the lower value first"),
        (["--save", ","], "nothing would be written"),
        (["-o", tmp_path / "x.mp4", "--save", "color,gray"], "one file holds one"),
        (["-o", tmp_path / "x.mp4", "--save", "gray16"], ".mkv"),
    ):
        assert convert(video, tmp_path / "out", *options) == 2
        error = capsys.readouterr().err.strip()
        assert error.startswith("error:") and said in error and "\n" not in error
    assert run("video", "--source", 97, *FAST) == 2
    assert "camera 97" in capsys.readouterr().err


def test_one_named_file_frames_and_overwrite(tmp_path, capsys):
    video = clips.write_video(tmp_path / "video.mp4")
    made = tmp_path / "named.mp4"
    assert convert(video, made, "--frames", 7) == 0
    assert len(clips.read_video(made)[0]) == 7
    with av.open(str(made)) as container:
        assert container.duration / 1e6 == pytest.approx(7 / 24, abs=0.03)  # the sound ends where the images do
    assert convert(video, made) == 2 and "--overwrite" in capsys.readouterr().err
    assert convert(video, made, "--overwrite") == 0
    assert len(clips.read_video(made)[0]) == 30


def test_a_killed_run_resumes_and_ends_with_the_same_frames(tmp_path, monkeypatch):
    video = clips.write_video(tmp_path / "video.mp4", 250)
    options = [str(video), *map(str, FAST), "--save", "gray16,npz"]
    command = [sys.executable, "-m", "depth_anything", "video", *options]
    process = subprocess.Popen([*command, "-o", str(tmp_path / "killed")])
    for _ in range(1200):
        if list(tmp_path.glob("killed/.*/000000")):
            break
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert list(tmp_path.glob("killed/.*/000000")) and not (tmp_path / "killed/video_disparity.mkv").exists()
    begun = []
    original = video_run._make_chunk
    monkeypatch.setattr(
        video_run, "_make_chunk", lambda work, index, *rest: begun.append(index) or original(work, index, *rest)
    )
    assert run("video", *options, "-o", tmp_path / "killed") == 0
    assert begun[0] >= 1  # the first chunk was not made again
    assert run("video", *options, "-o", tmp_path / "whole") == 0
    killed, whole = (clips.read_video(tmp_path / name / "video_disparity.mkv") for name in ("killed", "whole"))
    assert killed[1] == whole[1] and len(killed[0]) == 250
    for index, (a, b) in enumerate(zip(killed[0], whole[0], strict=True)):
        np.testing.assert_array_equal(a, b, err_msg=f"frame {index}")
    names = sorted(path.name for path in (tmp_path / "whole" / "video_disparity_npz").iterdir())
    assert names == ["frames_000000.npz", "frames_000100.npz", "frames_000200.npz"]
    for name in names:
        a, b = (np.load(tmp_path / run / "video_disparity_npz" / name)["disparity"] for run in ("killed", "whole"))
        np.testing.assert_array_equal(a, b)


def test_another_unfinished_run_is_not_mixed_in(tmp_path, capsys, monkeypatch):
    video = clips.write_video(tmp_path / "video.mp4", 5, sound=None)

    def stop(*_):
        raise ValueError("stopped")

    with monkeypatch.context() as patched:
        patched.setattr(video_run, "_finish", stop)
        assert convert(video, tmp_path / "out") == 2
    assert convert(video, tmp_path / "out", "--stabilise", "off") == 2
    assert "unfinished run" in capsys.readouterr().err
    assert convert(video, tmp_path / "out", "--stabilise", "off", "--overwrite") == 0


def test_ranges_move_slowly_and_never_clip_16_bits():
    rng = np.random.default_rng(0)
    ranges = Ranges(None, is_metric=False)
    ranges.follow(rng.uniform(1, 2, (40, 50)), cut=True)
    low, high = ranges.low, ranges.high
    wide = rng.uniform(-4, 9, (40, 50))
    ranges.follow(wide, cut=False)
    assert abs(ranges.low - low) < 0.2 and abs(ranges.high - high) < 0.2
    assert ranges.low16 < wide.min() and ranges.high16 > wide.max()
    back = ranges.low16 + ranges.in_16_bits(wide) / 65535 * (ranges.high16 - ranges.low16)
    assert np.abs(back - wide).max() <= (ranges.high16 - ranges.low16) / 65535
    kept = ranges.low16, ranges.high16
    ranges.follow(rng.uniform(1, 2, (40, 50)), cut=False)
    assert (ranges.low16, ranges.high16) == kept
    metres = Ranges((0, 20), is_metric=True)
    depth_m = np.array([[0.0, 1.0, 10.0, 200.0]])
    metres.follow(depth_m, cut=True)
    np.testing.assert_allclose(metres.nearness(depth_m), [[0, 0.95, 0.5, 0]], atol=1e-6)
    np.testing.assert_array_equal(metres.in_16_bits(depth_m), [[0, 1000, 10000, 65535]])


MEASURE = """
import sys
from depth_anything.__main__ import main
main(sys.argv[1:])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) * 1024)
"""


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_two_thousand_frames_in_bounded_memory(tmp_path):
    """The bound that docs/video.md states, and no growth with the length."""
    video = clips.write_video(tmp_path / "video.mp4", 2000, size=(320, 240))
    peaks = []
    for count in (200, 2000):
        arguments = [video, "-o", tmp_path / f"out{count}", "--frames", count, *FAST, "--save", "color,side,gray16,npz"]
        command = [sys.executable, "-c", MEASURE, "video", *map(str, arguments)]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        peaks.append(int(result.stdout.split()[-1]))
    assert peaks[1] < 350e6 + 450 * 320 * 240
    assert peaks[1] < peaks[0] + 30e6
    made = tmp_path / "out2000" / "video_color.mp4"
    with av.open(str(video)) as before, av.open(str(made)) as after:
        assert after.streams.video[0].frames == 2000
        assert after.streams.video[0].average_rate == before.streams.video[0].average_rate
        assert after.duration == before.duration
    assert clips.sound_packets(made) == clips.sound_packets(video)


def test_a_clip_is_read_from_where_it_was_left(tmp_path):
    video = clips.write_video(tmp_path / "video.mp4", 12, sound=None)
    whole = list(frames(open_clip(video)))
    later = list(frames(open_clip(video), skip=7))
    assert [frame.index for frame in later] == list(range(7, 12))
    for a, b in zip(whole[7:], later, strict=True):
        assert a.pts == b.pts
        np.testing.assert_array_equal(a.image_HW3, b.image_HW3)


def test_stereo_pairs_in_h264(tmp_path):
    """Every frame of the clip for the left eye, and beside it another view; no CSV, as for other videos to watch."""
    video = clips.write_video(tmp_path / "video.mp4", frames=3)
    assert convert(video, tmp_path / "out", "--save", "sbs,anaglyph", "--codec", "h264", "--eye-distance", 0.1) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["video_anaglyph.mp4", "video_sbs.mp4"]
    pairs, _ = clips.read_video(tmp_path / "out/video_sbs.mp4")
    frames, _ = clips.read_video(video)
    width = frames[0].shape[1]
    for pair, frame in zip(pairs, frames, strict=True):
        assert pair.shape == (frame.shape[0], 2 * width, 3)
        assert np.abs(pair[:, :width].astype(float) - frame).mean() < 6
        assert (
            np.abs(pair[:, width:].astype(float) - frame).mean() > np.abs(pair[:, :width].astype(float) - frame).mean()
        )
    with av.open(str(tmp_path / "out/video_sbs.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"


def test_a_codec_that_this_ffmpeg_lacks_is_refused_first(tmp_path, monkeypatch, capsys):
    video = clips.write_video(tmp_path / "video.mp4", frames=2)
    monkeypatch.setattr(av, "codecs_available", set(av.codecs_available) - {"libx264"})
    assert convert(video, tmp_path / "out", "--codec", "h264") == 2
    assert "codec h264: the installed FFmpeg has no libx264; expected one of vp9, av1, mpeg4" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
