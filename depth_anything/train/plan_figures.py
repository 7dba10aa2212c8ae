"""What a recipe takes on given devices, as numbers: sizes of files, parts of the memory, speed. `plan.plan` puts them
together.

Time follows from measured speeds of training steps, by their operations, or from the user's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from depth_anything.train.batches import counts, places
from depth_anything.train.recipes.base import Recipe, Stage
from depth_anything.train.recipes.metric import MetricRecipe
from depth_anything.variants import Variant, get_variant

if TYPE_CHECKING:
    from depth_anything.train.plan import ShapeRun

GIB = 2**30
RESERVE = 0.1
"""Share of a device's memory that is left to what no tensor shows: workspaces of kernels, fragments, CUDA, NCCL."""
WIDE = 1024
"""From this width of the encoder on, the speed of ViT-L counts, below that of ViT-B."""
H200 = {"v2-large": 3 * 1.293e12 * 45.4, "v2-base": 3 * 0.3807e12 * 111.2}
"""FLOP/s of training steps on one H200 (benchmarks/results/gpu.md): three times the forward pass at 518 x 518, times
images per second at a batch of 16."""
SECONDS_PER_DAY = 86_400


@dataclass(frozen=True)
class Layout:
    """One way to carry out a step."""

    shard: bool
    checkpointing: bool
    image_bytes: float
    """Of activations, for each image of a slice."""
    image_flops: float
    """Of forward and backward pass, with what is computed again."""
    accumulate: int | None = None
    """The fewest slices of a process that fit; None: not even one image does."""
    slice_images: int = 0
    """Of the largest slice."""
    peak_bytes: float = 0.0
    """With that slice; with one image, if that does not fit."""

    @property
    def name(self) -> str:
        """The options."""
        chosen = [("--shard", self.shard), ("--checkpointing", self.checkpointing)]
        return " ".join(word for word, on in chosen if on) or "neither"


@dataclass(frozen=True)
class Plan:
    """What a run takes."""

    recipe: Recipe
    devices: int
    device_memory: float
    """GiB."""
    parameters: dict[str, int]
    """By part of the network, and of what stays frozen beside it."""
    layouts: tuple[Layout, ...]
    rate: float | None
    """Images per second and device of the first layout that fits; None where nothing is known."""
    rate_basis: str
    """What the rate rests on."""
    state_bytes: int
    final_bytes: int
    keep: int

    @property
    def chosen(self) -> Layout | None:
        """The first layout that fits: less is computed twice, and less is sent, than in those behind it."""
        return next((one for one in self.layouts if one.accumulate is not None), None)

    @property
    def days(self) -> float | None:
        """Of all devices computing, without waits for data, communication, validation and interruptions."""
        images = self.recipe.seen(self.recipe.steps)
        return images / (self.rate * self.devices) / SECONDS_PER_DAY if self.rate else None


def heaviest(recipe: Recipe) -> tuple[Stage, tuple[int, int]]:
    """The stage and the size (H, W) of its input that take most memory."""
    pairs = [(stage, size) for stage in recipe.stages for size in stage.sizes]
    return max(pairs, key=lambda pair: pair[0].batch * pair[1][0] * pair[1][1])


def mean_area(recipe: Recipe) -> float:
    """Pixels of the network's input, the mean over the run's images."""
    means = [
        (stage.steps * stage.batch, sum(h * w for h, w in stage.sizes) / len(stage.sizes)) for stage in recipe.stages
    ]
    return sum(images * area for images, area in means) / sum(images for images, _ in means)


def portion(recipe: Recipe, images: int) -> tuple[int, int]:
    """Labelled and unlabelled images among some, in the recipe's shares."""
    unlabeled = round(images * recipe.unlabeled_share)
    return images - unlabeled, unlabeled


def largest_slice(recipe: Recipe, stage: Stage, slices: int) -> tuple[int, int]:
    """Labelled and unlabelled images of the slice that has most of them."""
    found = [tuple(map(len, places(recipe, stage, slices, index))) for index in range(slices)]
    labeled, unlabeled = max(found, key=lambda one: (sum(one), one[1]))
    return labeled, unlabeled


def shared_gradient_bytes(run: ShapeRun, devices: int) -> int:
    """Buffers in which DDP collects gradients, in float32, for as long as the run lasts."""
    return 4 * parameters_of(run.run.model, trained=True) if devices > 1 else 0


def sharded_peak(run: ShapeRun, devices: int, accumulates: bool, activations: float) -> float:
    """Bytes under FSDP2, on each of some devices, with so many bytes of activations.

    The larger of two moments: when the backward pass begins, all activations are there and no gradients; when it ends,
    the reverse. In both, shares of weights, two moments and the running mean in float32, and whole the frozen encoder
    and the teacher, as they are stored. Whole for a while: two blocks as they are computed (in bfloat16, where the
    recipe has it), and what lies outside of the blocks; when the backward pass ends, also the gradients of these, of
    one block both in its own type and in float32. A step in several slices keeps whole gradients up to its last one.
    """
    model, trained = run.run.model, parameters_of(run.run.model, trained=True)
    blocks = list(model.pretrained.blocks)
    largest = max(map(parameters_of, blocks))
    outside = parameters_of(model) - sum(map(parameters_of, blocks))
    own = 4 * parameters_of(model) + 8 * trained + 4 * sum(one.numel() for one in run.run.average.values())
    computed = 2 if run.recipe.precision == "bfloat16" else 4
    beside = sum(p.nbytes for one in (run.frozen, run.teacher) if one is not None for p in one.parameters())
    always = own / devices + 2 * computed * largest + 4 * outside + beside + (4 * trained if accumulates else 0)
    return always + max(activations, 4 * trained / devices + (computed + 4) * largest + 4 * outside)


def parts(run: ShapeRun) -> dict[str, int]:
    """Parameters of each part."""
    model = run.run.model
    found = {"encoder": parameters_of(model.pretrained), "decoder": parameters_of(model.depth_head)}
    if model.metric_head is not None:
        found["metric head"] = parameters_of(model.metric_head)
    found["of these trained"] = parameters_of(model, trained=True)
    if run.frozen is not None:
        found["frozen encoder of L_feat"] = parameters_of(run.frozen)
    if run.teacher is not None:
        found["teacher"] = parameters_of(run.teacher)
    return found


def final_bytes(run: ShapeRun) -> int:
    """Of final.safetensors, without its header."""
    return sum(one.numel() * one.element_size() for one in run.run.model.state_dict().values())


def state_bytes(run: ShapeRun) -> int:
    """Of a state: weights, running mean, two moments of what is trained."""
    average = sum(one.numel() * one.element_size() for one in run.run.average.values())
    return final_bytes(run) + average + 2 * 4 * parameters_of(run.run.model, trained=True)


def speed(recipe: Recipe, image_flops: float, given: float | None) -> tuple[float | None, str]:
    """Images per second of one device, and what that rests on.

    Args:
        image_flops: of a training step, for each image.
        given: the user's.
    """
    row = row_of(recipe)
    if given is not None:
        return given, "your own"
    if row.encoder == "efficientnet" or row.heads == 0:
        return None, "no GPU's speed is measured for this encoder: give --images-per-second"
    measured = "v2-large" if row.width >= WIDE else "v2-base"
    return H200[measured] / image_flops, (
        f"{image_flops / 1e12:.3g} TFLOP for each image at the {H200[measured] / 1e12:.0f} TFLOP/s that training of "
        f"{measured} reached on one H200 (benchmarks/results/gpu.md), with the decoder in bfloat16; give your own with "
        "--images-per-second"
    )


def row_of(recipe: Recipe) -> Variant:
    """The model that a recipe trains."""
    return recipe.row if isinstance(recipe, MetricRecipe) else get_variant(recipe.variant)


def data_images(recipe: Recipe) -> tuple[int, int]:
    """Labelled and unlabelled images that a run reads."""
    found = [counts(recipe, stage) for stage in recipe.stages]
    pairs = list(zip(found, recipe.stages, strict=True))
    return sum(one[0] * stage.steps for one, stage in pairs), sum(one[1] * stage.steps for one, stage in pairs)


def parameters_of(module: nn.Module, trained: bool | None = None) -> int:
    """Numbers in a module's parameters; only in those that are trained, or are not."""
    chosen = (one for one in module.parameters() if trained is None or one.requires_grad == trained)
    return sum(one.numel() for one in chosen)
