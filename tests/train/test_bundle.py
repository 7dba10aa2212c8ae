"""The bundled files from a run's weights."""

import numpy as np
import pytest
import torch
from benchmark_scripts import SCRIPTS, script
from PIL import Image

from depth_anything.checkpoints.official import save
from depth_anything.network.efficientnet import ConvNorm
from depth_anything.network.model import DepthAnything
from depth_anything.predict.backends import load_backend
from depth_anything.train.learning_rates import size_to_initial

bundled_files = script("bundle", SCRIPTS)
bundle, mean_of = bundled_files.bundle, bundled_files.mean_of


def seen() -> DepthAnything:
    """Nano with statistics that are not those of nothing seen."""
    torch.manual_seed(0)
    model = DepthAnything("nano").eval()
    for name, buffer in model.named_buffers():
        buffer.copy_(torch.rand(buffer.shape) * 0.4 + (0.8 if name.endswith("var") else -0.2))
    return model


def test_absorbed_normalisation_predicts_the_same_and_is_powers_of_two_and_bias():
    model = seen()
    image_13HW = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        expected = model(image_13HW)
    bundled_files.absorb(model)
    with torch.inference_mode():
        torch.testing.assert_close(model(image_13HW), expected, rtol=1e-5, atol=1e-5)
    for part in model.modules():
        if isinstance(part, ConvNorm):
            weight, bias = part.folded()
            power_C = part.norm.weight
            assert torch.equal(weight, part.conv.weight * power_C[:, None, None, None])
            assert torch.equal(bias, part.norm.bias) and torch.equal(power_C.log2(), power_C.log2().round())
            rounded = part.conv.weight.half().float() * power_C[:, None, None, None]
            torch.testing.assert_close(
                weight.half().float(), rounded, rtol=0, atol=1e-6
            )  # but for the smallest numbers


def test_scaling_the_decoder_balances_its_layers_and_leaves_the_map_to_the_last_bit():
    model = seen()
    scratch = model.depth_head.scratch
    torch.nn.init.constant_(scratch.output_conv2[2].bias, 5.0)  # type: ignore[arg-type]
    small = (scratch.refinenet1.out_conv, scratch.output_conv1, scratch.output_conv2[0])
    for layer in small:
        layer.weight.data.div_(64)  # type: ignore[union-attr]
    image_13HW = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        expected = model(image_13HW)
    sizes = [size_to_initial(layer) for layer in small]
    bundled_files.scale_decoder(model, -3)
    with torch.inference_mode():
        assert torch.equal(model(image_13HW), expected / 8)
    found = [size_to_initial(layer) for layer in small]
    assert max(sizes) < 0.03 and min(found) > 1.9 * max(sizes)


@pytest.mark.slow
def test_both_files_hold_the_same_rounded_numbers(tmp_path):
    model = seen()
    torch.nn.init.constant_(model.depth_head.scratch.output_conv2[2].bias, 700.0)  # type: ignore[arg-type]
    save(model, tmp_path / "final.safetensors")
    bundle(tmp_path / "final.safetensors", out=tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 2
    files = [tmp_path / "out" / name for name in ("nano.safetensors", "nano.onnx")]
    assert sum(file.stat().st_size for file in files) < 26e6
    image_HW3 = np.asarray(Image.effect_noise((60, 80), 50).convert("RGB"))
    in_torch = DepthAnything.from_pretrained(files[0])
    in_onnx = load_backend(files[1])
    (found_HW,), expected_HW = in_onnx([image_HW3], 224), in_torch.infer_rgb(image_HW3)
    assert np.abs(found_HW - expected_HW).max() < 1e-4 * expected_HW.max()
    plain_HW = model.infer_rgb(image_HW3)
    assert plain_HW.min() > 500 and 0.5 < expected_HW.max() < 2  # the scale, which the loss leaves to chance
    factor = expected_HW.max() / plain_HW.max()
    assert np.abs(expected_HW / factor - plain_HW).max() < 1e-3 * plain_HW.max()
    assert not np.array_equal(expected_HW, plain_HW * 2.0 ** np.round(np.log2(factor))), "the numbers were not rounded"


def test_of_several_runs_the_mean_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(bundled_files, "export", lambda model, path, options: path.write_bytes(b"slow to make"))
    models = [DepthAnything("nano").eval() for _ in range(3)]
    for number, model in enumerate(models):
        torch.nn.init.constant_(model.depth_head.scratch.output_conv2[2].bias, 10.0 + number)  # type: ignore[arg-type]
        save(model, tmp_path / f"{number}.safetensors")
    for model in models:
        bundled_files.absorb(model)
    states = [model.state_dict() for model in models]
    expected = {key: (states[0][key] + states[1][key] + states[2][key]) / 3 for key in states[0]}
    found = mean_of(models).state_dict()
    assert all(torch.allclose(found[key], expected[key], atol=1e-6) for key in expected)

    files = [tmp_path / f"{number}.safetensors" for number in range(3)]
    bundle(files[0], tuple(files[1:]), tmp_path / "out")
    bundled = DepthAnything.from_pretrained(tmp_path / "out" / "nano.safetensors").state_dict()
    last = "depth_head.scratch.output_conv2.2.bias"
    for key in ("pretrained.blocks.2.project.conv.weight", "depth_head.scratch.layer1_rn.weight"):
        assert torch.allclose(bundled[key], expected[key], rtol=1e-3, atol=1e-6)
    assert np.log2(expected[last].item() / bundled[last].item()) == pytest.approx(3, abs=1e-2)  # 11 to about one


def test_another_model_is_refused(tmp_path):
    save(DepthAnything("nano"), tmp_path / "nano.safetensors")
    save(DepthAnything("v2-small"), tmp_path / "small.safetensors")
    with pytest.raises(ValueError, match="holds v2-small: expected nano"):
        bundle(tmp_path / "nano.safetensors", (tmp_path / "small.safetensors",), tmp_path / "out")
    assert not (tmp_path / "out").exists()
