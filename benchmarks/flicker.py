"""Flicker of nano's maps over videos whose correspondences are known exactly, and their error over a long clip.

    python benchmarks/flicker.py                 # photographs under a moving window (no extra)
    python benchmarks/flicker.py --scenes 2      # and rendered videos (extra render)

Flicker: a pixel and the same point in the next frame, |change of the map - change of the truth|, over the interquartile
range of the clip; the clip is aligned to the truth once. A photograph is a plane to the window: nothing may change.
Compared: per-frame min-max (what most scripts write), the model's own maps, and `Steady`.
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
class Film:
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


def photograph_film(path: Path) -> Film:
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

    return Film(path.stem, images, last)


def rendered_film(seed: int) -> Film:
    """A hand-held camera in a rendered scene; what is hidden in the last frame does not count."""
    from scene_video import render_sequence

    film = render_sequence(seed, FRAMES, (WIDTH, HEIGHT))
    disparity = np.stack([frame.disparity for frame in film]).astype(np.float64)
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(float)
    K, places, seen = film[0].K, [], []
    for frame in range(1, FRAMES):
        z = 1 / np.maximum(disparity[frame], 1e-9)
        points = np.stack([(columns - K[0, 2]) / K[0, 0] * z, (rows - K[1, 2]) / K[1, 1] * z, z, np.ones_like(z)], -1)
        before = points @ (np.linalg.inv(film[frame - 1].pose) @ film[frame].pose).T
        x = before[..., 0] / before[..., 2] * K[0, 0] + K[0, 2]
        y = before[..., 1] / before[..., 2] * K[1, 1] + K[1, 2]
        inside = (x >= 0) & (x <= WIDTH - 1) & (y >= 0) & (y <= HEIGHT - 1) & (disparity[frame] > 0)
        places.append((y, x, inside & (np.abs(at(disparity[frame - 1], y, x) * before[..., 2] - 1) < 0.03)))
        seen.append(1 / before[..., 2])
    valid = np.stack([~frame.sky for frame in film])
    images = [frame.image for frame in film]
    return Film(f"{film[0].kind} {seed}", images, lambda t: places[t - 1], disparity, np.stack(seen), valid)


def flicker(film: Film, maps: np.ndarray) -> float:
    """See above."""
    if film.disparity is not None:
        scale, shift = fit_scale_shift(maps, film.disparity, film.valid)
        maps = scale * maps + shift
    changes = []
    for frame in range(1, FRAMES):
        rows, columns, valid = film.last(frame)
        change = maps[frame] - at(maps[frame - 1], rows, columns)
        if film.disparity is not None and film.seen is not None:
            change = change - (film.disparity[frame] - film.seen[frame - 1])
        changes.append(np.abs(change[valid]))
    low, high = np.percentile(maps, [25, 75])
    return float(np.concatenate(changes).mean() / (high - low))


def aligned_errors(film: Film, maps: np.ndarray) -> np.ndarray:
    """Mean |error| of each frame over the truth's mean, the clip aligned once: (T,)."""
    assert film.disparity is not None and film.valid is not None
    scale, shift = fit_scale_shift(maps, film.disparity, film.valid)
    error = np.where(film.valid, np.abs(scale * maps + shift - film.disparity), 0)
    return error.mean((1, 2)) / np.where(film.valid, film.disparity, 0).mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=0, help="rendered videos, from seed 990001 on")
    arguments = parser.parse_args()
    films = [photograph_film(EXAMPLES / f"kodak_{number}.jpg") for number in ("08", "12", "13", "22", "24")]
    films += [rendered_film(990001 + index) for index in range(arguments.scenes)]
    predictor = Predictor("nano", threads=1)
    print("| video | per-frame min-max | raw | stabilised | min-max / stabilised | aligned error: raw | stabilised |")
    print("|---|---|---|---|---|---|---|")
    for film in films:
        raw = np.stack([predictor(image).as_disparity() for image in film.images]).astype(np.float64)
        low, high = raw.min((1, 2), keepdims=True), raw.max((1, 2), keepdims=True)
        steady = Stabiliser()
        smooth = np.stack(
            [steady(image, values.astype(np.float32)).values_HW for image, values in zip(film.images, raw, strict=True)]
        ).astype(np.float64)
        scores = [flicker(film, maps) for maps in ((raw - low) / (high - low), raw, smooth)]
        errors = ["", ""]
        if film.disparity is not None:
            errors = [f"{aligned_errors(film, maps).mean():.3f}" for maps in (raw, smooth)]
        cells = [film.name, *(f"{score:.4f}" for score in scores), f"{scores[0] / scores[2]:.1f}", *errors]
        print("| " + " | ".join(cells) + " |", flush=True)
    still = films[-1]
    if still.disparity is not None:
        drift(still, predictor)


def drift(film: Film, predictor: Predictor, passes: int = 6) -> None:
    """The video forwards and backwards several times: the error in each pass, aligned by the fit of the first."""
    assert film.disparity is not None and film.valid is not None
    there_and_back = [*range(FRAMES), *range(FRAMES - 2, 0, -1)]
    raw = [predictor(image).as_disparity() for image in film.images]
    steady, answers = Stabiliser(), []
    for _ in range(passes):
        answers.append(np.stack([steady(film.images[t], raw[t]).values_HW for t in there_and_back]))
    ground_truth, valid = film.disparity[there_and_back], film.valid[there_and_back]
    scale, shift = fit_scale_shift(answers[0], ground_truth, valid)
    errors = [
        np.abs(scale * answer + shift - ground_truth)[valid].mean() / ground_truth[valid].mean() for answer in answers
    ]
    print(
        f"\n{film.name}, {passes * len(there_and_back)} frames there and back; error of each pass with the first's fit:"
    )
    print(" ".join(f"{error:.4f}" for error in errors))


if __name__ == "__main__":
    main()
