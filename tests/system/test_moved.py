"""What could be imported from version 0.1 goes on importing, with a warning that names the new place."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from depth_anything.system.moved import MOVED, PACKAGE, RENAMED, old_name

DOCUMENTED = [
    ("camera", "mean_focal"),
    ("checkpoints", "load"),
    ("checkpoints", "save"),
    ("checkpoints", "save_transformers"),
    ("cli", "main"),
    ("colormap", "colored"),
    ("data.labeled.scenes", "PackedScenes"),
    ("export", "ExportOptions"),
    ("export", "export"),
    ("files", "atomic_path"),
    ("image_io", "PictureError"),
    ("image_io", "info"),
    ("image_io", "read"),
    ("label_runs", "Asked"),
    ("label_runs", "label"),
    ("model", "DepthAnything"),
    ("outputs", "load"),
    ("outputs", "save"),
    ("prediction", "Prediction"),
    ("predictor", "Predictor"),
    ("train.recipes", "Recipe"),
    ("train.recipes", "get_recipe"),
    ("train.recipes", "v1_student"),
    ("train.recipes", "v2_student"),
    ("video", "convert"),
]
"""(module, name) as the documentation of version 0.1 showed them."""


def test_documented_names_are_found_under_their_old_paths():
    """In a process of its own, which has imported nothing yet."""
    program = "".join(
        f"from {PACKAGE}{module} import {name} as found; print(found.__module__)\n" for module, name in DOCUMENTED
    )
    command = [sys.executable, "-W", "always::DeprecationWarning", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    for (module, _), home in zip(DOCUMENTED, done.stdout.split(), strict=True):
        assert f"{PACKAGE}{module} moved to" in done.stderr
        assert home.removeprefix(PACKAGE) in MOVED[module]


def test_every_old_path_leads_to_modules_that_exist():
    for new in {name for names in MOVED.values() for name in names}:
        assert importlib.util.find_spec(PACKAGE + new) is not None, new


def test_renamed_functions_and_unknown_names():
    for (module, name), new in RENAMED.items():
        homes = [importlib.import_module(PACKAGE + home) for home in MOVED[module]]
        assert old_name(module, name) in [getattr(home, new, None) for home in homes]
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        old_name("camera", "nonsense")
    with pytest.raises(ImportError):
        importlib.import_module(PACKAGE + "nonsense")


def test_importing_a_module_of_a_room_imports_nothing_that_the_old_module_needed():
    program = "import sys; from depth_anything.checkpoints import file_metadata, hub; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2]).returncode == 0


def test_the_bundled_model_predicts_without_torch():
    program = """
import sys
sys.modules["torch"] = None
import numpy as np
from depth_anything import Predictor
print(Predictor("nano")(np.zeros((60, 80, 3), np.uint8)).disparity.shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    assert done.stdout.strip() == "(60, 80)", done.stderr
