"""Writing videos: pieces that are encoded one by one, then joined into one file with frame times and audio tracks.

A piece holds the frames of one chunk, with one packet per frame in order (no frame depends on a later one). Packets get
their times when the pieces are joined, so the frame times of the input are kept exactly, also with a variable rate.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np

from depth_anything.video.decode import Clip, start_time
from depth_anything.video.frame_pixels import load_av

CodecName = Literal["vp9", "av1", "mpeg4", "h264", "ffv1"]


@dataclass(frozen=True)
class Codec:
    """Name and options of a codec in FFmpeg."""

    encoder: str
    options: dict[str, str]
    takes_odd_sizes: bool = True
    """Whether the pixel format is 4:2:0, with colours at half the resolution."""


CODECS: dict[str, Codec] = {
    "vp9": Codec(
        "libvpx-vp9", {"deadline": "realtime", "cpu-used": "7", "crf": "22", "lag-in-frames": "0", "row-mt": "1"}
    ),
    "av1": Codec("libsvtav1", {"preset": "10", "crf": "26", "svtav1-params": "pred-struct=1"}),
    "mpeg4": Codec("mpeg4", {"flags": "+qscale", "global_quality": str(3 * 118)}),
    "h264": Codec("libx264", {"crf": "18", "preset": "veryfast", "bf": "0"}, takes_odd_sizes=False),
    "ffv1": Codec("ffv1", {"level": "3", "slicecrc": "1"}),
}
"""vp9 (BSD), av1 (BSD) and mpeg4 (LGPL) have no stricter licence than FFmpeg; h264 is x264, under the GPL."""


def check_codec(codec: CodecName) -> None:
    """Refuse a codec that the installed FFmpeg was built without, before anything is decoded.

    Raises:
        ValueError: see above.
    """
    av = load_av()
    encoder = CODECS[codec].encoder
    if encoder not in av.codecs_available:
        others = ", ".join(
            name for name, row in CODECS.items() if row.encoder in av.codecs_available and name != "ffv1"
        )
        raise ValueError(f"codec {codec}: the installed FFmpeg has no {encoder}; expected one of {others}")


class Piece:
    """One piece of video: images in, a Matroska file out.

    Args:
        path: file to write.
        codec: name in CODECS; ffv1 takes uint16 (H, W) and is lossless, the others take uint8 (H, W, 3) or (H, W).
        clip: clip whose frame rate and pixel aspect ratio the piece has.
    """

    def __init__(self, path: Path, codec: CodecName, clip: Clip):
        self.path, self.codec, self.clip = path, CODECS[codec], clip
        self.rate = encoder_rate(clip.rate)
        os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 prints its settings for every piece; errors only
        self.container = load_av().open(str(path), "w", format="matroska")
        self.stream: Any = None
        self.count = 0

    def add(self, image: np.ndarray) -> None:
        """Encode the next image; all images have the same size."""
        av = load_av()
        layout = {(2, "uint16"): "gray16le", (2, "uint8"): "gray", (3, "uint8"): "rgb24"}[image.ndim, str(image.dtype)]
        if self.stream is None:
            self.stream = self._stream(*image.shape[:2], lossless=layout == "gray16le")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format=layout)
        if layout != "gray16le":
            frame = frame.reformat(format=self.stream.pix_fmt, dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.pts, frame.time_base = self.count, 1 / self.rate
        self.container.mux(self.stream.encode(frame))
        self.count += 1

    def close(self) -> None:
        """Write what is left in the encoder, and finish the file."""
        if self.stream is not None:
            self.container.mux(self.stream.encode(None))
        self.container.close()

    def _stream(self, height: int, width: int, lossless: bool) -> Any:
        stream = self.container.add_stream(self.codec.encoder, rate=self.rate, options=dict(self.codec.options))
        stream.width, stream.height = width, height
        odd = (width % 2 or height % 2) and not self.codec.takes_odd_sizes
        stream.pix_fmt = "gray16le" if lossless else "yuv444p" if odd else "yuv420p"
        context = stream.codec_context
        context.time_base = 1 / self.rate
        context.bit_rate = 0
        context.max_b_frames = 0
        context.sample_aspect_ratio = self.clip.pixel_aspect
        if not lossless:
            context.colorspace, context.color_primaries, context.color_trc, context.color_range = 1, 1, 1, 1  # BT.709
        return stream


def encoder_rate(rate: Fraction) -> Fraction:
    """The frame rate, or the nearest one that all encoders accept (SVT-AV1: at most 240; MPEG-4: 65535 ticks a second).

    Encoders use it only for rate control: `join` sets the time of each frame.
    """
    return 1 / (1 / min(rate, Fraction(240))).limit_denominator(65535)


def sounds(container: Any) -> list[Any]:
    """The audio tracks of a file, except those that FFmpeg does not know and cannot copy (some phones add one)."""
    return [stream for stream in container.streams.audio if stream.codec_context is not None]


def container_format(clip: Clip, codec: CodecName) -> Literal["mp4", "matroska"]:
    """MP4, or Matroska for lossless video and for audio that MP4 cannot hold."""
    if codec == "ffv1":
        return "matroska"
    if clip.path is None:
        return "mp4"
    import io

    av = load_av()
    with av.open(str(clip.path)) as container, av.open(io.BytesIO(), "w", format="mp4") as probe:
        held = all(stream.codec_context.name in probe.supported_codecs for stream in sounds(container))
        return "mp4" if held else "matroska"


def join(
    path: Path,
    pieces: Sequence[Path],
    times: Sequence[np.ndarray],
    time_base: Fraction,
    clip: Clip,
    comment: str,
    form: Literal["mp4", "matroska"],
    sound_until: float = float("inf"),
) -> None:
    """Join all pieces and the audio tracks of the clip in one file, without encoding them again.

    Args:
        path: file to write.
        pieces: files that `Piece` wrote, in order.
        times: int64 (frames, 2) for each piece: pts and duration in units of time_base.
        time_base: unit of time in seconds.
        clip: clip whose audio is copied.
        comment: text for the metadata of the file.
        form: container format of the file.
        sound_until: time in seconds at which the audio ends, if only a part of the clip is written.
    """
    av = load_av()
    with av.open(str(path), "w", format=form) as output:
        output.metadata["comment"] = comment
        with av.open(str(pieces[0])) as first:
            image = output.add_stream_from_template(first.streams.video[0], opaque=True)
        image.time_base = time_base
        image.codec_context.sample_aspect_ratio = clip.pixel_aspect  # VP9 and AV1 store it in the container only
        sources = [_image_packets(pieces, times, time_base, image)]
        sound = av.open(str(clip.path)) if clip.path else None
        if sound is not None and sounds(sound):
            targets = {stream.index: output.add_stream_from_template(stream) for stream in sounds(sound)}
            sources.append(_sound_packets(sound, targets, sound_until))
        for _, packet in heapq.merge(*sources, key=lambda timed: timed[0]):
            output.mux(packet)
        if sound is not None:
            sound.close()


def _image_packets(
    pieces: Sequence[Path], times: Sequence[np.ndarray], time_base: Fraction, target: Any
) -> Iterator[tuple[float, Any]]:
    """(seconds, packet) of all pieces; each packet has the time of its frame."""
    for piece, times_N2 in zip(pieces, times, strict=True):
        with load_av().open(str(piece)) as container:
            packets = (packet for packet in container.demux(video=0) if packet.size)
            for packet, (pts, duration) in zip(packets, times_N2.tolist(), strict=True):
                packet.stream = target
                packet.time_base = time_base
                packet.pts = packet.dts = pts
                packet.duration = duration
                yield float(pts * time_base), packet


def _sound_packets(sound: Any, targets: dict[int, Any], end: float) -> Iterator[tuple[float, Any]]:
    """(seconds, packet) of the audio of a file up to `end`, on the clock of the frames."""
    last = 0.0
    for packet in sound.demux(*[sound.streams[index] for index in targets]):
        if packet.dts is None:
            continue
        start = start_time(sound, packet.time_base)
        packet.pts, packet.dts = (None if packet.pts is None else packet.pts - start), packet.dts - start
        last = max(last, float(packet.dts * packet.time_base))
        if last > end:
            return
        packet.stream = targets[packet.stream.index]
        yield last, packet
