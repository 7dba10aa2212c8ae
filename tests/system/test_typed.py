"""The wheel carries its types: a user's script, read strictly against what is installed."""

import json
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
from pathlib import Path
from typing import Literal, assert_type

import numpy as np

from depth_anything import VARIANTS, DepthAnything, Prediction, Predictor
from depth_anything.images.formats import FORMATS, SaveOptions
from depth_anything.losses import affine_invariant_pair
from depth_anything.predict.prediction import load
from depth_anything.video.run import VideoOptions

predictor = Predictor("nano", device="auto", threads=1)
one: Prediction = predictor("photo.jpg")
many: list[Prediction] = predictor.predict([Path("a.jpg"), b"bytes", np.zeros((4, 5, 3), np.uint8)])
if one.disparity is not None:
    nearest: float = float(one.disparity.max())
metres = one.align_to([(1, 2, 3.0), (4, 5, 6.0)]).with_camera(np.eye(3))
written: list[Path] = metres.save("out/photo", ["color", "npz"], SaveOptions(colors="inferno"), overwrite=True)
again = load(written[1])
assert_type(again.quantity, Literal["disparity", "depth_m"])
points = again.to_points()
print(points.shape, FORMATS["glb"].needs, VARIANTS["nano"].licence)
model = DepthAnything.from_pretrained("nano")
print(model.variant.name, VideoOptions(("color",)), affine_invariant_pair)
"""
WRONG = """
from depth_anything import Predictor

Predictor("nano", dtype="int4")
Predictor("nano")("photo.jpg").colour
"""


@pytest.mark.slow
def test_a_strict_script_against_the_wheel(tmp_path):
    pytest.importorskip("torch", reason="the extra torch is not installed")
    pyright = Path(sys.executable).with_name("pyright")
    if not pyright.exists():
        pytest.skip("pyright is not installed")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT]
    built = subprocess.run(build, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    [wheel] = tmp_path.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv/bin/python"
    site = next((tmp_path / "venv/lib").glob("python*/site-packages"))
    zipfile.ZipFile(wheel).extractall(site)
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))  # the libraries; not the checkout
    assert (site / "depth_anything/py.typed").is_file()
    user = tmp_path / "user"
    user.mkdir()
    (user / "good.py").write_text(SCRIPT)
    (user / "wrong.py").write_text(WRONG)
    (user / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "strict"}))
    command = [pyright, "--pythonpath", python, "--outputjson", "-p", user]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, cwd=user).stdout)
    lines = [f"{Path(row['file']).name}: {row['message']}" for row in found["generalDiagnostics"]]
    assert not [line for line in lines if line.startswith("good.py")], "\n".join(lines)
    assert any("int4" in line for line in lines) and any("colour" in line for line in lines), lines
