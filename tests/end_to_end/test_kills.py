"""kill -9 at a few random moments; benchmarks/kills.py takes more of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("av")
ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="processes are forked")
def test_killed_anywhere_a_command_ends_as_if_undisturbed():
    words = [sys.executable, "benchmarks/kills.py", "--moments", "2", "--only", "video,label,predict"]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("0 faults") == 3
