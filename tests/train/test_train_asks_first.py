"""`depth-anything train`: what is missing or does not fit is said before scenes are rendered for it."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn import Boxes

from depth_anything.__main__ import main
from depth_anything.checkpoints.official import load, load_backbone, save
from depth_anything.data.order import shard_ends
from depth_anything.data.samples import Joined
from depth_anything.network.model import DepthAnything
from depth_anything.train import loop, sources
from depth_anything.train.batches import Data
from depth_anything.train.distributed import reading_threads
from depth_anything.train.finetune import finetune
from depth_anything.train.recipes.all_recipes import get_recipe
from depth_anything.train.recipes.base import Stage
from depth_anything.variants import get_variant, with_max_depth

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nano-vit-student", "--pseudo-labels", "NOWHERE"], "needs a frozen encoder.*--frozen"),
        (["nano-student", "--backbone", "nano", "--pseudo-labels", "NOWHERE"], "nowhere: no pseudo labels"),
        (["nano-student", "--pseudo-labels", "NOWHERE", "--frozen", "NOWHERE"], "nowhere: no such file"),
        (["nano-student", "--teacher", "nano", "--frozen", "nano"], "needs pictures: .*--data pictures=FOLDER"),
        (
            ["nano-vit-student", "--teacher", "nano", "--frozen", "nano"],
            r"holds EfficientNet-Lite2 \(width 352, 21 blocks\), but nano-vit is nano-vit \(width 192, 6 blocks\)",
        ),
        (["nano-vit-encoder"], "needs pictures: .*--data pictures=FOLDER"),
        (["v1-teacher-large"], "starts from a trained encoder.*--backbone"),
        (
            ["v1-teacher-large", "--start-from", "nano"],
            "trains v1-large: the initial weights do not fit .*size mismatch",
        ),
        (["v1-teacher-large", "--backbone", "nano"], "1024"),
        (["nano-metric"], "--start-from"),
        (["nano-teacher", "--readers", "0"], "0 readers.*expected 1 or more"),
        (["nano-teacher", "--accumulate", "0"], "0 slices: expected 1 or more"),
        (["nano-teacher", "--accumulate", "99"], "a step of 16 images cannot be divided into 99 slices .*--batch"),
        (["nano-teacher", "--batch", "4", "--accumulate", "5"], "a step of 4 images cannot be divided into 5 slices"),
        (["nano-teacher", "--batch", "0"], "batches of 0: expected 1 or more"),
        (["nano-teacher", "--peak-tflops", "0"], "--peak-tflops 0: expected a number above 0"),
        (["nano-teacher", "--learning-rate", "0"], "--learning-rate 0: expected a number above 0"),
        (["nano-teacher", "--teacher", "nano"], "--teacher nano: nano-teacher has no unlabelled images to label"),
        (["nano-teacher", "--track", "mlflow"], "--track mlflow: mlflow is not installed: pip install mlflow"),
        (
            ["nano-student", "--teacher", "nano", "--pseudo-labels", "NOWHERE"],
            "--teacher and --pseudo-labels: give one",
        ),
        (["nano-student", "--teacher", "METRES", "--frozen", "nano"], "predicts metres: expected a teacher"),
        (["nano-metric", "--start-from", "NOWHERE/state.pt"], "nowhere/state.pt: no such file"),
        (["nano-teacher", "--shard"], "--shard splits a model over processes: start with torchrun"),
        (["nano-teacher", "--seed", "-1"], "seed -1: expected 0 or more"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_it_is_one_line_and_nothing_is_rendered(tmp_path, capsys, monkeypatch, arguments, told):
    def render(*_, **__):
        raise AssertionError("scenes would have been rendered")

    monkeypatch.setattr(sources, "rendered", render)
    nowhere = str(tmp_path / "nowhere")
    metres = str(tmp_path / "metres.safetensors")
    if "METRES" in arguments:
        save(DepthAnything(with_max_depth(get_variant("nano"), 20.0)), metres)
    arguments = [word.replace("NOWHERE", nowhere).replace("METRES", metres) for word in arguments]
    with pytest.raises(SystemExit) as stopped:
        main(["train", arguments[0], str(tmp_path / "out"), *arguments[1:]])
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert re.search(told, lines[0]), lines[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("library", ["h5py", "OpenEXR", "transformers"])
def test_a_library_that_its_sets_need_is_asked_for_before_anything_is_read(tmp_path, capsys, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setattr("depth_anything.checkpoints.official.load_backbone", lambda *_: pytest.fail("weights are read"))
    with pytest.raises(SystemExit) as stopped:
        main(["train", "v2-teacher-sam-large", str(tmp_path / "out"), "--backbone", "nowhere"])
    lines = capsys.readouterr().err.strip().splitlines()
    assert stopped.value.code == 2 and len(lines) == 1, lines
    assert f"needs {library}, which is not installed: pip install" in lines[0] and not (tmp_path / "out").exists()


def test_validation_is_off_in_one_line_where_it_cannot_be_rendered(tmp_path, monkeypatch, caplog):
    """No Mitsuba and no scenes: every paper's recipe starts; with scenes from elsewhere it is watched."""
    recipe = get_recipe("v1-teacher-large")
    monkeypatch.setattr(sources, "find_spec", lambda name: None)
    assert not sources.validates(recipe, tmp_path, "auto")
    assert len(caplog.records) == 1 and "Mitsuba is missing" in caplog.text and "--scenes" in caplog.text
    assert sources.validates(recipe, tmp_path, "on") and not sources.validates(recipe, tmp_path, "off")
    monkeypatch.setattr("depth_anything.data.scenes.render.finished_scenes", lambda folder: 128)
    assert sources.validates(recipe, tmp_path, "auto")
    monkeypatch.setattr(sources, "rendered", lambda *_: pytest.fail("scenes would have been rendered"))
    monkeypatch.setattr(sources, "open_set", lambda *_, **__: Boxes(2))
    assert sources.open_data(recipe, {}, tmp_path, validate=False)[1] is None


def test_sets_keep_the_order_of_the_recipe(tmp_path, monkeypatch):
    scenes = [object()] * 3
    monkeypatch.setattr(sources, "rendered", lambda folder, *_: scenes if folder.name == "training" else None)
    data, _ = sources.open_data(get_recipe("nano-vit-encoder"), {"pictures": EXAMPLES}, tmp_path)
    assert isinstance(data.labeled, Joined)
    assert data.labeled.sets[0] is scenes and len(data.labeled.sets[1]) == len(list(EXAMPLES.glob("*.jpg")))


def test_a_part_of_a_recipe_counts_the_steps_of_the_batch_that_is_asked_for(tmp_path, monkeypatch, capsys):
    """Two steps of 3 images, not the 22 that one step of 64 would make; saved after each."""

    def carry_out(recipe, *_, save_seconds, **__):
        raise ValueError(f"{recipe.stages[0].samples} images, {recipe.steps} steps, saved every {save_seconds} s")

    monkeypatch.setattr(loop, "train", carry_out)
    monkeypatch.setattr(loop, "check_start", lambda *_: None)
    monkeypatch.setattr(sources, "open_data", lambda *_: (Data(), None))
    part = 6 / get_recipe("v1-teacher-large").stages[0].samples
    arguments = ["--size", str(part), "--batch", "3", "--save-minutes", "0.5", "--validation", "off"]
    with pytest.raises(SystemExit):
        main(["train", "v1-teacher-large", str(tmp_path), *arguments])
    assert "6 images, 2 steps, saved every 30.0 s" in capsys.readouterr().err


def test_readers_share_the_cores_that_the_network_does_not_need(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 96)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert [reading_threads(device) for device in ("cpu", "cuda")] == [1, 12]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    assert reading_threads("cuda") == 16


def test_labels_of_several_sets_in_several_folders(tmp_path):
    recipe = replace(get_recipe("v2-student-small"), validation_scenes=0)
    for name, count in (("a", 2), ("b", 3)):
        (tmp_path / name / "manifest").mkdir(parents=True)
        (tmp_path / name / "manifest/shard.json").write_text(json.dumps({"unit": "shard", "labelled": count}))
    data, _ = sources.open_data(recipe, {}, tmp_path, [tmp_path / "a", str(tmp_path / "b")])
    assert data.unlabeled is not None and len(data.unlabeled) == 5
    assert list(shard_ends(data.unlabeled)) == [2, 5]


def test_an_encoder_by_its_models_name():
    ours, theirs = load_backbone("nano", "nano"), load("nano")[0]
    assert all(np.array_equal(tensor, theirs[f"pretrained.{key}"]) for key, tensor in ours.items()) and ours


def test_python_hears_of_weights_that_do_not_fit_too(tmp_path):
    with pytest.raises(ValueError, match=r"trains v1-large: the initial weights do not fit"):
        loop.train(get_recipe("v1-teacher-large"), tmp_path / "out", Data(Boxes(2)), weights=load("nano")[0])
    assert not (tmp_path / "out").exists()


def test_settings_that_make_no_run_are_refused(tmp_path):
    with pytest.raises(ValueError, match="batches of 0: expected 1 or more"):
        Stage(samples=8, sizes=((28, 28),), batch=0)
    with pytest.raises(ValueError, match="nano-teacher: every stage has fewer images than a batch"):
        replace(get_recipe("nano-teacher"), stages=(Stage(samples=7, sizes=((28, 28),), batch=8),))
    for settings in ({"epochs": 0}, {"rate": 0.0}, {"rate": float("nan")}):
        with pytest.raises(ValueError, match="expected 1 epoch or more, and a rate above 0"):
            finetune(DepthAnything("nano"), tmp_path, tmp_path / "out", **settings)
