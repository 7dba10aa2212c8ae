"""Textures: grey patterns computed once and coloured per scene, and small crops of photographs that we may ship.

A scene has a fixed set of slots (`SLOTS`), because the renderer compiles once for a fixed set of materials. A `tile`
slot repeats one texture over a large surface. An `atlas` slot holds 4 x 4 small textures, so that many small objects of
different colour share one slot. All colours are linear reflectances.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

TILE = 256  # pixels of a repeating texture
CELLS, CELL = 4, 96  # an atlas is CELLS x CELLS textures of CELL pixels
TEXTURES = Path(__file__).parent / "textures"

SLOTS: dict[str, tuple[str, str | None]] = {
    # name: (how it scatters, texture)
    **{f"tile{k}": ("diffuse", "tile") for k in range(6)},
    "gloss0": ("plastic", "tile"),
    "gloss1": ("plastic", "tile"),
    "small0": ("diffuse", "atlas"),
    "small1": ("diffuse", "atlas"),
    "shiny0": ("plastic", "atlas"),
    "shiny1": ("plastic", "atlas"),
    "metal0": ("metal", "atlas"),
    "mirror": ("mirror", None),
    "glass": ("glass", None),
}

FAMILIES: dict[str, tuple[str, ...]] = {
    # what a surface may be made of: patterns of `grey_pattern`, or "photo"
    "floor": ("wood", "wood", "planks", "tiles", "speckle", "carpet", "cloud", "checker", "marble", "photo"),
    "wall": ("plaster", "plaster", "plaster", "plaster", "stripes", "brick", "planks", "tiles", "paper", "photo"),
    "facade": ("windows", "windows", "windows", "brick", "plaster", "planks", "tiles"),
    "ground": ("grass", "grass", "dirt", "dirt", "cloud", "speckle", "photo"),
    "road": ("asphalt", "asphalt", "asphalt", "dirt", "cobbles"),
    "pavement": ("tiles", "cobbles", "asphalt", "speckle", "brick"),
    "wood": ("wood", "wood", "planks", "plain"),
    "fabric": ("carpet", "plain", "checker", "stripes", "paper", "fabric", "photo"),
    "leaf": ("grass", "cloud", "dirt"),
    "bark": ("bark", "wood", "dirt"),
    "stone": ("dirt", "cloud", "marble", "speckle"),
    "print": ("text", "text", "photo", "paper", "stripes", "plain", "checker"),
    "plain": ("plain", "plain", "plaster"),
    "skin": ("plain",),
    "paint": ("plain",),
    "any": ("plain", "plain", "cloud", "stripes", "checker", "text", "photo", "photo", "wood", "marble", "paper", "fabric"),
}


@dataclass(frozen=True)
class Material:
    """A slot, and for an atlas the cell (row-major) inside it."""

    slot: str
    cell: int | None = None


@dataclass
class Wardrobe:
    """The materials of one scene. Asks beyond the fixed number of slots share what is there."""

    rng: np.random.Generator
    tiles: dict[str, np.ndarray] = field(default_factory=dict)
    cells: dict[str, list[np.ndarray]] = field(default_factory=dict)
    families: dict[tuple[str, str], list[Material]] = field(default_factory=dict)

    def large(self, family: str, gloss: bool = False) -> Material:
        """A repeating texture for a surface of metres."""
        names = [name for name in SLOTS if name.startswith("gloss" if gloss else "tile")]
        free = [name for name in names if name not in self.tiles]
        if free:
            self.tiles[free[0]] = paint(self.rng, family, TILE)
            material = Material(free[0])
            self.families.setdefault(("large", family), []).append(material)
            return material
        known = self.families.get(("large", family))
        return known[int(self.rng.integers(len(known)))] if known else Material(names[int(self.rng.integers(len(names)))])

    def small(self, family: str, look: str | None = None) -> Material:
        """A texture for one object; look is "small" (diffuse), "shiny" or "metal", by chance when None."""
        look = look or ("shiny" if self.rng.random() < 0.4 else "small")
        names = [name for name in SLOTS if name.startswith(look)]
        for name in names:
            cells = self.cells.setdefault(name, [])
            if len(cells) < CELLS * CELLS:
                cells.append(paint(self.rng, family, CELL))
                material = Material(name, len(cells) - 1)
                self.families.setdefault((look, family), []).append(material)
                return material
        known = self.families.get((look, family)) or [Material(names[0], int(self.rng.integers(CELLS * CELLS)))]
        return known[int(self.rng.integers(len(known)))]

    def textures(self) -> dict[str, np.ndarray]:
        """slot -> linear reflectance float32 (S,S,3) of every slot that the scene uses and that has a texture."""
        result = dict(self.tiles)
        for name, cells in self.cells.items():
            atlas = np.full((CELLS * CELL, CELLS * CELL, 3), 0.5, np.float32)
            for k, cell in enumerate(cells):
                row, column = divmod(k, CELLS)
                atlas[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = cell
            result[name] = atlas
        return result


def cell_uv(uv: np.ndarray, cell: int) -> np.ndarray:
    """Texture coordinates (V,2) of an object, folded into its cell of the atlas. v = 0 is the first row."""
    row, column = divmod(cell, CELLS)
    span = uv.max(axis=0) - uv.min(axis=0)
    inside = (uv - uv.min(axis=0)) / np.maximum(span, 1.0)
    return ((0.03 + 0.94 * inside + [column, row]) / CELLS).astype(np.float32)


def linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB in 0..1 to linear light."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(np.float32)


def random_colour(rng: np.random.Generator, family: str = "any") -> np.ndarray:
    """One sRGB colour (3,) as surfaces of that family have it."""
    hue, saturation, value = rng.random(), rng.beta(1.3, 2.2), rng.uniform(0.15, 0.95)
    if family in ("wall", "plain"):
        hue, saturation, value = rng.normal(0.1, 0.15), rng.beta(1.0, 5.0), rng.uniform(0.45, 0.97)
    elif family in ("wood", "bark"):
        hue, saturation, value = rng.uniform(0.03, 0.11), rng.uniform(0.2, 0.7), rng.uniform(0.15, 0.8)
    elif family == "floor":
        hue, saturation, value = rng.uniform(0.0, 0.16), rng.beta(1.5, 3.0), rng.uniform(0.2, 0.85)
    elif family in ("road", "pavement", "stone"):
        hue, saturation, value = rng.random(), rng.uniform(0.0, 0.15), rng.uniform(0.2, 0.75)
    elif family == "leaf":
        hue, saturation, value = rng.normal(0.25, 0.06), rng.uniform(0.25, 0.8), rng.uniform(0.15, 0.6)
    elif family == "ground":
        hue, saturation, value = rng.choice([0.25, 0.1, 0.08]) + rng.normal(0, 0.03), rng.uniform(0.05, 0.6), rng.uniform(0.2, 0.8)
    elif family == "facade":
        hue, saturation, value = rng.normal(0.08, 0.08), rng.beta(1.2, 3.0), rng.uniform(0.35, 0.95)
    elif family == "skin":
        hue, saturation, value = rng.uniform(0.03, 0.09), rng.uniform(0.25, 0.6), rng.uniform(0.25, 0.9)
    return hsv(hue, saturation, value)


def hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """Hue, saturation, value in 0..1 (hue wraps) to sRGB (3,)."""
    k = (np.array([5.0, 3.0, 1.0]) + hue * 6.0) % 6.0
    return value - value * saturation * np.clip(np.minimum(k, 4.0 - k), 0.0, 1.0)


def paint(rng: np.random.Generator, family: str, size: int) -> np.ndarray:
    """A fresh texture of a family: linear float32 (size,size,3) in 0.02..0.9."""
    kinds = FAMILIES[family]
    kind = kinds[int(rng.integers(len(kinds)))]
    if kind == "photo":
        picture = photo_crop(int(rng.integers(photo_count())))
        if rng.random() < 0.5:
            picture = picture[:, ::-1]
        gain = np.exp(rng.normal(0, 0.15, 3)) * rng.uniform(0.75, 1.3)
        table = np.clip(linear(np.linspace(0, 1, 256)[:, None] ** rng.uniform(0.8, 1.3)) * gain, 0.02, 0.9)
        channels = [table[:, c].astype(np.float32)[_cut(rng, picture[..., c], size)] for c in range(3)]
        return np.stack(channels, axis=-1) if family != "wall" else np.stack(channels, axis=-1) * 0.5 + 0.3
    base = random_colour(rng, family)
    if kind == "plain":
        return np.broadcast_to(np.clip(linear(base), 0.02, 0.9).astype(np.float32), (size, size, 3)).copy()
    grey = _cut(rng, grey_pattern(kind, int(rng.integers(10))), size)
    other = random_colour(rng, family)
    strength = {"plaster": 0.15, "carpet": 0.5, "asphalt": 0.5, "wood": 0.6, "paper": 0.6}.get(kind, 0.9) * rng.uniform(0.4, 1.0)
    ends = np.stack([base + strength * (other - base), base * (1 - 0.5 * strength), base, base + 0.4 * strength * (1 - base)])
    if kind in ("windows", "text", "brick", "tiles", "cobbles", "checker"):
        ends[0] = other
    palette = np.stack([np.interp(np.linspace(0, 1, 256), [0.0, 0.3, 0.65, 1.0], ends[:, c]) for c in range(3)], -1)
    return np.clip(linear(np.clip(palette, 0, 1)), 0.02, 0.9)[grey]


def _cut(rng: np.random.Generator, pattern: np.ndarray, size: int) -> np.ndarray:
    if size == pattern.shape[0]:
        return pattern
    step = 2 if rng.random() < 0.5 else 1
    top, left = rng.integers(0, pattern.shape[0] - size * step + 1, 2)
    return pattern[top : top + size * step : step, left : left + size * step : step]


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
    """Periodic noise (256,256) whose amplitude falls as frequency ** -slope; stretch squeezes the y and x frequencies."""
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
    frame = inside & ((np.abs(u - 0.5) > wide / 2 - 0.04) | (np.abs(v - 0.5) > tall / 2 - 0.03) | (np.abs(u - 0.5) < 0.02))
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
    "brick": lambda rng: _stones(rng, int(rng.choice([8, 12, 16, 20])), int(rng.choice([4, 6, 8])), 0.5, rng.uniform(0.08, 0.2)),
    "tiles": lambda rng: _stones(rng, *([int(rng.choice([2, 3, 4, 6, 8]))] * 2), 0.0, rng.uniform(0.03, 0.08)),
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
