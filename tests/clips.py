"""Small videos for the tests of video: a window that moves over a photograph, with a tone."""

from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

PHOTO = Path(__file__).parents[1] / "examples" / "kodak_08.jpg"


def window(photo: Image.Image, index: int, size: tuple[int, int]) -> Image.Image:
    """The image of frame `index`: size pixels out of a photograph, 2 to the right and 1 down for each frame."""
    x, y = 2 * index % 150, index % 120
    return photo.transform(size, Image.Transform.AFFINE, (1.5, 0, x, 0, 1.5, y), Image.Resampling.BILINEAR)


def write_video(
    path: Path,
    frames: int = 30,
    size: tuple[int, int] = (64, 48),
    fps: Fraction = Fraction(24),
    codec: str = "mpeg4",
    seconds: list[float] | None = None,
    sound: str | None = "aac",
    rotation: int = 0,
    cut_at: int | None = None,
    pixel_aspect: Fraction = Fraction(1),
) -> Path:
    """A video with a tone of 440 Hz; `seconds` are the frames' times, where the rate is not constant.

    From frame `cut_at` on another photograph is shown.
    """
    import av

    photos = [Image.open(PHOTO).convert("RGB"), Image.open(PHOTO.with_name("kodak_12.jpg")).convert("RGB")]
    with av.open(str(path), "w") as container:
        track = container.add_stream(codec, rate=fps)
        track.width, track.height, track.pix_fmt = *size, "yuv420p"
        track.codec_context.time_base = Fraction(1, 1000) if seconds else 1 / fps
        track.codec_context.sample_aspect_ratio = pixel_aspect
        if rotation:
            track.set_display_rotation(rotation)
        audio = container.add_stream(sound, rate=44100, layout="mono") if sound else None
        for index in range(frames):
            photo = photos[int(cut_at is not None and index >= cut_at)]
            frame = av.VideoFrame.from_image(window(photo, index, size))
            frame.pts = round(1000 * seconds[index]) if seconds else index
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
        if audio is not None:
            samples = np.arange(int(44100 * frames / fps))
            tone = (0.3 * np.sin(2 * np.pi * 440 / 44100 * samples)).astype(np.float32)
            for start in range(0, len(tone), 1024):
                sounding = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="flt", layout="mono")
                sounding.sample_rate, sounding.pts = 44100, start
                container.mux(audio.encode(sounding))
            container.mux(audio.encode(None))
    return path


def read_video(path: Path) -> tuple[list[np.ndarray], list[float]]:
    """The upright frames of a video, uint8 RGB, or uint16 for 16-bit grey, and their seconds."""
    import av

    images, seconds = [], []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            form = "gray16le" if frame.format.name == "gray16le" else "rgb24"
            images.append(np.rot90(frame.to_ndarray(format=form), round(frame.rotation / 90)))
            seconds.append(frame.time)
    return images, seconds


def sound_packets(path: Path) -> list[bytes]:
    """The sound of a file as it is stored, packet by packet."""
    import av

    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


class Camera:
    """A camera that OpenCV would open: `left` frames, red fading from one to the next, and then it is unplugged."""

    left, clock_ms, opened = 9, 0.0, 0

    def __init__(self, number):
        assert number == 0
        type(self).opened += 1

    def isOpened(self):
        return True

    def read(self):
        cls = type(self)
        cls.left -= 1
        cls.clock_ms += 40 * (cls.clock_ms > 0)
        return cls.left >= 0, np.full((48, 64, 3), (10, 60, 25 * min(9, max(0, cls.left))), np.uint8)

    def get(self, what):
        assert what == 0  # cv2.CAP_PROP_POS_MSEC
        return self.clock_ms

    def release(self):
        pass
