"""The three steps of the papers from nothing: `make engine`, and the same by commands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from depth_anything.__main__ import main

EXAMPLES = Path(__file__).parents[2] / "examples"
ENGINE = Path(__file__).parents[2] / "scripts" / "engine.py"
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("renderer")]


def test_engine_ends_in_a_table_and_resumes(tmp_path):
    command = [sys.executable, str(ENGINE), "--out", str(tmp_path), "--size", "0.002"]
    command += ["--photos", str(EXAMPLES)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    first = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert first.returncode == 0, first.stderr[-2000:]
    assert "held-out scenes  teacher" in first.stdout and "held-out scenes  student" in first.stdout
    rows = json.loads((tmp_path / "table.json").read_text())
    assert [row["model"] for row in rows] == ["teacher", "student"] and all(row["all"]["pairs"] for row in rows)
    again = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert again.stdout == first.stdout and "step 1  samples" not in again.stderr


def test_the_three_commands(tmp_path, capsys):
    teacher, labels, student = (tmp_path / name for name in ("teacher", "labels", "student"))
    main(["train", "nano-teacher", str(teacher), "--size", "0.002"])
    weights = teacher / "final.safetensors"
    main(["label", str(EXAMPLES), str(labels), "--teacher", str(weights)])
    asked = ["--pseudo-labels", str(labels), "--scenes", str(teacher / "scenes")]
    main(["train", "nano-student", str(student), "--size", "0.002", *asked])
    online = ["--teacher", str(weights), "--data", f"pictures={EXAMPLES}", *asked[2:]]
    main(["train", "nano-student", str(tmp_path / "online"), "--size", "0.002", *online])
    for folder in (student, tmp_path / "online"):
        assert (folder / "final.safetensors").exists()
        line = json.loads((folder / "curve.jsonl").read_text().splitlines()[0])
        assert {"labeled", "unlabeled", "feature", "tokens_kept", "images_per_second"} <= set(line)
