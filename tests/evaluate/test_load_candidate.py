"""What a model name on the command line stands for: finished maps in every format, and models of transformers."""

import json

import numpy as np
import pytest

from depth_anything.evaluate.load_candidate import load_candidate, read_map
from depth_anything.evaluate.pairs import evaluate_pairs
from depth_anything.images import map_files
from depth_anything.predict.prediction import Prediction

IMAGE_HW3 = np.random.default_rng(0).integers(0, 255, (60, 84, 3)).astype(np.uint8)
MAP_HW = np.arange(12.0, dtype=np.float32).reshape(3, 4)


def test_maps_that_predict_wrote_by_default_are_found(tmp_path):
    prediction = Prediction(disparity=MAP_HW, model="nano")
    [png] = prediction.save(tmp_path / "scene/k", ["png16"])
    assert png.name == "k_disparity.png"
    read = load_candidate(f"predictions:disparity:{tmp_path}").predict(IMAGE_HW3, "scene/k")
    assert np.abs(read - MAP_HW).max() <= np.ptp(MAP_HW) / 65535
    metres = Prediction(depth_m=MAP_HW)
    metres.save(tmp_path / "j", ["png16"])
    assert np.array_equal(load_candidate(f"predictions:depth_m:{tmp_path}").predict(IMAGE_HW3, "j"), MAP_HW)


@pytest.mark.parametrize("form", ["png16", "npz", "npy", "pfm"])
def test_finished_maps_of_the_other_quantity_are_refused(tmp_path, form):
    Prediction(disparity=MAP_HW).save(tmp_path / "k", [form])
    next(tmp_path.iterdir()).rename(tmp_path / f"k.{'png' if form == 'png16' else form}")
    if form in ("png16", "npz"):
        with pytest.raises(ValueError, match="holds disparity; expected depth_m"):
            read_map(tmp_path, "k", "depth_m")
    else:  # these say nothing
        assert np.array_equal(read_map(tmp_path, "k", "depth_m"), MAP_HW)


@pytest.mark.parametrize("name", ["k.npy", "k_disparity.npy", "k.npz", "k_disparity.npz", "k_disparity.pfm", "k.exr"])
def test_finished_maps_are_found_by_key_in_every_format(name, tmp_path):
    path = tmp_path / "scene" / name
    path.parent.mkdir()
    if name.endswith(".npy"):
        np.save(path, MAP_HW)
    elif name.endswith(".npz"):
        np.savez(path, disparity=MAP_HW, other=np.zeros((2, 2)))
    elif name.endswith(".pfm"):
        map_files.write_pfm(path, MAP_HW)
    else:
        pytest.importorskip("OpenEXR")
        map_files.write_exr(path, MAP_HW, {})
    candidate = load_candidate(f"predictions:disparity:{tmp_path}")
    assert (candidate.quantity, candidate.finished) == ("disparity", True)
    assert np.array_equal(candidate.predict(IMAGE_HW3, "scene/k"), MAP_HW)


def test_finished_maps_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"state the quantity of the maps: predictions:disparity:FOLDER"):
        load_candidate(f"predictions:{tmp_path}")
    with pytest.raises(ValueError, match="no folder"):
        load_candidate("predictions:depth_m:/no/such/folder")
    with pytest.raises(ValueError, match=r"no map for k: expected .*k_depth_m with \.npy"):
        read_map(tmp_path, "k", "depth_m")
    np.savez(tmp_path / "k.npz", a=MAP_HW, b=MAP_HW)
    with pytest.raises(ValueError, match="expected an array named disparity or depth_m, or one map; it has a, b"):
        read_map(tmp_path, "k", "depth_m")


@pytest.mark.parametrize("options", [{"dtype": "bf16"}, {"input_size": 280}, {"backend": "onnx"}, {"threads": 1}])
def test_options_that_another_programs_model_cannot_take_are_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} is for our own models"):
        load_candidate("hf:some/model", device="cpu", accept_license=True, variant=None, **options)


# -- transformers, tiny and random -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def transformers():
    pytest.importorskip("torch")
    return pytest.importorskip("transformers")


def save_depth_anything(transformers, folder, **changes):
    backbone = transformers.Dinov2Config(
        hidden_size=24, num_hidden_layers=4, num_attention_heads=2, image_size=56, patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"], reshape_hidden_states=False,
    )  # fmt: skip
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=24, neck_hidden_sizes=[8, 16, 16, 24], fusion_hidden_size=16,
        **changes,
    )  # fmt: skip
    transformers.DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    save_processor(folder, size=56, multiple=14)


def save_dpt(transformers, folder):
    config = transformers.DPTConfig(
        hidden_size=24, num_hidden_layers=4, num_attention_heads=2, intermediate_size=48, image_size=64, patch_size=16,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 16, 16, 24], fusion_hidden_size=16, is_hybrid=False,
    )  # fmt: skip
    transformers.DPTForDepthEstimation(config).save_pretrained(folder)
    save_processor(folder, size=64, multiple=1)


def save_processor(folder, size, multiple):
    processor = {
        "image_processor_type": "DPTImageProcessor",
        "do_resize": True,
        "size": {"height": size, "width": size},
        "keep_aspect_ratio": multiple > 1,
        "ensure_multiple_of": multiple,
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "resample": 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


@pytest.mark.parametrize(
    ("save", "changes", "quantity"),
    [
        (save_depth_anything, {}, "disparity"),
        (save_depth_anything, {"depth_estimation_type": "metric", "max_depth": 20}, "depth_m"),
        (save_dpt, {}, "disparity"),
    ],
    ids=["depth_anything", "depth_anything metric", "dpt"],
)
def test_models_of_transformers_predict_what_their_pipeline_predicts(transformers, save, changes, quantity, tmp_path):
    import torch
    from PIL import Image

    torch.manual_seed(0)
    save(transformers, tmp_path, **changes)
    candidate = load_candidate(f"hf:{tmp_path}")
    assert candidate.quantity == quantity
    map_HW = candidate.predict(IMAGE_HW3, "any")
    assert map_HW.shape == (60, 84)
    pipeline = transformers.pipeline("depth-estimation", model=str(tmp_path))
    expected = pipeline(Image.fromarray(IMAGE_HW3))["predicted_depth"].squeeze().numpy()
    assert np.abs(map_HW - expected).max() < 1e-5


def test_two_architectures_with_random_weights_are_compared_with_the_baselines(transformers, shared, tmp_path):
    """Random weights know nothing and must not beat the image row; the road from folder to number is whole."""
    import torch

    torch.manual_seed(0)
    manifest = json.loads((shared / "data/pairs/manifest.json").read_text())[:6]
    for entry in manifest:
        for key in ("rgb", "gt"):
            entry[key] = str(shared / "data" / entry[key])
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    for save in (save_depth_anything, save_dpt):
        folder = tmp_path / save.__name__
        folder.mkdir()
        save(transformers, folder)
        candidate = load_candidate(f"hf:{folder}")
        result = evaluate_pairs(
            tmp_path / "manifest.json", lambda image, c=candidate: c.predict(image, ""), candidate.name
        ).as_dict()
        assert result["all"]["pairs"] == 6
        assert result["all"]["delta1"] < result["all"]["row_delta1"] + 0.1
        assert result["all"]["constant_abs_rel"] > 0


def test_a_model_of_unknown_quantity_is_asked_about(transformers, tmp_path):
    save_dpt(transformers, tmp_path)
    assert load_candidate(f"hf:depth_m:{tmp_path}").quantity == "depth_m"
    from types import SimpleNamespace

    from depth_anything.evaluate.load_candidate import _quantity_of

    with pytest.raises(
        ValueError, match=r"not known whether upernet predicts disparity or metres; say so: hf:disparity"
    ):
        _quantity_of("hf:x", SimpleNamespace(model_type="upernet"))


def test_a_folder_without_a_model_is_one_line(transformers, tmp_path):
    with pytest.raises(ValueError, match="transformers cannot load it") as error:
        load_candidate(f"hf:{tmp_path}")
    assert "\n" not in str(error.value)
