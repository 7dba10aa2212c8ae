"""The official V1 and V2 code as judge: its outputs, for weights and images that a written rule makes again here.

tests/golden/README.md says how the files were made. Tolerance: two correct float32 implementations differ by less than
1e-5 there; 1e-4 is asked (5e-4 for a range of 80 m), a real fault shows as 1e-2 or more.
"""

import hashlib
import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import golden_rule
import numpy as np
import pytest
import torch

from depth_anything.network.dinov2 import DinoVisionTransformer
from depth_anything.network.model import DepthAnything
from depth_anything.network.resize import network_size, to_tensor
from depth_anything.variants import VARIANTS, Variant

GOLDEN = Path(__file__).parents[1] / "golden"
SIZES = {"vits": "small", "vitb": "base", "vitl": "large", "vitg": "giant"}
MAPS = sorted(path.stem for path in GOLDEN.glob("v?_*.npz"))
PARAMETERS = {"vits": 24_785_089, "vitb": 97_470_785, "vitl": 335_315_649, "vitg": 1_258_132_225}


def row_of(name: str) -> Variant:
    """The variant of a golden name: v1_vits, v2_metric20_vits, v2_metric_vitg ..."""
    version, *metric, encoder = name.split("_")
    if not metric:
        return VARIANTS[f"{version}-{SIZES[encoder]}"]
    place = "outdoor" if metric[0] == "metric80" else "indoor"
    if encoder == "vitg":  # the authors' code can build it; no row, as no such model was ever trained
        return replace(VARIANTS["v2-giant"], head="sigmoid", max_depth=20.0)
    return VARIANTS[f"v2-metric-{place}-{SIZES[encoder]}"]


@lru_cache(maxsize=1)
def filled(row: Variant) -> DepthAnything:
    """The model of a row with the rule's weights. One at a time is kept: the giant alone takes 5 GB."""
    with torch.device("meta"):
        model = DepthAnything(row)
    return golden_rule.fill(model.to_empty(device="cpu")).eval()


def taps_of(model: DepthAnything, image_13HW: torch.Tensor) -> dict[str, torch.Tensor]:
    """The map and what the golden files keep of the way there, by forward hooks on the official attribute names."""
    taps: dict[str, torch.Tensor] = {}
    normed: list[Any] = []
    encoder, scratch = model.pretrained, model.depth_head.scratch
    watched = {"patch_embed": encoder.patch_embed, "block_0": encoder.blocks[0], "block_last": encoder.blocks[-1]}
    for level in (1, 2, 3, 4):
        watched[f"layer_{level}_rn"] = getattr(scratch, f"layer{level}_rn")
        watched[f"path_{level}"] = getattr(scratch, f"refinenet{level}")
    watched["output_conv1"] = scratch.output_conv1

    def keep(name: str):
        return lambda _module, _inputs, output: taps.update({name: output})

    hooks = [module.register_forward_hook(keep(name)) for name, module in watched.items()]
    hooks.append(encoder.norm.register_forward_hook(lambda _module, _inputs, output: normed.append(output)))
    try:
        with torch.inference_mode():
            taps["map"] = model(image_13HW)
            taps["pos_embed_interp"] = encoder.position_table(image_13HW.shape[2] // 14, image_13HW.shape[3] // 14)
    finally:
        for hook in hooks:
            hook.remove()
    for index, tokens in enumerate(normed):
        taps[f"feat_{index}"], taps[f"cls_{index}"] = tokens[:, 1:], tokens[:, 0]
    return taps


def slow_above_small(name: str):
    """A parameter that is marked slow unless the encoder is ViT-S."""
    return name if "vits" in name else pytest.param(name, marks=pytest.mark.slow)


def test_every_golden_file_is_tested():
    assert len(MAPS) == 13
    assert {path.stem for path in GOLDEN.glob("*.npz")} == {*MAPS, "pipeline_vits_rawimages"}


def test_rule_makes_the_same_weights():
    expected = json.loads((GOLDEN / "weights_first_last_sum.json").read_text())
    state = filled(row_of("v2_vits")).state_dict()
    assert set(expected["v2_vits"]) == set(state)
    for key, (first, last, total) in expected["v2_vits"].items():
        flat = state[key].flatten().double()
        assert (flat[0].item(), flat[-1].item()) == (first, last), key
        assert flat.sum().item() == pytest.approx(total, rel=1e-9, abs=1e-6), key


def test_rule_makes_the_same_images():
    for size, expected in json.loads((GOLDEN / "images_sha256.json").read_text()).items():
        height, width = map(int, size.split("x"))
        image = golden_rule.image(height, width)
        assert hashlib.sha256(image.tobytes()).hexdigest() == expected["sha256"], size


@pytest.mark.parametrize("path", sorted((GOLDEN / "keys").glob("official_*.json")), ids=lambda path: path.stem)
def test_state_dict_is_the_official_one(path):
    """Keys and shapes equal those of every official file, strictly; so do the parameter counts of the papers."""
    name = path.stem.removeprefix("official_")
    expected = {key: tuple(shape) for key, shape in json.loads(path.read_text()).items()}
    with torch.device("meta"):
        model = DepthAnything(row_of(name))
    assert {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()} == expected
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name.split("_")[-1]]


@pytest.mark.parametrize("encoder", SIZES)
def test_encoder_state_dict_is_dinov2s(encoder):
    expected = json.loads((GOLDEN / "keys" / f"dinov2_{encoder}14_backbone.json").read_text())
    with torch.device("meta"):
        model = DinoVisionTransformer(VARIANTS[f"v2-{SIZES[encoder]}"])
    assert {key: list(tensor.shape) for key, tensor in model.state_dict().items()} == expected


@pytest.mark.parametrize("name", [slow_above_small(name) for name in MAPS])
def test_official_output(name):
    """The map and every recorded tensor inside the network equal those of the official code."""
    golden = np.load(GOLDEN / f"{name}.npz")
    row = row_of(name.rsplit("_", 1)[0])
    atol = 5e-4 if row.max_depth == 80 else 1e-4
    _, height, width = golden["shape"]
    image_13HW = golden_rule.network_input(height, width)
    np.testing.assert_array_equal(image_13HW[:, :, ::37, ::41], golden["input_strided"])

    taps = {name: tensor.numpy() for name, tensor in taps_of(filled(row), image_13HW).items()}
    map_1HW, step, centre = taps.pop("map"), int(golden["depth_stride"]), (height // 2, width // 2)
    assert map_1HW.shape == tuple(golden["shape"])
    np.testing.assert_allclose(map_1HW[:, ::step, ::step], golden["depth_strided"], rtol=0, atol=atol)
    np.testing.assert_allclose(map_1HW[:, :24, :24], golden["depth_corner"], rtol=0, atol=atol)
    middle = map_1HW[:, centre[0] : centre[0] + 24, centre[1] : centre[1] + 24]
    np.testing.assert_allclose(middle, golden["depth_center"], rtol=0, atol=atol)
    np.testing.assert_allclose(map_1HW[:, -1], golden["depth_last_row"], rtol=0, atol=atol)

    assert {f"tap_{name}" for name in taps} == {key for key in golden.files if key.startswith("tap_")}
    for tap, tensor in taps.items():
        assert tensor.shape == tuple(golden[f"tapshape_{tap}"]), tap
        strided = tensor[tuple(slice(None, None, stride) for stride in golden[f"tapstride_{tap}"])]
        np.testing.assert_allclose(strided, golden[f"tap_{tap}"], rtol=0, atol=1e-4, err_msg=tap)


RAW = np.load(GOLDEN / "pipeline_vits_rawimages.npz")
IMAGES = sorted({key.split("/")[0] for key in RAW.files})


def slow_when_long(size: str):
    """Aspect ratios beyond 2 take thousands of tokens."""
    height, width = map(int, size.split("x"))
    return pytest.param(size, marks=pytest.mark.slow) if max(height, width) > 2 * min(height, width) else size


@pytest.mark.parametrize("size", IMAGES)
def test_raw_image_becomes_the_official_tensor(size):
    """OpenCV's bicubic on floats, normalised, at the size that the official rule chooses."""
    height, width = map(int, size.split("x"))
    network = network_size(height, width, 518)
    assert network == tuple(RAW[f"{size}/net_size"])
    tensor_13HW = to_tensor(golden_rule.image(height, width, salt=3), network).numpy()
    np.testing.assert_allclose(tensor_13HW[:, :, ::37, ::29], RAW[f"{size}/tensor_strided"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(tensor_13HW[:, :, :8, :8], RAW[f"{size}/tensor_corner"], rtol=0, atol=1e-5)
    total = tensor_13HW.sum(dtype=np.float64)
    assert total == pytest.approx(float(RAW[f"{size}/tensor_sum"]), abs=1e-6 * tensor_13HW.size)


@pytest.mark.parametrize("size", [slow_when_long(size) for size in IMAGES if size != "1080x1920"])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_raw_image_becomes_the_official_map(version, size):
    """V1's run.py and V2's infer_image: a BGR image in, the map at its size out; they resize back differently."""
    height, width = map(int, size.split("x"))
    image_bgr = golden_rule.image(height, width, salt=3)[..., ::-1]
    map_HW = filled(VARIANTS[f"{version}-small"]).infer_image(image_bgr)
    expected = RAW[f"{size}/{'v1_run_py' if version == 'v1' else 'v2_infer_image'}_strided"]
    step = int(RAW[f"{size}/stride"])
    assert map_HW.shape == (height, width)
    np.testing.assert_allclose(map_HW[::step, ::step], expected, rtol=0, atol=1e-4)
