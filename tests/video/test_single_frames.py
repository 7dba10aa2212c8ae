"""Frames of videos by their number, against decoding from the beginning."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from clips import PHOTO, window, write_video
from PIL import Image

from depth_anything.video.decode import file_frames, open_clip
from depth_anything.video.single_frames import count_frames, frame, frame_times

av = pytest.importorskip("av")
FRAMES = 40
OPEN = {"x264-params": "open-gop=1:keyint=10:min-keyint=10:bframes=3:scenecut=0"}
"""Frames in front of a key frame that are decoded behind it, from both sides."""


def write(path: Path, codec: str, options: dict[str, str]) -> Path:
    photo = Image.open(PHOTO).convert("RGB")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_image(window(photo, number, (64, 48)))))
        container.mux(stream.encode())
    return path


def expect_all(path: Path, key_frames: int | None) -> None:
    """Every frame, in an order of chance and by several threads at once."""
    shown = [one.image_HW3 for one in file_frames(open_clip(path))]
    assert count_frames(str(path)) == len(shown)
    times = frame_times(str(path))
    assert (times and len(times.keys)) == key_frames
    numbers = np.random.default_rng(0).permutation(len(shown))
    with ThreadPoolExecutor(4) as pool:
        for number, image_HW3 in zip(numbers, pool.map(lambda number: frame(str(path), number), numbers), strict=True):
            np.testing.assert_array_equal(image_HW3, shown[number], err_msg=f"frame {number}")
    assert len({image_HW3.tobytes() for image_HW3 in shown}) == len(shown)
    with pytest.raises(ValueError, match=f"frame {len(shown)} cannot be decoded"):
        frame(str(path), len(shown))


@pytest.mark.parametrize(
    ("name", "codec", "options", "key_frames"),
    [
        ("open.mov", "libx264", OPEN, 4),
        ("open.mkv", "libx264", OPEN, 4),
        ("closed.mp4", "mpeg4", {"g": "10"}, 4),
        ("vp9.webm", "libvpx-vp9", {"g": "10", "deadline": "realtime"}, 4),
        ("untimed.avi", "libx264", OPEN, None),
    ],
)
def test_a_frame_is_that_of_the_whole_video(name, codec, options, key_frames, tmp_path):
    expect_all(write(tmp_path / name, codec, options), key_frames)


def test_a_turned_video_of_uneven_rate(tmp_path):
    seconds = sorted(np.random.default_rng(1).choice(3000, 30, replace=False) / 1000)
    expect_all(write_video(tmp_path / "turned.mov", 30, rotation=90), 3)
    expect_all(write_video(tmp_path / "uneven.mp4", 30, codec="libx264", seconds=seconds), 1)


def test_only_the_part_behind_a_key_frame_is_decoded(tmp_path, monkeypatch):
    path, decoded = write(tmp_path / "open.mov", "libx264", OPEN), []
    real = frame.__globals__["decode"]

    def counted(container, stream):
        for one in real(container, stream):
            decoded.append(one)
            yield one

    monkeypatch.setitem(frame.__globals__, "decode", counted)
    frame(str(path), 35)
    assert 0 < len(decoded) <= 10


def test_broken_videos_and_frames_are_named(tmp_path):
    (tmp_path / "none.mov").write_bytes(b"no video at all")
    with pytest.raises(ValueError, match=r"none\.mov: not a video"):
        count_frames(str(tmp_path / "none.mov"))
    torn = write(tmp_path / "torn.mov", "mpeg4", {"g": "10"})
    content = bytearray(torn.read_bytes())
    start, end = content.find(b"mdat") + 4, content.rfind(b"moov")
    content[(start + end) // 2 : end - 4] = bytes(end - 4 - (start + end) // 2)
    torn.write_bytes(content)
    np.testing.assert_array_equal(frame(str(torn), 0), next(file_frames(open_clip(torn))).image_HW3)
    with pytest.raises(ValueError, match=r"torn\.mov: frame 39 cannot be decoded"):
        frame(str(torn), 39)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(write(tmp_path / "whole.mp4", "mpeg4", {}).read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"cut\.mp4: not a video"):
        frame(str(cut), 0)
