"""The bundled files from a run's weights."""

import numpy as np
import pytest
import torch
from PIL import Image

from depth_anything.backends import load_backend
from depth_anything.checkpoints import save
from depth_anything.model import DepthAnything
from depth_anything.train.bundle import bundle


def test_both_files_hold_the_same_rounded_numbers(tmp_path):
    torch.manual_seed(0)
    model = DepthAnything("nano").eval()
    torch.nn.init.constant_(model.depth_head.scratch.output_conv2[2].bias, 700.0)  # type: ignore[arg-type]
    save(model, tmp_path / "final.safetensors")
    bundle(tmp_path / "final.safetensors", tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 2
    files = [tmp_path / "out" / name for name in ("nano.safetensors", "nano.onnx")]
    assert sum(file.stat().st_size for file in files) < 16 * 2**20
    image_HW3 = np.asarray(Image.effect_noise((60, 80), 50).convert("RGB"))
    in_torch = DepthAnything.from_pretrained(files[0])
    in_onnx = load_backend(files[1])
    (found_HW,), expected_HW = in_onnx([image_HW3], 168), in_torch.infer_rgb(image_HW3)
    assert np.abs(found_HW - expected_HW).max() < 1e-4 * expected_HW.max()
    plain_HW = model.infer_rgb(image_HW3)
    assert plain_HW.min() > 500 and 0.5 < expected_HW.max() < 2  # the scale, which the loss leaves to chance
    factor = expected_HW.max() / plain_HW.max()
    assert np.abs(expected_HW / factor - plain_HW).max() < 1e-3 * plain_HW.max()
    assert not np.array_equal(expected_HW, plain_HW * 2.0 ** np.round(np.log2(factor))), "the numbers were not rounded"


def test_another_model_is_refused(tmp_path):
    save(DepthAnything("v2-small"), tmp_path / "small.safetensors")
    with pytest.raises(ValueError, match="holds v2-small: expected nano"):
        bundle(tmp_path / "small.safetensors", tmp_path / "out")
    assert not (tmp_path / "out").exists()
