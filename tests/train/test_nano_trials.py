"""benchmarks/nano_trials.py at the smallest sizes: what a trial changes, and that its tables are those of its runs."""

import json
import re
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmark_scripts import BENCHMARKS, script
from drawn import tiny
from scene_shards import scene

from depth_anything.data.shards import write_shard
from depth_anything.label.jobs import LabelOptions
from depth_anything.label.launch import label
from depth_anything.network.model import DepthAnything
from depth_anything.train.batches import build_slice
from depth_anything.variants import get_variant

trials = script("nano_trials")
CHANGED = {
    "affine": {"loss"},
    "range": {"loss"},
    "gradient-0": {"gradient_weight"},
    "gradient-2": {"gradient_weight"},
    "colours-none": {"perturbation"},
    "colours-unimatch": {"perturbation"},
    "crop-0.25": {"crop_scale"},
    "crop-0.5": {"crop_scale"},
    "crop-0.8": {"crop_scale"},
    "small": {"sizes"},
    "middle": {"sizes"},
    "panoramas": {"sizes"},
    "rate-half": {"learning_rate"},
    "rate-double": {"learning_rate"},
    "batch-half": {"batch"},
    "batch-double": {"batch"},
    "ema-0": {"ema"},
    "ema-0.9995": {"ema"},
    "scenes-quarter": {"scenes"},
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_trial_changes_one_factor_and_keeps_the_images(name):
    whole = trials.base(24_000, 32, 4096)
    first, second = asdict(trials.trial_recipe("base", whole, 1)), asdict(trials.trial_recipe(name, whole, 1))
    for field in ("name", "stages"):
        del first[field], second[field]
    different = {field for field in first if first[field] != second[field]}
    for one, other in zip(whole.stages, trials.VARIATIONS[name](whole).stages, strict=True):
        different |= {field for field in asdict(one) if getattr(one, field) != getattr(other, field)}
        assert one.samples == other.samples
    assert different == CHANGED[name]
    assert second["seed"] == 1


def test_the_base_is_nano_teacher_at_its_two_smaller_sizes():
    for samples in (8_000, 560_000):
        recipe = trials.base(samples, 32, 100)
        assert [(stage.samples / samples, stage.loss) for stage in recipe.stages] == [
            (3 / 4, "range"),
            (1 / 4, "affine"),
        ]
        assert (recipe.warmup / samples, recipe.scenes) == (1 / 16, 100)
    for tried in (recipe, trials.trial_recipe("panoramas", recipe, 0)):
        assert [trials.input_size(replace(tried, stages=tried.stages[:n])) for n in (1, 2)] == [84, 112]


@pytest.mark.parametrize("name", ["wide", "deep", "stem"])
def test_other_shapes_have_as_many_numbers_and_are_gone_after_the_trial(name):
    recipe = trials.trial_recipe(name, trials.base(24_000, 32, 4096), 0)
    plain = sum(parameter.numel() for parameter in DepthAnything("nano-vit").pretrained.blocks.parameters())
    with trials.as_tried(name):
        model = DepthAnything(recipe.variant)
        assert model(torch.rand(1, 3, 28, 42)).shape == (1, 28, 42)
    assert abs(sum(p.numel() for p in model.pretrained.blocks.parameters()) / plain - 1) < 0.2
    again = DepthAnything("nano-vit")
    assert type(again.pretrained.patch_embed).__name__ == "PatchEmbed"
    assert {key: value.shape for key, value in model.state_dict().items()} != {
        key: value.shape for key, value in again.state_dict().items()
    }
    if name != "stem":
        with pytest.raises(ValueError, match=f"unknown model 'nano-{name}'"):
            get_variant(recipe.variant)


def test_the_larger_shape_has_more_numbers():
    with trials.as_tried("large"):
        blocks = DepthAnything(trials.SHAPES["large"].name).pretrained.blocks
    plain = sum(parameter.numel() for parameter in DepthAnything("nano-vit").pretrained.blocks.parameters())
    assert sum(parameter.numel() for parameter in blocks.parameters()) > 4 * plain


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Two training scenes and two held-out ones; recipes of `samples` / 2 steps."""
    for part, first in (("training", 0), ("held_out", 100)):
        scenes = [scene(seed, 48, 64) for seed in range(first, first + 2)]
        write_shard(tmp_path / "scenes" / part / "scenes-00000.tar", scenes)
    monkeypatch.setattr(
        trials, "base", lambda samples, batch, scenes: replace(tiny(samples // 2), scenes=scenes, validation_scenes=0)
    )
    return {"out": tmp_path / "out", "scenes": tmp_path / "scenes", "samples": 8, "seeds": 2, "only": ("ema-0",)}


def test_runs_are_kept_and_the_tables_are_theirs(small, capsys):
    trials.trials(**small)
    said = capsys.readouterr().out
    runs = {
        (name, seed): json.loads((small["out"] / f"{name}-{seed}" / "scores.json").read_text())
        for name in ("base", "ema-0")
        for seed in (0, 1)
    }
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in said.splitlines() if line.startswith("|")]
    head, floor = rows[0], rows[2]
    assert (head[:4], floor[0]) == (["trial", "input", "pictures/s", "minutes"], "image row")
    assert [row[0] for row in rows if row[0] in ("base", "ema-0")] == ["base", "ema-0", "ema-0"]
    means = {row[0]: dict(zip(head, row, strict=True)) for row in rows[2:5]}
    steps = dict(zip(rows[5], rows[7], strict=True))
    for column, metric in (("scenes δ1 ↑", "delta1"), ("scenes ordinal accuracy ↑", "ordinal")):
        values = {name: np.array([runs[name, seed]["scenes"]["all"][metric] for seed in (0, 1)]) for name in means if
                  name != "image row"}  # fmt: skip
        for name, found in values.items():
            assert means[name][column] == f"{found.mean():.3f} ± {found.std(ddof=1):.3f}"
        step = values["ema-0"] - values["base"]
        agree = " *" if step[0] * step[1] > 0 else ""
        assert steps[column] == f"{step.mean():+.3f} ± {step.std(ddof=1):.3f}{agree}"
        assert means["image row"][column] == f"{runs['base', 0]['scenes']['all'][f'row_{metric}']:.3f}"
    assert runs["base", 0]["samples"] == 8 and runs["base", 0]["input_size"] == 42
    assert runs["base", 0]["scenes"] != runs["base", 1]["scenes"] != runs["ema-0", 1]["scenes"]

    weights = small["out"] / "ema-0-1" / "final.safetensors"
    before = weights.stat().st_mtime_ns
    (small["out"] / "base-0" / "scores.json").unlink()  # stopped before it was scored: trained again to the same end
    trials.trials(**small)
    assert without_speed(capsys.readouterr().out) == without_speed(said)
    assert weights.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="base-0 holds another recipe"):
        trials.trials(**small | {"samples": 12})
    with pytest.raises(ValueError, match="no trial ema; choose of: base, affine"):
        trials.trials(**small | {"only": ("ema",)})


@pytest.mark.slow
def test_other_scenes_and_a_trained_encoder_are_trials(small, tmp_path, capsys, monkeypatch):
    write_shard(tmp_path / "others" / "scenes-00000.tar", [scene(seed, 48, 64) for seed in (7, 8)])
    trials.trials(**small | {"only": ("base",), "seeds": 1})
    warm = small["out"] / "base-0" / "final.safetensors"
    asked = small | {"only": ("muon", "far", "other", "warm"), "seeds": 1}
    asked |= {"other_scenes": (f"other={tmp_path / 'others'}",)}
    trials.trials(**asked, warm=warm)
    said = capsys.readouterr().out
    scores = {
        name: (small["out"] / f"{name}-0" / "scores.json").read_text()
        for name in ("base", "muon", "far", "other", "warm")
    }
    assert len({json.dumps(json.loads(text)["scenes"]) for text in scores.values()}) == 5
    assert "\n| other | " in said and "\n| warm | " in said

    further = small | {"out": tmp_path / "further", "only": ("base",), "seeds": 1}
    trials.trials(**further, start_from=warm)
    with pytest.raises(ValueError, match="base-0 learned from other files"):
        trials.trials(**further, start_from=small["out"] / "other-0" / "final.safetensors")
    text = (tmp_path / "further" / "base-0" / "scores.json").read_text()
    assert json.loads(text)["scenes"] != json.loads(scores["base"])["scenes"]
    label(
        str(Path(__file__).parents[2] / "examples"),
        str(tmp_path / "labels"),
        LabelOptions(teacher=str(warm), input_size=42),
    )
    told = further | {
        "out": tmp_path / "told",
        "only": ("photographs", "photographs-unperturbed"),
        "pseudo_labels": (f"photographs={tmp_path / 'labels'}",),
    }
    two_steps = trials.base

    def of_three(samples: int, batch: int, scenes: int):
        """CutMix needs two unlabelled images in a step: two thirds of three."""
        recipe = two_steps(samples, batch, scenes)
        return replace(recipe, stages=tuple(replace(one, batch=3, samples=3 * one.steps) for one in recipe.stages))

    monkeypatch.setattr(trials, "base", of_three)
    trials.trials(**told, start_from=warm)
    said, recipes = capsys.readouterr().out, []
    for name in ("photographs", "photographs-unperturbed"):
        curve = (tmp_path / "told" / f"{name}-0" / "curve.jsonl").read_text()
        assert "unlabeled" in curve and "feature" in curve and f"| {name} |" in said
        recipes.append(json.loads((tmp_path / "told" / f"{name}-0" / "recipe.json").read_text())["unlabeled"])
    assert {key for key in recipes[0] if recipes[0][key] != recipes[1][key]} == {"perturbation", "cutmix"}
    with pytest.raises(ValueError, match="give that, too"):
        trials.trials(**told)
    for asked, line in (({"warm": warm}, "choose"), ({"only": ("deep",)}, "no trial deep")):
        with pytest.raises(ValueError, match=line):
            trials.trials(**further | {"start_from": warm} | asked)


def test_the_far_weighted_loss_counts_a_residual_by_the_distance_of_its_pixel():
    ground_truth = torch.tensor([[[0.5, 0.5, 1.5, 1.5]]], dtype=torch.float64)  # mean 1
    valid = torch.ones_like(ground_truth, dtype=torch.bool)
    plain = trials.losses.affine_invariant_pair
    costs = []
    for seen in ([0.3, 0.5, 1.5, 1.5], [0.5, 0.5, 1.5, 1.7]):  # wrong by as much far away, and near
        seen = torch.tensor([[seen]], dtype=torch.float64)
        residual = trials.losses.affine_invariant_residual(seen, ground_truth, valid).abs()
        cost, matching = trials.far_weighted_pair(seen, ground_truth, valid)
        torch.testing.assert_close(cost, (residual / (ground_truth + 0.2)).sum() / (1 / (ground_truth + 0.2)).sum())
        assert matching == plain(seen, ground_truth, valid)[1]
        costs.append(cost)
    assert costs[0] > costs[1]
    with trials.as_tried("far"):
        assert trials.losses.affine_invariant_pair is trials.far_weighted_pair
    assert trials.losses.affine_invariant_pair is plain


@pytest.mark.slow
def test_the_command_with_two_runs_side_by_side(small):
    command = [sys.executable, BENCHMARKS / "nano_trials.py", "--out", small["out"], "--scenes", small["scenes"]]
    command += ["--samples", "48", "--seeds", "1", "--only", "batch-half", "small", "--parallel", "2"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(
        f"\n| {name} | {size} |" in done.stdout for name, size in (("base", 112), ("batch-half", 112), ("small", 84))
    )


def without_speed(text: str) -> str:
    """Everything but images a second and minutes."""
    return re.sub(r"\| 42 \| [\d.]+ \| [\d.]+ \|", "|", text)


def test_speed_adds_up_the_sittings(tmp_path):
    lines = [{"samples": 20, "images_per_second": 10}, {"samples": 60, "images_per_second": 8}]
    (tmp_path / "curve.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert trials.speed(tmp_path / "curve.jsonl") == {"samples": 60, "seconds": pytest.approx(20 / 10 + 40 / 8)}


def test_spread_takes_images_at_equal_distances():
    assert list(trials.evenly(range(10), 4)[n] for n in range(4)) == [0, 2, 5, 7]
    assert len(trials.evenly(range(10), 4)) == 4


def test_spread_on_a_gpu_takes_the_same_images(tmp_path):
    write_shard(tmp_path / "scenes-00000.tar", [scene(seed, 48, 64) for seed in range(5)])
    packed = trials.PackedScenes(tmp_path)
    resident, spread = trials.SpreadOnDevice(packed, 2, "cpu"), trials.evenly(packed, 2)
    assert len(resident) == len(spread) == 2
    recipe = replace(trials.base(64, 4, 2), perturbation="none")
    theirs, ours = (trials.Data(samples) for samples in (spread, resident))
    for step in range(2):
        one, other = (build_slice(recipe, data, step).labeled for data in (theirs, ours))
        assert one and other and (one.disparity_BHW == other.disparity_BHW).all()
    assert all((resident[n].disparity_HW == spread[n].disparity_HW).all() for n in range(2))
    assert not (resident[1].disparity_HW == packed[1].disparity_HW).all()
