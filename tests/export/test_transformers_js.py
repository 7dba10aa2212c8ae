"""The folder for transformers.js, in the real library under node, and its file in ONNX Runtime."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from npm import absent, installed
from tiny_models import random_model, tiny

from depth_anything.__main__ import main
from depth_anything.export import export_model, transformers_js
from depth_anything.export.options import ExportOptions
from depth_anything.images.read import read_image
from depth_anything.network.resize import to_tensor
from depth_anything.predict.backends import NANO_ONNX
from depth_anything.predict.predictor import Predictor
from depth_anything.variants import VARIANTS

ROOT = Path(__file__).parents[2]
IMAGES = [ROOT / "examples/kodak_24.jpg", ROOT / "examples/kodak_19.jpg"]
"""A landscape and a portrait."""
OPTIONS = ExportOptions(to="transformers-js")


def in_node(folder: Path, out: Path, dtype: str = "fp32", images=()) -> list[np.ndarray]:
    """What transformers.js makes of a folder: see depth_in_node.mjs."""
    node = shutil.which("node")
    if node is None:
        absent("node is absent: make system installs it")
    packages = installed("@huggingface/transformers", "4.3.2")
    out.mkdir(exist_ok=True)
    script = Path(__file__).with_name("depth_in_node.mjs")
    run = subprocess.run(
        [str(node), str(script), str(packages), str(folder), dtype, str(out), *map(str, images)],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    told = json.loads(run.stdout.splitlines()[-1])
    for image, one in zip(images, told, strict=False):
        assert one["levels"] == list(read_image(image).shape[1::-1])
    return [np.fromfile(out / f"{i}.f32", "<f4").reshape(one["shape"]) for i, one in enumerate(told)]


def test_the_file_takes_pixels_and_gives_the_same_map(tmp_path):
    path = tmp_path / "model.onnx"
    shutil.copy(NANO_ONNX, path)
    transformers_js.adapt(path, OPTIONS, "disparity")
    session = onnxruntime.InferenceSession(path)
    assert [one.name for one in session.get_inputs()] == ["pixel_values"]
    assert [one.name for one in session.get_outputs()] == ["predicted_depth"]
    nano = Predictor("nano", threads=1)
    for image in IMAGES:
        image_HW3 = read_image(image)[::2, ::2]
        pixels_13HW = image_HW3.transpose(2, 0, 1)[None].astype(np.float32)
        expected_HW = nano(image_HW3).values
        found_1HW = np.asarray(session.run(None, {"pixel_values": pixels_13HW})[0])
        assert np.abs(found_1HW[0] - expected_HW).max() <= 1e-5 * np.ptp(expected_HW)
    with pytest.raises(ValueError, match="export the model again"):
        Predictor(path)  # it is not for this package


@pytest.mark.slow
def test_the_pipeline_gives_the_commands_map(tmp_path, capsys):
    folder = tmp_path / "nano-js"
    main(["export", "nano", "--to", "transformers-js", "-o", str(folder)])
    assert str(folder) in capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "config.json", "onnx", "preprocessor_config.json",
    ]  # fmt: skip
    found = in_node(folder, tmp_path / "out", images=IMAGES)
    out = tmp_path / "command"
    main(["predict", *map(str, IMAGES), "-o", str(out), "--save", "npy"])
    for image, found_HW in zip(IMAGES, found, strict=True):
        expected_HW = np.load(out / f"{image.stem}_disparity.npy")
        assert found_HW.shape == expected_HW.shape
        assert np.abs(found_HW - expected_HW).max() <= 1e-3 * np.ptp(expected_HW)


@pytest.mark.slow
@pytest.mark.parametrize("half", [False, True], ids=["fp32", "half"])
def test_bare_leaves_resizing_to_the_library(half, tmp_path):
    variant = tiny()
    model = random_model(variant)
    folder = tmp_path / "tiny-js"
    export_model.export_folder(model, folder, replace(OPTIONS, bare=True, half=half), tuple(IMAGES))
    config = json.loads((folder / "preprocessor_config.json").read_text())
    assert config["ensure_multiple_of"] == variant.patch and config["size"] == {"height": 70, "width": 70}
    out = tmp_path / "out"
    out.mkdir()
    input_23hw = torch.cat([to_tensor(read_image(image)[:300, :300], (70, 84)) for image in IMAGES])
    input_23hw.numpy().tofile(out / "input.f32")
    (out / "input.json").write_text(json.dumps(input_23hw.shape))
    *maps, found_2hw = in_node(folder, out, "fp16" if half else "fp32", IMAGES)
    with torch.no_grad():
        expected_2hw = model(input_23hw).numpy()
    assert found_2hw.shape == (2, 70, 84)  # a batch
    assert np.abs(found_2hw - expected_2hw).max() <= (2e-2 if half else 1e-4) * np.ptp(expected_2hw)
    for image, map_HW in zip(IMAGES, maps, strict=True):
        assert map_HW.shape == read_image(image).shape[:2]


def test_what_does_not_go_together_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(export_model, "export", lambda *_: pytest.fail("exported before the check"))
    model = random_model(tiny())
    for options, told in (
        (replace(OPTIONS, int8=True, calibrate=tuple(IMAGES)), "not --int8"),
        (replace(OPTIONS, fp16=True), "not --int8, --fp16"),
        (replace(OPTIONS, bare=True, size=(70, 70)), "not --int8, --fp16 or --size"),
    ):
        with pytest.raises(ValueError, match=told):
            export_model.export_folder(model, tmp_path / "new", options)
    with pytest.raises(ValueError, match="ZoeDepth"):
        transformers_js.check(VARIANTS["v1-metric-nyu-large"], tmp_path / "new", OPTIONS)
    with pytest.raises(ValueError, match="knows no camera"):
        transformers_js.check(tiny(canonical_focal=500.0), tmp_path / "new", OPTIONS)
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(ValueError, match="has other contents"):
        export_model.export_folder(model, tmp_path, OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    "variant",
    [tiny(encoder="efficientnet", patch=32), VARIANTS["v2-small"], VARIANTS["v2-metric-indoor-small"]],
    ids=["efficientnet", "relative", "metric"],
)
def test_the_configuration_of_every_family(variant):
    config = transformers_js.config(variant)
    assert config["model_type"] == "depth_anything"  # by which the library chooses its class
    assert config["depth_estimation_type"] == ("relative" if variant.quantity == "disparity" else "metric")
    assert ("backbone_config" in config) == (variant.encoder == "dinov2")
    assert transformers_js.preprocessor_config(variant, bare=True)["ensure_multiple_of"] == variant.patch
    card = transformers_js.readme(variant, "folder", half=False)
    assert variant.licence in card and 'pipeline("depth-estimation", "folder", { dtype: "fp32" })' in card
