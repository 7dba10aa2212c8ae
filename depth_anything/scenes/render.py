"""Scenes to labelled pictures with Mitsuba 3, and to shards.

Mitsuba compiles a kernel for every new scene, which takes a second. So there is one stage for each process: a scene with a
fixed set of materials, lights and one camera, into which each scene's meshes, textures and numbers are loaded. Then the
compiled kernel is found again, and a picture of 256 x 192 at 4 samples takes about 0.15 s of one core. That is fast enough
for training, so there is no second renderer. One thread for each process: sums keep their order, and bytes repeat.
"""

import io
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..data.shards import read_shard, write_shard
from .layout import Light, Scene, make_scene
from .materials import CELL, CELLS, SLOTS, TILE, cell_uv, fractal_noise
from .objects import CLASSES

GENERATOR = 1  # raised whenever a change makes other pictures from the same seed
SKY_ROWS, SKY_COLUMNS = 64, 128
R2 = [0.7548776662466927, 0.5698402909980532]  # the plane's golden ratio: steps of an even sequence


@dataclass(frozen=True)
class Rendered:
    """One labelled picture.

    image uint8 (H,W,3); disparity float32 (H,W), 1/metres along the camera axis at pixel centres, 0 in the sky;
    sky bool (H,W); classes uint8 (H,W), an index into CLASSES; K (3,3); pose (4,4), camera to world in metres,
    camera axes x right, y down, z forward. Every pixel is valid. Glass and mirrors carry their own surface.
    """

    image: np.ndarray
    disparity: np.ndarray
    sky: np.ndarray
    classes: np.ndarray
    K: np.ndarray
    pose: np.ndarray
    seed: int
    kind: str


def load_mitsuba() -> Any:
    """The mitsuba module with the LLVM variant set, or ValueError that says what to install."""
    if "DRJIT_LIBLLVM_PATH" not in os.environ and sys.platform == "linux":
        # Debian writes libLLVM-18.so.1 and libLLVM.so.19.1: the first number is the version.
        libraries = [path for path in Path("/usr/lib").glob("*-linux-gnu/libLLVM*.so*") if re.search(r"\d", path.name)]
        found = sorted(libraries, key=lambda path: int(re.findall(r"\d+", path.name)[0]))
        if not found:
            raise ValueError("rendering needs the LLVM library and found none: install the Debian package libllvm19 (or set DRJIT_LIBLLVM_PATH)")
        os.environ["DRJIT_LIBLLVM_PATH"] = str(found[-1])
    try:
        import drjit
        import mitsuba
    except ImportError:
        raise ValueError('rendering needs Mitsuba 3: pip install "depth-anything[render]"') from None
    try:
        mitsuba.set_variant("llvm_ad_rgb")
        drjit.set_thread_count(1)
        drjit.eval(drjit.llvm.Float(0.0))
    except Exception as error:
        place = os.environ.get("DRJIT_LIBLLVM_PATH")
        raise ValueError(f"Mitsuba cannot use the LLVM library ({place}): install the Debian package libllvm19") from error
    return mitsuba


class Stage:
    """The one Mitsuba scene of a process; `render` loads a Scene into it and makes the labelled picture."""

    def __init__(self, size: tuple[int, int], spp: int):
        """size is (width, height) in pixels; spp is samples for each pixel."""
        self.mi = mi = load_mitsuba()
        self.size, self.spp = size, spp
        upright = mi.ScalarTransform4f().rotate([1, 0, 0], 90)
        sky = mi.Bitmap(np.ones((SKY_ROWS, SKY_COLUMNS, 3), np.float32))
        description: dict[str, Any] = {"type": "scene", "sky": {"type": "envmap", "bitmap": sky, "to_world": upright}}
        for name in SLOTS:
            description[name] = self._slot(name)
        self.scene = mi.load_dict(description)
        self.params = mi.traverse(self.scene)
        self.textures = {
            name: next(key for key in self.params.keys() if key.startswith(f"{name}.") and key.endswith(".data"))  # noqa: SIM118
            for name, (_, texture) in SLOTS.items()
            if texture
        }
        self.numbers = {self._number(mi.ShapePtr(shape))[0]: shape.id() for shape in self.scene.shapes()}

    def _number(self, pointer: Any) -> np.ndarray:
        import drjit

        return drjit.reinterpret_array(self.mi.UInt32, pointer).numpy()

    def _slot(self, name: str) -> Any:
        mi = self.mi
        scatter, texture = SLOTS[name]
        side = TILE if texture == "tile" else CELLS * CELL
        bitmap = {"type": "bitmap", "bitmap": mi.Bitmap(np.full((side, side, 3), 0.5, np.float32)), "raw": True}
        kinds: dict[str, dict[str, Any]] = {
            "diffuse": {"type": "diffuse", "reflectance": bitmap},
            "plastic": {"type": "roughplastic", "diffuse_reflectance": bitmap, "alpha": 0.12},
            "metal": {"type": "roughconductor", "alpha": 0.25, "specular_reflectance": bitmap},
            "mirror": {"type": "conductor"},
            "glass": {"type": "thindielectric"},
        }
        bsdf = kinds[scatter] if scatter == "glass" else {"type": "twosided", "bsdf": kinds[scatter]}
        properties = mi.Properties()
        properties["bsdf"] = mi.load_dict(bsdf)
        return mi.Mesh(name, 3, 1, has_vertex_normals=True, has_vertex_texcoords=True, props=properties)

    def render(self, scene: Scene) -> Rendered | None:
        """The labelled picture, or None when the camera sees nothing that a person would photograph."""
        width, height = self.size
        labels = self._load(scene)
        z, classes = self._cast(scene, labels)
        sky = ~np.isfinite(z)
        disparity = np.where(sky, 0.0, 1.0 / z).astype(np.float32)
        if not _worth_it(disparity, classes):
            return None
        rng = np.random.default_rng([scene.seed, 0xDE7E10])
        linear = self._shade(scene, rng, z, classes)
        if scene.light.fog:
            clear = np.exp(-scene.light.fog * np.where(sky, 2000.0, z))[..., None]
            haze = 0.5 * (scene.light.sky_low + scene.light.sky_low.mean()) + 0.05 * scene.light.sun_colour.mean()
            linear = clear * linear + (1 - clear) * haze
        image = develop(rng, linear, sky)
        camera = scene.camera
        return Rendered(image, disparity, sky, classes, camera.intrinsics(width, height), camera.pose(), scene.seed, scene.kind)

    def _load(self, scene: Scene) -> dict[str, np.ndarray]:
        """Put a scene on the stage; returns the class number of every face of every slot."""
        mi, params = self.mi, self.params
        labels = {}
        for name in SLOTS:
            parts = [part for part in scene.parts if part.material.slot == name]
            meshes = [part.mesh for part in parts]
            # An empty slot keeps a grain far below everything.
            vertices = [mesh.vertices for mesh in meshes] or [np.eye(3) * 1e-3 - [0, 0, 9e3]]
            uv = [mesh.uv if part.material.cell is None else cell_uv(mesh.uv, part.material.cell) for part, mesh in zip(parts, meshes, strict=True)]
            starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
            faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)] or [np.array([[0, 1, 2]])]
            params[f"{name}.vertex_positions"] = np.concatenate(vertices).astype(np.float32).ravel()
            params[f"{name}.faces"] = np.concatenate(faces).astype(np.uint32).ravel()
            params[f"{name}.vertex_texcoords"] = np.concatenate(uv or [np.zeros((3, 2))]).astype(np.float32).ravel()
            numbers = [np.full(len(part.mesh.faces), CLASSES.index(part.label), np.uint8) for part in parts]
            labels[name] = np.concatenate(numbers or [np.zeros(1, np.uint8)])
        for name, texture in scene.wardrobe.textures().items():
            params[self.textures[name]] = mi.TensorXf(np.ascontiguousarray(texture, np.float32))
        params["sky.data"] = mi.TensorXf(_padded(sky_picture(scene.light, scene.seed), params["sky.data"].shape))
        params.update()
        return labels

    def _cast(self, scene: Scene, labels: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """z (H,W) in metres (inf in the sky) and classes (H,W), along one ray through each pixel centre.

        A ray's direction has length 1 along the camera axis, so its parameter t at the hit is z.
        """
        mi, (width, height) = self.mi, self.size
        directions = scene.camera.rays(width, height).astype(np.float32)
        origin = mi.Point3f(*map(float, scene.camera.position))
        ray = mi.Ray3f(origin, mi.Vector3f(np.ascontiguousarray(directions.T)))
        hit = self.scene.ray_intersect_preliminary(ray)
        z, face, shape = hit.t.numpy(), hit.prim_index.numpy(), self._number(hit.shape)
        classes = np.zeros(len(z), np.uint8)
        for number, name in self.numbers.items():
            here = (shape == number) & np.isfinite(z)
            classes[here] = labels[name][face[here]]
        return z.reshape(height, width), classes.reshape(height, width)

    def _shade(self, scene: Scene, rng: np.random.Generator, z: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Linear light (H,W,3): sun and lamps with shadows, and one bounce that sees the sky or a surface lit without shadows.

        Every light is asked at every hit, so the only noise is that of the bounce, and that is smoothed before it meets the
        texture. A path tracer that picks one light at a time needs many times the samples in a room.
        """
        import drjit as dr

        mi, (width, height), spp, light = self.mi, self.size, self.spp, scene.light
        pixels = width * height
        shift, step = rng.random((4, pixels, 1), np.float32), np.arange(spp, dtype=np.float32)
        # R2 sequences: each pixel's samples are spread evenly, with another start for each pixel.
        u = ((shift + step * np.array(R2 * 2, np.float32)[:, None, None]) % 1.0).reshape(4, -1)
        axes, k = scene.camera.axes(), scene.camera.intrinsics(width, height)

        def colour(value: np.ndarray) -> Any:
            return mi.Color3f(*[dr.opaque(mi.Float, float(v)) for v in value])

        def point(value: np.ndarray) -> Any:
            return mi.Point3f(*[dr.opaque(mi.Float, float(v)) for v in value])

        lamps = [(point(at), colour(power)) for at, power in light.lamps]
        sunny = bool(light.sun_colour.max() > 0)
        sun, sunlight = mi.Vector3f(point(light.sun)), colour(light.sun_colour)
        ambient = colour(ambient_light(light))
        sky = self.scene.environment()

        pixel = dr.arange(mi.UInt32, pixels * spp) // spp
        across = (mi.Float(pixel % width) + mi.Float(u[0]) - k[0, 2]) * dr.opaque(mi.Float, 1 / k[0, 0])
        down = (mi.Float(pixel // width) + mi.Float(u[1]) - k[1, 2]) * dr.opaque(mi.Float, 1 / k[1, 1])
        direction = dr.normalize(across * point(axes[0]) + down * point(axes[1]) + point(axes[2]))
        ray = mi.Ray3f(point(scene.camera.position), mi.Vector3f(direction))
        hit = self.scene.ray_intersect(ray, mi.RayFlags.All, True)
        seen = hit.is_valid()
        bsdf = hit.bsdf()
        albedo = bsdf.eval_diffuse_reflectance(hit, seen)
        normal = dr.select(dr.dot(hit.sh_frame.n, ray.d) > 0, -hit.sh_frame.n, hit.sh_frame.n)
        direct = mi.Color3f(0.0)
        if sunny:
            facing = dr.maximum(dr.dot(normal, sun), 0.0)
            dark = self.scene.ray_test(hit.spawn_ray(sun), seen & (facing > 0))
            direct += dr.select(dark, 0.0, facing) * sunlight
        for at, power in lamps:
            away = at - hit.p
            squared = dr.squared_norm(away)
            facing = dr.maximum(dr.dot(normal, away) * dr.rsqrt(squared), 0.0)
            dark = self.scene.ray_test(hit.spawn_ray_to(at), seen & (facing > 0))
            direct += dr.select(dark, 0.0, facing / dr.maximum(squared, 0.04)) * power
        light_1 = albedo * direct / dr.pi

        sample, weight = bsdf.sample(mi.BSDFContext(), hit, mi.Float(u[3]), mi.Point2f(u[2], u[3]), seen)
        bounce = hit.spawn_ray(hit.to_world(sample.wo))
        hit_2 = self.scene.ray_intersect(bounce, seen)
        normal_2 = dr.select(dr.dot(hit_2.sh_frame.n, bounce.d) > 0, -hit_2.sh_frame.n, hit_2.sh_frame.n)
        around = mi.Color3f(ambient)
        if sunny:
            around += dr.maximum(dr.dot(normal_2, sun), 0.0) * 0.4 / dr.pi * sunlight
        for at, power in lamps:
            away = at - hit_2.p
            squared = dr.squared_norm(away)
            around += dr.maximum(dr.dot(normal_2, away) * dr.rsqrt(squared), 0.0) / dr.maximum(squared, 0.1) / dr.pi * power
        light_2 = dr.select(hit_2.is_valid(), hit_2.bsdf().eval_diffuse_reflectance(hit_2) * around, sky.eval(hit_2))
        own = dr.select(seen, light_1, sky.eval(hit))
        weight, light_2 = dr.select(seen, weight, 0.0), dr.select(seen, light_2, 0.0)
        dr.eval(own, weight, light_2, normal)

        def pixel_means(value: Any) -> np.ndarray:
            sums = [dr.block_sum(value[c], spp).numpy() for c in range(3)]
            return np.stack(sums, axis=-1).reshape(height, width, 3) / spp

        points = (scene.camera.rays(width, height).reshape(height, width, 3) * z[..., None]).astype(np.float32)
        matt = np.isfinite(z) & (classes != CLASSES.index("mirror")) & (classes != CLASSES.index("glass"))
        light_2 = smooth(pixel_means(light_2), points, pixel_means(normal), z, matt)
        return pixel_means(own) + pixel_means(weight) * light_2


def smooth(light: np.ndarray, points: np.ndarray, normals: np.ndarray, z: np.ndarray, matt: np.ndarray) -> np.ndarray:
    """Average light (H,W,3) over neighbours on the same surface, with growing steps (1, 2, 4 pixels), where matt (H,W).

    Two pixels are on one surface when each lies in the other's tangent plane and their normals agree.
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


def ambient_light(light: Light) -> np.ndarray:
    """Radiance (3,) that surfaces out of sight are lit with: part of the sky, the sun's and the lamps' scattered light."""
    sky = 0.5 * (light.sky_top + light.sky_low)
    if light.lamps:
        return 0.15 * sky + sum(power for _, power in light.lamps) * 0.02
    return 0.45 * sky + 0.02 * light.sun_colour


def _worth_it(disparity: np.ndarray, classes: np.ndarray) -> bool:
    """Whether nothing blocks the lens, the sky leaves something to see, and there is some depth."""
    near, far = np.percentile(disparity, [98, 5])
    share = np.bincount(classes.ravel(), minlength=len(CLASSES)) / classes.size
    return bool(near < 4.5 and disparity.max() < 12 and share[0] < 0.7 and near > 1.25 * far + 1e-3 and share.max() < 0.93)


def _padded(picture: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Mitsuba keeps an environment with its first column repeated at the end."""
    extra = shape[1] - picture.shape[1]
    return np.ascontiguousarray(np.concatenate([picture, picture[:, :extra]], axis=1), np.float32)


@lru_cache(maxsize=16)
def _clouds(variant: int) -> np.ndarray:
    return fractal_noise(np.random.default_rng([0xC10D, variant]), 1.5, (2.0, 1.0))


def sky_picture(light: Light, seed: int) -> np.ndarray:
    """The sky all round as linear float32 (SKY_ROWS, SKY_COLUMNS, 3), row 0 straight up; the lower half is dim ground."""
    rng = np.random.default_rng([seed, 0x5C1])
    up = np.cos((np.arange(SKY_ROWS) + 0.5) / SKY_ROWS * np.pi)[:, None, None]
    sky = light.sky_low + (light.sky_top - light.sky_low) * np.clip(up, 0, 1) ** 0.5
    noise = _clouds(int(rng.integers(16)))[:: 256 // SKY_ROWS, :: 256 // SKY_COLUMNS]
    cover = np.clip((np.roll(noise, int(rng.integers(SKY_COLUMNS)), axis=1) + 2.2 * light.clouds - 1.2) * 1.2, 0, 1)[..., None]
    white = np.clip(light.sky_low.max() * (1.05 - 0.3 * cover), 0, 2)
    sky = sky + np.clip(up * 3, 0, 1) * cover * (white - sky)
    return np.where(up > 0, sky, light.sky_low * 0.35).astype(np.float32)


def develop(rng: np.random.Generator, linear: np.ndarray, sky: np.ndarray) -> np.ndarray:
    """Linear light (H,W,3) to sRGB uint8 as a camera does: white balance, automatic exposure, a soft shoulder, gamma.

    The exposure is for what is not sky (H,W); a bright sky may burn out, as in photographs.
    """
    linear = np.clip(np.nan_to_num(linear), 0, None) * np.exp(rng.normal(0, 0.06, 3))
    light = linear.mean(axis=-1)
    middle, bright = np.percentile(light[~sky] if (~sky).mean() > 0.1 else light, [50, 95])
    exposure = min(np.exp(rng.normal(np.log(0.24), 0.35)) / max(middle, 1e-6), rng.uniform(0.9, 1.8) / max(bright, 1e-6))
    if sky.mean() > 0.05:
        exposure = min(exposure, rng.uniform(1.0, 3.5) / max(np.median(light[sky]), 1e-6))
    value = linear * exposure
    value = np.where(value < 0.6, value, 0.6 + 0.4 * (1 - np.exp(-(value - 0.6) / 0.4)))
    srgb = np.where(value <= 0.0031308, 12.92 * value, 1.055 * np.power(np.maximum(value, 1e-9), 1 / 2.4) - 0.055)
    return (np.clip(srgb, 0, 1) * 255 + 0.5).astype(np.uint8)


@lru_cache(maxsize=1)
def _stage(size: tuple[int, int], spp: int) -> Stage:
    return Stage(size, spp)


def render_scene(seed: int, size: tuple[int, int] = (256, 192), spp: int = 4) -> Rendered:
    """The labelled picture of a seed; size is (width, height).

    A seed whose camera sees nothing worth a photograph goes on to its next attempt, always the same one.
    """
    stage = _stage(size, spp)
    for attempt in range(100):
        rendered = stage.render(make_scene(seed, attempt))
        if rendered is not None:
            return rendered
    raise AssertionError(f"seed {seed}: no attempt gave a picture")


def encode(rendered: Rendered) -> dict[str, bytes]:
    """The members of one sample in a scene shard."""
    from PIL import Image

    def picture(array: np.ndarray, format: str, **options: Any) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, format, **options)
        return buffer.getvalue()

    numbers = io.BytesIO()
    np.savez_compressed(numbers, disparity=rendered.disparity)
    about = {
        "K": rendered.K.tolist(),
        "pose": rendered.pose.tolist(),
        "seed": rendered.seed,
        "kind": rendered.kind,
        "classes": list(CLASSES),
        "generator": GENERATOR,
    }
    return {
        "rgb.jpg": picture(rendered.image, "JPEG", quality=90),
        "disparity.npz": numbers.getvalue(),
        "valid.png": picture(np.full(rendered.sky.shape, 255, np.uint8), "PNG"),
        "sky.png": picture(rendered.sky.astype(np.uint8) * 255, "PNG"),
        "class.png": picture(rendered.classes, "PNG"),
        "json": json.dumps(about).encode(),
    }


def _render_shard(job: tuple[Path, int, int, tuple[int, int], int]) -> int:
    """One shard, whole, in this process: seeds first .. first + count - 1."""
    path, first, count, size, spp = job

    def samples() -> Iterator[tuple[str, dict[str, bytes]]]:
        for seed in range(first, first + count):
            yield f"{seed:09d}", encode(render_scene(seed, size, spp))

    write_shard(path, samples())
    return count


def render_shards(out: str | os.PathLike, count: int, seed: int = 0, size: tuple[int, int] = (256, 192), spp: int = 4,
                  processes: int | None = None, shard_size: int = 256, progress: bool = True) -> list[Path]:  # fmt: skip
    """Render the seeds seed .. seed + count - 1 into `scenes-{index:05d}.tar` under out; returns their paths.

    Shards that are there already are kept, so a stopped run goes on where it was; the bytes do not depend on the number of
    processes (default: one for each core). Same seed, machine and versions: same bytes.
    """
    import multiprocessing

    from tqdm import tqdm

    if count < 1 or shard_size < 1 or spp < 1 or min(size) < 16:
        raise ValueError(f"count {count}, shard_size {shard_size}, spp {spp}, size {size}: expected positive numbers and a size of at least 16 x 16")
    load_mitsuba()
    out = Path(out)
    jobs = [
        (out / f"scenes-{index:05d}.tar", seed + start, min(shard_size, count - start), size, spp)
        for index, start in enumerate(range(0, count, shard_size))
    ]
    missing = [job for job in jobs if not job[0].exists()]
    workers = min(processes or os.cpu_count() or 1, max(1, len(missing)))
    with tqdm(total=count, initial=count - sum(job[2] for job in missing), unit="scene", disable=not progress) as bar:
        if missing:
            with multiprocessing.get_context("spawn").Pool(workers) as pool:
                for done in pool.imap_unordered(_render_shard, missing):
                    bar.update(done)
    return [job[0] for job in jobs]


def contact_sheet(folder: str | os.PathLike, path: str | os.PathLike, count: int = 40) -> None:
    """A PNG of the first `count` scenes of a folder of shards, each picture beside its disparity (near is warm, sky black)."""
    from PIL import Image

    tiles: list[np.ndarray] = []
    for shard in sorted(Path(folder).glob("scenes-*.tar")):
        for _, members in read_shard(shard):
            image = np.asarray(Image.open(io.BytesIO(members["rgb.jpg"])))
            disparity = np.load(io.BytesIO(members["disparity.npz"]))["disparity"]
            level = np.clip(disparity / max(float(np.percentile(disparity, 98)), 1e-9), 0, 1)[..., None]
            colour = 255 * np.concatenate([level, np.sin(np.pi * level) * 0.9, 1 - level], -1) * (disparity[..., None] > 0)
            tiles.append(np.concatenate([image, colour.astype(np.uint8)], axis=1))
            if len(tiles) == count:
                break
        if len(tiles) == count:
            break
    if not tiles:
        raise ValueError(f"{folder}: no scene shards (scenes-*.tar) in it")
    columns = min(4, len(tiles))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[k : k + columns], axis=1) for k in range(0, len(tiles), columns)]
    temporary = Path(path).with_name(f".{Path(path).name}.tmp")
    Image.fromarray(np.concatenate(rows)).save(temporary, "PNG")
    os.replace(temporary, path)
