"""The pixels of a video are those that were recorded: all of benchmarks/video_pixels.py, and what it cannot show."""

import io
import sys
from fractions import Fraction

import clips
import numpy as np
import pytest
from benchmark_scripts import BENCHMARKS, script
from command import run
from PIL import Image, features

from depth_anything import Predictor
from depth_anything.data.unlabeled.image_shards import video_shards
from depth_anything.data.unlabeled.read import read_images
from depth_anything.images import hdr
from depth_anything.images.read import read_image
from depth_anything.video.decode import frames, open_clip
from depth_anything.video.frame_pixels import Decoded, unknown_colours

av = pytest.importorskip("av")
sys.path.insert(0, str(BENCHMARKS))
video_pixels = script("video_pixels")


def named(kind) -> str:
    return "-".join([kind.codec, kind.container, kind.transfer, *(["alpha"] if kind.alpha else [])])


@pytest.mark.parametrize("kind", video_pixels.KINDS, ids=named)
def test_the_same_upright_image_in_video_label_and_predict(kind, tmp_path):
    """Eight orientations each. A wrong orientation, hidden colours or unmapped HDR are off by 20 and more."""
    for seen in video_pixels.measure(kind, tmp_path, Predictor("nano", input_size=32, threads=1)):
        assert max(seen.values()) < video_pixels.ALLOWED


def test_the_kinds_make_a_hundred_videos_and_more():
    assert 8 * len(video_pixels.KINDS) >= 100
    for what in ("transfer", "alpha", "codec", "container"):
        assert len({getattr(kind, what) for kind in video_pixels.KINDS}) >= 2, what


def test_sdr_frames_are_those_of_ffmpeg(tmp_path):
    video = clips.write_video(tmp_path / "video.mp4", 5, sound=None)
    with av.open(str(video)) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for frame, image_HW3 in zip(frames(open_clip(video)), expected, strict=True):
        np.testing.assert_array_equal(frame.image_HW3, image_HW3)


def test_a_video_in_hdr_says_so(tmp_path, capsys):
    kind = next(kind for kind in video_pixels.KINDS if kind.transfer == "HLG")
    path = tmp_path / f"video.{kind.container}"
    video_pixels.write(path, kind, 1)
    assert run("video", path, "-o", tmp_path / "out", "--input-size", 32, "--threads", 1) == 0
    assert "HDR (HLG)" in capsys.readouterr().err


def test_transparent_video_of_a_stored_matrix_in_webm(tmp_path):
    """VP9's transparency is read by libvpx, which is not told how the file is turned: the pixel aspect turns too."""
    kind = next(kind for kind in video_pixels.KINDS if kind.codec == "libvpx-vp9" and kind.alpha)
    path = tmp_path / "video.webm"
    video_pixels.write(path, kind, 6)
    assert [frame.image_HW3.shape for frame in frames(open_clip(path))] == [(64, 96, 3)] * 3
    assert [frame.pts for frame in frames(open_clip(path))] == [0, 100, 200]


@pytest.mark.parametrize("matrix", [8, 14])
def test_colours_that_ffmpeg_would_show_wrongly_are_refused(tmp_path, capsys, matrix):
    path = tmp_path / "video.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        stream.codec_context.colorspace = matrix
        frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24").reformat(format="yuv444p")
        frame.pts, frame.time_base = 0, Fraction(1, 10)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match=f"matrix {matrix}"):
        open_clip(path)
    (shard,) = video_shards(str(tmp_path), [path.name])
    failed = []
    assert not list(read_images(shard, lambda key, error: failed.append(str(error))))
    assert len(failed) == 1 and f"matrix {matrix}" in failed[0]


def test_dolby_vision_without_an_image_for_others_is_refused():
    """No encoder here writes it: a frame as FFmpeg's decoder leaves it, with the metadata and no colours."""

    class Frame:
        side_data = {"DOVI_METADATA": b""}  # noqa: RUF012

    assert "profile 5" in (unknown_colours(Decoded(Frame(), 1, 2, 2, None)) or "")
    assert unknown_colours(Decoded(Frame(), 1, 9, 9, "PQ")) is None  # profile 8: an HDR10 image with additions


def test_a_video_cut_short_gives_label_its_frames_and_one_line(tmp_path):
    whole = clips.write_video(tmp_path / "whole.mov", 60, codec="mpeg4", sound=None)
    with av.open(str(whole)) as container:
        kept = [packet.pos + packet.size for packet in container.demux(video=0) if packet.size][24]
    path = tmp_path / "cut.mov"
    data = whole.read_bytes()
    moov = data.index(b"moov") - 4
    path.write_bytes(data[:kept] + bytes(moov - kept) + data[moov:])  # from frame 25 on zeros
    (shard,) = video_shards(str(tmp_path), [path.name])
    failed = []
    found = dict(read_images(shard, lambda key, error: failed.append(str(error))))
    assert list(found) == [f"cut-0000{number}0" for number in range(3)]
    assert len(failed) == 1 and "states 60 frames" in failed[0]


@pytest.mark.parametrize("animated", [False, True])
def test_an_avif_is_no_video(tmp_path, animated):
    """FFmpeg shows its first frame only, and without its transparency."""
    if not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    image = Image.fromarray(np.dstack(video_pixels.scene()))
    path = tmp_path / "image.avif"
    image.save(path, save_all=animated, append_images=[image.rotate(180)] if animated else [])
    with pytest.raises(ValueError, match="an AVIF or HEIC image, not a video"):
        open_clip(path)


# -- light -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transfer", ["PQ", "HLG"])
def test_grey_of_a_known_light_is_its_srgb(transfer):
    """Mid grey of 18 % is 118 in sRGB; up to nine tenths of white nothing is compressed; above, in order, to white."""
    light = np.array([0.0, 0.0031308, 0.18, 0.5, 0.7, 1.0, 2.0, 3.7])
    grey_HW3 = np.repeat(video_pixels.signal_of(light, transfer)[None, :, None], 3, axis=2)
    (seen_W3,) = hdr.to_sdr(grey_HW3, transfer)
    assert (np.abs(seen_W3.astype(int) - seen_W3[:, :1]) <= 1).all()  # grey stays grey
    assert seen_W3[:5, 1].tolist() == pytest.approx([0, 10, 118, 188, 218], abs=1)
    assert 240 < seen_W3[5, 1] < seen_W3[6, 1] <= seen_W3[7, 1] == 255


def test_a_saturated_colour_of_bt2020_is_brought_to_srgb():
    """sRGB's red (BT.709 primaries) written in BT.2020 comes back as it was; untouched where it was sRGB's already."""
    red_in_2020 = np.array([0.6274, 0.0691, 0.0164]) * 0.5
    signal_HW3 = video_pixels.signal_of(red_in_2020, "PQ")[None, None]
    assert hdr.to_sdr(signal_HW3, "PQ")[0, 0].tolist() == pytest.approx([188, 0, 0], abs=3)
    assert hdr.to_sdr(signal_HW3, "PQ", wide=False)[0, 0].tolist() != pytest.approx([188, 0, 0], abs=3)


@pytest.mark.parametrize("orientation", [1, 4, 6, 7])
def test_an_animation_and_its_first_image_are_one(tmp_path, orientation):
    """As a video and as an image: transparency lies on white, and the EXIF orientation is applied, mirroring too."""
    rgb_HW3, alpha_HW = video_pixels.scene()
    stills = [Image.fromarray(np.dstack([rgb_HW3, alpha_HW])) for _ in range(2)]
    path = tmp_path / "animation.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    mirrored = stills[1].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    stills[0].save(path, save_all=True, append_images=[mirrored], exif=exif)
    first = next(frames(open_clip(path))).image_HW3
    image_HW3 = read_image(io.BytesIO(path.read_bytes()))
    assert first.shape == image_HW3.shape
    assert np.abs(first.astype(int) - image_HW3).max() <= 1
