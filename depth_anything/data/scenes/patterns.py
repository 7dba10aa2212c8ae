"""Patterns that textures are painted from: grey ones computed here, and the small crops of photographs that we ship."""

from functools import lru_cache
from pathlib import Path

import numpy as np

TILE = 256  # pixels of a side
TEXTURES = Path(__file__).parent / "textures"


@lru_cache(maxsize=1)
def _photo_files() -> tuple[Path, ...]:
    files = tuple(sorted(TEXTURES.glob("*.jpg")))
    if not files:
        raise ValueError(f"no textures in {TEXTURES}: the installation is incomplete, install depth-anything again")
    return files


def photo_count() -> int:
    """How many photographic textures are shipped."""
    return len(_photo_files())


@lru_cache(maxsize=64)
def photo_crop(index: int) -> np.ndarray:
    """A shipped photographic texture, sRGB uint8 (256,256,3)."""
    from PIL import Image

    with Image.open(_photo_files()[index]) as image:
        return np.asarray(image.convert("RGB"))


@lru_cache(maxsize=256)
def grey_pattern(kind: str, variant: int) -> np.ndarray:
    """A repeating grey pattern, uint8 (256,256), the same for the same name on every machine."""
    rng = np.random.default_rng([sum(kind.encode()), variant])
    pattern = _PATTERNS[kind](rng)
    low, high = np.percentile(pattern, [0.5, 99.5])
    return (np.clip((pattern - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)


def fractal_noise(rng: np.random.Generator, slope: float, stretch: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """Periodic noise (256,256) of amplitude frequency ** -slope; stretch squeezes the y and x frequencies."""
    fy, fx = np.fft.fftfreq(TILE)[:, None] * TILE * stretch[0], np.fft.rfftfreq(TILE)[None] * TILE * stretch[1]
    amplitude = 1.0 / np.maximum(np.hypot(fy, fx), 1.0) ** slope
    amplitude[0, 0] = 0.0
    noise = np.fft.irfft2(amplitude * np.fft.rfft2(rng.standard_normal((TILE, TILE))), (TILE, TILE))
    return noise / noise.std()


def _grid(rows: int, columns: int, shift: float, line: float) -> tuple[np.ndarray, np.ndarray]:
    """Joints (1 on a joint) and an integer id per stone of a wall of rows x columns, every other row shifted."""
    y, x = np.mgrid[0:TILE, 0:TILE] / TILE
    row = np.floor(y * rows)
    u = (x * columns + shift * (row % 2)) % columns
    v = y * rows
    joint = (np.abs(u % 1 - 0.5) > 0.5 - line * columns / rows * 0.5) | (np.abs(v % 1 - 0.5) > 0.5 - line * 0.5)
    return joint, (row * columns + np.floor(u)).astype(int)


def _stones(rng: np.random.Generator, rows: int, columns: int, shift: float, line: float) -> np.ndarray:
    joint, ids = _grid(rows, columns, shift, line)
    shade = rng.uniform(0.45, 1.0, rows * columns)[ids]
    return np.where(joint, 0.0, shade + 0.06 * fractal_noise(rng, 0.8))


def _brick(rng: np.random.Generator) -> np.ndarray:
    rows, columns = int(rng.choice([8, 12, 16, 20])), int(rng.choice([4, 6, 8]))
    return _stones(rng, rows, columns, 0.5, rng.uniform(0.08, 0.2))


def _tiles(rng: np.random.Generator) -> np.ndarray:
    n = int(rng.choice([2, 3, 4, 6, 8]))
    return _stones(rng, n, n, 0.0, rng.uniform(0.03, 0.08))


def _wood(rng: np.random.Generator) -> np.ndarray:
    grain = fractal_noise(rng, 1.2, (1.0, rng.uniform(6, 14)))
    rings = np.sin(grain * rng.uniform(2, 6) + np.arange(TILE)[:, None] * 2 * np.pi / TILE * rng.integers(2, 8))
    return rings + 0.5 * grain + 0.3 * fractal_noise(rng, 0.4, (1.0, 10.0))


def _planks(rng: np.random.Generator) -> np.ndarray:
    rows = int(rng.integers(3, 9))
    joint, ids = _grid(rows, 2, 0.5, 0.06)
    return np.where(joint, -2.0, _wood(rng) * 0.5 + rng.normal(0, 0.8, rows * 2)[ids])


def _stripes(rng: np.random.Generator) -> np.ndarray:
    phase = np.arange(TILE) / TILE * rng.integers(4, 24)
    profile = (phase % 1 > rng.uniform(0.2, 0.8)) if rng.random() < 0.6 else np.sin(phase * 2 * np.pi)
    stripes = np.broadcast_to(np.asarray(profile, float), (TILE, TILE))
    return (stripes if rng.random() < 0.6 else stripes.T) + 0.03 * fractal_noise(rng, 0.7)


def _checker(rng: np.random.Generator) -> np.ndarray:
    n = int(rng.choice([2, 4, 6, 8, 12]))
    y, x = np.mgrid[0:TILE, 0:TILE] * n // TILE
    return (x + y) % 2 + 0.05 * fractal_noise(rng, 0.9)


def _text(rng: np.random.Generator) -> np.ndarray:
    page = np.ones((TILE, TILE)) * 0.9
    y = int(rng.integers(4, 24))
    while y < TILE - 8:
        height = int(rng.choice([5, 7, 9, 14, 30, 60], p=[0.3, 0.25, 0.2, 0.1, 0.1, 0.05]))
        x = int(rng.integers(4, 40))
        while x < TILE - 10:
            width = int(rng.integers(2, max(3, height // 2 + 4)))
            if rng.random() < 0.82:
                page[y : y + height, x : x + width] = rng.uniform(0.0, 0.35)
                if height > 6:
                    page[y + height // 3 : y + height // 3 + 2, x : x + width] = 0.9
            x += width + 2
            if rng.random() < 0.04:
                break
        y += height + int(rng.integers(4, 14))
    return page


def _windows(rng: np.random.Generator) -> np.ndarray:
    rows, columns = int(rng.integers(2, 5)), int(rng.integers(2, 6))
    y, x = np.mgrid[0:TILE, 0:TILE] / TILE
    u, v = (x * columns) % 1, (y * rows) % 1
    wide, tall = rng.uniform(0.3, 0.8), rng.uniform(0.4, 0.8)
    inside = (np.abs(u - 0.5) < wide / 2) & (np.abs(v - 0.5) < tall / 2)
    frame = inside & (
        (np.abs(u - 0.5) > wide / 2 - 0.04) | (np.abs(v - 0.5) > tall / 2 - 0.03) | (np.abs(u - 0.5) < 0.02)
    )
    ids = (np.floor(y * rows) * columns + np.floor(x * columns)).astype(int)
    pane = rng.uniform(0.0, 0.3, rows * columns)[ids]
    wall = 0.72 + 0.03 * fractal_noise(rng, 0.9)
    return np.where(frame, 1.0, np.where(inside, pane, wall))


def _spots(rng: np.random.Generator) -> np.ndarray:
    noise = fractal_noise(rng, rng.uniform(0.0, 0.5))
    return np.where(noise > rng.uniform(0.8, 2.0), 1.0, 0.4) + 0.05 * fractal_noise(rng, 1.0)


def _fabric(rng: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[0:TILE, 0:TILE] / TILE * 2 * np.pi
    n = rng.integers(2, 10)
    return np.sin(n * x) * np.sin(n * y) + np.sin(n * (x + y) + fractal_noise(rng, 1.6)) * rng.uniform(0, 1)


def _paper(rng: np.random.Generator) -> np.ndarray:
    """A wallpaper: one small motif, repeated."""
    n = int(rng.choice([4, 8]))
    motif = fractal_noise(rng, 1.4)[: TILE // n, : TILE // n]
    motif = motif + motif[:, ::-1]
    return np.tile(motif > rng.uniform(-0.5, 1.0), (n, n)) + 0.05 * fractal_noise(rng, 0.8)


_PATTERNS = {
    "wood": _wood,
    "planks": _planks,
    "stripes": _stripes,
    "checker": _checker,
    "text": _text,
    "windows": _windows,
    "speckle": _spots,
    "fabric": _fabric,
    "paper": _paper,
    "brick": _brick,
    "tiles": _tiles,
    "cobbles": lambda rng: _stones(rng, 16, 16, 0.5, rng.uniform(0.15, 0.3)),
    "cloud": lambda rng: fractal_noise(rng, rng.uniform(1.0, 2.0)),
    "plaster": lambda rng: fractal_noise(rng, rng.uniform(0.6, 1.4)),
    "carpet": lambda rng: fractal_noise(rng, rng.uniform(0.0, 0.4)),
    "grass": lambda rng: fractal_noise(rng, rng.uniform(0.2, 0.7), (1.0, 3.0)) + 0.5 * fractal_noise(rng, 1.5),
    "dirt": lambda rng: fractal_noise(rng, rng.uniform(0.7, 1.1)),
    "asphalt": lambda rng: fractal_noise(rng, 0.3) + 0.6 * fractal_noise(rng, 1.6),
    "bark": lambda rng: fractal_noise(rng, 0.8, (1.0, 0.25)),
    "marble": lambda rng: np.abs(np.sin(fractal_noise(rng, 1.6) * rng.uniform(1, 3))) ** 0.5,
}
