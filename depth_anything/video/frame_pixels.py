"""The frames of a video file as a player shows them: decoded, upright, transparent parts on white, HDR as SDR."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from depth_anything.images import exif, hdr
from depth_anything.images.color_modes import on_white
from depth_anything.system.extras import EXTRA_OF, needs

_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""FFmpeg's native decoders of these formats ignore transparency; these decoders do not."""
_UNSPECIFIED, _BT709, _BT2020 = 2, 1, 9
_CONVERTED = (0, 1, _UNSPECIFIED, 3, 4, 5, 6, 7, _BT2020, 10)
"""Matrix coefficients that FFmpeg converts to RGB (3 is reserved)."""
_HDR: dict[int, hdr.Transfer] = {16: "PQ", 18: "HLG"}
_NAMELESS = range(28, 40)
"""Values of FFmpeg's AVFrameSideDataType that PyAV does not list."""


def load_av() -> Any:
    """The module av (PyAV, which contains FFmpeg), with its log output turned off.

    Raises:
        ValueError: PyAV is not installed.
    """
    with needs(EXTRA_OF["av"], "video"):
        import av
        import av.filter
        import av.logging
    av.logging.set_level(av.logging.PANIC)
    return av


@dataclass(frozen=True)
class Decoded:
    """A frame as decoded, and how it is to be displayed."""

    frame: Any
    turn: int
    """Orientation, numbered as in EXIF."""
    matrix: int
    """Matrix coefficients of Y, Cb and Cr; this field and the next two are code points of ITU-T H.273."""
    primaries: int
    transfer: hdr.Transfer | None


def video_track(container: Any) -> Any:
    """The first video track that is not a cover image; None where there is none."""
    attached = load_av().stream.Disposition.attached_pic
    return next((stream for stream in container.streams.video if not stream.disposition & attached), None)


def decode(container: Any, stream: Any) -> Iterator[Decoded]:
    """Frames of a stream; packets that cannot be decoded are skipped."""
    av = load_av()
    # With frame threads, FFmpeg and Python's lock deadlock when a stream is only partly read.
    stream.thread_type = "SLICE"
    own = decoder = stream.codec_context
    # From the header: a decoder that finds no colour information in the frames discards that of the header.
    header = own.colorspace, own.color_primaries, own.color_trc
    if own.name in _WITH_ALPHA and stream.metadata.get("alpha_mode") == "1":
        decoder = av.codec.CodecContext.create(_WITH_ALPHA[own.name], "r")
    turn = None
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.error.FFmpegError):  # end of the file, or the place where it is cut off
            return
        try:
            if turn is None and decoder is not own:  # only the file's own decoder gets the display matrix
                turn = next((_orientation(frame) for frame in own.decode(packet)), None)
            for frame in decoder.decode(packet):
                said = (frame.colorspace, frame.color_primaries, frame.color_trc)
                matrix, primaries, transfer = (
                    int(own_word if own_word != _UNSPECIFIED else header_word)
                    for own_word, header_word in zip(said, header, strict=True)
                )
                yield Decoded(frame, turn or _orientation(frame), matrix, primaries, _HDR.get(transfer))
        except av.error.FFmpegError:
            continue


def unknown_colours(decoded: Decoded) -> str | None:
    """Why FFmpeg would show a frame in false colours without reporting it; None where the colours are right."""
    if decoded.matrix not in _CONVERTED:
        return f"its colours are stored in a form that FFmpeg does not convert (matrix {decoded.matrix} of ITU-T H.273)"
    if decoded.matrix == _UNSPECIFIED and decoded.transfer is None and "DOVI_METADATA" in _side_data(decoded.frame):
        return "Dolby Vision of profile 5, which only Dolby's decoders can show"
    return None


def _orientation(frame: Any) -> int:
    """The EXIF orientation nearest to a frame's display matrix.

    The matrix maps a stored point (x, y), with y downwards, to (a x + c y, b x + d y) of the displayed image.
    """
    matrix = _side_data(frame).get("DISPLAYMATRIX")
    if matrix is None:
        return 1
    a, b, _, c, d, *_ = np.frombuffer(bytes(matrix), np.int32).tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return {(False, False): 1, (True, False): 2, (True, True): 3, (False, True): 4}[a < 0, d < 0]
    return {(False, False): 5, (True, False): 6, (True, True): 7, (False, True): 8}[c < 0, b < 0]


def _side_data(frame: Any) -> Any:
    """The side data of a frame by name.

    PyAV 18 returns nothing if FFmpeg left a kind of side data that PyAV has no name for (EXIF, views of a spatial
    video). FFmpeg's own filter removes those kinds first.
    """
    try:
        return frame.side_data
    except ValueError:
        graph = load_av().filter.Graph()
        last = graph.add(
            "buffer", f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1000"
        )
        for kind in _NAMELESS:
            one = graph.add("sidedata", f"mode=delete:type={kind}")
            last.link_to(one)
            last = one
        last.link_to(graph.add("buffersink"))
        graph.configure()
        graph.push(frame)
        return graph.pull().side_data


def as_shown(decoded: Decoded, to_rgb: Any) -> np.ndarray:
    """uint8 RGB (H, W, 3) of a frame, upright."""
    frame = decoded.frame
    has_alpha = any(component.is_alpha for component in frame.format.components)
    depth = "64le" if decoded.transfer and has_alpha else "48le" if decoded.transfer else "" if has_alpha else "24"
    matrix = decoded.matrix
    if matrix == _UNSPECIFIED:
        matrix = _BT2020 if decoded.transfer else None  # None: FFmpeg's rule, BT.601
    stored = to_rgb.reformat(frame, format=("rgba" if has_alpha else "rgb") + depth, src_colorspace=matrix).to_ndarray()
    if decoded.transfer:
        sdr_HW3 = hdr.to_sdr(stored[..., :3], decoded.transfer, wide=decoded.primaries != _BT709)
        stored = np.dstack([sdr_HW3, (stored[..., 3] >> 8).astype(np.uint8)]) if has_alpha else sdr_HW3
    stored_HW3 = on_white(Image.fromarray(stored)) if has_alpha else stored
    if decoded.turn == 1:
        return stored_HW3
    height, width = stored_HW3.shape[:2]
    upright_HW3 = np.empty((width, height, 3) if decoded.turn >= 5 else (height, width, 3), np.uint8)
    exif.as_stored(upright_HW3, decoded.turn)[:] = stored_HW3
    return upright_HW3
