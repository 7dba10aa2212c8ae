"""The benchmark scripts run: what they print elsewhere is their result, here only that they print it."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def script(name: str):
    """A script of benchmarks/ as a module."""
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def test_gpu_in_its_smoke_mode():
    gpu = script("gpu")
    text = gpu.run(gpu.SMOKE)
    for what in ("inference", "labelling", "training step"):
        assert f"| nano | {what}" in text


def test_a_folder_of_pictures(tmp_path):
    text = script("folder").run(tmp_path, pictures=4, rounds=1, threads=1)
    assert "| predict --save png16 |" in text and "| the bare network |" in text
    assert len(list((tmp_path / "out").glob("*_disparity.png"))) == 4


@pytest.mark.slow
def test_peers_with_nano(tmp_path):
    """Without the official code: ours in every runtime, a cold start, batches."""
    command = [sys.executable, str(BENCHMARKS / "peers.py"), "--models", "nano", "--shapes", "56x70"]
    command += ["--rounds", "2", "--cold-rounds", "1", "--batches", "2", "--work", str(tmp_path), "--threads", "1"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    for name in ("ours, torch", "ours, ONNX Runtime", "ours, OpenVINO"):
        assert run.stdout.count(f"| {name} |") >= 2, name
