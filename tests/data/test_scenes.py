"""Rendered scenes against closed forms (planes, boxes, a ball, a pane, a mirror), and shards against themselves."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from depth_anything.data.check import TILE
from depth_anything.data.scenes import furniture, landscapes, objects, people_animals_plants, towns
from depth_anything.data.scenes.cameras import Camera, hand_held
from depth_anything.data.scenes.layout import Scene, make_scene
from depth_anything.data.scenes.light import Light, develop
from depth_anything.data.scenes.materials import CELLS, SLOTS, Material, Wardrobe, cell_uv
from depth_anything.data.scenes.objects import CLASSES, Part
from depth_anything.data.scenes.patterns import TEXTURES, grey_pattern
from depth_anything.data.scenes.render import contact_sheet, finished_scenes, render_shards
from depth_anything.data.scenes.shapes import Mesh, ball, blob, box, cylinder, lathe, quad, tube
from depth_anything.data.scenes.stage import Stage
from depth_anything.data.shards import read_shard
from depth_anything.train import sources

SIZE = (64, 48)
TINY = {"count": 5, "seed": 7, "size": SIZE, "spp": 2, "shard_size": 2, "progress": False}


@pytest.fixture(scope="module")
def stage(renderer: None) -> Stage:
    return Stage(SIZE, 4)


@pytest.fixture(scope="module")
def rendered(renderer: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five scenes in three shards, made by one process without a break."""
    folder = tmp_path_factory.mktemp("scenes")
    render_shards(folder, processes=1, **TINY)
    return folder


def scene_of(parts: list[Part], camera: Camera, colours: dict[str, tuple[float, float, float]]) -> Scene:
    wardrobe = Wardrobe(np.random.default_rng(0))
    wardrobe.tiles = {slot: np.full((256, 256, 3), colour, np.float32) for slot, colour in colours.items()}
    light = Light(np.ones(3), np.ones(3), 0.0, np.array([0.2, -0.6, 0.77]), np.ones(3))
    return Scene(0, "test", parts, wardrobe, camera, light)


FLOOR = quad(np.array([[-90, -90, 0], [90, -90, 0], [90, 90, 0], [-90, 90, 0.0]]))
CAMERA = Camera(np.array([0.3, -1.0, 1.4]), yaw=0.2, pitch=-0.3, roll=0.07, hfov=1.1)
GREY, RED, GREEN = (0.3, 0.3, 0.3), (0.6, 0.05, 0.05), (0.05, 0.6, 0.05)


def world_points(image) -> np.ndarray:
    """The points (H,W,3) that disparity, K and pose stand for."""
    height, width = image.disparity.shape
    v, u = np.mgrid[0:height, 0:width]
    with np.errstate(divide="ignore", invalid="ignore"):
        z = 1 / image.disparity.astype(np.float64)
        local = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(image.K).T * z[..., None]
        return local @ image.pose[:3, :3].T + image.pose[:3, 3]


def test_a_plane_and_a_box_lie_where_they_were_put(stage: Stage):
    parts = [
        Part(FLOOR, Material("tile0"), "floor"),
        Part(box(1.0, 0.6, 0.8).moved(-0.6, 3.0), Material("tile1"), "furniture"),
    ]
    image = stage.render(scene_of(parts, CAMERA, {"tile0": GREY, "tile1": RED}))
    assert image is not None
    points, names = world_points(image), np.array(CLASSES)[image.classes]
    assert {"floor", "furniture", "sky"} == set(names.ravel())
    np.testing.assert_allclose(points[names == "floor"][:, 2], 0, atol=2e-3)
    on_box = points[names == "furniture"]
    off = np.abs(on_box - [-0.6, 3.0, 0.4]) - [0.5, 0.3, 0.4]
    np.testing.assert_allclose(off.max(axis=1), 0, atol=1e-4)
    # The plane in closed form: a ray with unit part along the camera axis reaches the floor at z = height / drop.
    rays = CAMERA.rays(*SIZE).reshape(48, 64, 3)
    ground_truth = 1.4 / -rays[..., 2]
    near = (names == "floor") & (ground_truth < 50)
    np.testing.assert_allclose(1 / image.disparity[near], ground_truth[near], rtol=2e-5)


def test_a_ball_has_the_depth_of_a_ball(stage: Stage):
    centre, radius = np.array([0.1, 3.0, 1.0]), 0.7
    parts = [
        Part(FLOOR, Material("tile0"), "ground"),
        Part(ball(radius, 120).moved(*centre), Material("tile1"), "object"),
    ]
    image = stage.render(scene_of(parts, CAMERA, {"tile0": GREY, "tile1": RED}))
    assert image is not None
    rays = CAMERA.rays(*SIZE)
    away = CAMERA.position - centre
    a, b, c = (rays**2).sum(1), rays @ away, away @ away - radius**2
    root = b**2 - a * c
    ground_truth = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf).reshape(48, 64)
    ball_pixels = image.classes == CLASSES.index("object")
    assert ball_pixels.sum() > 200 and (ball_pixels != np.isfinite(ground_truth)).sum() <= 4
    inner = ball_pixels & (root.reshape(48, 64) > 0.02)
    np.testing.assert_allclose(1 / image.disparity[inner], ground_truth[inner], rtol=2e-3)


def test_sky_is_valid_with_disparity_zero(stage: Stage):
    image = stage.render(scene_of([Part(FLOOR, Material("tile0"), "ground")], CAMERA, {"tile0": GREY}))
    assert image is not None
    rays = CAMERA.rays(*SIZE).reshape(48, 64, 3)
    ends = CAMERA.position[:2] + rays[..., :2] * (1.4 / -rays[..., 2:])
    falls = (rays[..., 2] < 0) & (np.abs(ends) < 90).all(axis=-1)
    np.testing.assert_array_equal(image.sky, ~falls)
    np.testing.assert_array_equal(image.disparity == 0, image.sky)
    np.testing.assert_array_equal(image.classes == 0, image.sky)
    assert np.isfinite(image.disparity).all() and image.disparity.dtype == np.float32


def upright(x: float, y: float, wide: float, tall: float) -> Mesh:
    return quad(np.array([[x - wide, y, 0], [x + wide, y, 0], [x + wide, y, tall], [x - wide, y, tall]]))


def test_glass_and_mirrors_carry_their_own_surface_and_show_another(stage: Stage):
    camera = Camera(np.array([0.0, 0.0, 1.0]), 0.0, 0.0, 0.0, 1.2)
    parts = [
        Part(FLOOR, Material("tile0"), "floor"),
        Part(upright(0, 6, 20, 9), Material("tile1"), "wall"),
        Part(upright(0, -6, 20, 9), Material("tile2"), "wall"),
        Part(upright(-0.6, 2, 0.5, 2), Material("glass"), "glass"),
        Part(upright(0.6, 2, 0.5, 2), Material("mirror"), "mirror"),
    ]
    image = stage.render(scene_of(parts, camera, {"tile0": GREY, "tile1": RED, "tile2": GREEN}))
    assert image is not None
    names = np.array(CLASSES)[image.classes]
    for name in ("glass", "mirror"):
        assert (names == name).sum() > 100
        np.testing.assert_allclose(image.disparity[names == name], 0.5, rtol=1e-6)
    middle, seen = image.image[20:28].astype(float), names[20:28]
    red, green = middle[seen == "glass"].mean(axis=0)[:2]
    assert red > 1.3 * green, "the red wall shows through the glass"
    red, green = middle[seen == "mirror"].mean(axis=0)[:2]
    assert green > 1.3 * red, "the green wall behind the camera shows in the mirror"


def test_image_and_label_are_seen_by_the_same_camera(stage: Stage):
    parts = [
        Part(FLOOR, Material("tile0"), "floor"),
        Part(upright(0, 9, 40, 30), Material("tile0"), "wall"),
        Part(box(0.9, 0.5, 1.3).moved(-0.9, 2.6, 0.0, 0.5), Material("tile1"), "object"),
    ]
    image = stage.render(scene_of(parts, CAMERA, {"tile0": GREY, "tile1": RED}))
    assert image is not None
    red = image.image[..., 0] > 1.5 * image.image[..., 1].astype(float)
    label = image.classes == CLASSES.index("object")
    assert 200 < label.sum() < 2000
    assert (red & label).sum() / (red | label).sum() > 0.93


def test_camera_axes_pose_and_rays_agree():
    axes = CAMERA.axes()
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1.0)  # right x down = forward: not mirrored
    level = Camera(np.zeros(3), 0.0, 0.0, 0.0, 1.0).axes()
    np.testing.assert_allclose(level, [[1, 0, 0], [0, 0, -1], [0, 1, 0]], atol=1e-12)
    np.testing.assert_allclose(CAMERA.rays(*SIZE) @ axes[2], 1.0)
    eye, target = np.array([1.0, 2.0, 1.5]), np.array([-2.0, 9.0, 0.5])
    forward = np.mean(
        [hand_held(np.random.default_rng(k), eye, target, (50, 60)).axes()[2] for k in range(200)], axis=0
    )
    assert forward @ (target - eye) / np.linalg.norm(forward) / np.linalg.norm(target - eye) > 0.999


@pytest.mark.parametrize("seed", range(24))
def test_every_scene_is_sound(seed: int):
    scene = make_scene(seed)
    assert scene.kind in {"room", "table", "clutter", "street", "nature", "subject"}
    textures = scene.wardrobe.textures()
    for part in scene.parts:
        assert np.isfinite(part.mesh.vertices).all() and np.abs(part.mesh.vertices).max() < 1e4
        assert part.mesh.faces.min() >= 0 and part.mesh.faces.max() < len(part.mesh.vertices) == len(part.mesh.uv)
        assert part.label in CLASSES and part.material.slot in SLOTS
        assert (part.material.slot in textures) == (SLOTS[part.material.slot][1] is not None)
    for texture in textures.values():
        assert texture.dtype == np.float32 and texture.min() > 0 and texture.max() <= 0.95


def test_a_seed_is_a_scene():
    one, two, other = make_scene(11), make_scene(11), make_scene(12)
    assert one.kind == two.kind and len(one.parts) == len(two.parts)
    for a, b in zip(one.parts, two.parts, strict=True):
        np.testing.assert_array_equal(a.mesh.vertices, b.mesh.vertices)
        assert (a.material, a.label) == (b.material, b.label)
    assert len(other.parts) != len(one.parts)


def test_kinds_come_in_their_shares():
    kinds = [make_scene(seed).kind for seed in range(1000, 1060)]
    indoor = np.mean([kind in ("room", "table", "clutter") for kind in kinds])
    assert 0.35 < indoor < 0.73 and len(set(kinds)) == 6


@pytest.mark.parametrize("seed", range(4))
def test_things_stand_on_the_ground(seed: int):
    rng = np.random.default_rng(seed)
    wardrobe = Wardrobe(rng)
    things = [make(rng, wardrobe) for make in (furniture.chair, furniture.sofa, furniture.bed, furniture.shelf)]
    things += [
        furniture.table(rng, wardrobe, 1.2, 0.8, 0.74),
        people_animals_plants.person(rng, wardrobe),
        people_animals_plants.animal(rng, wardrobe),
    ]
    things += [make(rng, wardrobe) for make in objects.SMALL_THINGS]
    for thing in things:
        lowest = min(part.mesh.vertices[:, 2].min() for part in thing.parts)
        assert -0.05 < lowest < 0.1, thing


@pytest.mark.parametrize("seed", range(4))
def test_what_borders_a_garden_is_as_long_as_asked_and_stands_on_the_ground(seed: int):
    rng = np.random.default_rng(seed)
    wardrobe = Wardrobe(rng)
    leaf, stone, trim = wardrobe.large("leaf"), wardrobe.large("wall"), wardrobe.small("plain")
    for thing in (
        towns.hedge(rng, leaf, 9.0),
        towns.garden_wall(rng, stone, trim, 9.0),
        towns.guard_rail(rng, wardrobe, 9.0),
        towns.fence(rng, wardrobe, 9.0),
    ):
        low, high = (f([f(part.mesh.vertices, axis=0) for part in thing.parts], axis=0) for f in (np.min, np.max))
        assert high[0] - low[0] == pytest.approx(9.0, abs=1.5)
        assert np.abs([low[1], high[1]]).max() < 1.5 and low[2] > -0.6 and 0.4 < high[2] < 4.5


def test_a_third_of_the_streets_are_lanes_with_something_close_on_both_sides():
    lanes = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        parts, camera, _ = landscapes.street(rng, Wardrobe(rng))
        half = next(part for part in parts if part.label == "road").mesh.vertices[:, 0].max()
        assert abs(camera.position[0]) < half + 4
        if half < 3.6:
            sides = np.concatenate(
                [part.mesh.vertices for part in parts if part.label in ("plant", "building", "thin")]
            )
            near = sides[(sides[:, 1] > 0) & (sides[:, 1] < 60) & (np.abs(sides[:, 0]) < half + 6)]
            lanes.append(near[:, 0].min() < -half and near[:, 0].max() > half)
    assert 4 <= len(lanes) <= 17 and np.mean(lanes) > 0.8


def test_floor_keeps_things_apart():
    rng = np.random.default_rng(3)
    floor, wardrobe = objects.Floor(rng), Wardrobe(rng)
    for _ in range(40):
        floor.scatter(objects.carton(rng, wardrobe, 0.5), (-1, -1), (1, 1))
    x, y, radius = np.array(floor.taken).T
    gap = np.hypot(x[:, None] - x, y[:, None] - y) - radius[:, None] - radius
    assert 5 < len(x) < 40 and gap[~np.eye(len(x), dtype=bool)].min() > 0


def test_surfaces_have_the_areas_of_their_shapes():
    def area(mesh: Mesh) -> float:
        a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
        return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)

    assert area(box(1, 2, 3)) == pytest.approx(22)
    assert area(ball(2.0, 80)) == pytest.approx(16 * np.pi, rel=0.01)
    assert area(cylinder(0.5, 2.0, 80)) == pytest.approx(2 * np.pi * 0.5 * 2 + np.pi * 0.25, rel=0.01)
    assert area(tube(np.array([[0, 0, 0], [0, 0, 1], [0, 0, 2.0]]), 0.1, 80)) == pytest.approx(0.4 * np.pi, rel=0.01)
    assert area(lathe([(1, 0), (1, 1)], 80, 1.0).moved(1, 2, 3, 0.4, 2.0)) == pytest.approx(8 * np.pi, rel=0.01)
    lump = blob(np.random.default_rng(0), 1.0, 0.2)
    assert np.linalg.norm(lump.vertices, axis=1).min() > 0.3 and np.linalg.norm(lump.vertices, axis=1).max() < 3


def test_an_atlas_cell_keeps_its_texture_to_itself():
    uv = np.random.default_rng(0).uniform(-3, 5, (100, 2))
    for cell in range(CELLS * CELLS):
        row, column = divmod(cell, CELLS)
        inside = cell_uv(uv, cell) * CELLS - [column, row]
        assert inside.min() > 0.02 and inside.max() < 0.98


def test_shipped_textures_are_small_and_complete():
    files = sorted(TEXTURES.glob("*.jpg"))
    assert len(files) >= 24 and sum(file.stat().st_size for file in files) < 1e6
    for file in files:
        with Image.open(file) as image:
            assert image.size == (256, 256) and image.mode == "RGB"


def test_patterns_repeat_without_a_seam():
    for kind in ("cloud", "wood", "grass", "plaster"):
        pattern = grey_pattern(kind, 0).astype(float)
        seam = np.abs(pattern[:, 0] - pattern[:, -1]).mean()
        inside = np.abs(np.diff(pattern, axis=1)).mean()
        assert seam < 2 * inside + 1, kind


@pytest.mark.parametrize("brightness", [1e-4, 1.0, 1e4])
def test_exposure_neither_blackens_nor_burns(brightness: float):
    linear = brightness * np.random.default_rng(0).uniform(0.05, 1.0, (48, 64, 3))
    image = develop(np.random.default_rng(1), linear, np.zeros((48, 64), bool))
    assert image.dtype == np.uint8 and 60 < image.mean() < 200 and (image == 255).mean() < 0.2


def test_a_photograph_has_deep_shadows_and_strong_contrast():
    # What the renderer gives: light on light ground, a haze of ambient light on everything.
    linear = 0.08 + 0.3 * np.random.default_rng(0).uniform(0.1, 1.0, (48, 64, 1)) ** 2 * np.ones(3)
    images = [develop(np.random.default_rng(seed), linear, np.zeros((48, 64), bool)) for seed in range(30)]
    grey = np.stack(images).mean(axis=-1) / 255
    flat = np.where(linear < 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.percentile(grey, 2, axis=(1, 2)).mean() < 0.7 * np.percentile(flat, 2)
    assert grey.std(axis=(1, 2)).mean() > 1.5 * flat.std()


def test_shards_hold_what_is_promised(rendered: Path):
    assert sorted(path.name for path in rendered.glob("*.tar")) == [f"scenes-{k:05d}.tar" for k in range(3)]
    samples = [sample for path in sorted(rendered.glob("*.tar")) for sample in read_shard(path)]
    assert [key for key, _ in samples] == [f"{seed:09d}" for seed in range(7, 12)]
    for key, members in samples:
        assert set(members) == {"rgb.jpg", "disparity.npz", "valid.png", "sky.png", "class.png", "json"}
        about = json.loads(members["json"])
        assert about["seed"] == int(key) and about["classes"] == list(CLASSES)
        assert np.shape(about["K"]) == (3, 3) and np.shape(about["pose"]) == (4, 4)


def test_same_seed_same_bytes_whatever_the_number_of_processes(rendered: Path, tmp_path: Path):
    render_shards(tmp_path, processes=2, **TINY)
    for path in rendered.glob("*.tar"):
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name


def test_training_takes_a_finished_render_as_it_is(rendered: Path, tmp_path: Path):
    folder = tmp_path / "scenes"
    shutil.copytree(rendered, folder)
    assert finished_scenes(folder) == 5 and len(sources.rendered(folder, 4, seed=0, processes=1)) == 5
    (folder / "scenes-00001.tar").unlink()
    assert finished_scenes(folder) == 0
    with pytest.raises(ValueError, match="holds another render"):
        sources.rendered(folder, 4, seed=0, processes=1)


def start_rendering(folder: Path, until: Path, **asked) -> subprocess.Popen:
    """A run of one worker in a session of its own, once the file `until` is there."""
    script = (
        "from depth_anything.data.scenes.render import render_shards\n"
        f"if __name__ == '__main__': render_shards({str(folder)!r}, processes=1, **{asked!r})\n"
    )
    (folder / "run.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.Popen([sys.executable, folder / "run.py"], env=environment, start_new_session=True)
    deadline = time.monotonic() + 120
    while not until.exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    return run


def test_no_worker_outlives_a_killed_command(renderer: None, tmp_path: Path):
    """It would write beside the next run, to the same name."""
    half, asked = tmp_path / ".scenes-00000.tar.tmp", TINY | {"count": 20_000, "shard_size": 20_000}
    run = start_rendering(tmp_path, half, **asked)
    os.kill(run.pid, signal.SIGKILL)  # the command alone
    run.wait()
    deadline = time.monotonic() + 20
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(run.pid, 0)
            time.sleep(0.1)


def test_a_killed_run_resumes_to_the_same_bytes(rendered: Path, tmp_path: Path):
    first = tmp_path / "scenes-00000.tar"
    run = start_rendering(tmp_path, first, **TINY)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert first.exists() and not (tmp_path / "scenes-00002.tar").exists()
    stamp = first.stat().st_mtime_ns
    (tmp_path / ".scenes-00001.tar.tmp").write_bytes(b"half written")
    render_shards(tmp_path, processes=1, **TINY)
    assert first.stat().st_mtime_ns == stamp, "the finished shard was kept"
    for path in rendered.glob("*.tar"):
        assert path.read_bytes() == (tmp_path / path.name).read_bytes(), path.name
    assert not list(tmp_path.glob(".*.tmp"))


def test_another_render_in_the_same_folder_is_refused(rendered: Path):
    with pytest.raises(ValueError, match="holds another render"):
        render_shards(rendered, processes=1, **{**TINY, "seed": 8})


@pytest.mark.parametrize(
    "wrong", [{"count": 0}, {"spp": 0}, {"size": (8, 8)}, {"shard_size": 0}, {"seed": -1}, {"processes": 0}]
)
def test_numbers_without_sense_are_refused(tmp_path: Path, wrong: dict):
    with pytest.raises(ValueError, match="expected"):
        render_shards(tmp_path / "out", **{**TINY, **wrong})
    assert not (tmp_path / "out").exists()


def test_contact_sheet(rendered: Path, tmp_path: Path):
    contact_sheet(rendered, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (4 * 2 * TILE[0], 2 * TILE[1])
    with pytest.raises(ValueError, match="no scene shards"):
        contact_sheet(tmp_path, tmp_path / "none.png")


@pytest.mark.parametrize(
    ("prelude", "environment", "message"),
    [
        ("import sys; sys.modules['mitsuba'] = None", {}, 'pip install "depth-anything[render]"'),
        ("", {"DRJIT_LIBLLVM_PATH": "/nowhere/libLLVM.so"}, 'Unable to load "/nowhere/libLLVM.so"'),
    ],
)
def test_what_is_missing_is_named(renderer: None, prelude: str, environment: dict, message: str):
    code = f"{prelude}\nfrom depth_anything.data.scenes.stage import load_mitsuba\n"
    code += "try: load_mitsuba()\nexcept ValueError as error: print(error)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        capture_output=True,
        text=True,
    )
    assert message in result.stdout and result.stdout.count("\n") == 1
