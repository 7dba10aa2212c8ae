"""The ZoeDepth head: stage by stage against transformers, its files' names, its road through Predictor."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from depth_anything.checkpoints import official, zoedepth
from depth_anything.export.export_model import export
from depth_anything.network import metric_bins
from depth_anything.network.dpt import Stages
from depth_anything.network.metric_bins import ATTRACTORS, BINS, BinsHead, log_binomial
from depth_anything.network.model import DepthAnything
from depth_anything.network.resize import normalise, resize
from depth_anything.predict.predictor import Predictor
from depth_anything.variants import NANO_VIT, VARIANTS, Variant, with_bins, with_log_head, with_max_depth

GOLDEN_KEYS = Path(__file__).parents[1] / "golden" / "keys"
FEATURES = 24
KINDS = ("softplus", "normed")


def tiny(kind: str) -> Variant:
    row = replace(
        NANO_VIT, name="tiny-bins", version="v1", head="bins", bins="softplus", max_depth=10.0, resize="bilinear"
    )
    return with_bins(replace(row, depth=4, taps=(0, 1, 2, 3), fixed_size=(42, 56), width=48, heads=3), kind)  # type: ignore


def random_stages(seed: int = 0) -> Stages:
    generator = torch.Generator().manual_seed(seed)

    def draw(channels: int, height: int, width: int) -> torch.Tensor:
        return torch.randn(2, channels, height, width, generator=generator)

    paths = (draw(FEATURES, 6, 8), draw(FEATURES, 12, 16), draw(FEATURES, 24, 32), draw(FEATURES, 48, 64))
    return Stages(draw(FEATURES, 3, 4), paths, draw(32, 70, 98).relu(), draw(1, 70, 98).relu())


def oracle(kind: str, max_depth: float, head: BinsHead):
    """transformers' head with the weights of ours."""
    zoedepth = pytest.importorskip("transformers.models.zoedepth.modeling_zoedepth")
    from transformers import ZoeDepthConfig

    config = ZoeDepthConfig(
        bottleneck_features=FEATURES,
        fusion_hidden_size=FEATURES,
        num_relative_features=32,
        bin_centers_type=kind,
        num_attractors=list(ATTRACTORS),
        bin_configurations=[{"n_bins": BINS, "min_depth": 1e-3, "max_depth": max_depth, "name": "x"}],
    )
    theirs = zoedepth.ZoeDepthMetricDepthEstimationHead(config).eval()
    names = {"conv1": "_net.0", "conv2": "_net.2"}
    ours = head.state_dict()
    for key, tensor in theirs.named_parameters():
        part, _, rest = key.rpartition(".conv")
        name = key if not part or key.startswith("conv2") else f"{part}.{names['conv' + rest[0]]}{rest[1:]}"
        tensor.data = ours.pop(name).clone()
    assert not ours
    return theirs


def random_head(kind: str, max_depth: float) -> BinsHead:
    torch.manual_seed(3)
    head = BinsHead(FEATURES, kind, max_depth)  # type: ignore[arg-type]
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return head.eval()


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_every_stage_equals_transformers(kind, monkeypatch):
    max_depth = 10.0
    head, stages = random_head(kind, max_depth), random_stages()
    theirs = oracle(kind, max_depth, head)
    expected: dict[str, torch.Tensor] = {}
    theirs.seed_bin_regressor.register_forward_hook(lambda m, i, o: expected.update(seed=o[1]))
    for index, layer in enumerate(theirs.attractors):
        layer.register_forward_hook(lambda m, i, o, index=index: expected.update({f"centres {index}": o[0]}))
    theirs.conditional_log_binomial.register_forward_hook(lambda m, i, o: expected.update(share=o))
    depth = theirs(stages.activation_BCHW, stages.bottleneck_BFhw, stages.paths, stages.map_B1HW[:, 0])[0][:, 0]

    found: list[torch.Tensor] = []
    plain = metric_bins.attracted
    monkeypatch.setattr(metric_bins, "attracted", lambda c, p: found.append(plain(c, p)) or found[-1])
    shares: list[torch.Tensor] = []
    head.conditional_log_binomial.register_forward_hook(lambda m, i, o: shares.append(o))
    ours = head(stages)

    seed = head.seed_centres(head.conv2(stages.bottleneck_BFhw))
    if kind == "normed":
        seed = 1e-3 + (max_depth - 1e-3) * seed
    assert torch.allclose(seed, expected["seed"], atol=1e-5)
    for index, centres in enumerate(found):
        assert torch.allclose(centres, expected[f"centres {index}"], atol=1e-5), index
    assert len(found) == 4
    assert torch.allclose(shares[0], expected["share"], atol=1e-5)
    assert torch.allclose(ours, depth, atol=1e-5, rtol=1e-5)
    assert ours.shape == (2, 70, 98) and ours.std() > 1e-3


def test_an_attractor_pulls_by_the_inverse_rule():
    centres = torch.tensor([0.0, 1.0, 3.0]).view(1, 3, 1, 1)
    points = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1)
    pull = lambda d: d / (1 + 300 * d * d)  # noqa: E731
    expected = [(pull(1) + pull(2)) / 2, 1 + pull(1) / 2, 3 + (pull(-2) + pull(-1)) / 2]
    assert torch.allclose(metric_bins.attracted(centres, points).flatten(), torch.tensor(expected))


def test_bounded_centres_tile_the_range():
    centres = metric_bins.centres_of_widths(torch.tensor([1.0, 1.0, 2.0]).view(1, 3, 1, 1)).flatten()
    assert torch.allclose(centres, torch.tensor([0.125, 0.375, 0.75]))


def test_the_binomial_peaks_where_its_probability_says():
    shares = log_binomial(torch.tensor([0.1, 0.5, 0.9]).view(3, 1, 1, 1), torch.ones(3, 1, 1, 1))
    assert torch.allclose(shares.sum(1), torch.ones(3, 1, 1))
    mean = (shares * torch.arange(BINS).view(1, -1, 1, 1)).sum(1).flatten()
    assert torch.allclose(mean, 63 * torch.tensor([0.1, 0.5, 0.9]), atol=0.6)
    flat = log_binomial(torch.full((1, 1, 1, 1), 0.5), torch.full((1, 1, 1, 1), 50.0))
    assert flat.max() < shares[1].max()


# -- files --


def test_names_are_those_of_the_released_files():
    row = VARIANTS["v1-metric-nyu-large"]
    shapes = official.official_shapes(row)
    released = {key: tuple(getattr(x, "shape", x)) for key, x in zoedepth.to_zoedepth(dict(shapes)).items()}  # type: ignore
    relative = json.loads((GOLDEN_KEYS / "official_v1_vitl.json").read_text())
    relative = relative.get("keys", relative)
    own = {key: shape for key, shape in released.items() if not key.startswith("core.core.")}
    assert {key.removeprefix("core.core.") for key in released if key not in own} == set(relative)
    mlps = [
        "seed_bin_regressor",
        "seed_projector",
        *(f"{part}.{i}" for part in ("projectors", "attractors") for i in range(4)),
    ]
    expected = {f"{mlp}._net.{layer}.{kind}" for mlp in mlps for layer in (0, 2) for kind in ("weight", "bias")}
    expected |= {f"conditional_log_binomial.mlp.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")}
    expected |= {f"conditional_log_binomial.log_binomial_transform.{name}" for name in ("k_idx", "K_minus_1")}
    assert set(own) == expected | {"conv2.weight", "conv2.bias"}
    assert own["conv2.weight"] == (256, 256, 1, 1) and own["seed_bin_regressor._net.2.weight"] == (64, 256, 1, 1)
    assert own["conditional_log_binomial.mlp.0.weight"] == (80, 161, 1, 1)
    assert [own[f"attractors.{i}._net.2.weight"][0] for i in range(4)] == [16, 8, 4, 1]
    bounded = official.official_shapes(with_bins(row, "normed"))
    assert [bounded[f"metric_head.attractors.{i}._net.2.weight"][0] for i in range(4)] == [32, 16, 8, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_as_the_authors_saved_it_predicts(kind, tmp_path, monkeypatch):
    monkeypatch.setitem(VARIANTS, "tiny-bins", tiny("softplus"))
    torch.manual_seed(0)
    model = DepthAnything(tiny(kind)).eval()
    saved = {"model": zoedepth.to_zoedepth(model.state_dict()), "optimizer": None, "epoch": 4}
    torch.save(saved, tmp_path / "depth_anything_metric.pt")
    predictor = Predictor(tmp_path / "depth_anything_metric.pt", variant="tiny-bins")
    assert predictor.variant.bins == kind  # the file's shapes say it
    image = np.random.default_rng(0).integers(0, 256, (50, 90, 3), np.uint8)
    prediction = predictor(image)
    assert prediction.quantity == "depth_m" and prediction.depth_m.shape == (50, 90)
    size = (378, 770) if kind == "normed" else (42, 56)
    assert prediction.network_size == size
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    pixels = F.interpolate(pixels, size=size, mode="bilinear", align_corners=True)
    with torch.inference_mode():
        depth = model(normalise(pixels))
        depth = F.interpolate(depth[:, None], size=(50, 90), mode="bilinear", align_corners=True)[0, 0]
    assert np.abs(prediction.depth_m - depth.numpy()).max() < 1e-5 * float(depth.max())
    asked = Predictor(tmp_path / "depth_anything_metric.pt", variant="tiny-bins", input_size=28)(image)
    assert asked.network_size == (28, 56)  # an asked size keeps the aspect


def test_our_own_file_keeps_the_kind_of_bins(tmp_path, monkeypatch):
    monkeypatch.setitem(VARIANTS, "tiny-bins", tiny("softplus"))
    model = DepthAnything(tiny("normed"))
    official.save(model, tmp_path / "m.safetensors", torch.float16)
    state, row = official.load_state(tmp_path / "m.safetensors")
    assert row == tiny("normed")
    assert set(state) == set(model.state_dict())


def test_a_log_head_is_stated_and_predicts_exp(tmp_path):
    torch.manual_seed(0)
    model = DepthAnything(with_log_head(NANO_VIT)).eval()
    official.save(model, tmp_path / "m.safetensors")
    predictor = Predictor(tmp_path / "m.safetensors")
    assert predictor.variant.head == "log" and predictor.variant.quantity == "depth_m"
    image = torch.randn(1, 3, 28, 42)
    with torch.inference_mode():
        free = model.depth_head(model.encode(image), 2, 3)[:, 0]
        assert torch.allclose(model(image), free.exp())


def test_other_ends_of_the_range_keep_the_head():
    assert with_max_depth(VARIANTS["v1-metric-nyu-large"], 20).head == "bins"
    assert with_max_depth(NANO_VIT, 20).head == "sigmoid"


@pytest.mark.parametrize(("height", "width", "size"), [(37, 53, (14, 28)), (9, 11, (42, 56)), (5, 1, (14, 14))])
def test_the_linear_rule_is_torchs_with_corners_aligned(height, width, size):
    image = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8))
    expected = F.interpolate(image.permute(2, 0, 1)[None] / 255, size=size, mode="bilinear", align_corners=True)
    assert torch.allclose(resize(image, size, "bilinear").permute(2, 0, 1)[None], expected, atol=1e-5)


def test_what_cannot_store_bins_is_refused(tmp_path):
    model = DepthAnything(tiny("softplus"))
    with pytest.raises(ValueError, match="--bare"):
        export(model, tmp_path / "m.onnx")
    with pytest.raises(ValueError, match=r"use checkpoints\.save"):
        official.save_transformers(model, tmp_path)
    assert not list(tmp_path.iterdir())
