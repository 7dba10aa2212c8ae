"""Segmentation: Mask2Former against transformers' own, the pyramid, windows and scales, training, files."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command import run
from drawn_classes import Patches, tiny
from PIL import Image
from transfer_inputs import write_scenes

from depth_anything.evaluate.run_tables import run as run_table
from depth_anything.network.model import DepthAnything
from depth_anything.network.resize import normalise
from depth_anything.train.checkpoint import STATE_FILE, Run
from depth_anything.train.recipes.base import as_json
from depth_anything.transfer import segmentation, segmentation_data, segmentation_predict, segmentation_train
from depth_anything.transfer.segmentation import LinearProbe, Mask2FormerHead, Pyramid, Segments, mask2former_config
from depth_anything.transfer.segmentation_recipes import RECIPES, nano_scenes
from depth_anything.variants import get_variant

pytestmark = pytest.mark.usefixtures("one_thread")


# -- recipes --


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_named_and_fit_the_patches(name):
    recipe = RECIPES[name]()
    patch = get_variant(recipe.variant).patch
    assert recipe.name == name and recipe.crop % patch == 0


def test_the_papers_recipes_have_the_configurations_numbers():
    ade, city = RECIPES["ade20k-large"](), RECIPES["cityscapes-large"]()
    assert (ade.classes, ade.steps, ade.stride) == (150, 160_000, 426)
    assert (city.classes, city.steps, city.stride) == (19, 80_000, 518)
    for recipe in (ade, city):
        assert recipe.crop == 896 and recipe.batch == 16 and recipe.queries == 200 and recipe.clip == 0.01
        assert recipe.learning_rate == 3e-5 and recipe.learning_rate * recipe.encoder_rate == pytest.approx(3e-6)
        assert recipe.short_edges == tuple(int(x * 0.1 * 896) for x in range(5, 21))
        assert segmentation_train.rate_share(0, recipe) == 1e-6
        assert segmentation_train.rate_share(1500, recipe) == 1
        assert segmentation_train.rate_share(recipe.steps, recipe) == 0
    config = mask2former_config(1024, 150, 200)
    assert (config.hidden_dim, config.num_attention_heads, config.dim_feedforward) == (1024, 32, 4096)
    assert (config.encoder_layers, config.decoder_layers - 1, config.train_num_points) == (6, 9, 12544)


def test_decay_and_rates_follow_the_configurations_keys():
    model = segmentation.build(Segments("nano-vit", "mask2former", ("a", "b"), 56, 42, 6))
    recipe = replace(tiny("mask2former"), encoder_rate=0.1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {}
    for group in segmentation_train.groups(model, recipe):
        for parameter in group["params"]:
            found[names[id(parameter)]] = (group["share"], group["weight_decay"] > 0)
    assert len(found) == len(names)
    assert found["pretrained.blocks.0.attn.qkv.weight"] == (0.1, True)
    assert found["pretrained.blocks.0.norm1.weight"] == found["pretrained.pos_embed"] == (0.1, False)
    assert found["head.transformer_module.queries_features.weight"] == (1.0, False)
    assert found["head.transformer_module.level_embed.weight"] == (1.0, False)
    assert found["pyramid.levels.0.1.weight"] == (1.0, False)
    assert found["head.class_predictor.weight"] == (1.0, True)


# -- the network --


def test_the_head_is_transformers_mask2former(monkeypatch):
    from transformers import Mask2FormerForUniversalSegmentation
    from transformers.models.mask2former import modeling_mask2former as theirs

    class Backbone(torch.nn.Module):
        channels = (64,) * 4
        maps: tuple = ()

        def forward(self, pixel_values):
            return type("Output", (), {"feature_maps": self.maps})()

    monkeypatch.setattr(theirs, "load_backbone", lambda config: Backbone())
    config = mask2former_config(64, 5, 7)
    torch.manual_seed(0)
    whole = Mask2FormerForUniversalSegmentation(config).eval()
    head = Mask2FormerHead(config).eval()
    names = {"pixel_decoder.": "model.pixel_level_module.decoder.", "transformer_module.": "model.transformer_module."}
    state = whole.state_dict()
    for name, tensor in head.state_dict().items():
        key = name
        for ours, other in names.items():
            key = other + key.removeprefix(ours) if key.startswith(ours) else key
        tensor.copy_(state[key])
    maps = [torch.randn(2, 64, side, side) for side in (32, 16, 8, 4)]
    whole.model.pixel_level_module.encoder.maps = maps
    labels = [torch.tensor([0, 3]), torch.tensor([1])]
    masks = [(torch.rand(len(label), 64, 64) > 0.5).float() for label in labels]
    with torch.no_grad():
        torch.manual_seed(1)
        expected = whole(torch.zeros(2, 3, 64, 64), mask_labels=masks, class_labels=labels)
        classes, mask_logits = head(maps)
    assert torch.allclose(classes[-1], expected.class_queries_logits, atol=1e-5)
    assert torch.allclose(mask_logits[-1], expected.masks_queries_logits, atol=1e-4)
    assert len(classes) == len(mask_logits) == 10

    model = segmentation.build(Segments("nano-vit", "mask2former", tuple("abcde"), 56, 42, 7))
    model.head = head
    ground_truth = torch.full((2, 64, 64), 255, dtype=torch.uint8)
    monkeypatch.setattr(model, "logits", lambda image: (classes, mask_logits))
    pairs = iter(zip(labels, masks, strict=True))
    monkeypatch.setattr(segmentation, "masks_of", lambda classes_HW: next(pairs))
    with torch.no_grad():
        torch.manual_seed(1)
        assert model.loss(torch.zeros(2, 3, 64, 64), ground_truth).item() == pytest.approx(
            expected.loss.item(), rel=1e-5
        )


def test_the_pyramid_has_four_two_one_and_half():
    maps = Pyramid(16)([torch.randn(1, 16, 4, 6)] * 4)
    assert [tuple(x.shape[2:]) for x in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_scores_sum_class_times_mask_over_queries():
    model = segmentation.build(Segments("nano-vit", "mask2former", ("a", "b"), 56, 42, 3)).eval()
    image = torch.randn(1, 3, 56, 56)
    with torch.no_grad():
        scores = model(image)
        classes, masks = model.logits(image)
        masks = torch.nn.functional.interpolate(masks[-1], (56, 56), mode="bilinear").sigmoid()
        expected = sum(classes[-1].softmax(-1)[0, q, 1] * masks[0, q] for q in range(3))
    assert scores.shape == (1, 2, 56, 56) and torch.allclose(scores[0, 1], expected, atol=1e-5)


@pytest.mark.parametrize("head", ["mask2former", "linear"])
def test_a_window_without_labels_teaches_nothing_and_breaks_nothing(head):
    model = segmentation.build(Segments("nano-vit", head, ("a", "b"), 56, 42, 3))
    ground_truth = torch.full((1, 56, 56), 255, dtype=torch.uint8)
    loss = model.loss(torch.randn(1, 3, 56, 56), ground_truth)
    loss.backward()
    assert torch.isfinite(loss)


# -- windows and scales --


@pytest.mark.parametrize(
    ("side", "expected"), [(896, [0]), (600, [0]), (1322, [0, 426]), (1000, [0, 104]), (2000, [0, 426, 852, 1104])]
)
def test_windows_reach_the_border(side, expected):
    assert segmentation_predict.starts(side, 896, 426) == expected


class Reads(LinearProbe):
    """Scores are the image's own three channels: what a window must not change."""

    def forward(self, image_B3HW):
        return image_B3HW


def reader(crop: int, stride: int) -> Reads:
    return Reads(Segments("nano-vit", "linear", ("red", "green", "blue"), crop, stride)).eval()


def test_sliding_windows_predict_what_one_window_does():
    image = torch.randn(1, 3, 75, 101)
    assert torch.allclose(segmentation_predict.sliding_scores(reader(56, 42), image), image, atol=1e-6)


@pytest.mark.parametrize("ratios", [(), segmentation_predict.MULTI_SCALE])
def test_every_scale_and_the_mirrored_image_agree_on_flat_regions(ratios):
    sample = Patches(1, 112, 140)[0]
    flat_HW3 = np.eye(3, dtype=np.uint8)[np.where(sample.classes_HW == 255, 0, sample.classes_HW)] * 200
    found_HW = segmentation_predict.predict(reader(112, 84), flat_HW3, ratios)
    assert found_HW.shape == (112, 140)
    expected_HW = normalise(torch.from_numpy(flat_HW3).permute(2, 0, 1)[None] / 255)[0].argmax(0).numpy()
    assert np.mean(found_HW == expected_HW) > 0.97  # but for pixels at edges


def test_a_legend_lists_what_occurs_and_colours_are_those_of_the_palette():
    names = ("sky", "road", "unseen")
    classes_HW = np.zeros((40, 30), np.uint8)
    classes_HW[30:] = 1
    image = segmentation_predict.colored(classes_HW, names)
    assert len(np.unique(image.reshape(-1, 3), axis=0)) == 2
    with_legend = segmentation_predict.with_legend(image, classes_HW, names)
    assert np.array_equal(with_legend[:40, :30], image) and with_legend.shape[1] > 30
    half = segmentation_predict.colored(classes_HW, names, np.full((40, 30, 3), 100, np.uint8), 0.5)
    assert np.array_equal(half, np.rint(0.5 * image + 50).astype(np.uint8))


# -- training and files --


@pytest.mark.parametrize("head", ["linear", "mask2former"])
def test_an_interrupted_run_resumes_to_the_same_weights(head, tmp_path, monkeypatch):
    encoder = DepthAnything("nano-vit").pretrained.state_dict()
    whole = segmentation_train.train(tiny(head, 3), tmp_path / "whole", Patches(4), encoder, save_seconds=0)

    class Stop(Exception): ...

    plain, done = segmentation_train.build_slice, []

    def stops(recipe, samples, step, *part):
        if step == 2 and not done:
            done.append(step)
            raise Stop
        return plain(recipe, samples, step, *part)

    monkeypatch.setattr(segmentation_train, "build_slice", stops)
    settings = {"save_seconds": 0, "log_every": 1}
    with pytest.raises(Stop):
        segmentation_train.train(tiny(head, 3), tmp_path / "parts", Patches(4), encoder, **settings)
    with (tmp_path / "parts" / "curve.jsonl").open("a") as curve:
        curve.write('{"step": 3, "loss": 7.0}\n{"st')  # a step that is done again, and a line that was cut off
    resumed = segmentation_train.train(tiny(head, 3), tmp_path / "parts", Patches(4), encoder, **settings)
    curve = [json.loads(line) for line in (tmp_path / "parts" / "curve.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in curve] == [1, 2, 3] and curve[-1]["loss"] != 7
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    loaded = segmentation.load(tmp_path / "parts" / "final.safetensors")
    image_HW3 = Patches(1)[0].image_HW3
    assert np.array_equal(
        segmentation_predict.predict(loaded, image_HW3), segmentation_predict.predict(resumed.eval(), image_HW3)
    )
    with pytest.raises(ValueError, match="another recipe"):
        segmentation_train.train(tiny(head, 4), tmp_path / "parts", Patches(4), encoder)


def test_a_state_that_version_01_wrote_is_gone_on_from(tmp_path):
    """It numbers the optimiser's parameters, and knows neither seconds nor a running mean."""
    recipe, encoder = tiny("linear", 3), DepthAnything("nano-vit").pretrained.state_dict()
    whole = segmentation_train.train(recipe, tmp_path / "whole", Patches(4), encoder)
    build = segmentation_train.build_slice
    with pytest.MonkeyPatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(segmentation_train, "build_slice", lambda *a: build(*a) if a[2] < 2 else 1 / 0)
        segmentation_train.train(recipe, tmp_path / "parts", Patches(4), encoder, save_seconds=0)
    model, optimizer = segmentation_train.start(recipe, Patches.names, encoder)
    run = Run(recipe, model, segmentation_train.LossOf(model), optimizer)
    assert run.resume(tmp_path / "parts") and run.step == 2
    state = {"recipe": as_json(recipe), "step": 2, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state, tmp_path / "parts" / STATE_FILE)
    resumed = segmentation_train.train(recipe, tmp_path / "parts", Patches(4), encoder)
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_a_frozen_encoder_stays_and_the_probe_learns_colours(tmp_path):
    encoder = DepthAnything("nano-vit").pretrained.state_dict()
    before = {key: tensor.clone() for key, tensor in encoder.items()}
    recipe = tiny("linear", 40, learning_rate=2e-2)
    model = segmentation_train.train(recipe, tmp_path, Patches(8), encoder, Patches(8), validate_every=100)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.pretrained.state_dict().items())
    assert '"miou"' in (tmp_path / "curve.jsonl").read_text()
    assert segmentation_predict.evaluate(model, Patches(4)) > 0.5  # chance, one class everywhere: below 0.25


@pytest.mark.slow
def test_two_processes_train_what_one_does_in_two_parts(tmp_path):
    program = Path(__file__).parents[1] / "distributed_segmentation.py"
    alone = [sys.executable, str(program), str(tmp_path / "alone"), "2"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    for command in (alone, [*torchrun, str(program), str(tmp_path / "both"), "1"]):
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (segmentation.load(tmp_path / name / "final.safetensors").state_dict() for name in ("alone", "both"))
    trained = [name for name in one if "running_" not in name and "num_batches" not in name]
    for name in trained:
        assert torch.allclose(one[name], two[name], rtol=1e-3, atol=1e-5), name
    last = [json.loads((tmp_path / name / "curve.jsonl").read_text().splitlines()[-1]) for name in ("alone", "both")]
    assert last[0]["miou"] == pytest.approx(last[1]["miou"], abs=0.02)  # of one process's running means


def test_accumulated_parts_are_one_step(tmp_path):
    encoder = DepthAnything("nano-vit").pretrained.state_dict()
    recipe = tiny("linear", 1, clip=1e9)
    whole, parts = (
        segmentation_train.train(recipe, tmp_path / str(n), Patches(4), encoder, accumulate=n) for n in (1, 2)
    )
    a, b = whole.classify.weight, parts.classify.weight
    assert torch.allclose(a, b, atol=1e-3)  # batch norm sees each part by itself
    with pytest.raises(ValueError, match="equal slices"):
        segmentation_train.train(recipe, tmp_path / "x", Patches(4), encoder, accumulate=3)


def test_sets_and_files_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expects images with 18 classes: got 4 of 3"):
        segmentation_train.train(nano_scenes(), tmp_path, Patches(4), None)
    (tmp_path / "x.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"x\.safetensors"):
        segmentation.load(tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="expected one of mask2former, linear"):
        segmentation.build(Segments("nano-vit", "upernet", ("a",), 56, 42))
    for wrong in ({"steps": 0}, {"batch": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match="expected 1, 1 and 0, or more"):
            replace(nano_scenes(), **wrong)


# -- the commands --


def test_measuring_every_zeroth_step_is_refused(tmp_path, capsys):
    asked = ("segment", "train", "nano-scenes-linear", tmp_path / "out", "--data", tmp_path, "--validate-every", 0)
    assert run(*asked) == 2
    assert capsys.readouterr().err == "error: --validate-every 0: expected 1 step or more\n"


@pytest.fixture
def scenes(tmp_path):
    """A folder of scene shards as `train` leaves it."""
    write_scenes(tmp_path)
    return tmp_path


def test_the_documented_commands(scenes, tmp_path, capsys):
    out, photo = tmp_path / "run", tmp_path / "photo.png"
    Image.fromarray(Patches(1)[0].image_HW3).save(photo)
    assert run("segment", "train", "nano-scenes-linear", out, "--data", scenes, "--steps", 2) == 0
    model = out / "final.safetensors"
    assert run("segment", "predict", photo, "--model", model, "-o", tmp_path / "maps") == 0
    with Image.open(tmp_path / "maps" / "photo_classes.png") as classes:
        assert classes.size == (70, 50) and classes.mode == "L" and np.asarray(classes).max() < 18
    with Image.open(tmp_path / "maps" / "photo_segments.png") as segments:
        assert segments.size[0] == 70 + 190
    capsys.readouterr()
    assert run("segment", "evaluate", model, "scenes", "--data", scenes) == 0
    assert "mIoU" in capsys.readouterr().out
    assert run("segment", "predict", photo, "--model", model, "-o", tmp_path / "maps") == 2  # nothing is overwritten
    assert run("segment", "train", "ade20k", out, "--data", scenes) == 2
    assert "ade20k-large" in capsys.readouterr().err


def test_the_papers_tables_measure_a_segmenter(tmp_path):
    for number in range(2):
        sample = Patches(3)[number]
        stem = f"frankfurt_000000_00000{number}"
        raw_HW = np.array([7, 8, 11, 0], np.uint8)[np.where(sample.classes_HW == 255, 3, sample.classes_HW)]
        for kind, name, array in (
            ("leftImg8bit", "leftImg8bit", sample.image_HW3),
            ("gtFine", "gtFine_labelIds", raw_HW),
        ):
            folder = tmp_path / "root" / "cityscapes" / kind / "val" / "frankfurt"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / f"{stem}_{name}.png")
    about = Segments("nano-vit", "linear", segmentation_data.CITYSCAPES_NAMES, 56, 42)
    segmentation.save(segmentation.build(about), tmp_path / "m.safetensors")
    report = run_table("v1-table7", tmp_path / "root", [str(tmp_path / "m.safetensors")], out=tmp_path / "report")
    assert "mIoU" in report and "mIoU (ms)" in report and (tmp_path / "report" / "report.csv").is_file()
    with pytest.raises(ValueError, match="knows the classes of ade20k"):
        ade = tmp_path / "root" / "ade20k"
        for kind, array, end in (
            ("images", np.zeros((5, 5, 3), np.uint8), "jpg"),
            ("annotations", raw_HW[:5, :5], "png"),
        ):
            (ade / kind / "validation").mkdir(parents=True)
            Image.fromarray(array).save(ade / kind / "validation" / f"a.{end}")
        run_table("v1-table8", tmp_path / "root", [str(tmp_path / "m.safetensors")], out=tmp_path / "report")


@pytest.mark.slow
def test_one_step_of_the_small_encoder_at_896():
    recipe = replace(RECIPES["ade20k-small"](), classes=3, batch=1)
    model, optimizer = segmentation_train.start(recipe, Patches.names, None)
    windows = segmentation_train.build_slice(recipe, Patches(2, 700, 900), 0)
    assert windows.image_B3HW.shape == (1, 3, 896, 896)
    before = model.pretrained.blocks[0].attn.qkv.weight.clone()
    loss = model.loss(windows.image_B3HW, windows.classes_BHW)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
    optimizer.step()
    assert torch.isfinite(loss) and torch.isfinite(norm)
    assert not torch.equal(before, model.pretrained.blocks[0].attn.qkv.weight)
