"""Measured points from files: CSV, NPZ, and COLMAP's models as COLMAP's own library writes them."""

import shutil

import numpy as np
import pytest

from depth_anything.geometry import colmap_model
from depth_anything.geometry.measured_points import read_points
from depth_anything.predict.prediction import Prediction

POINTS = np.array([[3, 4, 1.5], [0, 0, 2.25], [9.4, 7, 30]])


def test_a_table(tmp_path):
    text = "metres, id,x,y\n1.5,a,3,4\n\n2.25,b,0,0\n30,c,9.4,7\n"
    (tmp_path / "points.csv").write_text(text, encoding="utf-8-sig")  # as Excel writes it
    np.testing.assert_array_equal(read_points(tmp_path / "points.csv", 8, 10, ""), POINTS)


def test_arrays(tmp_path):
    np.savez(tmp_path / "points.npz", points=POINTS)
    np.testing.assert_array_equal(read_points(tmp_path / "points.npz", 8, 10, ""), POINTS)
    sparse = np.zeros((8, 10), np.float32)
    sparse[4, 3], sparse[0, 0], sparse[7, 9] = 1.5, 2.25, np.nan
    np.savez(tmp_path / "sparse.npz", depth_m=sparse)
    np.testing.assert_array_equal(read_points(tmp_path / "sparse.npz", 8, 10, ""), POINTS[[1, 0]])


def test_a_map_of_metres_that_this_program_wrote_is_such_a_file(tmp_path):
    depth_m = np.random.default_rng(0).uniform(1, 5, (4, 5)).astype(np.float32)
    Prediction(depth_m=depth_m).save(tmp_path / "a", ["npz"])
    found = read_points(tmp_path / "a_depth_m.npz", 4, 5, "")
    np.testing.assert_array_equal(found[:, 2].reshape(4, 5), depth_m)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "u,v,z\n1,2,3\n", "its first line is 'u,v,z'; expected the columns x,y,metres"),
        ("a.csv", "x;y;metres\n1;2;3\n", "its first line is 'x;y;metres'"),
        ("a.csv", "1,2,3\n", "its first line is '1,2,3'"),
        ("a.csv", "", "its first line is ''"),
        ("a.csv", "x,y,metres\n1,2,3\n1,2\n", "line 3: got '1,2'; expected numbers"),
        ("a.csv", "x,y,metres\n1,two,3\n", "line 2: got '1,two,3'"),
        ("a.npz", {"xyz": POINTS}, "it holds xyz; expected an array points"),
        ("a.npz", {"points": POINTS[:, :2]}, r"points has shape \(3, 2\); expected \(count, 3\)"),
        ("a.npz", {"points": np.array("text")}, "it holds nothing|it holds points"),
        ("a.npz", {"depth_m": np.ones((3, 3))}, r"depth_m has shape \(3, 3\); expected \(8, 10\)"),
        ("a.npz", "no archive", "not an NPZ that can be read"),
        ("a.ply", "ply\n", "expected points as .csv, .npz or the folder of a COLMAP model"),
        ("b", None, "no COLMAP model; expected cameras, images, points3D as .bin or .txt"),
    ],
)
def test_files_without_points(tmp_path, name, content, message):
    if content is None:
        (tmp_path / name).mkdir()
    elif isinstance(content, str):
        (tmp_path / name).write_text(content)
    else:
        np.savez(tmp_path / name, **content)
    with pytest.raises(ValueError, match=message) as error:
        read_points(tmp_path / name, 8, 10, "")
    assert str(error.value).startswith(str(tmp_path / name)) and "\n" not in str(error.value)


def test_no_such_file(tmp_path):
    with pytest.raises(ValueError, match="check the path"):
        read_points(tmp_path / "points.csv", 8, 10, "")


# -- COLMAP ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model of three images with noisy observations, as a folder of .bin and one of .txt."""
    pycolmap = pytest.importorskip("pycolmap")
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 1, 1, 3
    options.num_points3D = 40
    model = pycolmap.synthesize_dataset(options)
    folders = {}
    for form in ("binary", "text"):
        folders[form] = tmp_path_factory.mktemp(form)
        getattr(model, f"write_{form}")(folders[form])
    return model, folders


@pytest.mark.parametrize("form", ["binary", "text"])
@pytest.mark.parametrize("shrink", [1, 4])
def test_points_of_a_model(models, form, shrink):
    model, folders = models
    image = model.images[2]
    camera = model.cameras[image.camera_id]
    seen = [point for point in image.points2D if point.has_point3D()]
    depth = [(image.cam_from_world() * model.points3D[point.point3D_id].xyz)[2] for point in seen]
    pixels = np.array([point.xy for point in seen]) / shrink - 0.5  # COLMAP counts from the corner
    stem = image.name.rpartition(".")[0]
    found = read_points(folders[form], camera.height // shrink, camera.width // shrink, stem)
    np.testing.assert_allclose(found, np.column_stack([pixels, depth]), atol=1e-4 if form == "text" else 1e-9)
    assert len(found) == 40


def test_numbers_of_every_camera_model():
    pycolmap = pytest.importorskip("pycolmap")
    for name, model in pycolmap.CameraModelId.__members__.items():
        if name != "INVALID":
            numbers = len(pycolmap.Camera.create_from_model_id(1, model, 500.0, 640, 480).params)
            assert colmap_model.CAMERA_NUMBERS[int(model)] == numbers, name


def test_images_that_a_model_lacks(models):
    _, folders = models
    with pytest.raises(ValueError, match=r"no image named 'holiday' among 3 \(camera.*; give --image NAME"):
        read_points(folders["binary"], 768, 1024, "holiday")
    with pytest.raises(ValueError, match="has 1024 x 768 pixels there, the map 640 x 640"):
        read_points(folders["binary"], 640, 640, "camera000001_frame000000")


@pytest.mark.parametrize("name", ["cameras", "images", "points3D"])
def test_truncated_models_end_in_one_line(models, tmp_path, name):
    _, folders = models
    for form, ending in (("binary", "bin"), ("text", "txt")):
        folder = tmp_path / form
        shutil.copytree(folders[form], folder)
        data = (folder / f"{name}.{ending}").read_bytes()
        (folder / f"{name}.{ending}").write_bytes(data[:-3] if form == "binary" else data + b"\n1 2 x\n")
        with pytest.raises(ValueError, match=rf"{name}\.{ending}: not a file of a COLMAP model, or damaged") as error:
            read_points(folder, 768, 1024, "camera000001_frame000000")
        assert "\n" not in str(error.value)
