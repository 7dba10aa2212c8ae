"""Textures: grey patterns computed once and coloured per scene, and small crops of photographs that we may ship.

A scene has a fixed set of slots (`SLOTS`), because the renderer compiles once for a fixed set of materials. A `tile`
slot repeats one texture over a large surface. An `atlas` slot holds 4 x 4 small textures, so that many small objects of
different colour share one slot, and a `models` slot the images of 4 x 4 ready-made models. All colours are linear
reflectances.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from depth_anything.data.scenes.patterns import TILE, grey_pattern, photo_count, photo_crop
from depth_anything.data.scenes.texture_baking import SIDE
from depth_anything.system.files import package_text

if TYPE_CHECKING:
    from depth_anything.data.scenes.model_library import Library, Model

CELLS, CELL = 4, 96  # an atlas is CELLS x CELLS textures of CELL pixels

SIDES = {"tile": TILE, "atlas": CELLS * CELL, "models": CELLS * SIDE}
"""Pixels of a side of a slot's texture, by kind."""

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
    "model0": ("diffuse", "models"),
    "model1": ("plastic", "models"),
    "mirror": ("mirror", None),
    "glass": ("glass", None),
}

FAMILIES: dict[str, list[str]] = json.loads(package_text("data/scenes/families.json"))
"""What a surface may be made of: patterns of `grey_pattern`, or "photo"."""


@dataclass(frozen=True)
class Material:
    """A slot, and for an atlas the cell (row-major) inside it."""

    slot: str
    cell: int | None = None


@dataclass
class Wardrobe:
    """The materials of one scene. If more are requested than there are slots, they share slots."""

    rng: np.random.Generator
    tiles: dict[str, np.ndarray] = field(default_factory=dict)
    cells: dict[str, list[np.ndarray]] = field(default_factory=dict)
    families: dict[tuple[str, str], list[Material]] = field(default_factory=dict)
    models: Library | None = None
    worn: dict[int, Material] = field(default_factory=dict)  # the models of the library in this scene, by number

    def large(self, family: str, gloss: bool = False) -> Material:
        """A repeating texture for a surface of metres."""
        names = [name for name in SLOTS if name.startswith("gloss" if gloss else "tile")]
        free = [name for name in names if name not in self.tiles]
        if free:
            self.tiles[free[0]] = worn_down(self.rng, paint(self.rng, family, TILE))
            material = Material(free[0])
            self.families.setdefault(("large", family), []).append(material)
            return material
        known = self.families.get(("large", family))
        return (
            known[int(self.rng.integers(len(known)))] if known else Material(names[int(self.rng.integers(len(names)))])
        )

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

    def model(self, roles: tuple[str, ...]) -> tuple[Model, Material] | None:
        """A model of the library in one of these roles, in colours near its own; often one that is there already."""
        numbers = self.models.roles(*roles) if self.models else []
        if self.models is None or not numbers:
            return None
        known = [number for number in numbers if number in self.worn]
        slot = "model1" if self.rng.random() < 0.35 else "model0"
        full = len(self.cells.setdefault(slot, [])) == CELLS * CELLS
        if known and (full or self.rng.random() < 0.5):
            number = known[int(self.rng.integers(len(known)))]
            return self.models.get(number), self.worn[number]
        number = numbers[int(self.rng.integers(len(numbers)))]
        if full and number not in self.worn:
            return None
        model = self.models.get(number)
        if number not in self.worn:
            self.worn[number] = Material(slot, len(self.cells[slot]))
            image = model.image[..., self.rng.permutation(3)] if self.rng.random() < 0.12 else model.image
            gain = np.exp(self.rng.normal(0, 0.12, 3) + self.rng.normal(0, 0.2))
            table = np.clip(linear(np.linspace(0, 1, 256)[:, None]) * gain, 0.02, 0.9).astype(np.float32)
            self.cells[slot].append(np.stack([table[:, c][image[..., c]] for c in range(3)], axis=-1))
        return model, self.worn[number]

    def model_names(self) -> tuple[str, ...]:
        """The models in this scene."""
        return tuple(self.models.entries[number].name for number in self.worn) if self.models else ()

    def textures(self) -> dict[str, np.ndarray]:
        """slot -> linear reflectance float32 (S,S,3) of every slot that the scene uses and that has a texture."""
        result = dict(self.tiles)
        for name, cells in self.cells.items():
            if not cells:
                continue
            side = SIDES[SLOTS[name][1] or ""] // CELLS
            atlas = np.full((CELLS * side, CELLS * side, 3), 0.5, np.float32)
            for k, cell in enumerate(cells):
                row, column = divmod(k, CELLS)
                atlas[row * side : (row + 1) * side, column * side : (column + 1) * side] = cell
            result[name] = atlas
        return result


def atlas_uv(uv: np.ndarray, material: Material) -> np.ndarray:
    """Texture coordinates (V,2) as the slot wants them: a cell's own part of the atlas, or as they are."""
    if material.cell is None:
        return uv
    if SLOTS[material.slot][1] == "models":  # inside their image already
        row, column = divmod(material.cell, CELLS)
        return ((uv + [column, row]) / CELLS).astype(np.float32)
    return cell_uv(uv, material.cell)


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
        hue, saturation, value = (
            rng.choice([0.25, 0.1, 0.08]) + rng.normal(0, 0.03),
            rng.uniform(0.05, 0.6),
            rng.uniform(0.2, 0.8),
        )
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
        image = photo_crop(int(rng.integers(photo_count())))
        if rng.random() < 0.5:
            image = image[:, ::-1]
        gain = np.exp(rng.normal(0, 0.15, 3)) * rng.uniform(0.75, 1.3)
        table = np.clip(linear(np.linspace(0, 1, 256)[:, None] ** rng.uniform(0.8, 1.3)) * gain, 0.02, 0.9)
        channels = [table[:, c].astype(np.float32)[_cut(rng, image[..., c], size)] for c in range(3)]
        return np.stack(channels, axis=-1) if family != "wall" else np.stack(channels, axis=-1) * 0.5 + 0.3
    base = random_colour(rng, family)
    if kind == "plain":
        return np.broadcast_to(np.clip(linear(base), 0.02, 0.9).astype(np.float32), (size, size, 3)).copy()
    grey = _cut(rng, grey_pattern(kind, int(rng.integers(10))), size)
    other = random_colour(rng, family)
    strength = {"plaster": 0.15, "carpet": 0.5, "asphalt": 0.5, "wood": 0.6, "paper": 0.6}.get(kind, 0.9) * rng.uniform(
        0.4, 1.0
    )
    ends = np.stack(
        [base + strength * (other - base), base * (1 - 0.5 * strength), base, base + 0.4 * strength * (1 - base)]
    )
    if kind in ("windows", "text", "brick", "tiles", "cobbles", "checker"):
        ends[0] = other
    palette = np.stack([np.interp(np.linspace(0, 1, 256), [0.0, 0.3, 0.65, 1.0], ends[:, c]) for c in range(3)], -1)
    return np.clip(linear(np.clip(palette, 0, 1)), 0.02, 0.9)[grey]


def worn_down(rng: np.random.Generator, texture: np.ndarray) -> np.ndarray:
    """A texture (TILE,TILE,3) with stains and wear at all scales, as no large surface is even."""
    stains = grey_pattern("cloud", int(rng.integers(10))).astype(np.float32) / 255 - 0.5
    grain = grey_pattern("plaster", int(rng.integers(10))).astype(np.float32) / 255 - 0.5
    weight = rng.uniform(0.0, 0.35) * stains + rng.uniform(0.0, 0.25) * grain
    return np.clip(texture * np.exp(weight)[..., None], 0.02, 0.9)


def _cut(rng: np.random.Generator, pattern: np.ndarray, size: int) -> np.ndarray:
    if size == pattern.shape[0]:
        return pattern
    step = 2 if rng.random() < 0.5 else 1
    top, left = rng.integers(0, pattern.shape[0] - size * step + 1, 2)
    return pattern[top : top + size * step : step, left : left + size * step : step]
