"""The benchmark scripts run: what they print elsewhere is their result, here only that they print it."""

import os
import subprocess
import sys

import numpy as np
import pytest
from benchmark_scripts import BENCHMARKS, script


@pytest.mark.slow
def test_gpu_in_its_smoke_mode(monkeypatch):
    """Ours and transformers; the official code is not in the repository."""
    pytest.importorskip("transformers")
    monkeypatch.syspath_prepend(BENCHMARKS)
    gpu = script("gpu")
    lines = list(gpu.run(gpu.SMOKE))
    for what in ("inference, ours", "inference, transformers, sdpa", "labelling, ours", "training step, ours"):
        assert any(line.startswith(f"| v2-small | {what}") for line in lines), what
    assert all(line.endswith("| nan |") for line in lines if "v2-small" in line)  # all ran: no memory figure here


def test_gpu_says_what_did_not_run(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    gpu = script("gpu")
    for name in ("inference", "transformers_network", "labelling"):
        monkeypatch.setattr(gpu, name, lambda *_: 1 / 0)
    monkeypatch.setattr(gpu, "training", lambda *_: (0.5, float("nan")))
    lines = list(gpu.run(gpu.SMOKE))
    assert any("inference, ours" in line and "did not run: division by zero" in line for line in lines)
    assert any("training step" in line and "| 500.0 | 4.0 |" in line for line in lines)


def test_a_folder_of_images(tmp_path):
    text = script("folder").run(tmp_path, images=4, rounds=1, threads=1)
    assert "| predict --save png16 |" in text and "| the bare network |" in text
    assert len(list((tmp_path / "out").glob("*_disparity.png"))) == 4


@pytest.mark.slow
@pytest.mark.parametrize("colours", [False, True])
def test_feeding(colours, monkeypatch):
    """Both ways read; with colours only threads."""
    feeding = script("feeding")
    monkeypatch.setattr(feeding, "SIZE", (300, 200))
    monkeypatch.setattr(feeding, "MAP", (112, 168))
    text = feeding.run(seconds=0.01, rounds=1, batch=3, images=3, readers=(2,), workers=(1,), colours=colours)
    assert "| threads: 2 |" in text and ("| worker processes: 1 |" in text) == (not colours)
    assert "| decode the JPEG |" in text and "(target: 400)" in text


def test_the_seam_of_a_known_step():
    tiles = script("tiles")
    grid = tiles.cover(96, 128, 2)
    left = max(tile.left for tile in grid)
    assert left > 0
    ramp = np.linspace(0, 1, 128) + np.zeros((96, 1))
    assert tiles.seam_step(ramp, grid) == pytest.approx(1 / 127)
    assert tiles.seam_step(0.25 * (np.arange(128) >= left) + np.zeros((96, 1)), grid) == pytest.approx(0.25)
    assert tiles.seam_step(0.25 * (np.arange(128) >= left + 5) + np.zeros((96, 1)), grid) == 0  # an edge of the scene


def test_steps_of_panoramas_in_closed_form():
    panorama = script("panorama")
    ramp = np.tile(np.linspace(0, 1, 128), (64, 1))
    assert panorama.edge_step(ramp) == pytest.approx(1 / 0.96, rel=0.02)
    assert panorama.border_step(ramp) == pytest.approx(1)
    view = panorama.panorama.views()[2]
    inside = (np.abs(view.locate(panorama.sphere.directions(64, 128))[0]) < 1).all(axis=2)
    assert panorama.border_step(ramp + inside) > 5  # a view that stands out
    inverse = 1 / np.random.default_rng(0).uniform(1, 5, (64, 128))
    assert panorama.errors(3 * inverse + 1, inverse) == pytest.approx((0, 1), abs=1e-3)


def test_a_mosaic_has_no_holes():
    image = np.asarray(script("tiles").mosaic(1000, 1300))
    assert image.shape == (1300, 1000, 3)
    assert (image.reshape(13, 100, 10, 100, 3).std((1, 3)).max(-1) > 0).all()


def test_the_bytes_until_the_first_map(tmp_path):
    for name, size in (
        ("index.html", 10_000),
        ("models/nano.onnx", 30_000),
        ("static/vendor/onnxruntime-web/x", 60_000),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    sent = [path for path in tmp_path.rglob("*")]
    *_, browser, model, page, whole = script("page").downloads(tmp_path, [*sent, *sent])  # twice: once from the cache
    assert [row.split("|")[2].strip() for row in (browser, model, page, whole)] == ["0.06", "0.03", "0.01", "0.10"]


@pytest.mark.slow
def test_tiles_and_upscaling_against_rendered_ground_truth(renderer, tmp_path):
    tiles = script("tiles")
    folder = tiles.render_to(tmp_path / "scenes", 1, size=(160, 128))
    cases = tiles.rendered.read(folder)
    ways = tiles.all_ways("nano", [2], [2], threads=1)
    text = tiles.accuracy(cases, ways, "nano") + tiles.memory(cases[0], ways, "nano", 1, large=(400, 300))
    for name in ("whole", "`--tiles 2`", "`--upscale 2`"):
        assert text.count(f"| {name} |") == 2, name
    assert "| 2 tiles, taken whole |" in text
    assert [len(way.seams) for way in ways] == [0, 1, 0, 1] and ways[1].seams[0] < 0.01


@pytest.mark.slow
def test_panoramas_against_rendered_ground_truth(renderer, tmp_path):
    panorama = script("panorama")
    files = panorama.render_to(tmp_path, 1, height=96)
    with np.load(files[0]) as scene:
        assert scene["image"].shape == (96, 192, 3) and scene["image"].std() > 5 and scene["inverse"].max() > 0.1
    text = panorama.table(files, panorama.all_ways(panorama.Predictor("nano")), "nano")
    assert text.count("\n| ") == 7 and "| `--panorama` |" in text


@pytest.mark.slow
def test_peers_with_nano(tmp_path):
    """Without the official code: ours in every runtime, a cold start, batches."""
    command = [sys.executable, str(BENCHMARKS / "peers.py"), "--models", "nano", "--shapes", "64x96"]
    command += ["--rounds", "2", "--cold-rounds", "1", "--batches", "2", "--work", str(tmp_path), "--threads", "1"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for name in ("ours, torch", "ours, ONNX Runtime", "ours, OpenVINO"):
        assert run.stdout.count(f"| {name} |") >= 2, name


@pytest.mark.slow
def test_kills_while_states_are_saved(tmp_path):
    command = [sys.executable, BENCHMARKS / "checkpoints.py", "kills", "--number", "3", "--folder", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert "3 kills, " in done.stdout and "no whole state lost" in done.stdout and "bit for bit" in done.stdout


@pytest.mark.slow
def test_parts_of_a_step_add_up():
    profile = script("step_profile")
    rows = [float(line.split("|")[3]) for line in profile.flop_parts("v2-student-small")]
    encoder, decoder, backward, frozen = rows
    assert (
        encoder == frozen and 1.8 < backward / (encoder + decoder) < 2.5
    )  # the backward pass is twice the forward one
    assert len(list(profile.loss_times(28, 2, 1))) == 4 and len(list(profile.operators("nano-vit-student"))) == 14
