"""The experiments of metric fine-tuning and segmentation, at smoke size."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from test_labeled_scenes import scene

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
    said = run("metric_nano.py", scenes, tmp_path, "--seeds", "0", "--size", "0.008")
    results = json.loads((tmp_path / "results.json").read_text())
    assert results.keys() == {"constant", "sigmoid-0", "log-0"} and "below the constant's" in said
    assert results["constant"]["all"]["abs_rel"] > 0 and results["log-0"]["all"]["pictures"] == 2


@pytest.mark.slow
def test_segmentation_nano(scenes, tmp_path):
    said = run("segmentation_nano.py", scenes, tmp_path, "--seeds", "0", "--steps", "1")
    results = json.loads((tmp_path / "results.json").read_text())
    assert results.keys() == {"probe-0", "random-0", "tuned-0", "scratch-0"} and "probe / random" in said
