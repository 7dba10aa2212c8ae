"""The student's step: who sees what, and what each loss is made of."""

import errno
import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn import FAMILIES, Boxes, tiny, tiny_student
from safetensors.torch import load_file
from torch import nn

from depth_anything.data import augment
from depth_anything.data.order import MIXED_SHARDS, sample_number
from depth_anything.data.sample import Sample
from depth_anything.data.samples import Chosen, Joined, without_labels
from depth_anything.network.model import DepthAnything
from depth_anything.network.resize import IMAGENET_MEAN, IMAGENET_STD
from depth_anything.train import loop
from depth_anything.train.batches import Data, build_slice, counts, partner, read
from depth_anything.train.checkpoint import STATE_FILE
from depth_anything.train.recipes.ablations import ABLATIONS, RUNGS
from depth_anything.train.recipes.all_recipes import get_recipe
from depth_anything.train.recipes.base import as_json
from depth_anything.train.recipes.v1 import v1_student
from depth_anything.train.recipes.v2 import v2_student
from depth_anything.train.student import FinalTokens, student_losses
from depth_anything.train.teacher import MapAndTokens


class Brightness(nn.Module):
    """A network whose map is the image's own brightness: it labels every image truly, mixed or not."""

    def __init__(self, tokens: bool):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))
        self.tokens = tokens

    def forward(self, image_B3HW: torch.Tensor):
        map_BHW = self.gain * (image_B3HW[:, 0] * IMAGENET_STD[0] + IMAGENET_MEAN[0])
        return (map_BHW, image_B3HW.new_zeros(len(image_B3HW), 4, 8)) if self.tokens else map_BHW


def plain(family: str = "nano-vit", **changes):
    """Float32, images as they are, CutMix in every one."""
    recipe = tiny_student(4, family)
    settings = {"perturbation": "none", "cutmix": 1.0, "feature_weight": 0.0} | changes
    return replace(recipe, precision="float32", unlabeled=replace(recipe.unlabeled, **settings))


def mixed_slice(recipe, step: int = 3):
    return build_slice(recipe, Data(Boxes(7), without_labels(Boxes(9))), step)


def test_cutmix_pastes_the_partner_and_its_label_comes_along():
    """Network and teacher both answer brightness, so each region fits its own teacher map, and only its own."""
    recipe = plain()
    stage, _ = recipe.stage_of(3)
    batch = mixed_slice(recipe)
    assert 0.02 <= batch.unlabeled.box_BHW.float().mean() <= 0.4 and batch.unlabeled.box_BHW.flatten(1).any(1).all()
    right = student_losses(Brightness(True), batch, recipe, stage, teacher=Brightness(False))
    assert right.parts["unlabeled"] < 1e-4 and right.parts["unlabeled_gradient"] < 1e-4
    shifted = replace(batch.unlabeled, clean_N3HW=partner(batch.unlabeled.clean_N3HW, 4))
    wrong = student_losses(
        Brightness(True), replace(batch, unlabeled=shifted), recipe, stage, teacher=Brightness(False)
    )
    assert wrong.parts["unlabeled"] > 0.3


def test_a_step_pastes_the_perturbed_partner(monkeypatch):
    """V1 Eq. 5 mixes two perturbed images, also where a step is built. The perturbation here turns colours round."""
    monkeypatch.setitem(augment.PERTURBATIONS, "camera", lambda image_B3HW, draws: 1 - image_B3HW)
    unlabeled = mixed_slice(plain(perturbation="camera")).unlabeled
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    turned_N3HW = 1 - (unlabeled.clean_N3HW * std + mean)
    inside_BHW = unlabeled.box_BHW[:, None]
    expected_B3HW = torch.where(inside_BHW, turned_N3HW.roll(-1, 0), turned_N3HW)
    torch.testing.assert_close(unlabeled.mixed_B3HW, (expected_B3HW - mean) / std, atol=1e-5, rtol=0)


def test_the_teacher_sees_clean_images_and_the_student_perturbed_ones():
    recipe = plain(perturbation="unimatch", cutmix=0.0)
    batch = mixed_slice(recipe).unlabeled
    assert not batch.box_BHW.any() and not torch.equal(batch.clean_N3HW, batch.mixed_B3HW)
    calm = mixed_slice(plain(cutmix=0.0)).unlabeled
    assert torch.equal(calm.clean_N3HW, calm.mixed_B3HW) and torch.equal(calm.clean_N3HW, batch.clean_N3HW)


def test_labels_from_shards_and_from_the_teacher_at_hand_are_the_same_loss():
    recipe = plain()
    stage, _ = recipe.stage_of(3)
    online = mixed_slice(recipe)
    stored_BHW = Brightness(False)(online.unlabeled.clean_N3HW).detach()
    everywhere = torch.ones_like(stored_BHW, dtype=torch.bool)
    stored = replace(online, unlabeled=replace(online.unlabeled, disparity_NHW=stored_BHW, valid_NHW=everywhere))
    network = MapAndTokens(DepthAnything("nano-vit"))
    from_teacher = student_losses(network, online, recipe, stage, teacher=Brightness(False))
    from_shards = student_losses(network, stored, recipe, stage)
    assert from_teacher.total == from_shards.total and from_shards.parts["unlabeled"] > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_the_total_is_the_weighted_sum_and_reaches_the_weights(family):
    recipe = tiny_student(4, family)
    network = MapAndTokens(DepthAnything(family))
    frozen = FinalTokens(DepthAnything(family).pretrained)
    for step in (0, 3):
        stage, _ = recipe.stage_of(step)
        losses = student_losses(network, mixed_slice(recipe, step), recipe, stage, DepthAnything(family), frozen)
        part = losses.parts
        expected = (
            part["labeled"] + part["unlabeled"] + 0.5 * (part["labeled_gradient"] + part["unlabeled_gradient"])
        ) / 3 + part["feature"] / 3
        assert losses.total.item() == pytest.approx(expected.item(), rel=1e-5)
    losses.total.backward()
    assert all(p.grad is None for p in frozen.parameters())
    assert next(network.model.pretrained.blocks[-1].parameters()).grad.abs().sum() > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_that_is_its_own_anchor_has_no_feature_loss(family):
    """V1 starts there: student and frozen encoder are the same DINOv2, every cosine is 1, no token is kept."""
    recipe = plain(family, feature_weight=1 / 3, cutmix=0.0)
    model = DepthAnything(family)
    encoder = DepthAnything(family).pretrained
    encoder.load_state_dict(model.pretrained.state_dict())
    stage, _ = recipe.stage_of(3)
    batch = mixed_slice(recipe)
    losses = student_losses(MapAndTokens(model), batch, recipe, stage, Brightness(False), FinalTokens(encoder))
    assert losses.parts["feature"] == 0 and losses.parts["tokens_kept"] == 0
    losses.total.backward()


def test_the_noisiest_pixels_of_each_region_are_left_out():
    recipe = plain(noisiest=0.1)
    stage, _ = recipe.stage_of(3)
    batch = mixed_slice(recipe)
    ground_truth_BHW = Brightness(False)(batch.unlabeled.clean_N3HW).detach()
    spoiled_BHW = ground_truth_BHW.clone()
    spoiled_BHW[:, ::7, ::7] += 50  # 2 % of the pixels
    everywhere = torch.ones_like(ground_truth_BHW, dtype=torch.bool)
    stored = replace(batch, unlabeled=replace(batch.unlabeled, disparity_NHW=spoiled_BHW, valid_NHW=everywhere))
    kept = student_losses(Brightness(True), stored, plain(), stage).parts["unlabeled"]
    dropped = student_losses(Brightness(True), stored, recipe, stage).parts["unlabeled"]
    assert dropped < 0.2 * kept


def test_what_the_teacher_cannot_say_is_left_out():
    class Faulty(Brightness):
        def forward(self, image_B3HW: torch.Tensor):
            map_BHW = super().forward(image_B3HW).clone()
            map_BHW[:, :5, :5] = torch.nan
            return map_BHW

    recipe = plain()
    stage, _ = recipe.stage_of(3)
    losses = student_losses(Brightness(True), mixed_slice(recipe), recipe, stage, teacher=Faulty(False))
    assert losses.total.isfinite() and losses.parts["unlabeled"] < 1e-4


# -- recipes --


def test_the_students_have_the_papers_numbers():
    v1, v2 = v1_student("base"), v2_student("base")
    assert v1.unlabeled.share == pytest.approx(2 / 3) and v1.unlabeled.cutmix == 0.5
    labeled, unlabeled = counts(v1, v1.stages[0])
    assert unlabeled == 2 * labeled and counts(tiny_student(4), tiny_student(4).stages[0]) == (2, 4)
    assert v1.labeled_weight == v1.unlabeled.weight == v1.unlabeled.feature_weight == pytest.approx(1 / 3)
    assert v1.unlabeled.feature_margin == 0.85 and v1.unlabeled.noisiest == 0 and v1.stages[0].gradient_weight == 0
    assert v1.steps * v1.stages[0].batch * 2 // 3 == pytest.approx(62_300_000, rel=1e-4)
    assert v2.steps == 480_000 and v2.stages[0].batch == 192 and v2.stages[0].gradient_weight == 2
    assert v2.unlabeled.share == 1 and v2.unlabeled.noisiest == 0.1 and v2.data == ()
    assert v2.unlabeled.perturbation == "none" and v2_student("large").unlabeled.perturbation == "unimatch"


def test_the_ladder_changes_one_thing_a_rung():
    rungs = [get_recipe(f"v1-table9-{rung}-small") for rung in RUNGS]
    labeled, naive, perturbed, aligned = rungs
    assert len({recipe.steps for recipe in rungs}) == 1
    assert labeled.unlabeled is None and labeled.stages[0].batch * 3 == naive.stages[0].batch
    assert naive.unlabeled.perturbation == "none" and naive.unlabeled.cutmix == 0
    assert replace(perturbed.unlabeled, perturbation="none", cutmix=0.0) == naive.unlabeled
    assert perturbed.unlabeled.feature_weight == 0 and aligned.unlabeled.feature_weight > 0
    assert len(ABLATIONS) == len({as_json(ABLATIONS[name]()) for name in ABLATIONS})


# -- what a step sees --


class Shards(Boxes):
    """Twelve hundred images in forty shards of different lengths."""

    def __init__(self):
        lengths = np.random.default_rng(0).integers(10, 50, 40)
        self.ends = np.cumsum(lengths)
        super().__init__(int(self.ends[-1]))


def test_shards_are_read_few_at_a_time_and_every_image_once():
    shards = Shards()
    first, second = ([sample_number([0, 3], shards, e * len(shards) + i) for i in range(len(shards))] for e in (0, 1))
    assert sorted(first) == sorted(second) == list(range(len(shards))) and first != second
    touched = {int(np.searchsorted(shards.ends, number, side="right")) for number in first[:100]}
    assert 4 < len(touched) <= MIXED_SHARDS


@pytest.mark.parametrize("slices", [2, 3, 4, 6])
def test_a_step_is_the_same_images_however_it_is_cut(slices):
    """Crops, colours and CutMix: also where a slice has one unlabelled image, and where slices are uneven."""
    recipe = tiny_student(4)
    recipe = replace(recipe, unlabeled=replace(recipe.unlabeled, cutmix=0.7))
    data = Data(Boxes(7), without_labels(Boxes(40)))
    whole = build_slice(recipe, data, 3)
    parts = [build_slice(recipe, data, 3, slices, index) for index in range(slices)]
    labeled = [part.labeled for part in parts if part.labeled]
    unlabeled = [part.unlabeled for part in parts if part.unlabeled]
    assert sum(part.labeled_weight for part in parts) == sum(part.unlabeled_weight for part in parts) == slices
    assert all(len(part.image_B3HW) == 6 // slices or slices == 4 for part in parts)
    for name in ("image_B3HW", "disparity_BHW", "valid_BHW"):
        torch.testing.assert_close(torch.cat([getattr(one, name) for one in labeled]), getattr(whole.labeled, name))
    assert whole.unlabeled.box_BHW.flatten(1).any(1).sum() > 1
    for name in ("mixed_B3HW", "box_BHW"):
        torch.testing.assert_close(torch.cat([getattr(one, name) for one in unlabeled]), getattr(whole.unlabeled, name))
    for name in ("clean_N3HW", "disparity_NHW", "valid_NHW"):
        own = [getattr(one, name)[: len(one.box_BHW)] for one in unlabeled]
        torch.testing.assert_close(torch.cat(own), getattr(whole.unlabeled, name))
        further = [getattr(one, name)[len(one.box_BHW) :] for one in unlabeled]
        assert [len(one) for one in further] == [int(one.box_BHW[-1].any()) for one in unlabeled]
        following = [*own[1:], own[0]]
        assert all(torch.equal(one, after[:1]) for one, after in zip(further, following, strict=True) if len(one))


def test_a_step_that_cannot_be_cut_or_mixed_is_refused():
    recipe, data = tiny_student(4), Data(Boxes(7), without_labels(Boxes(40)))
    with pytest.raises(ValueError, match=r"a step of 6 images cannot be divided into 7 slices .*--batch"):
        build_slice(recipe, data, 3, slices=7)
    small = replace(recipe, stages=tuple(replace(stage, batch=2) for stage in recipe.stages))
    assert counts(small, small.stages[1]) == (1, 1)
    with pytest.raises(ValueError, match="CutMix needs two unlabelled images in a step"):
        build_slice(small, data, 11)
    build_slice(small, data, 0)  # under the range loss nothing is mixed


def step_gradients(recipe, slices: int, count: int = 40) -> tuple[float, torch.Tensor]:
    """Loss and gradients of a step that so many processes do together: the mean over theirs, as DDP takes it."""
    torch.manual_seed(1)
    teacher, frozen = DepthAnything("nano-vit").eval(), FinalTokens(DepthAnything("nano-vit").pretrained)
    network = MapAndTokens(DepthAnything("nano-vit"))
    data = Data(Boxes(7), without_labels(Boxes(count)))
    found = []
    task = loop.task_of(recipe, data, teacher=teacher, frozen=frozen)
    for index in range(slices):
        one = build_slice(recipe, data, 3, slices, index)
        losses = task.losses(network, one, 3)
        (losses.total / slices).backward()
        found.append(losses.total.item())
    gradients = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
    return float(np.mean(found)), torch.cat(gradients)


@pytest.mark.parametrize("feature_on", ["unlabeled", "both"])
def test_a_steps_loss_and_gradients_do_not_depend_on_the_number_of_processes(feature_on):
    """One, two, three, and four with uneven slices: two images in some and one in others, labelled or not."""
    recipe = replace(tiny_student(4), precision="float32")
    recipe = replace(recipe, unlabeled=replace(recipe.unlabeled, cutmix=0.7, noisiest=0.1, feature_on=feature_on))
    loss, gradient = step_gradients(recipe, 1)
    for slices in (2, 3, 4):
        other_loss, other = step_gradients(recipe, slices)
        assert other_loss == pytest.approx(loss, rel=1e-5)
        assert ((other - gradient).norm() / gradient.norm()).item() < 1e-4


def test_images_that_cannot_be_read_are_skipped_and_named(caplog):
    class Torn(Boxes):
        def __getitem__(self, number: int) -> Sample:
            if number == 2:
                raise ValueError("torn.jpg: cut short")
            return super().__getitem__(number)

    recipe = tiny(8)
    for step in range(4):
        batch = build_slice(recipe, Data(Torn(3)), step).labeled
        assert batch.image_B3HW.isfinite().all()
    assert "skipped: torn.jpg: cut short" in caplog.text


def test_a_damaged_shard_does_not_end_a_run():
    class OneBad(Shards):
        def __getitem__(self, number: int) -> Sample:
            if 100 <= number < 400:
                raise ValueError("shard 3 is cut short")
            return super().__getitem__(number)

    shards = OneBad()
    assert all(read(shards, number).key == "" for number in range(100, 400, 17))
    with pytest.raises(ValueError, match="cut short"):
        shards[100]


def test_sets_are_joined_and_one_may_be_repeated():
    joined = Joined([Boxes(3), Boxes(2)])
    assert len(joined) == 5 and np.array_equal(joined[4].image_HW3, Boxes(2)[1].image_HW3)
    repeated = Chosen(Boxes(4), np.arange(5) % 4)
    assert len(repeated) == 5 and np.array_equal(repeated[4].image_HW3, Boxes(4)[0].image_HW3)
    sharded = Joined([Shards(), Boxes(2)])
    assert list(sharded.ends[-2:]) == [len(sharded) - 2, len(sharded)]


# -- a whole run --


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_learns_resumes_and_says_how_many_tokens_the_margin_kept(family, tmp_path):
    recipe = tiny_student(4, family)
    data = Data(Boxes(7), without_labels(Boxes(9)))
    parts = {"teacher": DepthAnything(family), "frozen": FinalTokens(DepthAnything(family).pretrained)}
    model = loop.train(recipe, tmp_path / "calm", data, Boxes(2), **parts)
    lines = (tmp_path / "calm" / "curve.jsonl").read_text().splitlines()
    assert len(lines) == 5 and '"tokens_kept"' in lines[0] and '"images_per_second"' in lines[0]
    assert list((tmp_path / "calm" / "events").iterdir())
    again = loop.train(recipe, tmp_path / "calm", data, Boxes(2), **parts)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_what_a_student_lacks_is_named(tmp_path):
    recipe = tiny_student(4)
    with pytest.raises(ValueError, match="no unlabelled images"):
        loop.train(recipe, tmp_path, Data(Boxes(3)))
    with pytest.raises(ValueError, match="--frozen"):
        loop.train(recipe, tmp_path, Data(Boxes(3), without_labels(Boxes(3))))


@pytest.mark.slow
def test_twenty_kills_change_nothing(tmp_path):
    """A student's run is killed with SIGKILL at twenty random moments; its weights end bit-equal to a calm run's."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    program = [sys.executable, str(Path(__file__).parents[1] / "distributed_step.py"), "student", "nano"]
    subprocess.run([*program, tmp_path / "calm", "70"], check=True, env=environment, capture_output=True)
    rng, kills, state = random.Random(0), 0, tmp_path / "killed" / STATE_FILE
    while kills < 20:
        process = subprocess.Popen(
            [*program, tmp_path / "killed", "70"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        before = state.stat().st_mtime_ns if state.exists() else 0
        while process.poll() is None and (not state.exists() or state.stat().st_mtime_ns == before):
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.3))
        assert process.poll() is None, "it ended before the twentieth kill: more steps are needed"
        process.kill()
        process.wait()
        kills += 1
    subprocess.run([*program, tmp_path / "killed", "70"], check=True, env=environment, capture_output=True)
    calm, killed = (load_file(tmp_path / name / "final.safetensors") for name in ("calm", "killed"))
    assert all(torch.equal(calm[key], killed[key]) for key in calm)
    steps = [json.loads(line)["step"] for line in (tmp_path / "killed" / "curve.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 71))


def test_a_full_disk_is_one_line_and_the_last_state_stays(tmp_path, monkeypatch):
    recipe = tiny(4)
    real, written = torch.save, []

    def save(state, path):
        if written:
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written.append(path)
        real(state, path)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(OSError, match="No space left"):
        loop.train(recipe, tmp_path, Data(Boxes(3)), save_seconds=0)
    assert torch.load(tmp_path / STATE_FILE, weights_only=True)["step"] == 1
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    monkeypatch.setattr(torch, "save", real)
    loop.train(recipe, tmp_path, Data(Boxes(3)))
    assert (tmp_path / "final.safetensors").exists()
