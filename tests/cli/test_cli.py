"""The command: exit codes, one line per error, nothing overwritten, nothing lost."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from command import run
from PIL import Image


@pytest.fixture
def photo(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path / "photo.jpg"
    Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    return path


def test_predict_writes_what_it_names(photo, tmp_path, capsys):
    assert run("predict", photo, "-o", tmp_path / "out", "--save", "color,png16,npz") == 0
    said = capsys.readouterr().out
    for name in ("photo_color.png", "photo_disparity.png", "photo_disparity.npz"):
        assert (tmp_path / "out" / name).is_file()
        assert name in said
    assert "larger is nearer" in said
    disparity = np.load(tmp_path / "out" / "photo_disparity.npz")["disparity"]
    with Image.open(tmp_path / "out" / "photo_disparity.png") as png:
        low, high = float(png.text["disparity_min"]), float(png.text["disparity_max"])
        decoded = low + np.asarray(png, np.float64) / 65535 * (high - low)
        assert png.text["licence"] == "Apache-2.0" and png.text["model"] == "nano"
    assert np.abs(decoded - disparity).max() <= (high - low) / 65535 / 2 * 1.01


def test_one_broken_among_many(photo, tmp_path, capsys):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(photo.read_bytes()[:300])
    assert run("predict", broken, photo, "-o", tmp_path / "out") == 1
    captured = capsys.readouterr()
    assert captured.err.count("error:") == 1 and "broken.jpg" in captured.err
    assert (tmp_path / "out" / "photo_color.png").is_file()


def test_everything_failed(tmp_path, capsys):
    assert run("predict", tmp_path / "absent.jpg", "-o", tmp_path / "out") == 2
    assert "absent.jpg" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_unasked(photo, tmp_path, capsys):
    assert run("predict", photo, "-o", tmp_path / "out") == 0
    before = (tmp_path / "out" / "photo_color.png").stat().st_mtime_ns
    assert run("predict", photo, "-o", tmp_path / "out") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "out" / "photo_color.png").stat().st_mtime_ns == before
    assert run("predict", photo, "-o", tmp_path / "out", "--overwrite") == 0


def test_folders_are_mirrored_and_names_never_collide(photo, tmp_path):
    for name in ("in/a/x.png", "in/b/x.png", "in/b/x.bmp"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.open(photo).save(path)
    assert run("predict", tmp_path / "in", "-o", tmp_path / "out", "--save", "color") == 0
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    assert written == ["a/x_color.png", "b/x.bmp_color.png", "b/x.png_color.png"]


def test_standard_input(photo, tmp_path):
    command = [sys.executable, "-m", "depth_anything", "predict", "-", "-o", str(tmp_path / "out")]
    result = subprocess.run(command, input=photo.read_bytes(), capture_output=True)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "stdin_color.png").is_file()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--save", "gif"], "gif"),
        (["--save", "ply"], "--near --far"),
        (["--save", "npz", "--near", "1", "--far", "9"], "npz would stay disparity"),
        (["--sky-policy", "zero"], "needs a sky mask"),
        (["--model", "v9"], "v9"),
        (["--device", "tpu"], "tpu"),
        (["--intrinsics", "1,2"], "fx,fy,cx,cy"),
        (["--colors", "jet"], "jet"),
        (["--input-size", "0"], "input size 0: expected at least 32 pixels"),
        (["--threads", "0"], "0 threads: expected 1 or more"),
        (["--tiles", "-1"], "-1 tiles along the shorter side"),
    ],
)
def test_bad_options_are_one_line(photo, tmp_path, capsys, options, said):
    assert run("predict", photo, "-o", tmp_path / "out", *options) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error:") and said in error and "\n" not in error
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("below", ["", "folder"])
def test_a_file_where_the_results_should_go(photo, tmp_path, capsys, below):
    (tmp_path / "notes").write_text("kept")
    out = tmp_path / "notes" / below
    for command in (
        ["predict", photo, "-o", out],
        ["render", out, "--count", 1],
        ["export", "nano", "-o", out / "x.onnx"],
    ):
        assert run(*command) == 2
        error = capsys.readouterr().err.strip()
        assert error.startswith(f"error: {out}: a file is there; expected a folder") and "\n" not in error
    assert (tmp_path / "notes").read_text() == "kept"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--batch", "0"], "batch 0, threads None: expected 1 or more"),
        (["--threads", "0"], "batch 8, threads 0: expected 1 or more"),
        (["--input-size", "5"], "input size 5: expected at least 32 pixels"),
        (["--shard-size", "0"], "shards of 0 images: expected 1 or more"),
        (["--unit-size", "0"], "shards of 0 images: expected 1 or more"),
    ],
)
def test_numbers_that_label_nothing(photo, tmp_path, capsys, options, said):
    assert run("label", photo.parent, tmp_path / "out", "--teacher", "nano", *options) == 2
    assert capsys.readouterr().err.strip() == f"error: {said}"


@pytest.mark.skipif(find_spec("s3fs") is not None, reason="s3fs is installed")
def test_a_missing_library_of_a_library_is_one_line(tmp_path, capsys):
    assert run("label", "s3://bucket/photos", tmp_path / "out", "--teacher", "nano") == 2
    assert capsys.readouterr().err.strip() == "error: Install s3fs to access S3"


def test_geometry_needs_two_distances_and_a_camera(photo, tmp_path):
    options = ["--near", "1", "--far", "10", "--fov", "60", "--save", "ply,normals"]
    assert run("predict", photo, "-o", tmp_path / "out", *options) == 0
    assert (tmp_path / "out" / "photo_points.ply").read_bytes().startswith(b"ply")


def test_models_lists_licences(capsys):
    assert run("models") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert "CC-BY-NC-4.0" in lines["v2-large"] and "Apache-2.0" in lines["v2-small"]
    assert "none stated" in lines["v2-metric-indoor-small"]


def test_calibrate_turns_disparity_into_metres(photo, tmp_path, capsys):
    assert run("predict", photo, "-o", tmp_path, "--save", "npz") == 0
    disparity = np.load(tmp_path / "photo_disparity.npz")["disparity"]
    near = np.unravel_index(disparity.argmax(), disparity.shape)
    far = np.unravel_index(disparity.argmin(), disparity.shape)
    points = [f"{near[1]},{near[0]},1.0", f"{far[1]},{far[0]},4.0"]
    assert run("calibrate", tmp_path / "photo_disparity.npz", *points, "-o", tmp_path / "metres") == 0
    depth_m = np.load(tmp_path / "metres" / "photo_depth_m.npz")["depth_m"]
    assert depth_m[near] == pytest.approx(1.0, rel=1e-4) and depth_m[far] == pytest.approx(4.0, rel=1e-4)


def test_evaluate_row_baseline_as_json(shared, capsys):
    assert run("evaluate", "pairs", "--data", shared / "data/pairs/manifest.json", "--model", "row", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["protocol"] == "pairs" and result["model"] == "row"
    for region, floor in {"all": (0.295, 0.591), "indoor": (0.223, 0.626), "outdoor": (0.448, 0.514)}.items():
        assert result[region]["row_abs_rel"] == pytest.approx(floor[0], abs=5e-4)
        assert result[region]["row_delta1"] == pytest.approx(floor[1], abs=5e-4)
