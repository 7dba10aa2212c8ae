"""The bundled files from a run's weights."""

import numpy as np
import pytest
import torch
from PIL import Image

from depth_anything.backends import load_backend
from depth_anything.checkpoints import save
from depth_anything.model import DepthAnything
from depth_anything.train.bundle import bundle, mean_of


def test_both_files_hold_the_same_rounded_numbers(tmp_path):
    torch.manual_seed(0)
    model = DepthAnything("nano").eval()
    torch.nn.init.constant_(model.depth_head.scratch.output_conv2[2].bias, 0.5)  # type: ignore[arg-type]
    save(model, tmp_path / "final.safetensors")
    bundle((tmp_path / "final.safetensors",), tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 2
    files = [tmp_path / "out" / name for name in ("nano.safetensors", "nano.onnx")]
    assert sum(file.stat().st_size for file in files) < 16 * 2**20
    image_HW3 = np.asarray(Image.effect_noise((60, 80), 50).convert("RGB"))
    in_torch = DepthAnything.from_pretrained(files[0])
    in_onnx = load_backend(files[1])
    (found_HW,), expected_HW = in_onnx([image_HW3], 168), in_torch.infer_rgb(image_HW3)
    assert np.abs(found_HW - expected_HW).max() < 1e-4 * expected_HW.max()
    assert not np.array_equal(expected_HW, model.infer_rgb(image_HW3)), "the numbers were not rounded"


def test_another_model_is_refused(tmp_path):
    save(DepthAnything("v2-small"), tmp_path / "small.safetensors")
    with pytest.raises(ValueError, match="holds v2-small: expected nano"):
        bundle((tmp_path / "small.safetensors",), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_several_runs_are_averaged_number_by_number(tmp_path):
    paths, states = [], []
    for seed in range(3):
        torch.manual_seed(seed)
        model = DepthAnything("nano")
        paths.append(tmp_path / f"{seed}.safetensors")
        save(model, paths[-1])
        states.append(model.state_dict())
    mean = mean_of(paths).state_dict()
    assert mean.keys() == states[0].keys()
    for key, tensor in mean.items():
        torch.testing.assert_close(tensor, (states[0][key] + states[1][key] + states[2][key]) / 3)


def test_a_mean_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no weights are given"):
        mean_of([])
