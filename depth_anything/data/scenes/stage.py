"""The stage: one Mitsuba scene for each process, into which every scene is loaded to be labelled and pictured.

Mitsuba compiles a kernel for every new scene, which takes a second. The stage has a fixed set of materials, and only
its meshes, textures and sky change, so the compiled kernel is found again: an image of 256 x 192 with 4 samples takes
0.15 s of one core. That is fast enough for training, so there is no second renderer.

One thread for each process: sums keep their order, and the bytes repeat.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from depth_anything.data.scenes import llvm
from depth_anything.data.scenes.light import SKY_COLUMNS, SKY_ROWS, ambient_light, develop, sky_image, smooth
from depth_anything.data.scenes.materials import SIDES, SLOTS, atlas_uv
from depth_anything.data.scenes.objects import CLASSES
from depth_anything.system.extras import EXTRA_OF, needs

if TYPE_CHECKING:
    from depth_anything.data.scenes.layout import Scene

Device = Literal["cpu", "cuda"]
R2 = [0.7548776662466927, 0.5698402909980532]  # the plane's golden ratio: steps of an even sequence


@dataclass(frozen=True)
class Rendered:
    """One labelled image.

    image uint8 (H,W,3); disparity float32 (H,W), 1/metres along the camera axis at pixel centres, 0 in the sky;
    sky bool (H,W); classes uint8 (H,W), an index into CLASSES; K (3,3); pose (4,4), camera to world in metres,
    camera axes x right, y down, z forward. Every pixel is valid. Glass and mirrors carry their own surface. models
    names the ready-made models in the scene.
    """

    image: np.ndarray
    disparity: np.ndarray
    sky: np.ndarray
    classes: np.ndarray
    K: np.ndarray
    pose: np.ndarray
    seed: int
    kind: str
    models: tuple[str, ...] = ()


def load_mitsuba(device: Device = "cpu") -> Any:
    """The mitsuba module with the variant of that device set, or ValueError that says what to install."""
    with needs(EXTRA_OF["mitsuba"], "rendering"):
        if importlib.util.find_spec("mitsuba") is None:
            raise ModuleNotFoundError(name="mitsuba")
        if device == "cpu":
            llvm.choose()  # before mitsuba is imported
        import drjit
        import mitsuba

    try:
        mitsuba.set_variant("cuda_ad_rgb" if device == "cuda" else "llvm_ad_rgb")
        drjit.set_thread_count(1)
        drjit.eval(drjit.cuda.Float(0.0) if device == "cuda" else drjit.llvm.Float(0.0))
    except Exception as error:
        if device == "cuda":
            raise ValueError("Mitsuba finds no NVIDIA GPU that it can use: render on the cpu") from error
        place = os.environ.get(llvm.PATH)
        raise ValueError(f"Mitsuba cannot use the LLVM library ({place}): {llvm.ADVICE}") from error
    return mitsuba


class Stage:
    """The one Mitsuba scene of a process; `render` loads a Scene into it and makes the labelled image."""

    def __init__(self, size: tuple[int, int], spp: int, device: Device = "cpu"):
        """size is (width, height) in pixels; spp is samples for each pixel."""
        self.mi = mi = load_mitsuba(device)
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

        numbers: Any = drjit.reinterpret_array(self.mi.UInt32, pointer)
        return numbers.numpy()

    def _slot(self, name: str) -> Any:
        mi = self.mi
        scatter, texture = SLOTS[name]
        side = SIDES[texture] if texture else 1
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
        """The labelled image, or None when the camera sees nothing that a person would photograph."""
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
        return Rendered(
            image,
            disparity,
            sky,
            classes,
            camera.intrinsics(width, height),
            camera.pose(),
            scene.seed,
            scene.kind,
            scene.wardrobe.model_names(),
        )

    def _load(self, scene: Scene) -> dict[str, np.ndarray]:
        """Put a scene on the stage; returns the class number of every face of every slot."""
        mi, params = self.mi, self.params
        labels = {}
        for name in SLOTS:
            parts = [part for part in scene.parts if part.material.slot == name]
            meshes = [part.mesh for part in parts]
            # An empty slot keeps a grain far below everything.
            vertices = [mesh.vertices for mesh in meshes] or [np.eye(3) * 1e-3 - [0, 0, 9e3]]
            uv = [atlas_uv(part.mesh.uv, part.material) for part in parts]
            starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
            faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)] or [np.array([[0, 1, 2]])]
            params[f"{name}.vertex_positions"] = np.concatenate(vertices).astype(np.float32).ravel()
            params[f"{name}.faces"] = np.concatenate(faces).astype(np.uint32).ravel()
            params[f"{name}.vertex_texcoords"] = np.concatenate(uv or [np.zeros((3, 2))]).astype(np.float32).ravel()
            numbers = [np.full(len(part.mesh.faces), CLASSES.index(part.label), np.uint8) for part in parts]
            labels[name] = np.concatenate(numbers or [np.zeros(1, np.uint8)])
        for name, texture in scene.wardrobe.textures().items():
            params[self.textures[name]] = mi.TensorXf(np.ascontiguousarray(texture, np.float32))
        params["sky.data"] = mi.TensorXf(_padded(sky_image(scene.light, scene.seed), params["sky.data"].shape))
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
        """Linear light (H,W,3): sun and lamps with shadows, and one bounce to the sky or a surface lit without shadows.

        Every light is sampled at every hit, so the only noise is that of the bounce, and that is smoothed before it
        meets the texture. A path tracer that picks one light at a time needs many times the samples in a room."""
        import drjit as dr

        mi, (width, height), spp, light = self.mi, self.size, self.spp, scene.light
        pixels = width * height
        shift, step = rng.random((4, pixels, 1), np.float32), np.arange(spp, dtype=np.float32)
        # R2 sequences: each pixel's samples are spread evenly, with another start for each pixel.
        u = ((shift + step * np.array(R2 * 2, np.float32)[:, None, None]) % 1.0).reshape(4, -1)
        axes, k = scene.camera.axes(), scene.camera.corner_intrinsics(width, height)

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
            around += (
                dr.maximum(dr.dot(normal_2, away) * dr.rsqrt(squared), 0.0) / dr.maximum(squared, 0.1) / dr.pi * power
            )
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


def _worth_it(disparity: np.ndarray, classes: np.ndarray) -> bool:
    """Whether nothing blocks the lens, the sky leaves something to see, and there is some depth."""
    near, far = np.percentile(disparity, [98, 5])
    share = np.bincount(classes.ravel(), minlength=len(CLASSES)) / classes.size
    return bool(
        near < 4.5 and disparity.max() < 12 and share[0] < 0.7 and near > 1.25 * far + 1e-3 and share.max() < 0.93
    )


def _padded(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Mitsuba keeps an environment with its first column repeated at the end."""
    extra = shape[1] - image.shape[1]
    return np.ascontiguousarray(np.concatenate([image, image[:, :extra]], axis=1), np.float32)
