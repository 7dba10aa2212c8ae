"""The training: what a step sees, how it goes on after a kill, and that it learns."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import FAMILIES, Boxes, tiny
from safetensors.torch import load_file

from depth_anything.data.order import sample_number
from depth_anything.data.sample import Sample
from depth_anything.network.model import DepthAnything
from depth_anything.system import signals
from depth_anything.train import checkpoint, loop, relative_depth
from depth_anything.train.batches import Batch, Data, build_slice
from depth_anything.train.checkpoint import STATE_FILE
from depth_anything.train.recipes.ablations import ABLATIONS
from depth_anything.train.recipes.all_recipes import get_recipe
from depth_anything.train.recipes.base import Recipe, Stage, as_json, changed_fields
from depth_anything.train.recipes.nano import NANO_RECIPES
from depth_anything.train.recipes.nano_vit import NANO_VIT_RECIPES
from depth_anything.train.recipes.v1 import V1_RECIPES
from depth_anything.train.recipes.v2 import V2_RECIPES
from depth_anything.train.steps import batches, update_average
from depth_anything.train.teacher import MapAndTokens, teacher_losses
from depth_anything.train.validation import validate_disparity
from depth_anything.variants import get_variant, with_log_head, with_max_depth


def labeled(recipe: Recipe, samples, step: int) -> Batch:
    """The labelled images of a whole step."""
    batch = build_slice(recipe, Data(samples), step).labeled
    assert batch is not None
    return batch


pytestmark = pytest.mark.usefixtures("one_thread")


# -- what is trained is what answers --


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", ["linear", "sigmoid", "log", "bins"])
def test_training_uses_the_models_own_prediction(head, family):
    """Else a head would be released that never learned."""
    nano = get_variant(family)
    variant = {
        "linear": nano,
        "sigmoid": with_max_depth(nano, 20.0),
        "log": with_log_head(nano),
        "bins": replace(nano, head="bins", bins="softplus", max_depth=10.0),
    }[head]
    torch.manual_seed(0)
    model, image_B3HW = DepthAnything(variant).train(), torch.randn(1, 3, 2 * nano.patch, 3 * nano.patch)
    answer_BHW, _ = MapAndTokens(model)(image_B3HW)
    torch.testing.assert_close(answer_BHW, model(image_B3HW), rtol=0, atol=0)
    answer_BHW.sum().backward()
    if model.metric_head is not None:
        assert all(parameter.grad is not None for parameter in model.metric_head.parameters())


# -- recipes --


@pytest.mark.parametrize("name", NANO_RECIPES | NANO_VIT_RECIPES | V1_RECIPES | V2_RECIPES | ABLATIONS)
def test_recipes_are_named_fit_their_variant_and_name_real_sizes(name):
    recipe = get_recipe(name)
    assert recipe.name == name and get_variant(recipe.variant).name == recipe.variant
    for stage in recipe.stages:
        assert all(side % get_variant(recipe.variant).patch == 0 for size in stage.sizes for side in size)
        assert 0 < stage.batch <= stage.samples
    written = json.loads(as_json(recipe))
    assert written["stages"][0]["batch"] == recipe.stages[0].batch and not changed_fields(recipe, written)


def test_the_papers_recipes_have_the_papers_numbers():
    v1, v2 = get_recipe("v1-teacher-large"), get_recipe("v2-teacher-giant")
    for recipe in (v1, v2):
        assert recipe.learning_rate == 5e-5 and recipe.learning_rate * recipe.encoder_rate == pytest.approx(5e-6)
        assert recipe.stages[0].sizes == ((518, 518),) and recipe.stages[0].loss == "affine"
        assert recipe.perturbation == "none" and recipe.crop_scale == (1, 1) and recipe.flip == 0.5
    assert len(v1.data) == 6 and v1.stages[0].gradient_weight == 0
    assert len(v2.data) == 5 and v2.steps == 160_000 and v2.stages[0].batch == 64 and v2.stages[0].gradient_weight == 2


def test_unknown_recipes_are_refused_with_the_names():
    with pytest.raises(ValueError, match="nano-teacher"):
        get_recipe("nano")


def test_stages_follow_one_another():
    recipe = tiny(8)
    assert [recipe.stage_of(step)[1] for step in range(8)] == [0, 2, 4, 6, 8, 10, 12, 14]
    assert recipe.stage_of(3)[0] == recipe.stages[0] and recipe.stage_of(4)[0] == recipe.stages[1]
    with pytest.raises(IndexError):
        recipe.stage_of(8)


# -- what a step sees --


def test_every_epoch_sees_every_image_once_in_another_order():
    first, second = ([sample_number([0, 1], Boxes(11), epoch * 11 + i) for i in range(11)] for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(11))
    assert first != second


def test_a_batch_follows_from_seed_and_step_alone():
    recipe = tiny()
    one, same, other = (labeled(replace(recipe, seed=seed), Boxes(9), 3) for seed in (0, 0, 1))
    assert torch.equal(one.image_B3HW, same.image_B3HW) and torch.equal(one.disparity_BHW, same.disparity_BHW)
    assert one.image_B3HW.shape != other.image_B3HW.shape or not torch.equal(one.image_B3HW, other.image_B3HW)
    for step, slices in enumerate(batches(loop.task_of(recipe, Data(Boxes(9))), 2, recipe.steps, readers=3), start=2):
        assert torch.equal(slices[0].labeled.image_B3HW, labeled(recipe, Boxes(9), step).image_B3HW)
    assert step == recipe.steps - 1


def test_a_broken_image_stops_the_run_with_its_own_error():
    class Broken(Boxes):
        def __getitem__(self, number: int) -> Sample:
            raise ValueError("image 3 is broken")

    with pytest.raises(ValueError, match="image 3 is broken"):
        next(batches(loop.task_of(tiny(), Data(Broken(4))), 0, 8))


# -- optimiser --


def test_rates_rise_then_fall_in_a_line_and_the_encoder_has_its_share():
    recipe = replace(tiny(8), encoder_rate=0.1, learning_rate=1.0)
    run = loop.start(recipe, None)
    rates = []
    for run.step in range(recipe.steps):
        rates.append(relative_depth.set_rate(run.optimizer, recipe, run.step))
        assert [group["lr"] for group in run.optimizer.param_groups] == pytest.approx(
            [rates[-1] * s for s in (0.1, 0.1, 1, 1)]
        )
    assert rates == pytest.approx(
        [0.5, 1 - 2 / 16, 1 - 4 / 16, 1 - 6 / 16, 1 - 8 / 16, 1 - 10 / 16, 1 - 12 / 16, 1 - 14 / 16]
    )


def test_every_weight_is_optimised_once_and_only_matrices_decay():
    run = loop.start(tiny(), None)
    grouped = [p for group in run.optimizer.param_groups for p in group["params"]]
    assert len(grouped) == len(set(map(id, grouped)))
    unused = [name for name, p in run.model.named_parameters() if not any(p is other for other in grouped)]
    assert all(name.endswith("mask_token") or "refinenet4.resConfUnit1" in name for name in unused) and len(unused) == 5
    for group in run.optimizer.param_groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == 0 or parameter.ndim > 1
    decayed = {id(p) for group in run.optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    named = dict(run.model.named_parameters())
    assert id(named["pretrained.pos_embed"]) not in decayed
    assert id(named["pretrained.blocks.0.attn.qkv.weight"]) in decayed


def test_the_running_mean_is_the_one_written_down():
    run = loop.start(replace(tiny(), ema=0.5), None)
    name = "depth_head.scratch.output_conv1.bias"
    weight, expected = dict(run.model.named_parameters())[name], run.average[name].clone()
    for run.step in range(1, 4):
        with torch.no_grad():
            weight.add_(1.0)
        decay = min(0.5, (1 + run.step) / (10 + run.step))
        expected = expected * decay + weight.detach() * (1 - decay)
        update_average(run)
    assert torch.allclose(run.average[name], expected)


def test_a_recipe_that_starts_from_dinov2_asks_for_it_and_takes_it(tmp_path):
    recipe = replace(tiny(), from_backbone=True)
    with pytest.raises(ValueError, match="--backbone"):
        loop.train(recipe, tmp_path, Data(Boxes(3)))
    backbone = {
        f"pretrained.{key}": tensor for key, tensor in DepthAnything("nano-vit").pretrained.state_dict().items()
    }
    started = loop.start(recipe, backbone).model.state_dict()
    assert all(torch.equal(started[key], backbone[key]) for key in backbone)


# -- learning --


@pytest.mark.parametrize("family", FAMILIES)
def test_one_batch_can_be_learned_by_heart(family):
    patch = get_variant(family).patch
    plain = Stage(samples=4, sizes=((56 // patch * patch or patch, 70 // patch * patch),), batch=4, loss="range")
    recipe = replace(tiny(variant=family), stages=(plain,), perturbation="none", precision="float32")
    run = loop.start(recipe, None)
    batch = labeled(recipe, Boxes(4), 0)
    errors = []
    for _ in range(50):
        for group in run.optimizer.param_groups:
            group["lr"] = 1e-3
        losses = teacher_losses(run.network, batch, recipe, plain)
        errors.append(losses.parts["range"].item())
        run.optimizer.zero_grad()
        losses.total.backward()
        run.optimizer.step()
    assert errors[-1] < 0.5 * errors[0]


def test_validation_scores_the_ground_truth_as_perfect_and_the_reverse_as_poor():
    class Grey:
        """Answers its input, which in these images is the disparity."""

        def __init__(self, sign: float):
            self.sign = sign

        def infer_rgb(self, image_HW3: np.ndarray) -> np.ndarray:
            return self.sign * image_HW3[..., 0].astype(np.float32)

    class Flat(Boxes):
        """Half near, half far: any size of the network shows it without loss, but for the edge."""

        def __getitem__(self, number: int) -> Sample:
            disparity_HW = np.repeat(np.array([0.25, 0.75], np.float32), 56 * 84).reshape(112, 84)
            image_HW3 = np.repeat((disparity_HW[..., None] * 200).astype(np.uint8), 3, axis=2)
            everywhere = np.ones(disparity_HW.shape, bool)
            return Sample(
                image_HW3=image_HW3, disparity_HW=disparity_HW, valid_HW=everywhere, sky_HW=~everywhere, scale="metric"
            )

    right = validate_disparity(Grey(1.0), Flat(2))
    assert right["delta1"] > 0.95 and right["abs_rel"] < 0.03
    flat = validate_disparity(Grey(0.0), Flat(2))
    assert flat["delta1"] < 0.6 and flat["abs_rel"] > 0.3


# -- going on --


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "final.safetensors")


@pytest.mark.parametrize("family", FAMILIES)
def test_killed_anywhere_and_resumed_the_weights_are_bit_equal(family, tmp_path):
    """A process that saves after each step is killed with SIGKILL; another goes on; a third run is left alone."""
    recipe = tiny(10, family)
    loop.train(recipe, tmp_path / "calm", Data(Boxes(5)), Boxes(2), log_every=2, validate_every=5)
    program = (
        "import sys, torch; sys.path.insert(0, sys.argv[2]); from drawn import Boxes, tiny;"
        "from depth_anything.train import loop; from depth_anything.train.batches import Data;"
        "torch.set_num_threads(1); "
        "loop.train(tiny(10, sys.argv[3]), sys.argv[1], Data(Boxes(5)), log_every=2, save_seconds=0.0)"
    )
    out = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", program, str(out), str(Path(__file__).parents[1]), family])
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and not (out / STATE_FILE).exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (out / STATE_FILE).exists() and not (out / "final.safetensors").exists()
    loop.train(recipe, out, Data(Boxes(5)), Boxes(2), log_every=2, validate_every=5)
    calm, killed = weights(tmp_path / "calm"), weights(out)
    assert all(torch.equal(calm[key], killed[key]) for key in calm)
    steps = [json.loads(line)["step"] for line in (out / "curve.jsonl").read_text().splitlines()]
    assert steps == sorted(steps) and steps[-1] == 10


def test_a_stop_signal_saves_after_a_complete_step(tmp_path):
    class Impatient(Boxes):
        asked = False

        def __getitem__(self, number: int) -> Sample:
            if not self.asked:
                self.asked = True
                os.kill(os.getpid(), signal.SIGTERM)
            return super().__getitem__(number)

    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match="saved after step 1 of 8"):
        loop.train(tiny(8), tmp_path, Data(Impatient(5)))
    assert signal.getsignal(signal.SIGTERM) == handler
    assert torch.load(tmp_path / STATE_FILE, weights_only=True)["step"] == 1


def test_a_finished_run_is_not_run_again(tmp_path):
    loop.train(tiny(2), tmp_path, Data(Boxes(3)), log_every=1)
    before, curve = weights(tmp_path), (tmp_path / "curve.jsonl").read_text()
    model = loop.train(tiny(2), tmp_path, Data(Boxes(3)), log_every=1)
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    assert (tmp_path / "curve.jsonl").read_text() == curve


def test_another_recipe_in_the_same_folder_is_refused(tmp_path):
    loop.train(tiny(2), tmp_path, Data(Boxes(3)))
    with pytest.raises(ValueError, match="another recipe"):
        loop.train(replace(tiny(2), seed=5), tmp_path, Data(Boxes(3)))


def test_a_run_from_when_the_vit_was_called_nano_resumes_under_its_new_name(tmp_path):
    """And under its old one, which is another network's now, one line refuses it."""
    recipe = replace(tiny(4), ema=0.5)
    calm = loop.train(recipe, tmp_path / "calm", Data(Boxes(3)))
    run = loop.start(recipe, None)
    run.save(tmp_path)
    state = torch.load(tmp_path / "state.pt")
    state["recipe"] = state["recipe"].replace('"nano-vit', '"nano')
    assert '"variant": "nano"' in state["recipe"] and '"name": "nano-teacher"' in state["recipe"]
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(ValueError, match=r"state\.pt belongs to another recipe .*variant"):
        loop.train(replace(tiny(4, "nano"), name="nano-teacher", ema=0.5), tmp_path, Data(Boxes(3)))
    resumed = loop.train(recipe, tmp_path, Data(Boxes(3)))
    assert all(torch.equal(a, b) for a, b in zip(calm.parameters(), resumed.parameters(), strict=True))


def test_a_run_resumes_after_recipes_gained_a_field(tmp_path):
    """Its state lacks fields that have a default: `ema`, one of a stage, one of a nested part. Their values count."""
    recipe = replace(tiny(2), ema=0.0)
    loop.train(recipe, tmp_path, Data(Boxes(3)))
    state = torch.load(tmp_path / STATE_FILE, weights_only=True)
    written = json.loads(state["recipe"])
    del written["ema"], written["stages"][1]["loss"]
    torch.save(state | {"recipe": json.dumps(written | {"given_up": 1})}, tmp_path / STATE_FILE)
    before = weights(tmp_path)
    loop.train(recipe, tmp_path, Data(Boxes(3)))
    assert all(torch.equal(before[key], tensor) for key, tensor in weights(tmp_path).items())
    torch.save(state | {"recipe": json.dumps(written)}, tmp_path / STATE_FILE)
    other = replace(recipe.stages[1], loss="range")
    for changed, name in ((replace(recipe, ema=0.5), "ema"), (replace(recipe, stages=(other,) * 2), "stages")):
        with pytest.raises(ValueError, match=f"belongs to another recipe .*different {name}"):
            loop.train(changed, tmp_path, Data(Boxes(3)))


def test_fields_of_a_recipes_parts_are_compared_one_by_one():
    student = get_recipe("v1-student-small")
    written = json.loads(as_json(student))
    del written["unlabeled"]["feature_on"]
    assert not changed_fields(student, written)
    written["unlabeled"]["teacher"] = "v2-giant"
    assert changed_fields(student, written) == ["unlabeled"]
    assert changed_fields(student, written | {"unlabeled": None, "seed": 3}) == ["unlabeled", "seed"]
    del written["unlabeled"], written["variant"]  # that has no default: it is another recipe
    assert changed_fields(student, written) == ["variant", "unlabeled"]


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_state_that_is_cut_is_named(tmp_path, share):
    torch.save(
        {"recipe": "{}", "step": 3, "model": {"a": torch.ones(999)}, "optimizer": {}, "average": {}}, tmp_path / "a"
    )
    whole = (tmp_path / "a").read_bytes()
    (tmp_path / STATE_FILE).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"state\.pt is damaged or cut short") as error:
        checkpoint.read(tmp_path / STATE_FILE)
    assert "\n" not in str(error.value)


def test_a_checkpoint_is_no_state(tmp_path):
    torch.save({"a": torch.ones(9)}, tmp_path / STATE_FILE)
    with pytest.raises(ValueError, match=r"state\.pt is not the state of a run \(no model, optimizer, recipe, step\)"):
        checkpoint.read(tmp_path / STATE_FILE)


def test_a_broken_state_is_named(tmp_path):
    (tmp_path / STATE_FILE).write_bytes(b"nothing of the kind")
    with pytest.raises(
        ValueError, match=r"state\.pt is damaged or cut short \(19 bytes; not a file that torch wrote\)"
    ):
        loop.train(tiny(2), tmp_path, Data(Boxes(3)))


def test_no_images_and_broken_ground_truth_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no labelled images"):
        loop.train(tiny(2), tmp_path, Data(Boxes(0)))

    class Poison(Boxes):
        def __getitem__(self, number: int) -> Sample:
            sample = super().__getitem__(number)
            return replace(
                sample, disparity_HW=np.full_like(sample.disparity_HW, np.nan), valid_HW=sample.disparity_HW > 0
            )

    with pytest.raises(ValueError, match="the loss is not finite at step 1, as at all of the last 2"):
        loop.train(tiny(2), tmp_path / "poison", Data(Poison(3)))


def test_a_repeated_signal_is_the_same_wish_and_a_later_one_ends_at_once(monkeypatch):
    """torchrun passes on what the terminal has sent to every process already."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    monkeypatch.setattr(signals, "SAME_WISH", 600.0)  # however busy the machine is
    try:
        with signals.stop_signals() as asked:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            assert asked.is_set()
            monkeypatch.setattr(signals, "SAME_WISH", -1.0)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_signal_counts_from_when_it_came_not_from_when_it_is_heard(monkeypatch):
    """The second of two comes a moment behind the first, but while Python is in a long call of C, as in backward. The
    clock is the test's own, so that a busy machine changes nothing."""

    class Clock:
        now = 0.0
        sleep = staticmethod(time.sleep)

        def __init__(self) -> None:
            self.noted = threading.Semaphore(0)

        def monotonic(self) -> float:
            now = self.now
            if threading.current_thread().name == "signals":
                self.noted.release()
            return now

    def told_apart(rounds: int) -> bool:
        """Whether the second signal was handled when its time was long past."""
        clock = Clock()
        monkeypatch.setattr(signals, "time", clock)
        in_call = True
        late = False

        def send() -> None:
            nonlocal late
            os.kill(os.getpid(), signal.SIGINT)
            clock.noted.acquire()
            late = in_call
            clock.now = 10 * signals.SAME_WISH

        with signals.stop_signals() as asked:
            signal.raise_signal(signal.SIGINT)
            clock.noted.acquire()
            assert asked.is_set()
            second = threading.Thread(target=send)
            second.start()
            hashlib.pbkdf2_hmac("sha256", b"", b"", rounds)
            in_call = False
            second.join()
            with pytest.raises(KeyboardInterrupt):  # one more, and late by any clock
                signal.raise_signal(signal.SIGINT)
        return late

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert any(told_apart(rounds) for rounds in (300_000, 3_000_000, 30_000_000)), "never during the call"
    except KeyboardInterrupt:
        pytest.fail("the second signal, a moment behind the first, ended the program")
    finally:
        signal.signal(signal.SIGINT, before)
