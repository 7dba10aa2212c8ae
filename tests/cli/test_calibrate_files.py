"""`depth-anything calibrate` with files of points, and the commands that docs/metric.md shows."""

import shlex
from pathlib import Path

import numpy as np
import pytest
from command import run
from PIL import Image

from depth_anything import Predictor
from depth_anything.__main__ import main
from depth_anything.predict.prediction import Prediction, load

ROOT = Path(__file__).parents[2]
Y, X = np.mgrid[:48, :64].astype(np.float32)
DEPTH_M = 2 + X / 20 + Y / 40


@pytest.fixture
def scene(tmp_path) -> Path:
    """A bent map, photo_disparity.npz, and points.csv with measured points of it."""
    bent = (1 + 0.2 * np.sin(X / 12)) / DEPTH_M
    Prediction(disparity=bent).save(tmp_path / "photo", ["npz"])
    y, x = np.divmod(np.random.default_rng(0).choice(X.size, 60, replace=False), 64)
    rows = [f"{column},{row},{DEPTH_M[row, column]}" for row, column in zip(y, x, strict=True)]
    (tmp_path / "points.csv").write_text("\n".join(["x,y,metres", *rows]))
    return tmp_path


def test_points_of_a_file_correct_the_map_locally(scene, capsys):
    error = {}
    for name, options in {"fit": [], "local": ["--local"]}.items():
        inputs = [scene / "photo_disparity.npz", scene / "points.csv"]
        assert run("calibrate", *inputs, "-o", scene / name, "--save", "npz,png16", *options) == 0
        metric = load(scene / name / "photo_depth_m.npz")
        error[name] = np.mean(np.abs(metric.values - DEPTH_M) / DEPTH_M)
        assert (scene / name / "photo_depth_m.png").exists()
    assert error["local"] < error["fit"] / 3
    said = capsys.readouterr().out
    assert "At points kept out, metres with the local correction are off by" in said
    assert "with the local correction" in load(scene / "local/photo_depth_m.npz").notes[0], "in the file too"


def test_a_folder_of_colmap_is_matched_by_the_name_of_the_map(tmp_path, capsys):
    """The map is right at COLMAP's points and 0 elsewhere, so the fit is exact only if every point is read right."""
    pycolmap = pytest.importorskip("pycolmap")
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 1, 1, 2
    options.num_points3D = 30
    model = pycolmap.synthesize_dataset(options)
    model.write(tmp_path)
    image = model.images[1]
    camera = model.cameras[image.camera_id]
    disparity = np.zeros((camera.height, camera.width), np.float32)
    seen = [point for point in image.points2D if point.has_point3D()]
    for point in seen:
        column, row = np.floor(point.xy).astype(int)
        disparity[row, column] = 1 / (image.cam_from_world() * model.points3D[point.point3D_id].xyz)[2]
    stem = image.name.removesuffix(".png")
    Prediction(disparity=disparity).save(tmp_path / stem, ["npz"])
    command = ("calibrate", tmp_path / f"{stem}_disparity.npz", tmp_path, "-o", tmp_path / "out")
    assert run(*command) == 0
    said = capsys.readouterr().out
    assert f"fitted to {len(seen)} known distances" in said and "off by 0.0% at most" in said
    assert run(*command, "--image", "other") == 2
    assert "no image named 'other' among 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (["points.cvs"], "no such file"),
        (["3,4,x"], "expected x,y,metres as numbers for each point, or one file"),
        (["points.csv", "3,4,5"], "expected x,y,metres as numbers for each point, or one file"),
    ],
)
def test_points_that_are_neither(scene, capsys, monkeypatch, points, said):
    monkeypatch.chdir(scene)
    assert run("calibrate", "photo_disparity.npz", *points) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_the_commands_of_the_page(scene, monkeypatch):
    """Those of docs/metric.md in bash blocks, with the files that they name."""
    monkeypatch.chdir(scene)
    Image.open(ROOT / "examples/kodak_08.jpg").resize((64, 48)).save("photo.jpg")
    disparity = Predictor("nano")("photo.jpg").disparity
    known = [f"{x},{y},{1 / (0.1 + disparity[y, x])}" for y in range(2, 48, 6) for x in range(2, 64, 8)]
    Path("points.csv").write_text("\n".join(["x,y,metres", *known]))
    blocks = (ROOT / "docs/metric.md").read_text().split("```bash\n")[1:]
    lines = [line for block in blocks for line in block.split("```")[0].splitlines() if not line.startswith("#")]
    assert len(lines) >= 2
    for line in lines:
        main(shlex.split(line)[1:])
    assert load("metres/photo_depth_m.npz").valid.any()
