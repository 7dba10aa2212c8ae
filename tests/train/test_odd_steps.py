"""Steps that are not finite, spikes, deliberate changes, and what is reported: what a run of weeks has to bear."""

import json
import logging
import math
import os
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn import Boxes, tiny

from depth_anything.data.order import sample_number
from depth_anything.data.sample import Sample
from depth_anything.train import loop, meter, odd_steps
from depth_anything.train.batches import LABELED, Data
from depth_anything.train.changes import Changes
from depth_anything.train.checkpoint import STATE_FILE, weights_of
from depth_anything.train.initial_weights import start_model
from depth_anything.train.odd_steps import MOST_IN_A_ROW, ODD_FILE, OddSteps
from depth_anything.train.tracker import Tracker

pytestmark = pytest.mark.usefixtures("one_thread")


class Poison(Boxes):
    """Some images have NaN for truth; all have names."""

    def __init__(self, count: int, bad: set[int]):
        super().__init__(count)
        self.bad = bad

    def __getitem__(self, number: int) -> Sample:
        sample = replace(super().__getitem__(number), key=f"image{number}.jpg")
        if number in self.bad:
            sample = replace(sample, disparity_HW=np.full_like(sample.disparity_HW, np.nan))
        return sample


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_step_that_is_not_finite_is_skipped_counted_and_named(tmp_path, caplog):
    """One image of eight is broken. Each epoch's step with it changes nothing; the others go on."""
    recipe, bad = tiny(8), 5
    model = loop.train(recipe, tmp_path, Data(Poison(8, {bad})))
    numbers = [sample_number([recipe.seed, LABELED], Boxes(8), place) for place in range(16)]
    expected = [step for step in range(8) if bad in numbers[2 * step : 2 * step + 2]]
    odd = lines(tmp_path / ODD_FILE)
    assert [line["step"] for line in odd] == expected and len(expected) == 2
    for line in odd:
        assert line["skipped"] and line["what"] == "loss"
        images = line["processes"][0]["images"]
        assert sorted(images) == sorted(f"image{n}.jpg" for n in numbers[2 * line["step"] : 2 * line["step"] + 2])
        assert f"image{bad}.jpg" in images and f"skipped step {line['step']}: its loss is not finite" in caplog.text
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    curve = lines(tmp_path / "curve.jsonl")
    assert [line["step"] for line in curve] == list(range(1, 9)) and curve[-1]["skipped_steps"] == 2
    assert all(math.isfinite(line["gradient_norm"]) for line in curve if line["step"] - 1 not in expected)


def test_a_skipped_step_leaves_weights_and_moments_alone(tmp_path):
    """Four steps of which all but the first are broken end with the weights of the first."""
    recipe = replace(tiny(4), learning_rate=1e-3, warmup=0)
    order = [sample_number([recipe.seed, LABELED], Boxes(8), place) for place in range(8)]
    with pytest.raises(KeyboardInterrupt):
        loop.train(recipe, tmp_path / "one", Data(Stopping(8, set(), True)))
    loop.train(recipe, tmp_path / "rest", Data(Poison(8, set(order[2:]))))
    states = [torch.load(tmp_path / name / STATE_FILE, weights_only=True) for name in ("one", "rest")]
    assert [state["step"] for state in states] == [1, 4]
    for key, tensor in states[0]["model"].items():
        assert torch.equal(tensor, states[1]["model"][key]), key


class Stopping(Poison):
    """Asks the run to stop with its first image."""

    def __init__(self, count: int, bad: set[int], stopping: bool):
        super().__init__(count, bad)
        self.stopping = stopping

    def __getitem__(self, number: int) -> Sample:
        if self.stopping:
            self.stopping = False
            os.kill(os.getpid(), 15)
        return super().__getitem__(number)


def test_many_broken_steps_in_a_row_end_the_run_in_one_line(tmp_path):
    recipe = tiny(2 * MOST_IN_A_ROW)
    with pytest.raises(ValueError, match=r"is not finite at step 9, as at all of the last 10 .*--skip-to"):
        loop.train(recipe, tmp_path, Data(Poison(4, {0, 1, 2, 3})))
    assert not (tmp_path / "final.safetensors").exists()


def test_a_gradient_that_is_not_finite_under_a_finite_loss_is_skipped(tmp_path, monkeypatch):
    recipe = tiny(4)
    calm = loop.task_of(recipe, Data(Poison(8, set())))

    def spoiled(network, one, step):
        found = calm.losses(network, one, step)
        parameter = next(p for p in network.parameters() if p.requires_grad)
        root = (parameter.flatten()[0] - parameter.flatten()[0].detach()).sqrt()  # 0, with an infinite slope
        return replace(found, total=found.total + root) if step == 2 else found

    monkeypatch.setattr(loop, "task_of", lambda *_: replace(calm, losses=spoiled))
    model = loop.train(recipe, tmp_path, Data(Poison(8, set())))
    assert [(line["step"], line["what"]) for line in lines(tmp_path / ODD_FILE)] == [(2, "gradient")]
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


def test_a_state_that_is_not_finite_is_never_written(tmp_path, monkeypatch):
    """Weights that break without a sign in loss or gradient: the last good state stays."""
    recipe, real = tiny(4), torch.optim.AdamW.step

    def step(optimizer, *arguments, **options):
        real(optimizer, *arguments, **options)
        if (tmp_path / STATE_FILE).exists():
            with torch.no_grad():
                optimizer.param_groups[-1]["params"][0].fill_(math.inf)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(ValueError, match="not finite after step 2: not saved"):
        loop.train(recipe, tmp_path, Data(Boxes(4)), save_seconds=0)
    assert torch.load(tmp_path / STATE_FILE, weights_only=True)["step"] == 1
    assert not (tmp_path / "final.safetensors").exists()


def test_a_spike_names_its_images_and_is_taken(tmp_path, caplog):
    odd = OddSteps(tmp_path, 0, 1000, True)
    names = lambda chosen: [f"image{place}" for place in chosen for _ in range(5)]  # noqa: E731
    for step in range(odd_steps.FEWEST):
        odd.taken(step, [0.5], 1.0 + 0.1 * (step % 3), names)
    odd.taken(60, [0.5], 5.0, names)
    assert not (tmp_path / ODD_FILE).exists()
    odd.taken(61, [9.0], 50.0, names)
    (line,) = lines(tmp_path / ODD_FILE)
    assert (line["step"], line["skipped"], line["what"], line["gradient_norm"]) == (61, False, "spike", 50.0)
    assert len(line["processes"][0]["images"]) == 5 and "image0, image0, image0 and 2 more" in caplog.text


def test_a_run_whose_gradient_is_0_ends_in_one_line(tmp_path):
    """The last ReLU passes nothing: no step changes the output any more."""
    recipe = tiny(2 * odd_steps.FEWEST)
    weights = start_model(recipe, None).state_dict()
    weights["depth_head.scratch.output_conv2.2.bias"].fill_(-100.0)
    with pytest.raises(ValueError, match=r"gradient was exactly 0 at most of the last 50 steps .*--learning-rate"):
        loop.train(recipe, tmp_path, Data(Boxes(4)), weights=weights)
    assert len(lines(tmp_path / "curve.jsonl")) == odd_steps.FEWEST
    assert not (tmp_path / "final.safetensors").exists()


# -- changed on purpose --


def test_a_lower_rate_is_allowed_by_name_and_recorded(tmp_path):
    recipe = tiny(6)
    with pytest.raises(KeyboardInterrupt):
        loop.train(recipe, tmp_path, Data(Stopping(8, set(), True)))
    lower = replace(recipe, learning_rate=recipe.learning_rate / 2)
    with pytest.raises(ValueError, match=r"another recipe .*different learning_rate"):
        loop.train(lower, tmp_path, Data(Boxes(8)))
    allowed = Changes(fields=("learning_rate",))
    with pytest.raises(ValueError, match=r"another recipe .*different seed\)"):
        loop.train(replace(lower, seed=3), tmp_path, Data(Boxes(8)), changes=allowed)
    for _ in range(2):  # the second run finds the first one finished, and nothing new to record
        loop.train(lower, tmp_path, Data(Boxes(8)), changes=allowed)
    written = json.loads((tmp_path / "recipe.json").read_text())
    (change,) = written["changes"]
    assert (change["step"], change["field"], change["from"], change["to"]) == (
        1, "learning_rate", recipe.learning_rate, lower.learning_rate,
    )  # fmt: skip
    assert "@" in change["by"] and change["at"].startswith("20") and written["learning_rate"] == lower.learning_rate
    rates = [line["rate"] for line in lines(tmp_path / "curve.jsonl")]
    assert rates[1] == pytest.approx(lower.learning_rate * (1 - 2 / 12))


def test_steps_are_left_out_on_purpose_and_recorded(tmp_path):
    recipe = tiny(8)
    with pytest.raises(KeyboardInterrupt):
        loop.train(recipe, tmp_path, Data(Stopping(8, set(), True)))
    loop.train(recipe, tmp_path, Data(Boxes(8)), changes=Changes(skip_to=5))
    assert [line["step"] for line in lines(tmp_path / "curve.jsonl")] == [1, 6, 7, 8]
    (change,) = json.loads((tmp_path / "recipe.json").read_text())["changes"]
    assert (change["field"], change["from"], change["to"]) == ("step", 1, 5)
    with pytest.raises(ValueError, match="--skip-to 9: expected a step before the end of the run, 8"):
        loop.train(recipe, tmp_path, Data(Boxes(8)), changes=Changes(skip_to=9))


def test_a_run_starts_from_the_running_mean_of_a_state(tmp_path):
    recipe = replace(tiny(2), ema=0.9)
    final = loop.train(recipe, tmp_path / "first", Data(Boxes(4))).state_dict()
    found = weights_of(tmp_path / "first" / STATE_FILE)
    assert all(torch.equal(found[key], final[key]) for key in final)
    plain = torch.load(tmp_path / "first" / STATE_FILE, weights_only=True)["model"]
    assert any(not torch.equal(found[key], plain[key]) for key in final)
    started = loop.start(replace(tiny(2), seed=7), found).model.state_dict()
    assert all(torch.equal(started[key], final[key]) for key in final)
    torch.save({"weights": 1}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match="is not the state of a run"):
        weights_of(tmp_path / "state.pt")


# -- what is reported --


def test_the_log_has_speed_wait_memory_and_gradient(tmp_path):
    loop.train(tiny(2), tmp_path, Data(Boxes(4)))
    line = lines(tmp_path / "curve.jsonl")[-1]
    assert {"images_per_second", "data_wait", "forward", "memory_gib", "gradient_norm", "skipped_steps"} <= set(line)
    assert line["forward"] > 0 and line["data_wait"] >= 0 and 0.05 < line["memory_gib"] < 1000
    assert "mfu" not in line


def test_the_log_has_the_share_of_the_peak_where_it_is_known(tmp_path):
    loop.train(tiny(2), tmp_path, Data(Boxes(4)), image_seconds=0.5)
    for line in lines(tmp_path / "curve.jsonl"):
        assert line["mfu"] == pytest.approx(0.5 * line["images_per_second"])


def test_the_log_has_the_least_and_the_most_of_several_processes(monkeypatch):
    monkeypatch.setattr(meter, "gathered", lambda own: [(1.0, 3.0, 5.0), (2.0, 2.5, 9.0)])
    found = meter.Meter(0).means(8)
    for name, (least, most) in {"data_wait": (1, 2), "forward": (2.5, 3), "memory_gib": (5, 9)}.items():
        assert (found[f"{name}_min"], found[name]) == (least, most)


def test_the_process_that_holds_up_the_others_is_named(caplog):
    with caplog.at_level(logging.WARNING):
        assert meter.name_stragglers([1.0, 1.1, 1.9, 0.9]) == [2]
        assert meter.name_stragglers([1.0]) == meter.name_stragglers([1.0, 1.1]) == []
    assert "rank 2: 1.9 s" in caplog.text and len(caplog.records) == 1


@pytest.mark.parametrize("service", ["wandb", "mlflow"])
def test_a_tracker_receives_every_line(service, tmp_path, monkeypatch):
    """The libraries are not installed here: modules with their calls stand in for them."""
    seen: list = []
    library = types.ModuleType(service)
    log = lambda values, step: seen.append((step, values))  # noqa: E731
    library.init = lambda **options: seen.append(options) or types.SimpleNamespace(log=log)  # type: ignore[attr-defined]
    library.set_experiment = lambda name: seen.append({"project": name})  # type: ignore[attr-defined]
    library.start_run = library.log_dict = lambda *_, **__: None  # type: ignore[attr-defined]
    library.log_metrics = log  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, service, library)
    loop.train(tiny(2), tmp_path, Data(Boxes(4)), tracker=Tracker(service, tmp_path, "{}"))
    assert seen[0]["project"] == "depth-anything"
    curve = lines(tmp_path / "curve.jsonl")
    assert seen[1:] == [
        (line["step"], {name: value for name, value in line.items() if name != "step"}) for line in curve
    ]
    monkeypatch.setitem(sys.modules, service, None)
    with pytest.raises(ValueError, match=f"--track {service}: {service} is not installed: pip install {service}"):
        Tracker(service, tmp_path, "{}")
