"""Maps as the readers of nerfstudio and of gaussian splatting take them."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from npm import absent

from depth_anything.images.formats import SaveOptions
from depth_anything.predict.prediction import Prediction

SHAPE = (24, 32)
NAMED = SaveOptions(name="{stem}.{ext}")
NERFSTUDIO = "1.1.5"
READ = """
import json, sys
from pathlib import Path
from nerfstudio.data.utils.data_utils import get_depth_image_from_path
metres = get_depth_image_from_path(Path(sys.argv[1]), height=24, width=32, scale_factor=1e-3)
json.dump(metres[..., 0].tolist(), sys.stdout)
"""


@pytest.mark.slow
def test_nerfstudio_reads_metres(tmp_path):
    """With its own function, and the default unit of its option --depth-unit-scale-factor."""
    pytest.importorskip("torch", reason="the extra torch is not installed")
    pytest.importorskip("cv2", reason="the extra video is not installed")
    depth_m = np.random.default_rng(0).uniform(0.3, 60, SHAPE).astype(np.float32)
    depth_m[2, 3] = 0
    Prediction(depth_m=depth_m).save(tmp_path / "frame_00001", ["png16"], NAMED)
    library = tmp_path / "library"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(library)]
    if subprocess.run([*install, f"nerfstudio=={NERFSTUDIO}"], capture_output=True).returncode:
        absent("nerfstudio cannot be installed")
    done = subprocess.run(
        [sys.executable, "-c", READ, tmp_path / "frame_00001.png"],
        env={**os.environ, "PYTHONPATH": str(library)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = np.array(json.loads(done.stdout))
    np.testing.assert_allclose(found, depth_m, atol=0.5e-3 + 1e-5)
    assert found[2, 3] == 0, "unknown"


def test_gaussian_splatting_fits_scale_and_offset(tmp_path):
    """make_depth_scale.py: grey of 16 bits / (2^16 - 1) is fitted to 1/z of points by median and mean deviation; then
    scale * grey + offset is 1/z for a disparity that is 1/z up to scale and shift."""
    cv2 = pytest.importorskip("cv2", reason="the extra video is not installed")
    inverse_z = np.random.default_rng(1).uniform(0.05, 2, SHAPE)
    Prediction(disparity=(7 * inverse_z - 3).astype(np.float32)).save(tmp_path / "frame_00001", ["png16"], NAMED)
    stored = cv2.imread(str(tmp_path / "frame_00001.png"), cv2.IMREAD_UNCHANGED)
    assert stored.shape == SHAPE and stored.dtype == np.uint16
    grey = stored.astype(np.float32) / (2**16 - 1)
    rows, columns = np.random.default_rng(2).integers(0, 24, (2, 60))
    middles = [np.median(values[rows, columns]) for values in (inverse_z, grey)]
    spreads = [
        np.abs(values[rows, columns] - middle).mean() for values, middle in zip((inverse_z, grey), middles, strict=True)
    ]
    scale = spreads[0] / spreads[1]
    np.testing.assert_allclose(scale * grey + middles[0] - scale * middles[1], inverse_z, atol=1e-4)
