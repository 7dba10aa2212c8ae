"""The whole way from odd files to maps: the command over folders of good, broken and damaged images."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sample_images import seeds

from depth_anything.images.read import image_info


def predict(folder: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "depth_anything", "predict", str(folder), "-o", str(out), "--save", "npz"]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=500)


@pytest.mark.slow
def test_good_files_give_maps_and_broken_ones_a_line_each(shared, tmp_path):
    valid, broken = (sorted((shared / "data/odd_images" / kind).iterdir()) for kind in ("valid", "broken"))
    for path in (*valid, *broken):
        shutil.copy(path, tmp_path)
    done = predict(tmp_path, tmp_path / "out")
    assert done.returncode == 1, "some failed, the rest is done"
    for path in valid:
        about = image_info(path)
        with np.load(tmp_path / f"out/{path.stem}_disparity.npz") as archive:
            disparity = archive["disparity"]
        assert disparity.shape == (about.height, about.width) and np.isfinite(disparity).all(), path.name
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert sorted(line.split(": ")[1] for line in errors) == sorted(str(tmp_path / path.name) for path in broken)
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == len(errors)


def test_damaged_files_do_not_stop_the_command(tmp_path):
    """Every format, cut in the middle, beside one whole image."""
    whole = seeds()
    for name, data in whole.items():
        (tmp_path / name).write_bytes(data[: len(data) // 3])
    (tmp_path / "whole.png").write_bytes(whole["rgb.png"])
    done = predict(tmp_path, tmp_path / "out")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["whole_disparity.npz"]
    assert sum(line.startswith("error: ") for line in done.stderr.splitlines()) == len(whole)
