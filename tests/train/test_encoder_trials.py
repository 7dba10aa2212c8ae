"""benchmarks/encoder_trials.py at the smallest sizes: one factor each, equal time, controls that keep what they say."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from benchmark_scripts import BENCHMARKS, script
from drawn import tiny
from scene_shards import scene

from depth_anything.data.shards import write_shard
from depth_anything.network.beit_sam import encoder_of
from depth_anything.train import relative_depth
from depth_anything.variants import get_variant

pytestmark = pytest.mark.usefixtures("one_thread")

CHANGED = {
    "frozen": {"encoder_rate"},
    "encoder-0.03": {"encoder_rate"},
    "encoder-0.3": {"encoder_rate"},
    "encoder-1": {"encoder_rate"},
    "lite0": {"variant"},
    "lite1": {"variant"},
    "vit": {"variant", "sizes", "from_backbone", "encoder_rate"},
    "random": {"from_backbone", "encoder_rate"},
    "shuffled": {"encoder_rate"},
    "small": {"sizes"},
    "middle": {"sizes"},
    "large-last": {"sizes"},
    "gradient-0": {"gradient_weight"},
    "gradient-2": {"gradient_weight"},
    "range-first": {"loss"},
    "scenes-64": {"scenes"},
    "scenes-256": {"scenes"},
    "scenes-1024": {"scenes"},
    "scenes-4096": {"scenes"},
    "crop-0.5": {"crop_scale"},
    "crop-0.8": {"crop_scale"},
    "colours-none": {"perturbation"},
    "colours-unimatch": {"perturbation"},
    "rate-half": {"learning_rate"},
    "rate-double": {"learning_rate"},
    "ema-0": {"ema"},
}


@pytest.fixture
def trials(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return script("encoder_trials")


def test_a_trial_changes_one_factor(trials):
    assert set(trials.VARIATIONS) == {"base", *CHANGED}
    whole = trials.base(16_384)
    for name, expected in CHANGED.items():
        varied = trials.VARIATIONS[name](whole)
        first, second = asdict(whole), asdict(varied)
        del first["stages"], second["stages"]
        different = {field for field in first if first[field] != second[field]}
        for one, other in zip(whole.stages, varied.stages, strict=True):
            different |= {field for field in asdict(one) if getattr(one, field) != getattr(other, field)}
        assert different == expected, name
        patch = get_variant(varied.variant).patch
        assert all(side % patch == 0 for stage in varied.stages for size in stage.sizes for side in size)


def test_shuffled_weights_are_the_same_numbers_in_other_places(trials):
    tensor = torch.randn(8, 3, 5, 5)
    found = trials.shuffled("blocks.0.expand.conv.weight", tensor)
    assert torch.equal(found.flatten().sort().values, tensor.flatten().sort().values)
    assert found.shape == tensor.shape and not torch.equal(found, tensor)
    assert torch.equal(found, trials.shuffled("blocks.0.expand.conv.weight", tensor))


@pytest.fixture
def small(trials, tmp_path, monkeypatch):
    """Two training scenes, two held-out ones, the encoder's file, recipes at the smallest sizes."""
    for part, first in (("training", 0), ("held_out", 100)):
        scenes = [scene(seed, 48, 64) for seed in range(first, first + 2)]
        write_shard(tmp_path / "scenes" / part / "scenes-00000.tar", scenes)
    torch.manual_seed(0)
    torch.save(encoder_of(get_variant("nano-lite0")).state_dict(), tmp_path / "encoder.pth")
    monkeypatch.setattr(trials, "installed_weights", lambda variant: tmp_path / "encoder.pth")
    plain = replace(tiny(4, "nano-lite0"), from_backbone=True, encoder_rate=0.1, validation_scenes=0)
    monkeypatch.setattr(trials, "base", lambda scenes: replace(plain, scenes=scenes))
    monkeypatch.setattr(trials, "MEASURED_STEPS", 1)
    return {"out": tmp_path / "out", "scenes": tmp_path / "scenes", "minutes": 0.02, "input_size": 64, "seeds": 1}


def test_runs_have_equal_time_are_kept_and_the_controls_learn_statistics(small, trials, capsys):
    asked = small | {"only": ("frozen", "shuffled", "random")}
    trials.trials(**asked)
    said = capsys.readouterr().out
    names = ("base", "frozen", "shuffled", "random")
    assert all(f"\n| {name} | 64 |" in said for name in names)
    assert (
        relative_depth.start_model is trials.relative_depth.start_model
        and relative_depth.start_model.__name__ == "start_model"
    )
    mean = "pretrained.patch_embed.norm.running_mean"
    from safetensors.torch import load_file

    for name in names:
        images = json.loads((small["out"] / name / "pictures.json").read_text())["pictures"]
        for seed in ("0",):
            recipe = json.loads((small["out"] / name / seed / "recipe.json").read_text())
            assert [stage["samples"] for stage in recipe["stages"]] == images and recipe["seed"] == int(seed)
            weights = load_file(small["out"] / name / seed / "final.safetensors")
            assert bool(weights[mean].any()) == (name in ("shuffled", "random"))
    frozen = load_file(small["out"] / "frozen" / "0" / "final.safetensors")
    encoder = encoder_of(get_variant("nano-lite0"))
    encoder.load_state_dict(torch.load(small["out"].parent / "encoder.pth", weights_only=True))
    assert all(torch.equal(frozen[f"pretrained.{key}"], tensor) for key, tensor in encoder.state_dict().items())

    before = (small["out"] / "base" / "0" / "final.safetensors").stat().st_mtime_ns
    trials.trials(**asked)
    assert capsys.readouterr().out == said
    assert (small["out"] / "base" / "0" / "final.safetensors").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="holds another trial"):
        trials.trials(**asked | {"minutes": 0.03})
    with pytest.raises(ValueError, match="no trial lite7"):
        trials.trials(**asked | {"only": ("lite7",)})


def test_twice_the_time_is_twice_the_images(small, trials, tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "images_a_second", lambda recipe, stage, scenes: (30.0, 10.0)[stage])
    recipe = trials.base(2)
    assert trials.affordable(tmp_path / "a", recipe, None, 60) == [1200, 200]
    assert trials.affordable(tmp_path / "b", recipe, None, 120) == [2400, 400]
