"""Whether a video's frames are the image that was recorded: turned or mirrored, transparent, HDR, in many codecs.

    python benchmarks/video_pixels.py                              # extra video; a minute

Every video shows one photograph. It is stored in each of the eight orientations with the display matrix that turns it
upright, with transparency and without, in SDR, PQ and HLG (signals from the closed forms of BT.2100; reference white
at 203 cd/m2 and at 75 %), in each codec and container that can hold all of that. The same frame then comes out of the
reader of `video`, out of the reader of `label` and, saved as PNG, out of `predict`. Printed is the mean difference to
the upright photograph (transparent parts on white) in steps of 255: the mean over the orientations, and the largest.
"""

import argparse
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from depth_anything import Predictor
from depth_anything.data.unlabeled.image_shards import video_shards
from depth_anything.data.unlabeled.read import read_images
from depth_anything.video.decode import frames, open_clip

os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 prints its settings for every video; only its errors
PHOTO = Path(__file__).parents[1] / "examples" / "kodak_08.jpg"
SIZE = 96, 64
SRGB_TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])  # BT.2087
MATRICES = {
    1: (1, 0, 0, 1), 2: (-1, 0, 0, 1), 3: (-1, 0, 0, -1), 4: (1, 0, 0, -1),
    5: (0, 1, 1, 0), 6: (0, 1, -1, 0), 7: (0, -1, -1, 0), 8: (0, -1, 1, 0),
}  # fmt: skip
"""a, b, c, d of the display matrix of each EXIF orientation: stored (x, y) is shown at (a x + c y, b x + d y)."""
ALLOWED = 5.0
"""Steps of 255, on average: what codecs lose, and what the compression of highlights takes from white."""


@dataclass(frozen=True)
class Kind:
    """How a video is stored."""

    codec: str
    container: str
    pixels: str
    transfer: str = "SDR"
    alpha: bool = False
    options: dict[str, str] = field(default_factory=dict)


X265 = {"crf": "4", "x265-params": "log-level=none:bframes=0"}
PRORES = {"profile": "4444"}
VPX = {"crf": "4", "b": "4M", "auto-alt-ref": "0"}
KINDS = (
    Kind("libx264", "mp4", "yuv420p", options={"crf": "4"}),
    Kind("libx264", "mkv", "yuv444p", options={"crf": "4"}),
    Kind("libx265", "mov", "yuv420p", options=X265),
    Kind("mjpeg", "mov", "yuvj422p", options={"flags": "+qscale", "global_quality": "236"}),
    Kind("libvpx-vp9", "webm", "yuv420p", options=VPX),
    Kind("qtrle", "mov", "argb", alpha=True),
    Kind("png", "mov", "rgba", alpha=True),
    Kind("prores_ks", "mov", "yuva444p10le", alpha=True, options=PRORES),
    Kind("ffv1", "mkv", "bgra", alpha=True),
    Kind("libvpx-vp9", "webm", "yuva420p", alpha=True, options=VPX),
    Kind("libvpx", "webm", "yuva420p", alpha=True, options=VPX),
    Kind("libx265", "mp4", "yuv420p10le", "PQ", options=X265),
    Kind("libx265", "mov", "yuv420p10le", "HLG", options=X265),
    Kind("libsvtav1", "mkv", "yuv420p10le", "PQ", options={"preset": "10", "crf": "10"}),
    Kind("prores_ks", "mov", "yuv422p10le", "HLG"),
    Kind("prores_ks", "mov", "yuva444p10le", "PQ", alpha=True, options=PRORES),
    Kind("prores_ks", "mov", "yuva444p10le", "HLG", alpha=True, options=PRORES),
    Kind("ffv1", "mkv", "yuva444p10le", "PQ", alpha=True),
    Kind("ffv1", "mkv", "yuva444p10le", "HLG", alpha=True),
)


def scene() -> tuple[np.ndarray, np.ndarray]:
    """uint8 RGB (H, W, 3) and its opacity (H, W): a disc, with a soft border."""
    rgb_HW3 = np.asarray(Image.open(PHOTO).convert("RGB").resize(SIZE))
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    distance = np.hypot(x - 40, y - 30)
    return rgb_HW3, np.clip(255 * (28 - distance) / 6, 0, 255).round().astype(np.uint8)


def signal(rgb_HW3: np.ndarray, transfer: str) -> np.ndarray:
    """uint16 R'G'B' of a photograph: in SDR itself, else its light in BT.2020."""
    srgb = rgb_HW3 / 255
    if transfer == "SDR":
        return (rgb_HW3.astype(np.uint16) * 257).astype(np.uint16)
    light = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4) @ SRGB_TO_BT2020.T
    return signal_of(light, transfer)


def signal_of(light: np.ndarray, transfer: str) -> np.ndarray:
    """uint16 signal, PQ or HLG, of light relative to reference white, from BT.2100's formulas."""
    if transfer == "PQ":
        power = (light * 203 / 10000) ** 0.1593017578125
        coded = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    else:
        scene = light * 0.26496256
        logarithm = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
        coded = np.where(scene <= 1 / 12, np.sqrt(3 * scene), logarithm)
    return np.round(np.clip(coded, 0, 1) * 65535).astype(np.uint16)


def stored(image: np.ndarray, orientation: int) -> np.ndarray:
    """An upright image as a file of that orientation holds it: at (x, y) what the matrix shows elsewhere."""
    a, b, c, d = MATRICES[orientation]
    height, width = image.shape[:2]
    h, w = (width, height) if orientation >= 5 else (height, width)
    y, x = np.mgrid[:h, :w]
    shown_x, shown_y = a * x + c * y, b * x + d * y
    return image[shown_y - shown_y.min(), shown_x - shown_x.min()]


def write(path: Path, kind: Kind, orientation: int) -> np.ndarray:
    """Write the video of three frames, and return its upright image on white."""
    rgb_HW3, alpha_HW = scene()
    words = signal(rgb_HW3, kind.transfer)
    layout = "rgb48le"
    if kind.alpha:
        words, layout = np.dstack([words, alpha_HW.astype(np.uint16) * 257]), "rgba64le"
    words = np.ascontiguousarray(stored(words, orientation))
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(kind.codec, rate=10, options=dict(kind.options))
        stream.width, stream.height, stream.pix_fmt = words.shape[1], words.shape[0], kind.pixels
        if orientation != 1:
            a, b, c, d = (65536 * number for number in MATRICES[orientation])
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        colours = {"SDR": (1, 1, 1), "PQ": (9, 9, 16), "HLG": (9, 9, 18)}[kind.transfer]
        if kind.pixels.startswith("yuv"):
            context = stream.codec_context
            context.colorspace, context.color_primaries, context.color_trc = colours
            context.color_range = 2 if kind.pixels.startswith("yuvj") else 1
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(words, format=layout)
            if kind.pixels.startswith("yuv"):
                full = 2 if kind.pixels.startswith("yuvj") else 1
                frame = frame.reformat(format=kind.pixels, dst_colorspace=colours[0], dst_color_range=full)
            else:
                frame = frame.reformat(format=kind.pixels)
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    share = alpha_HW[..., None] / 255 if kind.alpha else 1.0
    return rgb_HW3 * share + 255 * (1 - share)


def differences(path: Path, expected_HW3: np.ndarray, predictor: Predictor) -> dict[str, float]:
    """Mean difference to the upright image of what each command sees."""
    seen = {"video": next(frames(open_clip(path))).image_HW3}
    (shard,) = video_shards(str(path.parent), [path.name])
    _, jpeg = next(read_images(shard))
    seen["label"] = np.asarray(Image.open(io.BytesIO(jpeg)))
    still = io.BytesIO()
    Image.fromarray(seen["video"]).save(still, "PNG")
    predicted = predictor(still.getvalue()).image
    assert predicted is not None
    seen["predict"] = predicted
    return {
        name: float(np.abs(image_HW3 - expected_HW3).mean()) if image_HW3.shape == expected_HW3.shape else 255.0
        for name, image_HW3 in seen.items()
    }


def measure(kind: Kind, folder: Path, predictor: Predictor) -> list[dict[str, float]]:
    """The differences of a kind in the eight orientations."""
    found = []
    for orientation in MATRICES:
        path = folder / f"{orientation}.{kind.container}"
        expected_HW3 = write(path, kind, orientation)
        found.append(differences(path, expected_HW3, predictor))
    return found


def run(kinds: tuple[Kind, ...] = KINDS) -> Iterator[tuple[str, float]]:
    """A line of the table for every kind, and its largest difference."""
    predictor = Predictor("nano", input_size=32, threads=1)
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(kind, Path(folder), predictor)
        cells = []
        for name in ("video", "label", "predict"):
            values = [one[name] for one in found]
            cells.append(f"{np.mean(values):.2f}, {max(values):.2f}")
        alpha = "yes" if kind.alpha else "no"
        what = f"{kind.codec} {kind.container} | {kind.pixels} | {kind.transfer} | {alpha}"
        yield f"| {what} | {' | '.join(cells)} |", max(max(one.values()) for one in found)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("| codec, container | pixels | transfer | alpha | video: mean, largest | label | predict |")
    print("|---|---|---|---|---|---|---|")
    largest = []
    for line, value in run():
        print(line, flush=True)
        largest.append(value)
    wrong = sum(value > ALLOWED for value in largest)
    print(f"\n{8 * len(KINDS)} videos; largest difference {max(largest):.2f}; {wrong} kinds above {ALLOWED:g}")
    sys.exit(int(wrong > 0))


if __name__ == "__main__":
    main()
