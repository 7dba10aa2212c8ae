"""PLY and GLB, read back by trimesh: a wall, a floor and a sphere of known sizes."""

import json
import math
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from sample_images import photo
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from depth_anything.geometry import camera, point_cloud
from depth_anything.predict.prediction import Prediction

WIDTH, HEIGHT, RADIUS, CENTRE = 160, 120, 0.5, np.array([0.2, -0.1, 3.0])


def sphere_before_a_wall() -> np.ndarray:
    """z-depth in closed form: a sphere of radius 0.5 m at CENTRE, a wall at 5 m behind it."""
    rays = camera.unproject(np.ones((HEIGHT, WIDTH), np.float32), camera.from_fov(WIDTH, HEIGHT, 60)).astype(np.float64)
    a, b, c = (rays**2).sum(2), rays @ CENTRE, CENTRE @ CENTRE - RADIUS**2
    hit = b**2 - a * c
    near = (b - np.sqrt(np.maximum(hit, 0))) / a
    return np.where(hit > 0, near, 5.0).astype(np.float32)


@pytest.fixture
def scene() -> Prediction:
    return Prediction(
        depth_m=sphere_before_a_wall(), model="v2-metric-indoor-small", licence="none stated",
        image=photo(HEIGHT, WIDTH), K=camera.from_fov(WIDTH, HEIGHT, 60),
    )  # fmt: skip


def load_mesh(path: Path) -> trimesh.Trimesh:
    mesh = trimesh.load(path, force="mesh")
    assert isinstance(mesh, trimesh.Trimesh)
    return mesh


def load_cloud(path: Path) -> trimesh.PointCloud:
    cloud = trimesh.load(path)
    assert isinstance(cloud, trimesh.PointCloud)
    return cloud


def fit_sphere(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre and radius by linear least squares: |p|^2 = 2 p . c + (r^2 - |c|^2)."""
    solution, *_ = np.linalg.lstsq(np.column_stack([2 * points, np.ones(len(points))]), (points**2).sum(1), rcond=None)
    return solution[:3], float(np.sqrt(solution[3] + solution[:3] @ solution[:3]))


def test_ply_holds_every_point_with_its_colour(tmp_path, scene):
    (path,) = scene.save(tmp_path / "scene", ["ply"])
    cloud = load_cloud(path)
    assert cloud.vertices.shape == (WIDTH * HEIGHT, 3)
    np.testing.assert_allclose(cloud.vertices, scene.to_points().reshape(-1, 3), atol=1e-6)
    np.testing.assert_array_equal(np.asarray(cloud.colors)[:, :3], photo(HEIGHT, WIDTH).reshape(-1, 3))
    centre, radius = fit_sphere(cloud.vertices[cloud.vertices[:, 2] < 4])
    assert radius == pytest.approx(RADIUS, abs=1e-4) and np.abs(centre - CENTRE).max() < 1e-4
    wall = cloud.vertices[cloud.vertices[:, 2] > 4]
    # pixel centres of the outermost columns: (W - 1) / W of the 60 degrees' width at 5 m
    assert np.ptp(wall[:, 0]) == pytest.approx(2 * 5 * np.tan(np.radians(30)) * (WIDTH - 1) / WIDTH, rel=1e-5)
    header = path.read_bytes().split(b"end_header")[0].decode()
    for line in ("comment unit: metre", "comment licence: none stated", "comment model: v2-metric-indoor-small"):
        assert line in header


def test_glb_is_a_textured_surface_in_metres_cut_at_edges(tmp_path, scene):
    (path,) = scene.save(tmp_path / "scene", ["glb"])
    mesh = load_mesh(path)
    flip = np.array([1, -1, -1])  # camera axes from glTF's
    sphere = mesh.vertices[mesh.vertices[:, 2] > -4]
    centre, radius = fit_sphere(sphere)
    assert radius == pytest.approx(RADIUS, abs=1e-4) and np.abs(centre * flip - CENTRE).max() < 1e-4
    depth = -mesh.vertices[:, 2][mesh.faces]
    assert (depth.max(axis=1) <= 1.0501 * depth.min(axis=1)).all(), "a triangle joins the sphere to the wall"
    # all faces look at the camera, which sits at the origin
    assert ((mesh.face_normals * -mesh.triangles_center).sum(axis=1) > 0).all()
    # each vertex wears its pixel
    visual, material = mesh.visual, getattr(mesh.visual, "material", None)
    assert isinstance(visual, TextureVisuals) and isinstance(material, PBRMaterial) and visual.uv is not None
    texture = np.asarray(material.baseColorTexture.convert("RGB")).astype(int)
    assert texture.shape == (HEIGHT, WIDTH, 3)
    column = np.floor(visual.uv[:, 0] * WIDTH).astype(int)
    row = np.floor((1 - visual.uv[:, 1]) * HEIGHT).astype(int)
    projected = (mesh.vertices * flip) @ scene.K.T
    np.testing.assert_allclose(projected[:, :2] / projected[:, 2:], np.column_stack([column, row]), atol=1e-3)
    assert np.abs(texture - photo(HEIGHT, WIDTH)).mean() < 4


def test_glb_says_what_it_is(tmp_path, scene):
    (path,) = scene.save(tmp_path / "scene", ["glb"])
    content = path.read_bytes()
    length = struct.unpack("<I", content[12:16])[0]
    tree = json.loads(content[20 : 20 + length])
    assert tree["asset"]["extras"]["licence"] == "none stated" and tree["asset"]["extras"]["unit"] == "metre"
    assert "none stated" in tree["asset"]["copyright"]
    assert tree["materials"][0]["extensions"] == {"KHR_materials_unlit": {}}
    assert tree["extensionsUsed"] == ["KHR_materials_unlit"]


def test_geometry_of_a_disparity_says_whose_metres_it_has(tmp_path):
    disparity = 1 / sphere_before_a_wall()
    prediction = Prediction(disparity=disparity, image=photo(HEIGHT, WIDTH), K=camera.from_fov(WIDTH, HEIGHT, 60))
    near = float(1 / disparity.max())
    (path,) = prediction.save(tmp_path / "scene", ["ply"], near=near, far=5.0)
    assert b"metres_from: from the given near" in path.read_bytes().split(b"end_header")[0]
    points = load_cloud(path).vertices
    _, radius = fit_sphere(points[points[:, 2] < 4])
    assert radius == pytest.approx(RADIUS, abs=1e-3), (
        "disparity is 1/depth up to scale and shift: near and far fix both"
    )


def test_a_steep_floor_is_not_cut_and_large_meshes_are_thinned(tmp_path, monkeypatch):
    height, width = 240, 320
    K = camera.from_fov(width, height, 60)
    below = (np.arange(height) - K[1, 2]) / K[1, 1]
    depth = np.tile(np.where(below > 0.1, 1.5 / np.maximum(below, 1e-9), 0)[:, None], (1, width)).astype(np.float32)
    floor = Prediction(depth_m=depth, image=photo(height, width), K=K)
    rows = int((below > 0.1).sum())
    assert len(point_cloud.triangles(floor.to_points())) == 2 * (rows - 1) * (width - 1)
    monkeypatch.setattr(point_cloud, "MAX_VERTICES", 10_000)
    (path,) = floor.save(tmp_path / "floor", ["glb"])
    mesh = load_mesh(path)
    assert 1_000 < len(mesh.vertices) <= 10_000
    np.testing.assert_allclose(mesh.vertices[:, 1], -1.5, atol=1e-4)  # 1.5 m below the camera
    # the trapezoid between the last row and the first grid row that sees the floor, over the image's whole width
    step = math.ceil(math.sqrt(height * width / 10_000))
    far = depth[next(row for row in range(0, height, step) if depth[row, 0] > 0), 0]
    near = depth[-1, 0]
    assert mesh.area == pytest.approx((far - near) * (far + near) / 2 * (width - 1) / K[0, 0], rel=1e-3)


def test_nothing_to_draw_says_so(tmp_path):
    empty = Prediction(depth_m=np.zeros((4, 5), np.float32), image=photo(4, 5), K=camera.from_fov(5, 4, 60))
    with pytest.raises(ValueError, match="no point is known"):
        empty.save(tmp_path / "x", ["ply"])
    with pytest.raises(ValueError, match="no surface is left"):
        empty.save(tmp_path / "x", ["glb"])
    assert list(tmp_path.iterdir()) == []


def test_glb_without_trimesh_names_the_extra(tmp_path, scene, monkeypatch):
    monkeypatch.setitem(sys.modules, "trimesh", None)
    with pytest.raises(ValueError, match=r'pip install "depth-anything\[3d\]"'):
        scene.save(tmp_path / "scene", ["glb"])
    assert list(tmp_path.iterdir()) == []


def test_normals_image_in_both_conventions(tmp_path):
    """A floor 1.5 m below the camera: up is green 255 for OpenGL, 0 for DirectX; a wall faces the viewer: blue."""
    up, towards = np.array([0, -1, 0], np.float32), np.array([0, 0, -1], np.float32)
    normals = np.stack([up, towards, np.zeros(3, np.float32)])[None]
    assert point_cloud.normals_image(normals).tolist() == [[[128, 255, 128], [128, 128, 255], [0, 0, 0]]]
    assert point_cloud.normals_image(normals, directx=True)[0, 0].tolist() == [128, 0, 128]


@pytest.mark.parametrize(("axes", "sign"), [("opencv", 1), ("opengl", -1)])
def test_ply_has_the_axes_that_it_states(tmp_path, axes, sign):
    points = np.array([[[1, 2, 3], [4, 5, 6]]], np.float32)
    point_cloud.write_ply(tmp_path / "a.ply", points, None, {}, axes)
    header = (tmp_path / "a.ply").read_bytes().split(b"end_header")[0].decode()
    assert f"comment axes: {point_cloud.AXES[axes]}" in header
    found = trimesh.load(tmp_path / "a.ply").vertices
    np.testing.assert_array_equal(found, points[0] * [1, sign, sign])
