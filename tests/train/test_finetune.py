"""Fine-tuning on a folder of one's own: what is read, what is trained, what is reported."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import random_model

from depth_anything.__main__ import main
from depth_anything.checkpoints.official import save
from depth_anything.data.labeled.user_folder import UserFolder, split
from depth_anything.images import map_files
from depth_anything.network.model import DepthAnything
from depth_anything.train.finetune import default_rate, finetune
from depth_anything.variants import VARIANTS


def scene(number: int) -> tuple[np.ndarray, np.ndarray]:
    """An image and its metres: a grey box before a wall, brighter the nearer; one pixel in the corner is unknown."""
    rng = np.random.default_rng(number)
    depth_m_HW = np.full((60, 80), 4.0, np.float32)
    top, left = rng.integers(5, 25), rng.integers(5, 35)
    depth_m_HW[top : top + 30, left : left + 40] = rng.uniform(1, 2)
    image_HW3 = np.repeat((250 / depth_m_HW[..., None]).astype(np.uint8), 3, axis=2)
    depth_m_HW[0, 0] = 0
    return image_HW3, depth_m_HW


def write_folder(root, quantity: str, suffix: str, count: int = 5):
    """Writes by other code than the reader's: raw numpy, PIL, and for the rest our own writers."""
    for folder in ("images/day", f"{quantity}/day"):
        (root / folder).mkdir(parents=True)
    for number in range(count):
        image_HW3, depth_m_HW = scene(number)
        known_HW = depth_m_HW > 0
        values_HW = depth_m_HW
        if quantity == "disparity":
            values_HW = np.divide(10, depth_m_HW, out=np.zeros_like(depth_m_HW), where=known_HW)
        Image.fromarray(image_HW3).save(root / f"images/day/{number}.png")
        path = root / quantity / "day" / f"{number}{suffix}"
        floats_HW = np.where(known_HW, values_HW, np.nan).astype(np.float32)
        match suffix:
            case ".png":
                factor = 1000 if quantity == "depth_m" else 100
                Image.fromarray(np.round(values_HW * factor).astype(np.uint16)).save(path)
            case ".npy":
                np.save(path, floats_HW)
            case ".npz":
                np.savez(path, **{quantity: floats_HW})
            case ".exr":
                map_files.write_exr(path, floats_HW, {})
            case ".pfm":
                map_files.write_pfm(path, floats_HW)
    return root


@pytest.mark.parametrize("suffix", [".png", ".npy", ".npz", ".exr", ".pfm"])
def test_metres_and_disparity_are_read_from_every_format(tmp_path, suffix):
    own = UserFolder(write_folder(tmp_path / "m", "depth_m", suffix))
    sample = own[2]
    _, depth_m_HW = scene(2)
    assert sample.scale == "metric" and not sample.valid_HW[0, 0] and sample.valid_HW.sum() == 60 * 80 - 1
    np.testing.assert_allclose(1 / sample.disparity_HW[sample.valid_HW], depth_m_HW[sample.valid_HW], atol=6e-4)
    relative = UserFolder(write_folder(tmp_path / "d", "disparity", suffix))[2]
    assert relative.scale == "affine" and not relative.valid_HW[0, 0]
    ratio = relative.disparity_HW[sample.valid_HW] * depth_m_HW[sample.valid_HW]
    assert ratio.std() / ratio.mean() < 1e-2  # nearer is larger, in proportion


def test_a_map_that_predict_wrote_is_read_as_what_it_is(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "disparity").mkdir()
    Image.fromarray(scene(0)[0]).save(tmp_path / "images" / "a.jpg")
    map_HW = np.linspace(2, 7, 4800, dtype=np.float32).reshape(60, 80)
    map_files.write_png16_disparity(tmp_path / "disparity" / "a_disparity.png", map_HW, {"quantity": "disparity"})
    sample = UserFolder(tmp_path)[0]
    assert sample.valid_HW.all()
    np.testing.assert_allclose(sample.disparity_HW, map_HW, atol=1e-4)


def test_what_is_wrong_with_a_folder_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        UserFolder(tmp_path / "none")
    (tmp_path / "images").mkdir()
    with pytest.raises(ValueError, match="neither depth_m nor disparity"):
        UserFolder(tmp_path)
    (tmp_path / "depth_m").mkdir()
    with pytest.raises(ValueError, match="no image"):
        UserFolder(tmp_path)
    Image.fromarray(scene(0)[0]).save(tmp_path / "images" / "a.png")
    with pytest.raises(ValueError, match="expected the label of"):
        UserFolder(tmp_path)[0]
    np.savez(tmp_path / "depth_m" / "a.npz", disparity=np.ones(scene(0)[0].shape[:2]))
    with pytest.raises(ValueError, match="holds disparity; expected depth_m in this folder"):
        UserFolder(tmp_path)[0]
    with pytest.raises(ValueError, match="two or more"):
        split(UserFolder(tmp_path))
    Image.fromarray(np.ones((7, 8), np.uint16)).save(tmp_path / "depth_m" / "a.png")
    with pytest.raises(ValueError, match="expected the same size"):
        UserFolder(tmp_path)[0]


def test_every_tenth_image_is_held_out(tmp_path):
    training, held_out = split(UserFolder(write_folder(tmp_path, "depth_m", ".png", 11)))
    assert training.numbers == [1, 2, 3, 4, 5, 6, 7, 8, 9] and held_out.numbers == [0, 10]


@pytest.mark.parametrize("quantity", ["disparity", "depth_m"])
def test_the_command_trains_reports_and_its_weights_predict(tmp_path, quantity, capsys):
    torch.set_num_threads(1)
    folder = write_folder(tmp_path / "mine", quantity, ".png")
    main(["finetune", "nano", str(folder), str(tmp_path / "out"), "--epochs", "1", "--batch", "4"])
    shown = capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "held out" in shown and "after" in shown and set(report) >= {"after"}
    model = DepthAnything.from_pretrained(tmp_path / "out" / "final.safetensors")
    assert model.variant.quantity == quantity
    map_HW = model.infer_rgb(scene(0)[0])
    assert np.isfinite(map_HW).all() and (quantity == "disparity" or map_HW.max() <= 4.01)


@pytest.mark.parametrize("quantity", ["disparity", "depth_m"])
def test_it_takes_a_convolutional_encoder(tmp_path, quantity, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr("depth_anything.train.recipes.nano.LARGE", ((64, 64),))
    save(random_model("nano-lite0"), tmp_path / "lite.safetensors")
    folder = write_folder(tmp_path / "mine", quantity, ".png")
    options = ["--epochs", "1", "--batch", "4"]
    main(["finetune", str(tmp_path / "lite.safetensors"), str(folder), str(tmp_path / "out"), *options])
    model = DepthAnything.from_pretrained(tmp_path / "out" / "final.safetensors")
    assert model.variant.quantity == quantity and model.variant.patch == 32
    assert np.isfinite(model.infer_rgb(scene(0)[0])).all()


@pytest.mark.parametrize("number", [0, 3])  # held out, and to be learnt from
@pytest.mark.parametrize("quantity", ["disparity", "depth_m"])
def test_a_map_without_a_usable_pixel_is_passed_over(tmp_path, quantity, number, one_thread, caplog):
    folder = write_folder(tmp_path / "mine", quantity, ".png", 12)
    Image.fromarray(np.zeros((60, 80), np.uint16)).save(folder / quantity / f"day/{number}.png")
    model = DepthAnything.from_pretrained("nano")
    report = finetune(model, folder, tmp_path / "out", epochs=1, batch=2)
    assert np.isfinite(list(report["after"].values())).all()
    assert f"{number}.png: not one usable pixel" in caplog.text


@pytest.mark.parametrize("max_depth", [None, 5.0])
def test_a_folder_without_a_single_usable_pixel_is_refused(tmp_path, max_depth):
    folder = write_folder(tmp_path / "mine", "depth_m", ".png", 3)
    for path in (folder / "depth_m/day").iterdir():
        Image.fromarray(np.zeros((60, 80), np.uint16)).save(path)
    with pytest.raises(ValueError, match=r"(not one training image|no (training )?image) has"):
        finetune(DepthAnything("nano"), folder, tmp_path / "out", max_depth=max_depth)


@pytest.mark.slow
@pytest.mark.parametrize(("quantity", "epochs", "rate"), [("disparity", 4, 1e-3), ("depth_m", 8, 2e-3)])
def test_it_learns_a_world_that_it_has_not_seen(tmp_path, quantity, epochs, rate):
    folder = write_folder(tmp_path / "mine", quantity, ".png", 40)
    nano = DepthAnything.from_pretrained("nano")
    nano.variant = replace(nano.variant, input_size=96)
    report = finetune(nano, folder, tmp_path / "out", epochs=epochs, rate=rate)
    floor = report["before"] if quantity == "disparity" else report["constant"]
    assert report["after"]["abs_rel"] < 0.7 * floor["abs_rel"]


@pytest.mark.parametrize(("name", "rate"), [("nano", 1e-3), ("nano-vit", 1e-3), ("v2-small", 5e-5)])
def test_small_models_learn_at_a_higher_rate_by_default(name, rate):
    assert default_rate(VARIANTS[name]) == rate


def test_layers_of_small_weights_take_small_steps(tmp_path):
    """AdamW's first step moves every weight by the rate; here each layer moves by a share of its own size."""
    model = random_model("nano")
    small = model.depth_head.scratch.output_conv1
    small.weight.data.div_(64)
    before = {name: layer.weight.detach().clone() for name, layer in convolutions(model)}
    folder = write_folder(tmp_path / "mine", "disparity", ".png")
    model.variant = replace(model.variant, input_size=96)
    rate = 1e-4
    finetune(model, folder, tmp_path / "out", epochs=1, rate=rate)
    after = dict(convolutions(DepthAnything.from_pretrained(tmp_path / "out" / "final.safetensors")))
    moved = {name: float((after[name].weight - weight).detach().abs().max()) for name, weight in before.items()}
    assert moved["output_conv1"] == pytest.approx(rate * 3**0.5 / 64, rel=0.2)  # random_model: 3**0.5 times PyTorch's
    assert moved["refinenet2.resConfUnit2.conv1"] == pytest.approx(rate, rel=0.2)


def convolutions(model: DepthAnything):
    scratch = model.depth_head.scratch
    return [(name, layer) for name, layer in scratch.named_modules() if isinstance(layer, torch.nn.Conv2d)]


@pytest.mark.parametrize(
    ("quantity", "max_depth", "said"),
    [("disparity", 5.0, "a range needs metres"), ("depth_m", -5.0, "--max-depth -5: expected metres above 0")],
)
def test_a_range_that_makes_no_sense_is_refused(tmp_path, quantity, max_depth, said):
    folder = write_folder(tmp_path / "mine", quantity, ".png")
    with pytest.raises(ValueError, match=said):
        finetune(DepthAnything("nano"), folder, tmp_path / "out", max_depth=max_depth)
    assert not (tmp_path / "out").exists()


def test_a_metric_model_refuses_disparity(tmp_path):
    folder = write_folder(tmp_path / "mine", "disparity", ".png")
    with pytest.raises(ValueError, match="choose a relative model"):
        finetune(DepthAnything(VARIANTS["v2-metric-indoor-small"]), folder, tmp_path / "out")
