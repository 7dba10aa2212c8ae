"""The papers' rules of training, each with a test that notices when it is broken.

Networks are asked and watched, images have known colours, and a whole step is compared with one written by hand.
"""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from drawn import Boxes, tiny, tiny_student
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from depth_anything import losses
from depth_anything.data import augment
from depth_anything.data.order import MIXED_SHARDS, sample_number
from depth_anything.data.sample import Sample
from depth_anything.data.samples import without_labels
from depth_anything.label.teacher import Teacher
from depth_anything.network.model import DepthAnything
from depth_anything.network.resize import IMAGENET_MEAN, IMAGENET_STD, normalise
from depth_anything.train import loop
from depth_anything.train.batches import Data, boxes, build_slice, mix, perturbed
from depth_anything.train.distributed import Machine
from depth_anything.train.recipes.all_recipes import get_recipe
from depth_anything.train.student import FinalTokens, student_losses
from depth_anything.train.teacher import MapAndTokens, run_network, stored_as_computed, teacher_losses
from depth_anything.variants import get_variant

pytestmark = pytest.mark.usefixtures("one_thread")
COLOUR = (200, 40, 90)


class Student(nn.Module):
    """Answers brightness, and for tokens the means of the colours of 14 x 14 pixels; remembers what it was asked."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))
        self.asked: list[Tensor] = []

    def forward(self, image_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        self.asked.append(image_B3HW)
        tokens_BN3 = F.avg_pool2d(image_B3HW, 14).flatten(2).transpose(1, 2)
        return self.gain * brightness(image_B3HW), self.gain * tokens_BN3


class Watched(nn.Module):
    """A teacher or a frozen encoder with batch norm and dropout; remembers what it was asked, and in which mode."""

    def __init__(self, tokens: bool):
        super().__init__()
        self.tokens = tokens
        self.norm, self.drop = nn.BatchNorm2d(3), nn.Dropout(0.5)
        self.asked: list[Tensor] = []
        self.modes: set[tuple[bool, bool]] = set()

    def forward(self, image_B3HW: Tensor) -> Tensor:
        self.asked.append(image_B3HW.detach())
        answer_B3HW = self.drop(self.norm(image_B3HW))
        self.modes.add((self.training, answer_B3HW.requires_grad))
        if self.tokens:
            return F.avg_pool2d(answer_B3HW.roll(1, 1) ** 3, 14).flatten(2).transpose(1, 2)
        return answer_B3HW.square().mean(1)


class AsWide(nn.Module):
    """A watched encoder with as many channels as the student's tokens have."""

    def __init__(self, watched: Watched):
        super().__init__()
        self.watched = watched

    def forward(self, image_B3HW: Tensor) -> Tensor:
        return self.watched(image_B3HW).repeat_interleave(get_variant("nano-vit").width // 3, 2)


class Sky(nn.Module):
    """A teacher that answers 0 in the upper half, and brightness below."""

    def forward(self, image_B3HW: Tensor) -> Tensor:
        map_BHW = brightness(image_B3HW).clone()
        map_BHW[:, : map_BHW.shape[1] // 2] = 0
        return map_BHW


class OneColour(Boxes):
    """Images of one colour."""

    def __getitem__(self, number: int) -> Sample:
        sample = super().__getitem__(number)
        return replace(sample, image_HW3=np.broadcast_to(np.array(COLOUR, np.uint8), sample.image_HW3.shape).copy())


class Shards(Boxes):
    """640 images in 64 shards of ten."""

    def __init__(self):
        super().__init__(640)
        self.ends = np.arange(10, 641, 10)


def brightness(image_B3HW: Tensor) -> Tensor:
    """The first channel, in 0..1."""
    return image_B3HW[:, 0] * IMAGENET_STD[0] + IMAGENET_MEAN[0]


def strong_student(**changes):
    """The student of two labelled and four unlabelled images, in float32, all that V1 has switched on."""
    recipe = tiny_student(4)
    return replace(recipe, precision="float32", unlabeled=replace(recipe.unlabeled, **changes))


def step_of(recipe, index: int = 0, slices: int = 1, step: int = 3):
    """The images of a step, and its stage."""
    return build_slice(recipe, Data(Boxes(7), without_labels(Boxes(9))), step, slices, index), recipe.stage_of(step)[0]


# -- who sees what --


@pytest.mark.parametrize("images", ["unlabeled", "labeled", "both"])
def test_the_frozen_encoder_sees_what_the_student_sees_of_the_chosen_images(images):
    """V1 Eq. 9 compares features of one image, the perturbed one; on labelled images V1 found no gain."""
    recipe = strong_student(feature_on=images)
    batch, stage = step_of(recipe)
    student, frozen = Student(), Watched(tokens=True).eval()
    found = student_losses(student, batch, recipe, stage, Sky(), frozen)
    assert len(student.asked) == len(frozen.asked) == 1
    assert torch.equal(student.asked[0], torch.cat([batch.labeled.image_B3HW, batch.unlabeled.mixed_B3HW]))
    assert not torch.equal(batch.unlabeled.clean_N3HW, batch.unlabeled.mixed_B3HW)
    seen = {
        "unlabeled": batch.unlabeled.mixed_B3HW,
        "labeled": batch.labeled.image_B3HW,
        "both": student.asked[0],
    }[images]
    assert torch.equal(frozen.asked[0], seen)
    cosine_BN = F.cosine_similarity(student(seen)[1], frozen(seen), dim=-1)
    assert (cosine_BN < 0.85).any() and (cosine_BN > 0.85).any()
    expected = torch.stack([feature_of(cosine_N) for cosine_N in cosine_BN]).mean()
    assert found.parts["feature"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert strong_student().unlabeled.feature_on == "unlabeled"


def feature_of(cosine_N: Tensor) -> Tensor:
    """L_feat of one image at the papers' margin."""
    kept = cosine_N[cosine_N <= 0.85]
    return (1 - kept).mean() if len(kept) else 0 * cosine_N.sum()


def test_the_teacher_is_asked_for_the_clean_unlabelled_images_only():
    recipe = strong_student(feature_weight=0.0)
    batch, stage = step_of(recipe)
    teacher = Watched(tokens=False).eval()
    student_losses(Student(), batch, recipe, stage, teacher)
    assert len(teacher.asked) == 1 and torch.equal(teacher.asked[0], batch.unlabeled.clean_N3HW)


def test_labelled_images_keep_their_colours_and_unlabelled_ones_do_not():
    """Strong colours are for what the student sees of unlabelled images (V1 section 3.2)."""
    data = Data(OneColour(7), without_labels(OneColour(9)))
    recipe = replace(strong_student(perturbation="unimatch"), perturbation="none")
    seen = [build_slice(recipe, data, step) for step in range(4)]
    own = normalise(torch.tensor(COLOUR).view(1, 3, 1, 1) / 255)
    for batch in seen:
        for calm in (batch.labeled.image_B3HW, batch.unlabeled.clean_N3HW):
            torch.testing.assert_close(calm, own.expand_as(calm))
    mixed = torch.cat([batch.unlabeled.mixed_B3HW.mean((2, 3)) for batch in seen])
    assert ((mixed - own[:, :, 0, 0]).abs().amax(1) > 0.01).float().mean() > 0.5
    for name in ("v1-student-small", "v1-student-large", "v2-student-small", "v2-student-large", "v1-teacher-large"):
        assert get_recipe(name).perturbation == "none"


def numbered(count: int) -> Tensor:
    """Images (count, 3, 28, 28) that have their number for colour, in 0..1."""
    return (torch.arange(count) / count).view(-1, 1, 1, 1).expand(-1, 3, 28, 28).contiguous()


def test_cutmix_pastes_the_perturbed_partner(monkeypatch):
    """V1 Eq. 5 mixes two perturbed images. The perturbation here turns colours round, and nothing else."""
    monkeypatch.setitem(augment.PERTURBATIONS, "camera", lambda image_B3HW, draws: 1 - image_B3HW)
    recipe = strong_student(perturbation="camera", cutmix=1.0)
    box_BHW = boxes(recipe, recipe.stages[1], 0, range(8), (28, 28))
    mixed = mix(perturbed(numbered(8), "camera", augment.Draws([])), box_BHW)
    assert box_BHW.flatten(1).any(1).all() and not box_BHW.flatten(1).all(1).any()
    for number in range(8):
        inside, own, partner = box_BHW[number], 1 - number / 8, 1 - (number + 1) % 8 / 8
        assert mixed[number, :, inside].unique().item() == pytest.approx(partner)
        assert mixed[number, :, ~inside].unique().item() == pytest.approx(own)


@pytest.mark.parametrize(("chance", "few", "many"), [(0.0, 0, 0), (0.5, 160, 240), (1.0, 400, 400)])
def test_cutmix_has_its_probability(chance, few, many):
    """Of 400 images half, plus or minus four standard deviations of the draw."""
    recipe = strong_student(perturbation="none", cutmix=chance)
    found = boxes(recipe, recipe.stages[1], 0, range(400), (28, 28))
    assert few <= found.flatten(1).any(1).sum() <= many
    assert get_recipe("v1-student-large").unlabeled.cutmix == 0.5


def test_there_is_no_cutmix_under_the_range_loss():
    """Its prediction is not normalised, so two regions would contradict each other."""
    recipe = strong_student(perturbation="none", cutmix=1.0)
    assert recipe.stages[0].loss == "range"
    found = boxes(recipe, recipe.stages[0], 0, range(8), (28, 28))
    assert not found.any() and torch.equal(mix(numbered(8), found), numbered(8))


def test_cutmix_stays_where_every_process_has_one_image():
    """Four unlabelled images on six processes: each is mixed with the next of the step, as on one process."""
    recipe = strong_student(perturbation="none", cutmix=1.0)
    slices = [step_of(recipe, index, 6)[0].unlabeled for index in range(6)]
    alone = [one for one in slices if one]
    assert [len(one.mixed_B3HW) for one in alone] == [1, 1, 1, 1]
    whole = step_of(recipe)[0].unlabeled
    assert torch.equal(torch.cat([one.mixed_B3HW for one in alone]), whole.mixed_B3HW)
    assert all(one.box_BHW.any() and len(one.clean_N3HW) == 2 for one in alone)


def test_unimatchs_probabilities():
    """Colours 0.8, grey 0.2, blur 0.5: so many images are grey, and so many (0.2 x 0.8 x 0.5, and those that are
    blurred by almost nothing) as they were."""
    draws = augment.Draws(torch.Generator().manual_seed(seed) for seed in range(2000))
    image_B3HW = torch.rand(2000, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    seen_B3HW = augment.unimatch_perturbation(image_B3HW, draws)
    grey = (seen_B3HW.amax(1) - seen_B3HW.amin(1)).flatten(1).amax(1) < 1e-4
    same = (seen_B3HW == image_B3HW).flatten(1).all(1)
    assert 0.17 < grey.float().mean() < 0.23
    assert 0.06 < same.float().mean() < 0.11


@pytest.mark.parametrize("slices", [1, 2])
def test_a_run_sees_every_image_in_turn(slices):
    """Four steps of two labelled and four unlabelled images are two epochs of four and of eight."""

    class Counted(Boxes):
        def __init__(self, count: int):
            super().__init__(count)
            self.asked: list[int] = []

        def __getitem__(self, number: int) -> Sample:
            self.asked.append(number)
            return super().__getitem__(number)

    recipe, labeled, unlabeled = tiny_student(4), Counted(4), Counted(8)
    recipe = replace(recipe, unlabeled=replace(recipe.unlabeled, cutmix=0.0))
    for step in range(4):
        for index in range(slices):
            build_slice(recipe, Data(labeled, without_labels(unlabeled)), step, slices, index)
    for samples in (labeled, unlabeled):
        epochs = np.split(np.array(samples.asked), 2)
        assert all(sorted(epoch) == list(range(samples.count)) for epoch in epochs)


def test_disparity_of_unknown_scale_comes_to_0_1():
    """V1 section 3.1; what is in metres keeps them."""

    class Far(Boxes):
        scale = "affine"

        def __getitem__(self, number: int) -> Sample:
            sample = super().__getitem__(number)
            return replace(sample, disparity_HW=7 * sample.disparity_HW + 5, scale=self.scale)

    class Metric(Far):
        scale = "metric"

    for samples, low, high in ((Far(4), 0, 1), (Metric(4), 5.7, 12)):
        batch = build_slice(tiny(8), Data(samples), 5).labeled
        for disparity_HW, valid_HW in zip(batch.disparity_BHW, batch.valid_BHW, strict=True):
            values = disparity_HW[valid_HW]
            assert low - 1e-5 <= values.min() and values.max() <= high + 1e-5
            if samples.scale == "affine":
                assert (values.min(), values.max()) == (0, 1)


def test_a_second_epoch_has_its_shards_in_another_order():
    """And the images of a shard, too."""
    shards = Shards()
    epochs = [[sample_number([0, 3], shards, e * 640 + place) for place in range(640)] for e in range(3)]
    assert all(sorted(epoch) == list(range(640)) for epoch in epochs)
    first_groups = [{number // 10 for number in epoch[: 10 * MIXED_SHARDS]} for epoch in epochs]
    assert all(len(group) == MIXED_SHARDS for group in first_groups)
    assert len(set(map(frozenset, first_groups))) == 3
    of_one_shard = [[number for number in epoch if number // 10 == 5] for epoch in epochs]
    assert len(set(map(tuple, of_one_shard))) == 3


def test_a_second_epoch_of_one_shard_has_another_order():
    class OneShard(Boxes):
        ends = np.array([10])

    epochs = [[sample_number([0, 3], OneShard(10), e * 10 + place) for place in range(10)] for e in range(3)]
    assert len(set(map(tuple, epochs))) == 3 and all(sorted(epoch) == list(range(10)) for epoch in epochs)


# -- what counts --


def test_a_pseudo_label_of_0_is_sky_and_counts():
    """V1 section 3.1 sets the sky to 0: the farthest disparity, not an unknown one."""
    recipe = strong_student(cutmix=0.0, feature_weight=0.0)
    batch, stage = step_of(recipe)
    found = student_losses(Student(), batch, recipe, stage, Sky()).parts
    seen_BHW, label_BHW = brightness(batch.unlabeled.mixed_B3HW), Sky()(batch.unlabeled.clean_N3HW)
    assert (label_BHW == 0).float().mean() > 0.4
    everywhere = torch.ones_like(label_BHW, dtype=torch.bool)
    expected = losses.affine_invariant_pair(seen_BHW, label_BHW, everywhere)
    below = losses.affine_invariant_pair(seen_BHW, label_BHW, label_BHW > 0)
    assert abs(expected[0] - below[0]) > 0.05
    assert found["unlabeled"].item() == pytest.approx(expected[0].item(), rel=1e-5)
    assert found["unlabeled_gradient"].item() == pytest.approx(expected[1].item(), rel=1e-5)


def stored(batch, label_BHW: Tensor, valid_BHW: Tensor):
    """The same images with labels from shards."""
    return replace(batch, unlabeled=replace(batch.unlabeled, disparity_NHW=label_BHW, valid_NHW=valid_BHW))


def test_the_partners_mask_comes_along():
    """Nonsense where the partner's label is invalid does not count inside the box."""
    recipe = strong_student(perturbation="none", cutmix=1.0, feature_weight=0.0)
    batch, stage = step_of(recipe)
    label_BHW = brightness(batch.unlabeled.clean_N3HW).clone()
    valid_BHW = torch.ones_like(label_BHW, dtype=torch.bool)
    label_BHW[::2, ::2] = 1000.0
    valid_BHW[::2, ::2] = False
    assert batch.unlabeled.box_BHW.flatten(1).any(1).all()
    assert student_losses(Student(), stored(batch, label_BHW, valid_BHW), recipe, stage).parts["unlabeled"] < 1e-4


def test_the_noisiest_pixels_are_left_out_under_the_range_loss():
    recipe = strong_student(perturbation="none", noisiest=0.1, feature_weight=0.0)
    batch, stage = step_of(recipe, step=0)
    assert stage.loss == "range"
    seen_BHW = brightness(batch.unlabeled.mixed_B3HW)
    label_BHW = torch.rand(seen_BHW.shape, generator=torch.Generator().manual_seed(0))
    everywhere = torch.ones_like(label_BHW, dtype=torch.bool)
    found = student_losses(Student(), stored(batch, label_BHW, everywhere), recipe, stage).parts["unlabeled"]
    residual_BHW = losses.range_normalised_residual(seen_BHW, label_BHW, everywhere).abs()
    kept = int(residual_BHW[0].numel()) - int(residual_BHW[0].numel() * 0.1)
    largest_B = residual_BHW.flatten(1).sort(1).values[:, kept - 1]
    kept_BHW = residual_BHW <= largest_B[:, None, None]
    expected, without = (losses.range_normalised_loss(seen_BHW, label_BHW, m)[0] for m in (kept_BHW, everywhere))
    assert without - expected > 0.01
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_nearest_pixels_of_the_range_loss_are_capped():
    """At twice the range between the 2nd and the 98th percentile: one near pixel does not rule the step."""
    label_BHW = torch.linspace(0, 1, 101).view(1, 1, 101).clone()
    label_BHW[..., -1] = 10.0
    everywhere = torch.ones_like(label_BHW, dtype=torch.bool)
    capped_BHW = ((label_BHW - 0.02) / 0.96).clamp(max=2)
    assert losses.range_normalised_loss(capped_BHW, label_BHW, everywhere)[0] < 1e-6


def test_the_margin_is_the_recipes():
    batch, stage = step_of(strong_student())
    shares = []
    for margin in (0.5, 0.85, 1.0):
        recipe, student, frozen = strong_student(feature_margin=margin), Student(), Watched(tokens=True).eval()
        shares.append(student_losses(student, batch, recipe, stage, Sky(), frozen).parts["tokens_kept"].item())
        cosine_BN = F.cosine_similarity(student(frozen.asked[0])[1], frozen(frozen.asked[0]), dim=-1)
        assert shares[-1] == pytest.approx((cosine_BN <= margin).float().mean().item())
    assert shares[0] < shares[1] < shares[2] == 1


@pytest.mark.parametrize("step", [0, 3])
def test_the_stage_chooses_the_loss(step):
    """The first stage has our range-normalised pair, the second V1's."""
    recipe = replace(tiny(4), precision="float32")
    stage, batch = recipe.stage_of(step)[0], build_slice(recipe, Data(Boxes(7)), step).labeled
    pair = losses.range_normalised_loss if stage.loss == "range" else losses.affine_invariant_pair
    main, matching = pair(brightness(batch.image_B3HW), batch.disparity_BHW, batch.valid_BHW)
    found = teacher_losses(Student(), batch, recipe, stage)
    assert (stage.loss, stage.gradient_weight) == ("range" if step == 0 else "affine", 0.5)
    assert found.total.item() == pytest.approx((main + 0.5 * matching).item(), rel=1e-5) and matching > 0.01
    _, more = pair(brightness(batch.image_B3HW), batch.disparity_BHW, batch.valid_BHW, 4.0)
    found = teacher_losses(Student(), batch, recipe, replace(stage, outline_weight=4.0))
    assert found.parts["gradient"].item() == pytest.approx(more.item(), rel=1e-5) and more > 1.5 * matching


@pytest.fixture
def with_bfloat16(monkeypatch):
    """As on a processor that has instructions for it (tests/system/test_bfloat16.py)."""
    monkeypatch.setattr("depth_anything.train.teacher.computes_bfloat16", lambda kind: True)


@pytest.mark.parametrize(("precision", "expected"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_the_recipe_chooses_the_precision(precision, expected, with_bfloat16):
    network = nn.Linear(4, 2)
    assert run_network(network, torch.ones(1, 3, 4, 4), replace(tiny(), precision=precision)).dtype == expected


@pytest.mark.parametrize("changed", ["labeled", "unlabeled", "feature", "gradient"])
def test_every_loss_has_its_own_weight(changed):
    """The total moves by the change of a weight times that part, which is not 0 here."""
    recipe = strong_student(weight=0.2, feature_weight=0.3)
    recipe = replace(recipe, labeled_weight=0.1)
    unlabeled = recipe.unlabeled
    other = {
        "labeled": replace(recipe, labeled_weight=1.1),
        "unlabeled": replace(recipe, unlabeled=replace(unlabeled, weight=1.2)),
        "feature": replace(recipe, unlabeled=replace(unlabeled, feature_weight=1.3)),
        "gradient": replace(recipe, stages=tuple(replace(s, gradient_weight=1.5) for s in recipe.stages)),
    }[changed]
    batch, stage = step_of(recipe)
    frozen = Watched(tokens=True).eval()
    before = student_losses(Student(), batch, recipe, stage, Sky(), frozen)
    after = student_losses(Student(), batch, other, other.stage_of(3)[0], Sky(), frozen)
    parts = before.parts
    assert all(parts[name] > 0.01 for name in ("labeled", "unlabeled", "feature", "unlabeled_gradient"))
    expected = {
        "labeled": parts["labeled"] + 0.5 * parts["labeled_gradient"],
        "unlabeled": parts["unlabeled"] + 0.5 * parts["unlabeled_gradient"],
        "feature": parts["feature"],
        "gradient": 0.1 * parts["labeled_gradient"] + 0.2 * parts["unlabeled_gradient"],
    }[changed]
    assert (after.total - before.total).item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_features_are_those_of_the_last_block_after_the_final_norm():
    """Of the student and of the frozen encoder (V1 Eq. 9)."""
    torch.manual_seed(0)
    model, image_B3HW = DepthAnything("nano-vit"), torch.randn(2, 3, 28, 42)
    encoder, last = model.pretrained, []
    hook = encoder.blocks[-1].register_forward_hook(lambda module, inputs, answer: last.append(answer))
    students, frozen = MapAndTokens(model)(image_B3HW)[1], FinalTokens(encoder)(image_B3HW)
    hook.remove()
    for found, tokens in zip((students, frozen), last, strict=True):
        assert found.shape[1] == 6
        torch.testing.assert_close(found, encoder.norm(tokens)[:, 1:])


# -- a step --


@pytest.fixture
def steps(monkeypatch) -> list[dict[str | int, Tensor]]:
    """What every step of the optimiser was given: the groups' rates, gradients by place, and their norm."""
    taken: list[dict[str | int, Tensor]] = []
    real = torch.optim.AdamW.step

    def step(optimizer, *arguments, **options):
        given = [p.grad.clone() for g in optimizer.param_groups for p in g["params"] if p.grad is not None]
        rate = torch.tensor([group["lr"] for group in optimizer.param_groups])
        norm = torch.stack([one.norm() for one in given]).norm()
        taken.append({"norm": norm, "rate": rate} | dict(enumerate(given)))
        return real(optimizer, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    return taken


def distance(step: dict[str | int, Tensor], expected: list[Tensor]) -> float:
    """Of a step's gradients from others, as a share of their norm."""
    found = torch.cat([step[number].flatten() for number in range(len(expected))])
    wanted = torch.cat([one.flatten() for one in expected])
    return ((found - wanted).norm() / wanted.norm()).item()


def by_hand(model: DepthAnything, recipe, accumulate: int, step: int, frozen: FinalTokens) -> None:
    """The gradients of V1's student in a step: the mean over the slices of (L_l + L_u + L_feat) / 3."""
    total = torch.zeros(())
    for index in range(accumulate):
        batch, _ = step_of(recipe, index, accumulate, step)
        count = len(batch.labeled.image_B3HW)
        seen = torch.cat([batch.labeled.image_B3HW, batch.unlabeled.mixed_B3HW])
        map_BHW = model(seen)
        one = losses.affine_invariant_pair(map_BHW[:count], batch.labeled.disparity_BHW, batch.labeled.valid_BHW)
        label_BHW, mixed = Sky()(batch.unlabeled.clean_N3HW), len(batch.unlabeled.box_BHW)
        everywhere = [torch.ones_like(map_BHW[count:], dtype=torch.bool)] * 2
        two = losses.cutmix_pair(
            map_BHW[count:], label_BHW.roll(-1, 0)[:mixed], label_BHW[:mixed], batch.unlabeled.box_BHW, *everywhere
        )
        tokens = model.encode(seen)[-1][count:]
        cosine = F.cosine_similarity(tokens, frozen(batch.unlabeled.mixed_B3HW), dim=-1)
        feature = torch.stack([feature_of(one) for one in cosine]).mean()
        weighed = (one[0] + 0.5 * one[1]) + (two[0] + 0.5 * two[1]) + feature
        total = total + weighed / 3 / accumulate
    total.backward()


@pytest.mark.parametrize("clip", [0.01, 1e9])
def test_a_step_is_the_one_written_by_hand(steps, tmp_path, clip):
    """Two slices, accumulated: the gradients of their mean, brought to the norm `clip` or far below it."""
    recipe = strong_student(perturbation="unimatch", cutmix=0.5)
    recipe = replace(recipe, stages=(replace(recipe.stages[1], samples=6),), clip=clip, seed=3)
    torch.manual_seed(1)
    frozen = FinalTokens(DepthAnything("nano-vit").pretrained)
    machine = Machine(accumulate=2)
    loop.train(recipe, tmp_path / "run", Data(Boxes(7), without_labels(Boxes(9))), teacher=Sky(), frozen=frozen,
               machine=machine)  # fmt: skip
    run = loop.start(recipe, None, machine)
    by_hand(run.model, recipe, 2, 0, frozen)
    expected = [p.grad for g in run.optimizer.param_groups for p in g["params"] if p.grad is not None]
    norm = torch.stack([one.norm() for one in expected]).norm()
    assert len(steps) == 1 and norm > 0.02, "too small to be clipped"
    assert distance(steps[0], [one * min(1, clip / norm) for one in expected]) < 1e-3


def test_gradients_below_the_limit_are_left_alone(steps, tmp_path):
    """And those above are brought to it; the paper's recipes have the limit 1."""
    recipe = replace(tiny(2), precision="float32")
    loop.train(replace(recipe, clip=1e9), tmp_path / "free", Data(Boxes(3)))
    free = steps[0]
    loop.train(replace(recipe, clip=1e-3), tmp_path / "clipped", Data(Boxes(3)))
    assert free["norm"] > 0.01 and steps[2]["norm"].item() == pytest.approx(1e-3, rel=1e-3)
    torch.testing.assert_close(steps[2][0], free[0] * (1e-3 / free["norm"]), rtol=1e-3, atol=1e-9)


class Waits(TorchDispatchMode):
    """Counts where the program waits for values: on a GPU each is a pause of all kernels."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        masks = args[1] if func in (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default) else ()
        by_mask = any(isinstance(one, Tensor) and one.dtype == torch.bool for one in masks)
        self.count += by_mask or func.overloadpacket in (
            torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.masked_select
        )  # fmt: skip
        return func(*args, **(kwargs or {}))


def test_a_step_waits_for_the_device_once(tmp_path, monkeypatch):
    """Of V1's student with all that it has switched on, in two slices: two more steps are two more waits."""
    plain, waits = Tensor.tolist, Waits()

    def tolist(self):
        waits.count += threading.current_thread() is threading.main_thread()
        return plain(self)

    monkeypatch.setattr(Tensor, "tolist", tolist)
    frozen = FinalTokens(DepthAnything("nano-vit").pretrained)

    def waits_of(steps: int) -> int:
        recipe = strong_student(perturbation="unimatch", cutmix=0.7, noisiest=0.1)
        recipe = replace(recipe, stages=(replace(recipe.stages[1], samples=6 * steps),))
        before = waits.count
        with waits:
            loop.train(recipe, tmp_path / str(steps), Data(Boxes(7), without_labels(Boxes(9))), teacher=Sky(),
                       frozen=frozen, machine=Machine(accumulate=2), log_every=100)  # fmt: skip
        return waits.count - before

    assert waits_of(4) - waits_of(2) == 2


def test_gradients_do_not_pile_up(steps, tmp_path):
    """A second step's are those of its own images. Without a learning rate the weights stay as they were."""
    recipe = replace(tiny(4), precision="float32", learning_rate=0.0, clip=1e9)
    recipe = replace(recipe, stages=(replace(recipe.stages[1], samples=4),))
    loop.train(recipe, tmp_path, Data(Boxes(5)))
    run = loop.start(recipe, None)
    teacher_losses(
        run.network, build_slice(recipe, Data(Boxes(5)), 1).labeled, recipe, recipe.stages[0]
    ).total.backward()
    given = [p.grad for g in run.optimizer.param_groups for p in g["params"] if p.grad is not None]
    assert len(steps) == 2
    assert distance(steps[1], given) < 1e-3


def test_every_step_has_the_rate_of_its_place(steps, tmp_path):
    """Up over a warm-up of four images, then down in a line over eight; the encoder at a tenth."""
    recipe = replace(tiny(4), learning_rate=1e-3, encoder_rate=0.1, warmup=4)
    loop.train(recipe, tmp_path, Data(Boxes(5)))
    decoder = torch.tensor([0.5, 0.75, 0.5, 0.25]) * 1e-3
    for step, rate in zip(steps, decoder, strict=True):
        torch.testing.assert_close(step["rate"], rate * torch.tensor([0.1, 0.1, 1.0, 1.0]))


# -- modes --


def test_teacher_and_frozen_encoder_are_not_trained_in_any_way(tmp_path):
    """No gradients reach them, and they are in evaluation mode: batch norm keeps its statistics, dropout is off."""
    recipe = replace(strong_student(), stages=(replace(strong_student().stages[1], samples=12),))
    teacher, frozen = Watched(tokens=False).train(), Watched(tokens=True).train()
    modules = {"teacher": teacher, "frozen": AsWide(frozen)}
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    loop.train(recipe, tmp_path, Data(Boxes(7), without_labels(Boxes(9))), **modules)
    for module in (teacher, frozen):
        assert module.modes == {(False, False)}, "(training, with gradients)"
        assert all(parameter.grad is None for parameter in module.parameters())
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())


def test_an_encoder_given_for_l_feat_is_frozen():
    frozen = FinalTokens(DepthAnything("nano").pretrained.train())
    assert not frozen.encoder.training and not any(p.requires_grad for p in frozen.parameters())


def test_the_network_trains_in_training_mode_and_is_measured_and_given_out_in_evaluation_mode(tmp_path, monkeypatch):
    modes: list[tuple[bool, bool]] = []
    real = DepthAnything.decode

    def decode(model, *arguments):
        modes.append((model.training, torch.is_grad_enabled()))
        return real(model, *arguments)

    monkeypatch.setattr(DepthAnything, "decode", decode)
    model = loop.train(tiny(2), tmp_path, Data(Boxes(3)), Boxes(2), validate_every=1)
    assert set(modes) == {(True, True), (False, False)}
    assert modes[0] == (True, True) and modes.count((True, True)) == 2
    assert not model.training


def test_a_labelling_teacher_is_in_evaluation_mode_without_gradients():
    model = DepthAnything("nano-vit").train()
    teacher, modes = Teacher(model, input_size=28), []
    hook = model.pretrained.register_forward_hook(
        lambda module, inputs, answer: modes.append((module.training, answer[0].requires_grad))
    )
    teacher([teacher.prepare(np.zeros((28, 42, 3), np.uint8))])
    hook.remove()
    assert modes == [(False, False)]


def asked_in_bfloat16(who: str, variant: str, model: DepthAnything) -> None:
    """The forward pass of a labelling teacher, of a step's teacher, or of the model that is trained."""
    recipe = replace(tiny(variant=variant), precision="bfloat16")
    image_B3HW = torch.randn(1, 3, 2 * model.variant.patch, 3 * model.variant.patch)
    if who == "labels":
        teacher = Teacher(model, dtype="bf16", input_size=64)
        assert teacher([teacher.prepare(np.zeros((64, 96, 3), np.uint8))]).dtype == np.float32
    elif who == "teacher":
        assert run_network(model, image_B3HW, recipe).dtype == torch.float32
    else:
        map_BHW, tokens_BNC = run_network(MapAndTokens(model.train()), image_B3HW, recipe)
        assert map_BHW.dtype == torch.float32
        (map_BHW.sum() + tokens_BNC.sum()).backward()


@pytest.mark.parametrize("variant", ["nano-vit", "nano"])
@pytest.mark.parametrize("who", ["labels", "teacher", "student"])
def test_encoders_run_in_bfloat16_and_decoders_in_float32(who, variant, with_bfloat16):
    """Wherever a map is made: a bfloat16's eight bits would be steps in it."""
    model = DepthAnything(variant)
    encoded: set[torch.dtype] = set()
    decoded: set[torch.dtype] = set()
    for part, dtypes in ((model.pretrained, encoded), (model.depth_head, decoded)):
        for module in part.modules():
            module.register_forward_hook(
                lambda module, inputs, answer, dtypes=dtypes: dtypes.update(
                    one.dtype for one in (answer if isinstance(answer, list | tuple) else [answer])
                )
            )
    asked_in_bfloat16(who, variant, model)
    assert torch.bfloat16 in encoded and decoded == {torch.float32}


@pytest.mark.parametrize(("variant", "most"), [("nano-vit", 0.6), ("nano", 1.0)])
def test_what_is_not_trained_is_stored_as_it_is_computed(variant, most, with_bfloat16):
    """The tokens of a frozen encoder are equal bit by bit, those of a ViT in little more than half of the memory."""
    recipe, model = replace(tiny(variant=variant), precision="bfloat16"), DepthAnything(variant)
    frozen = FinalTokens(model.pretrained)
    image_B3HW = torch.randn(2, 3, 2 * model.variant.patch, 3 * model.variant.patch)

    def outcome() -> tuple[Tensor, int]:
        with torch.no_grad():
            return run_network(frozen, image_B3HW, recipe), sum(p.nbytes for p in frozen.parameters())

    tokens_BNC, whole = outcome()
    stored_as_computed(frozen, replace(recipe, precision="float32"), "cpu")
    assert outcome()[1] == whole
    stored_as_computed(frozen, recipe, "cpu")
    again_BNC, stored = outcome()
    assert torch.equal(tokens_BNC, again_BNC) and stored <= most * whole


def test_a_run_stores_its_teacher_and_frozen_encoder_as_it_computes_them(tmp_path, with_bfloat16):
    recipe = replace(strong_student(), stages=(replace(strong_student().stages[1], samples=12),), precision="bfloat16")
    teacher, frozen = DepthAnything("nano-vit"), FinalTokens(DepthAnything(recipe.variant).pretrained)
    loop.train(recipe, tmp_path, Data(Boxes(7), without_labels(Boxes(9))), teacher=teacher, frozen=frozen)
    for encoder in (teacher.pretrained, frozen.encoder):
        assert encoder.blocks[0].mlp.fc1.weight.dtype == torch.bfloat16
        assert encoder.norm.weight.dtype == torch.float32
    assert {p.dtype for p in teacher.depth_head.parameters()} == {torch.float32}


def test_the_map_that_is_trained_has_no_steps():
    """Its mean gradient-matching distance from the map of a decoder that is given the same levels in float64 is a
    hundredth of that of its own bfloat16 copy."""
    torch.manual_seed(0)
    model, image_B3HW = DepthAnything("nano-vit"), torch.randn(2, 3, 56, 70)
    with torch.autocast("cpu", torch.bfloat16):
        levels = model.encode(image_B3HW)
        map_BHW = model.decode(levels, 4, 5)
    exact_BHW = model.double().decode([level.double() for level in levels], 4, 5)
    everywhere = torch.ones_like(map_BHW, dtype=torch.bool)

    def away(one_BHW: Tensor) -> float:
        return losses.affine_invariant_pair(one_BHW, exact_BHW, everywhere)[1].item()

    assert away(map_BHW) < away(exact_BHW.bfloat16()) / 100
