"""Ready-made models: sizes, axes, colours and roles against files written here; in scenes and shards."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from depth_anything.cli.render import render
from depth_anything.data.scenes import model_library, texture_baking
from depth_anything.data.scenes.cameras import Camera
from depth_anything.data.scenes.layout import Scene, make_scene
from depth_anything.data.scenes.light import Light
from depth_anything.data.scenes.materials import Wardrobe
from depth_anything.data.scenes.model_library import CannotUse, Library, is_flat, open_library, role_of
from depth_anything.data.scenes.objects import Part, ready_made
from depth_anything.data.scenes.shapes import Mesh, ball, box, quad
from depth_anything.data.scenes.stage import Stage, load_mitsuba
from depth_anything.data.shards import read_shard

trimesh = pytest.importorskip("trimesh")

# A ramp: 1 wide (x), 0.75 high (y), 0.6 deep (z); low at its front, +z.
RAMP = """mtllib ramp.mtl
v -0.5 0 -0.3
v 0.5 0 -0.3
v 0.5 0.75 -0.3
v -0.5 0.75 -0.3
v 0.5 0 0.3
v -0.5 0 0.3
usemtl red
f 1 4 3 2
f 6 5 3 4
usemtl blue
f 1 2 5 6
f 1 6 4
f 2 3 5
"""
COLOURS = "newmtl red\nKd 1 0 0\nnewmtl blue\nKd 0 0 1\n"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path, cache: Path) -> Path:
    """A ramp called a sofa, a cube of 8 cm, a table, and a broken file."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "sofa.obj").write_text(RAMP)
    (folder / "ramp.mtl").write_text(COLOURS)
    trimesh.creation.box((0.08, 0.08, 0.08)).export(folder / "cup.glb")
    trimesh.creation.box((1.2, 0.75, 0.8)).export(folder / "table.glb")
    (folder / "chair.obj").write_text("v 0 0\nf 1 2 three\n")
    return folder


def by_name(library: Library, name: str) -> model_library.Model:
    return library.get(next(k for k, entry in enumerate(library.entries) if name in entry.name))


def colour_at(model: model_library.Model, uv: np.ndarray) -> np.ndarray:
    column, row = (uv * len(model.image)).astype(int).T
    return model.image[row, column]


def test_a_folder_of_files(folder: Path):
    library = open_library(folder, progress=False)
    assert {(entry.name, entry.role) for entry in library.entries} == {
        ("sofa.obj", "sofa"),
        ("cup.glb", "small"),
        ("table.glb", "table"),
    }
    ramp = by_name(library, "sofa")
    assert ramp.entry.size == pytest.approx((1.0, 0.6, 0.75)) and not ramp.entry.flat
    low, high = ramp.mesh.vertices.min(axis=0), ramp.mesh.vertices.max(axis=0)
    np.testing.assert_allclose([low, high], [[-0.5, -0.3, 0.0], [0.5, 0.3, 0.75]], atol=1e-6)
    top = ramp.mesh.vertices[ramp.mesh.vertices[:, 2] > 0.7]
    assert (top[:, 1] > 0.29).all(), "the high side of the ramp is its back, +y"
    table = by_name(library, "table")
    assert table.entry.size == pytest.approx((1.2, 0.8, 0.75)) and table.entry.flat and table.entry.label == "furniture"


def test_every_face_keeps_its_colour(folder: Path):
    ramp = by_name(open_library(folder, progress=False), "sofa")
    middle = ramp.mesh.vertices[ramp.mesh.faces].mean(axis=1)
    colours = colour_at(ramp, ramp.mesh.uv[ramp.mesh.faces].mean(axis=1))
    a, b, c = (ramp.mesh.vertices[ramp.mesh.faces[:, k]] for k in range(3))
    up = np.abs(np.cross(b - a, c - a)[:, 2]) / np.linalg.norm(np.cross(b - a, c - a), axis=1)
    slope_or_back = (np.abs(middle[:, 0]) < 0.4) & (middle[:, 2] > 0.1) & (up < 0.9)
    assert slope_or_back.sum() == 4
    np.testing.assert_array_equal(colours[slope_or_back], np.tile([255, 0, 0], (4, 1)))
    np.testing.assert_array_equal(colours[~slope_or_back], np.tile([0, 0, 255], (4, 1)))


def test_a_texture_lies_where_the_file_puts_it(tmp_path: Path, cache: Path):
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32, :, 0], image[32:, :, 2] = 255, 255  # red above blue
    Image.fromarray(image).save(tmp_path / "skin.png")
    (tmp_path / "skin.mtl").write_text("newmtl skin\nmap_Kd skin.png\n")
    (tmp_path / "screen cabinet.obj").write_text(
        "mtllib skin.mtl\nusemtl skin\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 0.5 0 1\n"
        "vt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\nf 1/1 2/2 3/3\nf 1/1 3/3 4/4\nf 1/1 5/1 2/2\n"
    )
    model = open_library(tmp_path, progress=False).get(0)
    corners = model.mesh.uv[model.mesh.faces[:2].ravel()]
    heights = model.mesh.vertices[model.mesh.faces[:2].ravel(), 2]
    np.testing.assert_array_equal(colour_at(model, corners)[heights > 0.9], np.tile([255, 0, 0], (3, 1)))
    np.testing.assert_array_equal(colour_at(model, corners)[heights < 0.1], np.tile([0, 0, 255], (3, 1)))


def catalogue(folder: Path) -> Path:
    """A Sweet Home 3D library: a turned sofa, a door, a lamp under the ceiling, a model that is not there."""
    listing = "id=test\n"
    rows = [
        {"name": "Sofa", "model": "/a/ramp.obj", "width": "200.0", "depth": "90.0", "height": "80.0",
         "modelRotation": "0 0 -1 0 1 0 1 0 0"},
        {"name": "Thing", "model": "/a/ramp.obj", "width": "90", "depth": "9", "height": "200", "doorOrWindow": "true"},
        {"name": "Lamp", "model": "/a/ramp.obj", "width": "20", "depth": "20", "height": "30", "elevation": "210"},
        {"name": "Chair", "model": "/a/none.obj", "width": "50", "depth": "50", "height": "90"},
    ]  # fmt: skip
    for number, row in enumerate(rows, 1):
        listing += "".join(f"{key}#{number}={value}\n" for key, value in row.items())
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "test.sh3f", "w") as archive:
        archive.writestr("PluginFurnitureCatalog.properties", listing.encode("latin-1"))
        archive.writestr("a/ramp.obj", RAMP)
        archive.writestr("a/ramp.mtl", COLOURS)
    return folder


def test_a_catalogue_gives_names_sizes_and_turns(tmp_path: Path, cache: Path):
    library = open_library(catalogue(tmp_path / "sh3f"), progress=False)
    assert [(entry.name, entry.role, entry.size) for entry in library.entries] == [("test/ramp", "sofa", (2, 0.9, 0.8))]
    points = library.get(0).mesh.vertices
    high = points[points[:, 2] > 0.7]
    assert (np.abs(high[:, 0]) > 0.9).all() and np.ptp(high[:, 1]) > 0.8, "the ramp now rises to a side"


def test_the_cache_is_named_after_the_content(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    first = open_library(folder, progress=False)
    assert first.pack.parent == cache / "depth-anything"

    def never(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(model_library, "read_model", never)
    assert open_library(folder, progress=False) == first
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    (folder / "ramp.mtl").write_text(COLOURS.replace("1 0 0", "0 1 0"))
    second = open_library(folder, progress=False)
    assert second.digest != first.digest
    assert (by_name(second, "sofa").image != by_name(first, "sofa").image).any()


def test_folders_without_models_are_refused(tmp_path: Path, cache: Path):
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(ValueError, match="expected a folder with models"):
            open_library(folder, progress=False)
    (tmp_path / "broken.glb").write_bytes(b"glTF and then nothing")
    with pytest.raises(ValueError, match="none of its 1 models can be used"):
        open_library(tmp_path, progress=False)


@pytest.mark.parametrize(
    ("words", "size", "role"),
    [
        ("Armchair armchair2 Living room", (0.8, 0.8, 0.9), ("chair", "furniture")),
        ("Sofa 2 seats", (1.6, 0.8, 0.9), ("sofa", "furniture")),
        ("Desk lamp Lights", (0.2, 0.2, 0.45), ("small", "object")),
        ("Oak chair", (0.5, 0.5, 0.9), ("chair", "furniture")),
        ("Male male02 Characters", (0.6, 0.4, 1.8), ("person", "person")),
        ("Horse Characters", (2.2, 0.6, 1.9), ("animal", "animal")),
        ("Hot dog hotDog Kitchen", (0.2, 0.1, 0.1), ("small", "object")),
        ("Clothes horse Miscellaneous", (1.0, 0.6, 1.0), ("furniture", "furniture")),
        ("Renault Scenic Vehicles", (4.2, 1.8, 1.6), ("car", "vehicle")),
        ("Bike Vehicles", (1.7, 0.5, 1.0), ("outdoor", "vehicle")),
        ("Car model Bedroom", (0.3, 0.15, 0.1), ("small", "object")),
        ("Maple Exterior", (5.0, 5.0, 8.0), ("tree", "tree")),
    ],
)
def test_names_and_sizes_give_roles(words: str, size: tuple[float, float, float], role: tuple[str, str]):
    assert role_of(words, size) == role


@pytest.mark.parametrize(
    ("words", "size"),
    [
        ("Double window", (1.2, 0.1, 1.2)),
        ("sitMale03 Characters", (0.6, 0.9, 1.3)),
        ("Rug", (2.0, 1.4, 0.01)),
        ("Kitchen furniture", (6.0, 0.6, 2.2)),
        ("Ship", (80.0, 20.0, 30.0)),
    ],
)
def test_what_no_scene_can_use_is_left_out(words: str, size: tuple[float, float, float]):
    with pytest.raises(CannotUse):
        role_of(words, size)


def test_fewer_triangles_keep_the_shape():
    dense = ball(1.0, 200)
    assert len(dense.faces) > 2 * texture_baking.MAX_FACES
    few = texture_baking.fewer(dense, np.zeros((len(dense.vertices), 1)))
    assert 1000 < len(few.faces) <= texture_baking.MAX_FACES
    np.testing.assert_allclose(np.linalg.norm(few.vertices, axis=1), 1.0, atol=1e-6)
    a, b, c = (few.vertices[few.faces[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2
    assert area == pytest.approx(4 * np.pi, rel=0.05), "no holes and no doubled faces"
    small = box(1, 1, 1)
    assert texture_baking.fewer(small, np.zeros((len(small.vertices), 1))) is small


def test_a_level_top_is_flat_and_a_round_one_is_not():
    assert is_flat(box(1.2, 0.8, 0.74)) and not is_flat(ball(0.5, 20).moved(z=0.5))
    assert not is_flat(box(0.6, 0.6, 1.9)), "too high to put things on"


def test_scenes_take_models_and_say_which(folder: Path):
    library = open_library(folder, progress=False)
    scenes = [make_scene(seed, 0, library) for seed in range(12)]
    names = {name for scene in scenes for name in scene.wardrobe.model_names()}
    assert len(names) >= 2 and names <= {entry.name for entry in library.entries}
    again = make_scene(3, 0, library)
    for a, b in zip(scenes[3].parts, again.parts, strict=True):
        np.testing.assert_array_equal(a.mesh.vertices, b.mesh.vertices)
    assert make_scene(3).wardrobe.model_names() == ()
    for scene in scenes:
        textures = scene.wardrobe.textures()
        assert all(part.material.slot in textures for part in scene.parts if part.material.cell is not None)


def test_a_full_slot_repeats_what_it_has(folder: Path):
    library = open_library(folder, progress=False)
    wardrobe = Wardrobe(np.random.default_rng(0), models=library)
    things = [ready_made(wardrobe.rng, wardrobe, "sofa", share=1.0) for _ in range(60)]
    assert all(thing and thing.parts[0].label == "furniture" for thing in things)
    assert sum(map(len, wardrobe.cells.values())) == 1 and len(wardrobe.worn) == 1
    assert ready_made(wardrobe.rng, wardrobe, "car", share=1.0) is None


def test_a_model_is_rendered_where_it_stands_in_its_colours(renderer: None, folder: Path):
    library = open_library(folder, progress=False)
    wardrobe = Wardrobe(np.random.default_rng(1), models=library)
    wardrobe.tiles = {"tile0": np.full((256, 256, 3), 0.3, np.float32)}
    found = wardrobe.model(("sofa",))
    assert found is not None
    model, material = found
    floor = quad(np.array([[-90, -90, 0], [90, -90, 0], [90, 90, 0], [-90, 90, 0.0]]))
    parts = [
        Part(floor, wardrobe.large("floor"), "floor"),
        Part(model.mesh.moved(0.0, 3.0, 0.0, np.pi), material, "furniture"),
    ]
    camera = Camera(np.array([0.0, 0.0, 0.4]), 0.0, 0.0, 0.0, 0.7)
    light = Light(np.ones(3), np.ones(3), 0.0, np.array([0.2, -0.6, 0.77]), np.ones(3))
    image = Stage((64, 48), 4).render(Scene(0, "test", parts, wardrobe, camera, light))
    assert image is not None
    seen = image.disparity[24, 32]
    assert 1 / seen == pytest.approx(3.0 - 0.3, abs=0.01), "its back looks at the camera, 0.3 m before its middle"
    red, green, blue = image.image[20:24, 28:36].reshape(-1, 3).mean(axis=0)
    assert max(red, green, blue) > 2 * sorted((red, green, blue))[1], "one primary colour, whatever the tint"
    assert image.models == ("sofa.obj",)


def test_shards_name_their_models(renderer: None, folder: Path, tmp_path: Path):
    render(tmp_path / "out", 2, 7, 64, 48, 1, 1, models=folder)
    path, again = tmp_path / "out/scenes-00000.tar", tmp_path / "again"
    render(again, 2, 7, 64, 48, 1, 1, models=folder)
    assert path.read_bytes() == (again / path.name).read_bytes()
    library = open_library(folder, progress=False)
    assert json.loads((tmp_path / "out/render.json").read_text())["models"] == library.digest
    for key, members in read_shard(path):
        names = json.loads(members["json"])["models"]
        assert set(names) <= {entry.name for entry in library.entries}, key
    with pytest.raises(ValueError, match="holds another render"):
        render(tmp_path / "out", 2, 7, 64, 48, 1, 1)


def test_a_gpu_that_is_not_there_is_named(renderer: None, monkeypatch: pytest.MonkeyPatch):
    import mitsuba

    def no_gpu(variant: str) -> None:
        assert variant == "cuda_ad_rgb"
        raise ImportError("libcuda.so not found")

    monkeypatch.setattr(mitsuba, "set_variant", no_gpu)
    with pytest.raises(ValueError, match="no NVIDIA GPU"):
        load_mitsuba("cuda")


def test_meshes_of_models_are_sound(folder: Path):
    library = open_library(folder, progress=False)
    for number in range(len(library.entries)):
        mesh: Mesh = library.get(number).mesh
        assert mesh.faces.min() >= 0 and mesh.faces.max() < len(mesh.vertices) == len(mesh.uv)
        assert mesh.uv.min() >= 0 and mesh.uv.max() <= 1 and np.isfinite(mesh.vertices).all()
