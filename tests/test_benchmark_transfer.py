"""The experiments of metric fine-tuning and segmentation, at smoke size."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from scene_shards import scene

from depth_anything.data.shards import write_shard

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    for part, first in (("training", 0), ("held_out", 100)):
        write_shard(folder / part / "scenes-00000.tar", [scene(seed, 48, 64) for seed in range(first, first + 2)])
    return folder


def run(script: str, scenes: Path, out: Path, *arguments: str) -> str:
    command = [sys.executable, BENCHMARKS / script, "--scenes", scenes, "--out", out, "--threads", "1", *arguments]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_metric_nano(scenes, tmp_path):
    asked = ("--seeds", "0", "1", "--samples", "64", "--side", "64", "--heads", "sigmoid", "log", "camera")
    said = run("metric_nano.py", scenes, tmp_path, *asked)
    results = json.loads((tmp_path / "results.json").read_text())
    runs = {f"{head}-{seed}" for head in ("sigmoid", "log", "camera") for seed in (0, 1)}
    assert runs < results.keys() and {"median of training", "best constant"} < results.keys()
    assert results["median of training"]["all"]["abs_rel"] > 0 and results["log-0"]["all"]["images"] == 2
    each = [results[f"sigmoid-{seed}"]["all"]["abs_rel"] for seed in (0, 1)]
    assert f"| sigmoid | {each[0]:.3f}, {each[1]:.3f} |" in said and "log minus sigmoid, seed by seed" in said
    weights = (tmp_path / "log-0" / "final.safetensors").stat().st_mtime_ns
    assert run("metric_nano.py", scenes, tmp_path, *asked) == said
    assert (tmp_path / "log-0" / "final.safetensors").stat().st_mtime_ns == weights


@pytest.mark.slow
def test_segmentation_nano(scenes, tmp_path):
    said = run("segmentation_nano.py", scenes, tmp_path, "--seeds", "0", "1", "--steps", "1")
    results = json.loads((tmp_path / "results.json").read_text())
    assert results.keys() == {f"{name}-{seed}" for name in ("probe", "random", "tuned", "scratch") for seed in (0, 1)}
    assert "probe / random, seed by seed" in said and "tuned minus scratch" in said
    refused = subprocess.run(
        [sys.executable, BENCHMARKS / "segmentation_nano.py", "--scenes", scenes, "--out", tmp_path, "--steps", "2"],
        capture_output=True,
        text=True,
    )
    assert refused.returncode and "holds another recipe" in refused.stderr
