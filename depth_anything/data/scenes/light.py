"""Light: skies and lamps, smoothing, and the development of the photograph. Colours are linear until `develop`."""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from depth_anything.data.scenes.materials import hsv
from depth_anything.data.scenes.patterns import fractal_noise

SKY_ROWS, SKY_COLUMNS = 64, 128


@dataclass
class Light:
    """Colours are linear. sky_top and sky_low (3,) fade into each other; clouds 0..1; sun points to the light."""

    sky_top: np.ndarray
    sky_low: np.ndarray
    clouds: float
    sun: np.ndarray
    sun_colour: np.ndarray
    lamps: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    fog: float = 0.0  # 1/metres
    fill: float = 1.0  # how much of the ambient light there is: little makes deep shadows


def daylight(rng: np.random.Generator, fog: tuple[float, float, float] | None = None) -> Light:
    """A clear, cloudy, overcast, low-sun or dusky sky. fog: its probability, and between which metres one sees."""
    kind = rng.choice(["clear", "cloudy", "overcast", "low", "dusk"], p=[0.34, 0.28, 0.2, 0.12, 0.06])
    azimuth, height = rng.uniform(0, 2 * np.pi), rng.uniform(0.35, 1.3)
    top, low = (
        hsv(rng.normal(0.59, 0.02), rng.uniform(0.35, 0.75), rng.uniform(0.5, 0.9)),
        hsv(0.57, rng.uniform(0.05, 0.4), 0.95),
    )
    sun, clouds = np.array([1.0, 0.95, 0.88]) * rng.uniform(3.0, 8.0), rng.uniform(0.0, 0.3)
    if kind == "cloudy":
        clouds, sun = rng.uniform(0.4, 0.9), sun * rng.uniform(0.2, 0.8)
    elif kind == "overcast":
        grey = hsv(0.58, rng.uniform(0, 0.12), rng.uniform(0.7, 1.0))
        top, low, clouds, sun = grey * rng.uniform(0.7, 1.0), grey, rng.uniform(0.2, 1.0), sun * rng.uniform(0.0, 0.06)
    elif kind == "low":
        height, low = rng.uniform(0.08, 0.3), hsv(rng.uniform(0.03, 0.12), rng.uniform(0.2, 0.6), 1.0)
        sun = np.array([1.0, 0.7, 0.42]) * rng.uniform(2.0, 5.0)
    elif kind == "dusk":
        top, low, sun = hsv(0.64, 0.6, 0.12), hsv(rng.uniform(0.55, 0.95), 0.4, 0.3), sun * 0.02
    direction = np.array([np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)])
    light = Light(top**2.2, low**2.2, float(clouds), direction, sun, fill=rng.uniform(0.35, 1.1))
    if fog and rng.random() < fog[0]:
        light.fog = 1.0 / rng.uniform(*fog[1:])
    return light


def lamp_colour(rng: np.random.Generator) -> np.ndarray:
    """Warm to cool white."""
    return np.array([1.0, rng.uniform(0.78, 1.0), rng.uniform(0.5, 1.05)])


def indoor_light(
    rng: np.random.Generator, wide: float, deep: float, height: float, eye: np.ndarray | None = None
) -> Light:
    """A bright sky behind the camera and two lamps under the ceiling, on a table, or one of them the flash at `eye`."""
    light = daylight(rng)
    light.sun_colour = light.sun_colour * (rng.random() < 0.5)
    light.fill = float(np.exp(rng.uniform(np.log(0.15), np.log(1.2))))
    power = float(np.exp(rng.uniform(np.log(0.3), np.log(5.0))))
    for number in range(2):
        at = np.array([rng.uniform(-0.4, 0.4) * wide, rng.uniform(0.1, 0.9) * deep, height - rng.uniform(0.15, 0.6)])
        if number and rng.random() < 0.25:
            at[2] = rng.uniform(0.9, 1.6)
        light.lamps.append((at, lamp_colour(rng) * power * rng.uniform(0.1, 1.0) ** 2))
    if eye is not None and rng.random() < 0.12:
        light.lamps[1] = (eye + [0.04, 0.0, 0.06], np.array([0.95, 1.0, 1.05]) * power * rng.uniform(0.8, 3.0))
        light.fill *= 0.5
    return light


def ambient_light(light: Light) -> np.ndarray:
    """Radiance (3,) that lights surfaces out of sight: part of the sky's, the sun's and the lamps' scattered light."""
    sky = 0.5 * (light.sky_top + light.sky_low)
    if light.lamps:
        return light.fill * (0.12 * sky + sum(power for _, power in light.lamps) * 0.02)
    return light.fill * (0.4 * sky + 0.02 * light.sun_colour)


@lru_cache(maxsize=16)
def _clouds(variant: int) -> np.ndarray:
    return fractal_noise(np.random.default_rng([0xC10D, variant]), 1.5, (2.0, 1.0))


def sky_image(light: Light, seed: int) -> np.ndarray:
    """The sky all round, float32 (SKY_ROWS, SKY_COLUMNS, 3), row 0 straight up; the lower half is dim ground."""
    rng = np.random.default_rng([seed, 0x5C1])
    up = np.cos((np.arange(SKY_ROWS) + 0.5) / SKY_ROWS * np.pi)[:, None, None]
    sky = light.sky_low + (light.sky_top - light.sky_low) * np.clip(up, 0, 1) ** 0.5
    noise = _clouds(int(rng.integers(16)))[:: 256 // SKY_ROWS, :: 256 // SKY_COLUMNS]
    cover = np.clip((np.roll(noise, int(rng.integers(SKY_COLUMNS)), axis=1) + 2.2 * light.clouds - 1.2) * 1.2, 0, 1)[
        ..., None
    ]
    white = np.clip(light.sky_low.max() * (1.05 - 0.3 * cover), 0, 2)
    sky = sky + np.clip(up * 3, 0, 1) * cover * (white - sky)
    return np.where(up > 0, sky, light.sky_low * 0.35).astype(np.float32)


def develop(rng: np.random.Generator, linear: np.ndarray, sky: np.ndarray) -> np.ndarray:
    """Linear light (H,W,3) to sRGB uint8 as a camera does: white balance, automatic exposure, tone curve, gamma.

    The exposure is for what is not sky (H,W); a bright sky may burn out, as in photographs. The curve makes the shadows
    as deep and the contrast as strong as photographs have them (scenes.md has the figures).
    """
    warmth = rng.normal(0, 0.08)
    cast = np.exp(rng.normal(0, 0.05, 3) + np.array([warmth, 0.0, -warmth]))
    linear = np.clip(np.nan_to_num(linear), 0, None) * cast
    y, x = (np.mgrid[0 : sky.shape[0], 0 : sky.shape[1]] + 0.5) / np.array(sky.shape)[:, None, None] - 0.5
    linear = linear * (1 - rng.uniform(0.0, 0.5) * (x**2 + y**2))[..., None]
    light = linear.mean(axis=-1)
    shown = light[~sky] if (~sky).mean() > 0.1 else light
    black, middle, bright = np.percentile(shown, [1, 50, 95])
    black = min(rng.uniform(0.2, 1.0) * black, 0.6 * middle)
    linear, middle, bright = np.maximum(linear - black, 0), middle - black, bright - black
    curve = rng.uniform(1.0, 1.5)
    exposure = min(
        np.exp(rng.normal(np.log(0.17), 0.4)) / max(middle, 1e-6),
        (rng.uniform(1.5, 4.0) if rng.random() < 0.5 else rng.uniform(0.9, 1.8)) / max(bright, 1e-6),
    )
    if sky.mean() > 0.05:
        exposure = min(exposure, rng.uniform(0.45, 1.5) / max(np.median(light[sky]), 1e-6))
    level = np.clip(middle * exposure, 0.02, 0.6)
    value = level * (linear * (exposure / level)) ** curve
    grey = value.mean(axis=-1, keepdims=True)
    value = np.maximum(grey + rng.uniform(0.45, 1.15) * (value - grey), 0)
    value = np.where(value < 0.6, value, 0.6 + 0.4 * (1 - np.exp(-(value - 0.6) / 0.4)))
    srgb = np.where(value <= 0.0031308, 12.92 * value, 1.055 * np.power(np.maximum(value, 1e-9), 1 / 2.4) - 0.055)
    return (np.clip(srgb, 0, 1) * 255 + 0.5).astype(np.uint8)


def smooth(light: np.ndarray, points: np.ndarray, normals: np.ndarray, z: np.ndarray, matt: np.ndarray) -> np.ndarray:
    """Average light (H,W,3) over neighbours on the same surface, with growing steps (1, 2, 4 pixels), where matt (H,W).

    Two pixels are on one surface when each is in the other's tangent plane and their normals agree.
    """
    normals = normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-6)
    points = np.where(matt[..., None], points, 0.0)
    height, width = z.shape
    for step in (1, 2, 4):
        total, weights = light.copy(), np.ones((height, width, 1), np.float32)
        for dy, dx in ((0, step), (step, 0), (step, step), (step, -step)):
            a = (slice(0, height - dy), slice(max(0, -dx), width - max(0, dx)))
            b = (slice(dy, height), slice(max(0, dx), width + min(0, dx)))
            away = points[b] - points[a]
            near = np.minimum(z[a], z[b])
            off = np.abs(np.einsum("ijk,ijk->ij", normals[a] + normals[b], away)) / near
            agree = np.clip(np.einsum("ijk,ijk->ij", normals[a], normals[b]), 0, 1) ** 8
            w = (np.where(matt[a] & matt[b], agree, 0.0) * np.exp(-off * 60.0))[..., None].astype(np.float32)
            total[a] += w * light[b]
            total[b] += w * light[a]
            weights[a] += w
            weights[b] += w
        light = total / weights
    return light
