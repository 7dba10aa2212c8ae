"""Fine-tuning to metres: recipes, schedules against torch and closed forms, what a step sees, its loss, its measure."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from depth_anything.data.sample import Sample
from depth_anything.network.model import DepthAnything
from depth_anything.network.resize import normalise
from depth_anything.train import batches, loop, metres, metric, metric_batches
from depth_anything.train.batches import Batch, Data, build_slice
from depth_anything.train.recipes.base import Stage, as_json
from depth_anything.train.recipes.metric import METRIC_RECIPES, MetricRecipe, nano_metric, v1_metric, v2_metric
from depth_anything.variants import VARIANTS


class Rooms:
    """Drawn images: a wall at some metres whose brightness says how far it is, and a nearer box."""

    def __init__(self, count: int, height: int = 40, width: int = 56):
        self.count, self.height, self.width = count, height, width

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Sample:
        rng = np.random.default_rng(number)
        depth_HW = np.full((self.height, self.width), rng.uniform(3, 9), np.float32)
        depth_HW[10:30, 5:25] = rng.uniform(1, 3)
        image_HW3 = np.repeat((depth_HW[..., None] * 25).astype(np.uint8), 3, axis=2)
        sky_HW = np.zeros(depth_HW.shape, bool)
        sky_HW[:2] = True
        valid_HW = np.ones(depth_HW.shape, bool)
        valid_HW[-1] = False
        disparity_HW = np.where(sky_HW, 0, 1 / depth_HW).astype(np.float32)
        return Sample(image_HW3=image_HW3, disparity_HW=disparity_HW, valid_HW=valid_HW, sky_HW=sky_HW, scale="metric")


def small(recipe: MetricRecipe, steps: int = 10, size: tuple[int, int] = (28, 42)) -> MetricRecipe:
    return replace(recipe, variant="nano-vit", stages=(Stage(samples=2 * steps, sizes=(size,), batch=2),))


def as_zoedepth(steps: int = 10) -> MetricRecipe:
    """nano-vit under V1's recipe: its augmentation, loss and schedule, with a head that it can have."""
    recipe = v1_metric("nyu")
    settings = replace(recipe.metric, head="log", start="nano-vit", kb_crop=False)
    return replace(small(recipe, steps), data=("scenes",), metric=settings)


pytestmark = pytest.mark.usefixtures("one_thread")


# -- recipes --


@pytest.mark.parametrize("name", METRIC_RECIPES)
def test_recipes_are_named_and_their_sizes_fit_the_network(name):
    recipe = METRIC_RECIPES[name]()
    assert recipe.name == name and recipe.row.quantity == "depth_m" and recipe.row.head == recipe.metric.head
    assert all(side % 14 == 0 for stage in recipe.stages for size in stage.sizes for side in size)
    assert as_json(recipe)


def test_v1s_recipes_have_the_papers_and_the_codes_numbers():
    nyu, kitti = v1_metric("nyu"), v1_metric("kitti")
    assert nyu.steps == 5 * 24_231 // 16 and nyu.stages[0].sizes == ((392, 518),)
    assert kitti.steps == 5 * 23_158 // 16 and kitti.stages[0].sizes == ((378, 770),)
    assert (nyu.row.bins, kitti.row.bins) == ("softplus", "normed") and kitti.row.fixed_size == (378, 770)
    for recipe in (nyu, kitti):
        assert recipe.learning_rate * recipe.metric.pretrained_rate == pytest.approx(3.22e-6)
        assert recipe.clip == 0.1 and recipe.metric.init == "network" and recipe.precision == "float32"
    assert (nyu.metric.brightness, kitti.metric.brightness) == (0.25, 0.1)
    assert kitti.metric.kb_crop and not nyu.metric.kb_crop


def test_v2s_recipes_have_the_released_scripts_numbers():
    recipe = v2_metric("outdoor", "large")
    assert recipe.learning_rate == 5e-5 and recipe.learning_rate * recipe.metric.pretrained_rate == pytest.approx(5e-6)
    assert recipe.stages[0].batch == 32 and recipe.metric.max_depth == 80 and recipe.metric.init == "encoder"
    assert v2_metric("indoor", "small").row.max_depth == 20


# -- schedules --


@pytest.mark.parametrize("steps", [10, 37, 1000])
def test_one_cycle_is_torchs(steps):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=2.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 2.0, total_steps=steps, pct_start=0.7, div_factor=1, final_div_factor=1e4
    )
    for step in range(steps):
        share, momentum = metric.one_cycle(step, steps)
        group = optimizer.param_groups[0]
        assert (2 * share, momentum) == pytest.approx((group["lr"], group["betas"][0]), abs=1e-12)
        optimizer.step()
        if step + 1 < steps:
            schedule.step()


def test_the_polynomial_falls_to_nothing():
    assert metric.polynomial(0, 10) == 1 and metric.polynomial(5, 10) == pytest.approx(0.5**0.9)
    assert metric.polynomial(10, 10) == 0


def test_rates_are_shared_out_and_every_weight_is_optimised_once():
    recipe = small(nano_metric())
    recipe = replace(recipe, metric=replace(recipe.metric, pretrained_rate=0.3))
    model = DepthAnything(recipe.row)
    groups = metric.groups(model, recipe)
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(id(p) for p in model.parameters())
    optimizer = torch.optim.AdamW(groups)
    assert metric.set_rate(optimizer, recipe, 5) == pytest.approx(1e-3 * 0.5**0.9)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([3e-4 * 0.5**0.9, 1e-3 * 0.5**0.9])
    for init, decoder in (("network", 1 / 50), ("encoder", 1.0)):
        bins = v1_metric("nyu", init)
        with torch.device("meta"):
            whole = DepthAnything(bins.row)
        assert [g["share"] for g in metric.groups(whole, bins)] == [1 / 50, decoder, 1.0]


# -- the start --


def test_the_start_takes_what_the_recipe_says():
    relative = DepthAnything("nano-vit").state_dict()
    for init, decoder_too in (("encoder", False), ("network", True)):
        recipe = small(nano_metric())
        state = metric.start_model(replace(recipe, metric=replace(recipe.metric, init=init)), relative).state_dict()
        assert torch.equal(state["pretrained.norm.weight"], relative["pretrained.norm.weight"])
        key = "pretrained.blocks.0.attn.qkv.weight"
        assert torch.equal(state[key], relative[key])
        assert (
            torch.equal(state["depth_head.projects.0.weight"], relative["depth_head.projects.0.weight"]) == decoder_too
        )
    del relative[key]
    with pytest.raises(ValueError, match=r"lack 1 of its tensors \(first: pretrained\.blocks\.0"):
        metric.start_model(recipe, relative)


@pytest.mark.parametrize("head", ["sigmoid", "log"])
def test_the_last_layer_starts_as_the_least_squares_fit(head):
    torch.manual_seed(0)
    recipe = small(nano_metric(head))
    recipe = replace(recipe, metric=replace(recipe.metric, max_depth=20.0, fitted=4), precision="float32")
    model = metric.start_model(recipe, DepthAnything("nano-vit").state_dict()).eval()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    metric.fit_last(model, recipe, Rooms(4))
    changed = [key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])]
    assert changed == [f"depth_head.scratch.output_conv2.2.{kind}" for kind in ("weight", "bias")]

    def squared(factor: float, shift: float) -> float:
        """Squared error of what is fitted, with the layer changed a little."""
        total, last = 0.0, model.depth_head.scratch.output_conv2[2]
        kept = last.weight.data.clone(), last.bias.data.clone()
        last.weight.data.mul_(factor)
        last.bias.data.add_(shift)
        for number in range(4):
            sample = batches.read_crop(Rooms(4), recipe, (28, 42), number, np.array([0.5, 0.5, 0.5, 0.5, 1.0]))
            depth_HW, known_HW = metres.metres_of(sample, recipe.metric)
            image_13HW = normalise(torch.from_numpy(np.array(sample.image_HW3)).permute(2, 0, 1)[None] / 255)
            with torch.no_grad():
                answer, ground_truth = model(image_13HW)[0].numpy()[known_HW], depth_HW[known_HW]
            if head == "sigmoid":
                answer, ground_truth = (np.log(x / 20 / (1 - x / 20)) for x in (answer, ground_truth))
            else:
                answer, ground_truth = np.log(answer), np.log(ground_truth)
            total += np.square(answer - ground_truth).sum()
        last.weight.data, last.bias.data = kept
        return float(total)

    best = squared(1, 0)
    assert best < min(squared(1, 0.1), squared(1, -0.1))
    assert best < 1.05 * min(squared(0.8, 0), squared(1.2, 0))  # but for the ridge


def test_a_feature_that_hardly_varies_gets_no_large_weight():
    """Where it does fire, in an image that was not fitted, a weight as large as its spread is small would saturate."""
    torch.manual_seed(0)
    recipe = small(nano_metric())
    recipe = replace(recipe, metric=replace(recipe.metric, max_depth=20.0, fitted=4), precision="float32")
    largest = []
    for damping in (1.0, 1e-4):
        torch.manual_seed(0)
        model = metric.start_model(recipe, DepthAnything("nano-vit").state_dict()).eval()
        with torch.no_grad():
            for name in ("weight", "bias"):
                model.get_parameter(f"depth_head.scratch.output_conv2.0.{name}")[0] *= damping
        metric.fit_last(model, recipe, Rooms(4))
        largest.append(model.get_parameter("depth_head.scratch.output_conv2.2.weight").detach().abs().max())
    assert largest[1] < 10 * largest[0]


# -- a step --


class Says(torch.nn.Module):
    """A network that answers one fixed map."""

    def __init__(self, map_BHW: torch.Tensor):
        super().__init__()
        self.map_BHW = map_BHW

    def forward(self, image_B3HW: torch.Tensor) -> torch.Tensor:
        return self.map_BHW


def batch_of(depth: list[float], valid: list[bool]) -> Batch:
    disparity_BHW = 1 / torch.tensor(depth).view(1, 1, -1)
    return Batch(torch.zeros(1, 3, 14, 14), disparity_BHW, torch.tensor(valid).view(1, 1, -1))


def test_the_loss_is_silog_over_known_metres_in_range():
    ground_truth = batch_of([1, 2, 4, 500, float("inf"), 3], [True] * 5 + [False])  # beyond the range, sky, unknown
    answer = torch.tensor([1.1, 1.8, 4.4, 7, 7, float("nan")]).view(1, 1, -1)
    v2 = replace(small(nano_metric()), precision="float32")
    assert metric.metric_losses(Says(answer), ground_truth, v2).total.item() == pytest.approx(0.0967081, abs=1e-6)
    zoedepth = as_zoedepth()
    assert metric.metric_losses(Says(answer), ground_truth, zoedepth).total.item() == pytest.approx(1.1637896, abs=1e-5)


def test_the_ends_of_the_range_count_only_where_the_recipe_says():
    at_the_end = batch_of([10, 5, 4], [True] * 3)
    closed = replace(nano_metric().metric, max_depth=10.0)
    assert metres.true_metres(at_the_end, closed)[1].flatten().tolist() == [True, True, True]
    assert metres.true_metres(at_the_end, replace(closed, closed=False))[1].flatten().tolist() == [False, True, True]


def test_the_prediction_is_resized_to_the_ground_truth():
    ground_truth = batch_of([1, 1.25, 1.5, 1.75, 2], [True] * 5)
    answer = torch.tensor([1.0, 2.0]).view(1, 1, 2)  # corners on corners; else 1, 1.1, 1.5, 1.9, 2
    loss = metric.metric_losses(Says(answer), ground_truth, as_zoedepth()).total.item()
    assert loss == pytest.approx(10 * 1e-6, abs=1e-6)  # the root's floor


# -- what a step sees --


def test_a_whole_image_keeps_its_ground_truths_size_and_follows_from_seed_and_step():
    recipe = as_zoedepth()
    one, same, other = (
        build_slice(replace(recipe, seed=seed), Data(Rooms(5)), 3, labeled_batch=metric.labeled_batch).labeled
        for seed in (0, 0, 1)
    )
    assert one.image_B3HW.shape == (2, 3, 28, 42) and one.disparity_BHW.shape == (2, 40, 56)
    assert torch.equal(one.image_B3HW, same.image_B3HW) and torch.equal(one.disparity_BHW, same.disparity_BHW)
    assert not torch.equal(one.image_B3HW, other.image_B3HW)
    assert not one.valid_BHW[:, :2].any()  # sky never counts


def test_crops_come_from_the_relative_readers():
    batch = build_slice(replace(small(nano_metric()), perturbation="none"), Data(Rooms(5)), 0).labeled
    assert batch.image_B3HW.shape == (2, 3, 28, 42) and batch.disparity_BHW.shape == (2, 28, 42)


def test_without_draws_the_augmentation_is_the_image():
    sample = Rooms(1)[0]
    still = metric_batches.augmented(sample, as_zoedepth(), np.array([0.5, 1, 1, 0, 0, 0, 0, 0]))
    assert np.array_equal(still.image_HW3, sample.image_HW3.astype(np.float32) / 255)
    assert np.array_equal(still.disparity_HW, sample.disparity_HW)


def test_mirroring_turning_and_colours():
    sample = Rooms(1)[0]
    mirrored = metric_batches.augmented(sample, as_zoedepth(), np.array([0.5, 0, 1, 0, 0, 0, 0, 0]))
    assert np.array_equal(mirrored.disparity_HW, sample.disparity_HW[:, ::-1])
    coloured = metric_batches.augmented(sample, as_zoedepth(), np.array([0.5, 1, 0, 0.25, 0.75, 0, 0.5, 1]))
    expected = (sample.image_HW3 / 255) ** 0.95 * 1.125 * [0.9, 1.0, 1.1]
    assert np.allclose(coloured.image_HW3, np.clip(expected, 0, 1), atol=1e-6)
    recipe = as_zoedepth()
    far = replace(recipe, metric=replace(recipe.metric, rotation=90.0))
    turned = metric_batches.augmented(sample, far, np.array([1, 1, 1, 0, 0, 0, 0, 0]))
    middle = slice(8, 48)  # of 40 x 56 a quarter turn keeps the middle square
    quarter = np.rot90(sample.disparity_HW[:, middle])
    assert np.mean(turned.disparity_HW[:, middle] == quarter) > 0.9
    assert not turned.valid_HW[:, :7].any()  # corners that came from nowhere


def test_the_kb_crop_is_the_bottom_centre():
    recipe = as_zoedepth()
    recipe = replace(recipe, metric=replace(recipe.metric, kb_crop=True))
    sample = Rooms(1, 375, 1242)[0]
    cropped = metric_batches.augmented(sample, recipe, np.array([0.5, 1, 1, 0, 0, 0, 0, 0]))
    assert np.array_equal(cropped.disparity_HW, sample.disparity_HW[23:, 13:1229])


def test_ground_truth_without_metres_is_refused():
    with pytest.raises(ValueError, match="its truth is affine"):
        metric_batches.augmented(replace(Rooms(1)[0], scale="affine"), as_zoedepth(), np.zeros(8))


# -- how good it is --


def test_a_constant_is_scored_in_closed_form():
    settings = replace(nano_metric().metric, max_depth=80.0)
    rooms = Rooms(3)
    found = metres.score([2.0] * 3, rooms, settings)
    expected = []
    for number in range(3):
        sample = rooms[number]
        depth = 1 / sample.disparity_HW[2:-1]
        expected.append(np.mean(np.abs(2 - depth) / depth))
    assert found.abs_rel == pytest.approx(np.mean(expected), rel=1e-6) and found.images == 3
    median = metres.median_metres(rooms, settings)
    every = np.concatenate([(1 / rooms[n].disparity_HW[2:-1]).ravel() for n in range(3)])
    assert median == pytest.approx(np.median(every))


def test_mirrored_predictions_are_averaged():
    class Left(DepthAnything):
        def infer_rgb(self, image_HW3, input_size=None, K_33=None):
            depth_HW = np.full(image_HW3.shape[:2], 1.0)
            depth_HW[:, : image_HW3.shape[1] // 2] = 3.0
            return depth_HW

    settings = nano_metric().metric
    twice = metres.measure(Left("nano"), Rooms(1), settings, mirrored=True)
    assert twice.abs_rel == pytest.approx(metres.score([2.0], Rooms(1), settings).abs_rel)


@pytest.mark.parametrize("recipe", [small(nano_metric(), 30), small(nano_metric("log"), 30), as_zoedepth(30)])
def test_a_few_steps_learn_metres(recipe):
    torch.manual_seed(0)
    recipe = replace(recipe, learning_rate=2e-3, perturbation="none", clip=1.0)
    recipe = replace(recipe, metric=replace(recipe.metric, max_depth=10.0, pretrained_rate=1.0))
    model = metric.start_model(recipe, DepthAnything("nano-vit").state_dict()).train()
    optimizer = torch.optim.AdamW(metric.groups(model, recipe))
    found = []
    for step in range(recipe.steps):
        metric.set_rate(optimizer, recipe, step)
        loss = metric.metric_losses(
            model, build_slice(recipe, Data(Rooms(4)), step, labeled_batch=metric.labeled_batch).labeled, recipe
        ).total
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        found.append(loss.item())
    assert np.mean(found[-5:]) < 0.7 * np.mean(found[:3])


# -- in the one loop --


@pytest.mark.parametrize("kind", ["softplus", "normed"])
def test_the_loop_trains_bins_from_an_encoder_alone(kind, tmp_path, monkeypatch):
    row = replace(VARIANTS["nano-vit"], name="tiny-bins", head="bins", bins=kind, max_depth=10.0, fixed_size=(28, 42))
    monkeypatch.setitem(VARIANTS, "tiny-bins", row)
    recipe = v1_metric("nyu", "encoder")
    recipe = replace(small(recipe, 2), variant="tiny-bins", metric=replace(recipe.metric, bins=kind, start="nano-vit"))
    encoder = {key: x for key, x in DepthAnything("nano-vit").state_dict().items() if key.startswith("pretrained.")}
    model = loop.train(recipe, tmp_path, Data(labeled=Rooms(4)), Rooms(1), weights=encoder, validate_every=1)
    found = DepthAnything.from_pretrained(tmp_path / "final.safetensors")
    assert found.variant.bins == kind and found.variant.max_depth == 10
    image_HW3 = Rooms(1)[0].image_HW3
    assert np.array_equal(found.infer_rgb(image_HW3), model.infer_rgb(image_HW3))
    assert '"abs_rel"' in (tmp_path / "curve.jsonl").read_text()
