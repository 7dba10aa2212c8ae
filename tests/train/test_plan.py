"""`train --plan`: memory against torch's own accounting of real steps, sizes against files, and all that is missing."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from step_memory import measured_peak, step_of
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from depth_anything.__main__ import main
from depth_anything.network.beit_sam import encoder_of
from depth_anything.network.model import DepthAnything
from depth_anything.system.extras import EXTRA_OF
from depth_anything.train import loop, plan, plan_table, teacher
from depth_anything.train import plan_figures as figures
from depth_anything.train.batches import Data
from depth_anything.train.distributed import Machine
from depth_anything.train.missing import Given, libraries, missing
from depth_anything.train.plan import ShapeRun, slice_of_shapes
from depth_anything.train.plan_figures import GIB, RESERVE
from depth_anything.train.recipes.all_recipes import RECIPES, get_recipe
from depth_anything.train.recipes.base import Stage
from depth_anything.variants import TRIED, get_variant

PROGRAM = Path(__file__).parents[1] / "step_memory.py"
SCALE = (Path(__file__).parents[2] / "docs/scale.md").read_text()


@pytest.mark.parametrize(
    ("name", "size", "precision", "checkpointing"),
    [
        ("nano-vit-student", (140, 154), "bfloat16", False),
        ("nano-vit-student", (140, 154), "float32", True),
        ("nano-teacher", (64, 96), "float32", False),
        pytest.param("nano-metric", (64, 96), "float32", False, marks=pytest.mark.slow),
    ],
)
def test_memory_is_that_of_a_real_step(monkeypatch, name, size, precision, checkpointing):
    """A vision transformer with its frozen encoder, a convolutional network, and a loss over chosen pixels."""
    monkeypatch.setattr(teacher, "computes_bfloat16", lambda kind: True)
    monkeypatch.setattr(teacher, "FEW_TOKENS", 0)  # the fused attention, as on a GPU
    torch.manual_seed(0)
    recipe, machine = replace(get_recipe(name), precision=precision), Machine(checkpointing=checkpointing)
    stage = replace(recipe.stages[0], sizes=(size,))
    portion = figures.portion(recipe, 3)
    estimate = ShapeRun(recipe, machine).step(stage, size, *portion).peak
    assert estimate == pytest.approx(measured_peak(recipe, stage, size, portion, machine), rel=0.05)


@pytest.fixture
def small():
    """BEiT and SAM in small, and a ViT of their width and depth, under a name of its own."""
    sizes = {"width": 64, "depth": 5, "heads": 2, "table_side": 16, "taps": (0, 1, 3, 4), "features": 16}
    with pytest.MonkeyPatch.context() as patched:
        for name in ("v2-beit-large", "v2-sam-large"):
            patched.setitem(TRIED, name, replace(TRIED[name], **sizes, out_channels=(8, 8, 16, 16)))
        patched.setitem(TRIED, "vit", replace(TRIED["v2-beit-large"], name="vit", encoder="dinov2"))
        yield


def real_loss(recipe, run, stage, size, images) -> torch.Tensor:
    """The loss of a real step."""
    one = slice_of_shapes(recipe, stage, size, images, 0)
    one.labeled.valid_BHW.fill_(True)
    one.labeled.disparity_BHW.uniform_()
    return loop.task_of(replace(recipe, stages=(stage,)), Data()).losses(run.network, one, 0).total


BIASED = ("v2-teacher-beit-large", "v2-teacher-sam-large")
"""Recipes whose attention has a bias with a gradient."""


@pytest.mark.parametrize("name", BIASED)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_memory_with_a_trained_bias_is_that_of_a_real_step(small, monkeypatch, name, checkpointing):
    """With the processor's kernel on both sides."""
    pytest.importorskip("transformers")
    monkeypatch.setattr(plan, "bias_as_on_cuda", nullcontext)
    recipe, machine, size = get_recipe(name), Machine(checkpointing=checkpointing), (210, 224)
    stage = replace(recipe.stages[0], sizes=(size,))
    estimate = ShapeRun(recipe, machine).step(stage, size, 2).peak
    assert estimate == pytest.approx(measured_peak(recipe, stage, size, (2, 0), machine), rel=0.1)


@pytest.mark.parametrize("name", BIASED)
def test_operations_with_a_trained_bias_are_those_of_a_real_step(small, name):
    """CUDA's kernel computes the scores again in the backward pass: 2 N^2 C more for each block that looks at all."""
    pytest.importorskip("transformers")
    recipe, size = replace(get_recipe(name), precision="float32", from_backbone=False), (112, 126)
    stage = replace(recipe.stages[0], sizes=(size,))
    run, counter = loop.start(recipe), FlopCounterMode(display=False)
    with counter:
        real_loss(recipe, run, stage, size, 2).backward()
    row = get_variant(recipe.variant)
    pairs = row.depth * (8 * 9 + 1) ** 2
    if row.encoder == "sam":  # the others look at windows of 14 x 14 patches; 8 x 9 are one window
        pairs = len(row.taps) * (8 * 9) ** 2 + (row.depth - len(row.taps)) * 14**4
    more = 2 * 2 * pairs * row.width  # two images, two operations
    found = ShapeRun(recipe).step(stage, size, 2, count=True).flops
    assert found == counter.get_total_flops() + more


def test_on_cuda_a_trained_bias_keeps_no_scores(small):
    """An image takes what it takes in a ViT of the same size, in each block; the bias is there once for all images."""
    pytest.importorskip("transformers")
    size, taken = (210, 224), {}
    for variant in ("v2-beit-large", "vit"):
        recipe = replace(get_recipe("v2-teacher-beit-large"), variant=variant)
        stage = replace(recipe.stages[0], sizes=(size,))
        run = ShapeRun(recipe)
        one, two, four = (run.step(stage, size, images).peak for images in (1, 2, 4))
        assert four - two == pytest.approx(2 * (two - one), rel=0.02)
        taken[variant] = two - one
    assert taken["v2-beit-large"] == pytest.approx(taken["vit"], rel=0.1)


@pytest.mark.slow
def test_a_beit_labels(small):
    pytest.importorskip("transformers")
    recipe = get_recipe("nano-vit-student")
    recipe = replace(recipe, stages=(replace(recipe.stages[0], sizes=((56, 70),)),))
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        DepthAnything("v2-beit-large").eval()(torch.zeros(1, 3, 56, 70))
    more = plan.image_flops(recipe, "v2-beit-large") - plan.image_flops(recipe)
    assert more == pytest.approx(counter.get_total_flops() * recipe.unlabeled_share)


def test_a_plan_leaves_no_trace_in_training(small):
    """transformers caches one index of distances for all BEiTs: a real step behind a plan has real ones."""
    pytest.importorskip("transformers")
    recipe = replace(get_recipe("v2-teacher-beit-large"), precision="float32", from_backbone=False)
    size = (70, 84)
    stage = replace(recipe.stages[0], sizes=(size,))
    ShapeRun(recipe).step(stage, size, 1)
    run = loop.start(recipe)
    real_loss(recipe, run, stage, size, 1).backward()
    table = run.model.pretrained.blocks[4].relative_position_bias.relative_position_bias_table  # type: ignore[union-attr]
    assert table.grad is not None and bool(table.grad.any())


@pytest.mark.slow
def test_memory_under_shard_is_that_of_two_processes(tmp_path):
    """Against torch's tracker of FSDP2: where activations decide, where the model does, recomputed, in slices."""
    student = {"recipe": "nano-vit-student", "images": 3, "accumulate": 1, "checkpointing": False, "ema": 0.9}
    settings = [
        student | {"size": [140, 154]},
        student | {"size": [56, 56]},
        student | {"size": [140, 154], "accumulate": 2, "checkpointing": True, "ema": 0.0},
        student | {"size": [140, 154], "recipe": "v2-teacher-small", "images": 2, "ema": 0.0},
    ]
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(PROGRAM)]
    done = subprocess.run([*start, str(tmp_path), json.dumps(settings)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    peaks = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("*.json"))]
    for given, *measured in zip(settings, *peaks, strict=True):
        recipe, stage, _ = step_of(given)
        run = ShapeRun(recipe, Machine(checkpointing=given["checkpointing"]))
        few, more = (run.step(stage, stage.sizes[0], *figures.portion(recipe, n)).peak for n in (plan.FEW, plan.MORE))
        activations = (more - few) / (plan.MORE - plan.FEW) * given["images"]
        found = figures.sharded_peak(run, 2, given["accumulate"] > 1, activations)
        assert found == pytest.approx(max(measured), rel=0.1), given


def test_activations_are_those_that_autograd_keeps():
    """The growth of the peak with the images, against the storages that real forward passes save."""
    recipe, size = replace(get_recipe("nano-vit-teacher"), precision="float32"), (140, 154)
    stage = replace(recipe.stages[0], sizes=(size,))
    shapes, saved = ShapeRun(recipe), {}
    grown = shapes.step(stage, size, 8).peak - shapes.step(stage, size, 4).peak
    run = loop.start(recipe)
    task = loop.task_of(replace(recipe, stages=(stage,)), Data())
    for images in (4, 8):
        storages: dict[int, int] = {}

        def keep(tensor: torch.Tensor, storages=storages) -> torch.Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        one = slice_of_shapes(recipe, stage, size, images, 0)
        one.labeled.valid_BHW.fill_(True)
        one.labeled.disparity_BHW.uniform_()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            graph = task.losses(run.network, one, 0)
        saved[images] = sum(storages.values())
        del graph
    kept = saved[8] - saved[4]
    assert kept < grown < 1.3 * kept


def test_files_are_as_large_as_planned(tmp_path):
    recipe = get_recipe("nano-teacher")
    shapes = ShapeRun(recipe)
    run = loop.start(recipe, DepthAnything(recipe.variant).state_dict())
    for parameter in run.model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    run.optimizer.step()
    run.save(tmp_path)
    loop.save_final(run.model, tmp_path)
    assert (tmp_path / "state.pt").stat().st_size == pytest.approx(figures.state_bytes(shapes), rel=0.01)
    assert (tmp_path / "final.safetensors").stat().st_size == pytest.approx(figures.final_bytes(shapes), rel=0.01)


@pytest.mark.slow
def test_less_memory_takes_more_slices_and_too_little_is_said():
    recipe = replace(get_recipe("nano-vit-student"), stages=(Stage(samples=960, sizes=((224, 224),), batch=96),))
    roomy, tight = (plan.plan(recipe, 4, gib) for gib in (8.0, 0.6))
    assert [one.name for one in roomy.layouts] == ["neither", "--checkpointing", "--shard", "--shard --checkpointing"]
    assert roomy.chosen is roomy.layouts[0] and roomy.chosen.accumulate == 1 and roomy.chosen.slice_images == 24
    assert tight.chosen is not None and (tight.chosen.accumulate or 0) > 1
    for one in (*roomy.layouts, *tight.layouts):
        if one.accumulate:
            assert one.slice_images == -(-96 // (4 * one.accumulate))
    assert tight.chosen.peak_bytes <= 0.6 * GIB * (1 - RESERVE) < roomy.chosen.peak_bytes
    assert roomy.layouts[1].image_bytes < roomy.layouts[0].image_bytes
    assert roomy.layouts[1].image_flops > roomy.layouts[0].image_flops


@pytest.mark.slow
def test_where_nothing_fits_no_layout_is_chosen():
    none = plan.plan(replace(get_recipe("nano-vit-teacher"), precision="float32"), 1, 0.01)
    assert none.chosen is None and none.layouts[0].peak_bytes > 0.01 * GIB
    printed = "\n".join(plan_table.lines(none, Given(), []))
    assert "too large" in printed and "no layout fits" in printed


def test_days_follow_from_the_speed():
    recipe = replace(get_recipe("nano-vit-teacher"), stages=(Stage(samples=864_000, sizes=((56, 56),), batch=8),))
    assert figures.Plan(recipe, 2, 8.0, {}, (), 5.0, "", 0, 0, 2).days == pytest.approx(1.0)
    measured = figures.speed(get_recipe("v2-teacher-large"), 3 * 1.293e12, None)[0]
    assert measured == pytest.approx(45.4)  # the table's own row
    assert figures.speed(get_recipe("nano-teacher"), 1e9, None)[0] is None
    assert figures.speed(get_recipe("nano-teacher"), 1e9, 7.0) == (7.0, "your own")


def test_everything_that_is_missing_is_said_at_once():
    lacking = missing(get_recipe("v1-student-small"), Given(sky="off"))
    assert len(lacking) == 9, lacking  # encoder, frozen encoder, labels, six sets
    for word in ("--backbone FILE", "--frozen FILE", "--pseudo-labels FOLDER", "--data hrwsi=FOLDER"):
        assert sum(word in line for line in lacking) == 1, word


@pytest.mark.slow
def test_the_command_prints_it_all(capsys):
    main(["train", "nano-vit-teacher", "--plan", "--device-memory", "8", "--images-per-second", "100"])
    printed = capsys.readouterr().out
    for word in ("parameters\n", "GiB an image", "--checkpointing", "rests on: your own", "hours", "a state"):
        assert word in printed, word


def test_what_is_there_is_not_missing(tmp_path):
    (tmp_path / "labels" / "manifest").mkdir(parents=True)
    (tmp_path / "labels" / "manifest" / "one.json").write_text("{}")
    (tmp_path / "vits.pth").write_bytes(b"")
    recipe = get_recipe("v2-student-small")
    given = Given(backbone=tmp_path / "vits.pth", pseudo_labels=(str(tmp_path / "labels"),), out=tmp_path / "out")
    assert missing(recipe, given) == []
    assert ["disk space" in line for line in missing(recipe, given, 10**18)] == [True]
    (tmp_path / "labels" / "manifest" / "one.json").unlink()
    told = missing(recipe, replace(given, backbone=tmp_path / "nowhere.pth"))
    assert len(told) == 2 and "nowhere.pth: no such file" in told[0] and "no pseudo labels there" in told[1]
    by_teacher = missing(recipe, Given(teacher="v2-large", backbone=given.backbone, data=(f"sa1b={tmp_path}",)))
    assert len(by_teacher) == 7 and not any("sa1b" in line for line in by_teacher)
    assert any("--start-from v2-small" in line for line in missing(get_recipe("v2-metric-indoor-small"), Given()))


@pytest.mark.parametrize(
    ("name", "given", "library", "told"),
    [
        ("v1-student-small", Given(teacher="v2-large"), "lmdb", 'reading lsun needs lmdb.*"depth-anything[train]"'),
        ("v1-student-small", Given(), "av", 'reading bdd100k needs av.*"depth-anything[video]"'),
        ("v1-student-small", Given(), "h5py", 'reading megadepth needs h5py.*"depth-anything[evaluate]"'),
        ("v2-teacher-large", Given(), "h5py", 'reading hypersim needs h5py.*"depth-anything[evaluate]"'),
        ("v2-teacher-large", Given(), "OpenEXR", 'reading irs needs OpenEXR.*"depth-anything[3d]"'),
        ("nano-teacher", Given(), "mitsuba", 'scenes needs mitsuba.*"depth-anything[render]".*--scenes FOLDER'),
        ("v2-teacher-large", Given(validation="on"), "mitsuba", "128 scenes for --validation on needs mitsuba"),
        ("v2-teacher-beit-large", Given(sky="off"), "transformers", 'v2-beit-large needs.*"depth-anything[transfer]"'),
        ("v2-student-small", Given(teacher="v2-sam-large"), "transformers", "v2-sam-large needs transformers"),
        ("v1-teacher-large", Given(), "transformers", "sky of blendedmvs.*needs transformers.*or give --sky off"),
    ],
)  # fmt: skip
def test_libraries_that_are_missing(monkeypatch, name, given, library, told):
    recipe = get_recipe(name)
    before = missing(recipe, given)
    monkeypatch.setitem(sys.modules, library, None)
    new = [line for line in missing(recipe, given) if line not in before]
    assert len(new) == 1 and re.search(told.replace("[", r"\["), new[0]), new


def test_libraries_that_nothing_reads_are_not_missing(monkeypatch):
    """Labels from shards, sky that is not looked for, no validation on scenes."""
    for library in EXTRA_OF:
        monkeypatch.setitem(sys.modules, library, None)
    assert list(libraries(get_recipe("v2-student-small"), Given(pseudo_labels=("there",)))) == []
    assert list(libraries(get_recipe("v2-metric-outdoor-small"), Given())) == []


def test_extras_hold_the_libraries():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for library, extra in EXTRA_OF.items():
        assert any(re.match(rf"{library}\b", one) for one in extras[extra]), library


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["nano-vit-teacher", "out", "--devices", "8"],
            "--devices, --device-memory, --images-per-second: only with --plan",
        ),
        (["nano-teacher", "--plan", "--devices", "0"], "expected both above 0"),
        (["nano-teacher", "--plan", "--devices", "17"], "a step of 16 images cannot be divided into 17 slices"),
        (["nano-teacher", "--plan", "--images-per-second", "0"], "--images-per-second 0: expected a number above 0"),
        (["nano-teacher"], "give the output folder"),
    ],
)
def test_refusals(capsys, arguments, told):
    with pytest.raises(SystemExit) as stopped:
        main(["train", *arguments])
    assert stopped.value.code == 2 and re.search(told, capsys.readouterr().err)


@pytest.mark.slow
def test_the_example_of_the_documentation(capsys):
    command, printed = re.search(
        r"^```\n(depth-anything train \S+ --plan.*?)\n\n(.*?)^```", SCALE, re.M | re.S
    ).groups()
    main(shlex.split(command.replace("\\\n", " "))[1:])
    assert capsys.readouterr().out.rstrip() == printed.rstrip()


ONE_OF_EACH = {(get_recipe(name).variant, type(get_recipe(name))): name for name in RECIPES}


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_OF_EACH.values())
def test_every_kind_of_recipe_has_a_plan(name):
    recipe = get_recipe(name)
    found = plan.plan(recipe, 1, 1e4)
    assert found.chosen is not None and found.chosen.image_bytes > 0 and found.chosen.image_flops > 0
    assert found.parameters["encoder"] == sum(p.numel() for p in encoder_of(get_variant(recipe.variant)).parameters())
