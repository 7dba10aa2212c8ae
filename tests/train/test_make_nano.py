"""`make nano`, stopped and started as on a machine that is lent for minutes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from depth_anything import Predictor
from depth_anything.checkpoints.official import load

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_make_nano_resumes_and_ends_with_both_files(tmp_path, processes):
    command = ["make", "nano", f"DEV={sys.prefix}", f"NANO={tmp_path}", "SIZE=0.0015", f"PROCESSES={processes}"]
    first = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)
    teacher, until = tmp_path / "teacher", time.monotonic() + 300
    while not (teacher / "curve.jsonl").exists() and time.monotonic() < until:
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGTERM)  # as `timeout` does
    assert first.wait(300) != 0
    stopped = len((teacher / "curve.jsonl").read_text().splitlines())
    assert (teacher / "state.pt").exists() and not (teacher / "final.safetensors").exists()

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    recipe = json.loads((teacher / "recipe.json").read_text())
    steps = sum(stage["samples"] // stage["batch"] for stage in recipe["stages"])
    lines = [json.loads(line) for line in (teacher / "curve.jsonl").read_text().splitlines()]
    assert stopped < steps and [line["step"] for line in lines if "samples" in line] == list(range(1, steps + 1))
    assert "resuming after step" in done.stderr
    state, row = load(tmp_path / "mean" / "nano.safetensors")
    assert row.name == "nano"
    key = "depth_head.scratch.layer1_rn.weight"
    runs = [load(tmp_path / run / "final.safetensors")[0][key] for run in ("teacher", "finish-1", "finish-2")]
    assert len({float(run.sum()) for run in runs}) == 3, "the short runs did not move, or have one seed"
    assert torch.allclose(state[key], torch.stack(runs).mean(0), rtol=1e-3, atol=1e-6)
    outlines, _ = load(tmp_path / "outlines" / "final.safetensors")
    assert not torch.equal(outlines[key], state[key]), "the run for outlines did not move"
    encoder = "pretrained.blocks.0.project.conv.weight"
    assert torch.equal(outlines[encoder], state[encoder]), "its encoder is frozen"
    last, _ = load(tmp_path / "long" / "final.safetensors")
    assert not torch.equal(last[encoder], outlines[encoder]), "the last run's encoder learns"
    answer = Predictor(str(tmp_path / "nano.onnx"))(ROOT / "examples" / "kodak_08.jpg")
    assert answer.disparity.max() > answer.disparity.min()
