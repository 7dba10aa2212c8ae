"""Flicker of nano's maps over videos whose correspondences are known exactly, and their error over a long clip.

    python benchmarks/flicker.py                 # photographs under a moving window (no extra)
    python benchmarks/flicker.py --scenes 2      # and rendered videos (extra render)

Flicker: a pixel and the same point in the next frame, |change of the map - change of the truth|, over the interquartile
range of the clip; the clip is aligned to it once. A photograph is a plane to the window: nothing may change.
Compared: per-frame min-max (what most scripts write), the model's own maps, and `Stabiliser`.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from depth_anything.evaluate.align import fit_scale_shift
from depth_anything.predict.predictor import Predictor
from depth_anything.video.stabilise import Stabiliser

EXAMPLES = Path(__file__).parents[1] / "examples"
FRAMES, WIDTH, HEIGHT = 48, 320, 240


@dataclass(frozen=True)
class Video:
    """Images, and for each pixel of a frame where the same point was in the last one."""

    name: str
    images: list[np.ndarray]
    last: Callable[[int], tuple[np.ndarray, np.ndarray, np.ndarray]]
    """Frame index to (rows, columns, bool valid) in the frame before it."""
    disparity: np.ndarray | None = None
    """The truth, float64 (T, H, W); None where nothing may change."""
    seen: np.ndarray | None = None
    """The frame before's truth at those places: float64 (T - 1, H, W)."""
    valid: np.ndarray | None = None


def at(map_HW: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Bilinear samples of a map."""
    height, width = map_HW.shape
    y, x = np.clip(rows, 0, height - 1.001), np.clip(columns, 0, width - 1.001)
    i, j = y.astype(int), x.astype(int)
    a, b = y - i, x - j
    top = map_HW[i, j] * (1 - b) + map_HW[i, j + 1] * b
    return top * (1 - a) + (map_HW[i + 1, j] * (1 - b) + map_HW[i + 1, j + 1] * b) * a


def photograph_video(path: Path) -> Video:
    """A window that wanders over a photograph and zooms, 7 pixels a frame on average."""
    photo = Image.open(path).convert("RGB")
    windows, images = [], []
    for t in np.linspace(0, 1, FRAMES):
        zoom = 1 + 0.25 * np.sin(np.pi * t)
        x = photo.width / 2 + 0.4 * (photo.width - 1.3 * WIDTH) * np.sin(1.5 * np.pi * t - 1.2) - WIDTH * zoom / 2
        y = photo.height / 2 + 0.4 * (photo.height - 1.3 * HEIGHT) * np.sin(np.pi * t) - HEIGHT * zoom / 2
        windows.append((x, y, zoom))
        moved = (zoom, 0, x, 0, zoom, y)
        window = photo.transform((WIDTH, HEIGHT), Image.Transform.AFFINE, moved, Image.Resampling.BICUBIC)
        images.append(np.asarray(window))
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(float)

    def last(frame: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        (x0, y0, zoom0), (x1, y1, zoom1) = windows[frame - 1], windows[frame]
        x, y = ((columns + 0.5) * zoom1 + x1 - x0) / zoom0 - 0.5, ((rows + 0.5) * zoom1 + y1 - y0) / zoom0 - 0.5
        return y, x, (x >= 0) & (x <= WIDTH - 1) & (y >= 0) & (y <= HEIGHT - 1)

    return Video(path.stem, images, last)


def rendered_video(seed: int) -> Video:
    """A hand-held camera in a rendered scene; what is hidden in the last frame does not count."""
    from scene_video import render_sequence

    video = render_sequence(seed, FRAMES, (WIDTH, HEIGHT))
    disparity = np.stack([frame.disparity for frame in video]).astype(np.float64)
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(float)
    K, places, seen = video[0].K, [], []
    for frame in range(1, FRAMES):
        z = 1 / np.maximum(disparity[frame], 1e-9)
        points = np.stack([(columns - K[0, 2]) / K[0, 0] * z, (rows - K[1, 2]) / K[1, 1] * z, z, np.ones_like(z)], -1)
        before = points @ (np.linalg.inv(video[frame - 1].pose) @ video[frame].pose).T
        x = before[..., 0] / before[..., 2] * K[0, 0] + K[0, 2]
        y = before[..., 1] / before[..., 2] * K[1, 1] + K[1, 2]
        inside = (x >= 0) & (x <= WIDTH - 1) & (y >= 0) & (y <= HEIGHT - 1) & (disparity[frame] > 0)
        places.append((y, x, inside & (np.abs(at(disparity[frame - 1], y, x) * before[..., 2] - 1) < 0.03)))
        seen.append(1 / before[..., 2])
    valid = np.stack([~frame.sky for frame in video])
    images = [frame.image for frame in video]
    return Video(f"{video[0].kind} {seed}", images, lambda t: places[t - 1], disparity, np.stack(seen), valid)


def flicker(video: Video, maps: np.ndarray) -> float:
    """See above."""
    if video.disparity is not None:
        scale, shift = fit_scale_shift(maps, video.disparity, video.valid)
        maps = scale * maps + shift
    changes = []
    for frame in range(1, FRAMES):
        rows, columns, valid = video.last(frame)
        change = maps[frame] - at(maps[frame - 1], rows, columns)
        if video.disparity is not None and video.seen is not None:
            change = change - (video.disparity[frame] - video.seen[frame - 1])
        changes.append(np.abs(change[valid]))
    low, high = np.percentile(maps, [25, 75])
    return float(np.concatenate(changes).mean() / (high - low))


def aligned_errors(video: Video, maps: np.ndarray) -> np.ndarray:
    """Mean |error| of each frame over the truth's mean, the clip aligned once: (T,)."""
    assert video.disparity is not None and video.valid is not None
    scale, shift = fit_scale_shift(maps, video.disparity, video.valid)
    error = np.where(video.valid, np.abs(scale * maps + shift - video.disparity), 0)
    return error.mean((1, 2)) / np.where(video.valid, video.disparity, 0).mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=0, help="rendered videos, from seed 990001 on")
    arguments = parser.parse_args()
    videos = [photograph_video(EXAMPLES / f"kodak_{number}.jpg") for number in ("08", "12", "13", "22", "24")]
    videos += [rendered_video(990001 + index) for index in range(arguments.scenes)]
    predictor = Predictor("nano", threads=1)
    print("| video | per-frame min-max | raw | stabilised | min-max / stabilised | aligned error: raw | stabilised |")
    print("|---|---|---|---|---|---|---|")
    for video in videos:
        raw = np.stack([predictor(image).as_disparity() for image in video.images]).astype(np.float64)
        low, high = raw.min((1, 2), keepdims=True), raw.max((1, 2), keepdims=True)
        stabiliser = Stabiliser()
        smooth = np.stack(
            [
                stabiliser(image, values.astype(np.float32)).values_HW
                for image, values in zip(video.images, raw, strict=True)
            ]
        ).astype(np.float64)
        scores = [flicker(video, maps) for maps in ((raw - low) / (high - low), raw, smooth)]
        errors = ["", ""]
        if video.disparity is not None:
            errors = [f"{aligned_errors(video, maps).mean():.3f}" for maps in (raw, smooth)]
        cells = [video.name, *(f"{score:.4f}" for score in scores), f"{scores[0] / scores[2]:.1f}", *errors]
        print("| " + " | ".join(cells) + " |", flush=True)
    still = videos[-1]
    if still.disparity is not None:
        drift(still, predictor)


def drift(video: Video, predictor: Predictor, passes: int = 6) -> None:
    """The video forwards and backwards several times: the error in each pass, aligned by the fit of the first."""
    assert video.disparity is not None and video.valid is not None
    there_and_back = [*range(FRAMES), *range(FRAMES - 2, 0, -1)]
    raw = [predictor(image).as_disparity() for image in video.images]
    stabiliser, maps_of_pass = Stabiliser(), []
    for _ in range(passes):
        maps_of_pass.append(np.stack([stabiliser(video.images[t], raw[t]).values_HW for t in there_and_back]))
    ground_truth, valid = video.disparity[there_and_back], video.valid[there_and_back]
    scale, shift = fit_scale_shift(maps_of_pass[0], ground_truth, valid)
    errors = [
        np.abs(scale * maps + shift - ground_truth)[valid].mean() / ground_truth[valid].mean() for maps in maps_of_pass
    ]
    print(f"\n{video.name}, {passes * len(there_and_back)} frames there and back; error by pass, fit of the first:")
    print(" ".join(f"{error:.4f}" for error in errors))


if __name__ == "__main__":
    main()
