"""What a recipe takes on given devices, from a run on shapes alone: real steps on tensors without values.

The model, the losses, AdamW and the running mean are those of training; torch's fake tensors stand for the numbers. So
a step of the giant takes seconds on any computer, and its peak is that of every tensor that a real step would hold.
Attention is that of CUDA (`bias_as_on_cuda`): on a processor, BEiT and SAM keep more.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from depth_anything.network.beit_sam import BeitEncoder, encoder_of
from depth_anything.network.model import DepthAnything
from depth_anything.network.resize import PATCH
from depth_anything.train.batches import Batch, Data, MixedBatch, Slice, mixes, places
from depth_anything.train.distributed import Machine
from depth_anything.train.loop import start, task_of
from depth_anything.train.masked_patches import MaskedBatch
from depth_anything.train.plan_figures import (
    GIB,
    RESERVE,
    Layout,
    Plan,
    final_bytes,
    heaviest,
    largest_slice,
    mean_area,
    parts,
    portion,
    sharded_peak,
    shared_gradient_bytes,
    speed,
    state_bytes,
)
from depth_anything.train.recipes.base import MaskedRecipe, Recipe, Stage
from depth_anything.train.recipes.metric import MetricRecipe
from depth_anything.train.steps import clipped, gradients, update
from depth_anything.train.student import FinalTokens
from depth_anything.train.teacher import stored_as_computed
from depth_anything.variants import Variant, get_variant

KB_CROP, NYUV2 = (352, 1216), (480, 640)
"""(H, W) of the ground truth of recipes that see whole images."""
FEW, MORE = 6, 12
"""Images of the two steps between which memory is taken to grow evenly."""
ATEN = torch.ops.aten
ATTENTION = {
    ATEN._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    ATEN._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(grad, q, k, v)
    ),
}
"""Operations of the processor's fused attention, which torch's counter does not know."""


@dataclass(frozen=True)
class StepCost:
    """What one forward and backward pass of some images, and the update behind it, take of a device."""

    peak: int
    """Largest number of bytes of all tensors at one time: weights, moments, gradients, activations. Without what
    kernels allocate for themselves."""
    flops: int = 0
    """Of all matrix products and convolutions, two for a multiplication with its addition; 0 where they were not
    counted."""


class AllocatedBytes(TorchDispatchMode):
    """Counts the bytes of all storages in use, and their peak."""

    def __init__(self):
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.now = self.peak = 0

    def count(self, tensor: Tensor) -> None:
        """Count a tensor's storage, unless it is known."""
        storage = tensor.untyped_storage()
        if id(storage) not in self.sizes:
            self.sizes[id(storage)] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.release, id(storage))

    def release(self, key: int) -> None:
        """A storage is freed."""
        self.now -= self.sizes.pop(key)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        found = _without_values(func, args)
        if found is None:
            found = func(*args, **(kwargs or {}))
        for one in found if isinstance(found, list | tuple) else (found,):
            if isinstance(one, Tensor):
                self.count(one)
        return found


@contextmanager
def bias_as_on_cuda() -> Iterator[None]:
    """Attention with a bias that gets a gradient, as in BEiT and SAM, is computed as on CUDA.

    There torch takes its memory-efficient kernel, which keeps no scores, with rows of the bias padded to a multiple of
    8; on a processor it keeps the scores of all pairs of tokens (torch's sdp_utils).
    """
    of_processor = F.scaled_dot_product_attention

    def attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **options: Any) -> Tensor:
        if attn_mask is None or not attn_mask.requires_grad:
            return of_processor(query, key, value, attn_mask, **options)
        tokens = attn_mask.shape[-1]
        padded = F.pad(attn_mask.to(query.dtype), (0, -tokens % 8))
        bias = padded[..., :tokens].expand(*query.shape[:3], tokens)
        scale = options.get("scale")
        return ATEN._scaled_dot_product_efficient_attention(query, key, value, bias, True, scale=scale)[0]

    F.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        F.scaled_dot_product_attention = of_processor


def _without_values(func: Any, args: tuple) -> Any:
    """The result of operations whose result depends on values, which fake tensors lack: every pixel is valid, every
    number is finite."""
    if func is ATEN._local_scalar_dense.default:
        return False if args[0].dtype == torch.bool else 1.0
    masks = args[1] if func in (ATEN.index.Tensor, ATEN._index_put_impl_.default) else ()
    if len(masks) == 1 and masks[0].dtype == torch.bool:
        return args[0].new_empty(masks[0].numel()) if func is ATEN.index.Tensor else args[0]
    return None


class ShapeRun:
    """A run whose steps can be counted.

    Args:
        recipe: any recipe of `train.recipes`.
        machine: of which `checkpointing` counts; FSDP2 is not simulated (`plan_figures.sharded_peak`).
        teacher: labels unlabelled images in every step; None: the labels come from shards.
    """

    def __init__(self, recipe: Recipe, machine: Machine = Machine(), teacher: Variant | str | None = None):  # noqa: B008 (frozen)
        teacher = get_variant(teacher) if isinstance(teacher, str) else teacher
        self.recipe, self.allocated = recipe, AllocatedBytes()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)  # BEiT's index of distances
        unlabeled = recipe.unlabeled
        with self.fake, self.allocated:
            row = recipe.row if isinstance(recipe, MetricRecipe) else get_variant(recipe.variant)
            self.run = start(recipe, DepthAnything(row).state_dict(), machine)
            self.frozen = self.teacher = None
            if unlabeled and unlabeled.feature_weight:
                self.frozen = FinalTokens(encoder_of(get_variant(recipe.variant)))
                stored_as_computed(self.frozen, recipe, "cuda")
            if unlabeled and teacher is not None:
                self.teacher = DepthAnything(teacher).eval().requires_grad_(False)
                stored_as_computed(self.teacher.pretrained, recipe, "cuda")
            self.run.network.train()
            for parameter in self.run.model.parameters():
                parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
            self.run.optimizer.step()
            self.run.optimizer.zero_grad()

    @property
    def model_bytes(self) -> int:
        """Bytes between two steps: weights, their running mean, moments, the frozen encoder, the teacher."""
        return self.allocated.now

    def step(
        self,
        stage: Stage,
        size: tuple[int, int],
        labeled: int,
        unlabeled: int = 0,
        whole: bool = True,
        slices: int = 1,
        count: bool = False,
    ) -> StepCost:
        """A step of a stage on so many images in each slice.

        Args:
            size: (H, W) of the network's input.
            whole: a slice is the whole step; else CutMix pastes an image of the next slice into its last one.
            slices: one after the other (accumulation).
            count: count operations; the counter keeps some tensors alive, so the peak is not that of a step.
        """
        recipe = replace(self.recipe, stages=(stage,))
        counter = FlopCounterMode(display=False, custom_mapping=ATTENTION)
        for model in (self.run.model, self.teacher):
            if model is not None and isinstance(model.pretrained, BeitEncoder):
                model.pretrained.cache_distances(size[0] // PATCH, size[1] // PATCH)
        with bias_as_on_cuda(), self.fake, self.allocated, counter if count else nullcontext():
            task = task_of(recipe, Data(), teacher=self.teacher, frozen=self.frozen)
            ready = [slice_of_shapes(recipe, stage, size, labeled, unlabeled, whole) for _ in range(slices)]
            self.allocated.peak, self.run.step = self.allocated.now, 0
            gradients(self.run, ready, task)
            clipped(self.run)
            update(self.run)
            self.run.optimizer.zero_grad()
        return StepCost(self.allocated.peak, counter.get_total_flops() if count else 0)


def slice_of_shapes(
    recipe: Recipe, stage: Stage, size: tuple[int, int], labeled: int, unlabeled: int, whole: bool = True
) -> Slice:
    """What `batches.build_slice` gives, without values. Arguments as of `ShapeRun.step`."""
    return Slice(
        labeled_shapes(recipe, size, labeled) if labeled else None,
        unlabeled_shapes(unlabeled, int(mixes(recipe, stage) and not whole), size) if unlabeled else None,
    )


def labeled_shapes(recipe: Recipe, size: tuple[int, int], count: int) -> Batch | MaskedBatch:
    """Labelled images."""
    image_B3HW = torch.zeros(count, 3, *size)
    if isinstance(recipe, MaskedRecipe):
        patch = get_variant(recipe.variant).patch
        hidden_Bhw = torch.zeros(count, size[0] // patch, size[1] // patch, dtype=torch.bool)
        return MaskedBatch(image_B3HW, hidden_Bhw, torch.zeros(count, *size))
    if isinstance(recipe, MetricRecipe) and recipe.metric.whole:
        size = KB_CROP if recipe.metric.kb_crop else NYUV2
    return Batch(image_B3HW, torch.zeros(count, *size), torch.zeros(count, *size, dtype=torch.bool))


def unlabeled_shapes(count: int, further: int, size: tuple[int, int]) -> MixedBatch:
    """Unlabelled images, and one more where CutMix needs it."""
    return MixedBatch(
        torch.zeros(count + further, 3, *size),
        torch.zeros(count, 3, *size),
        torch.zeros(count, *size, dtype=torch.bool),
        torch.zeros(count + further, *size),
        torch.zeros(count + further, *size, dtype=torch.bool),
    )


def plan(
    recipe: Recipe,
    devices: int,
    device_memory: float,
    teacher: str | None = None,
    images_per_second: float | None = None,
    keep: int = 2,
) -> Plan:
    """What a run takes.

    Args:
        devices: processes, one for each device.
        device_memory: GiB of one device.
        teacher: row of `VARIANTS` or `TRIED` that labels unlabelled images in every step; None: shards have labels.
        images_per_second: of one device; None: from speeds measured on an H200.
        keep: states that stay on the disk.

    Raises:
        ValueError: no devices, no memory, no speed, or a step has fewer images than there are devices.
    """
    if devices < 1 or not 0 < device_memory < math.inf:
        raise ValueError(f"--devices {devices}, --device-memory {device_memory:g}: expected both above 0")
    if images_per_second is not None and not 0 < images_per_second < math.inf:
        raise ValueError(f"--images-per-second {images_per_second:g}: expected a number above 0")
    for stage in recipe.stages:
        places(recipe, stage, devices, 0)
    stage, size = heaviest(recipe)
    layouts, runs = [], {}
    for checkpointing in (False, True):
        run = runs[checkpointing] = ShapeRun(recipe, Machine(checkpointing=checkpointing), teacher)
        few, more = (run.step(stage, size, *portion(recipe, images)).peak for images in (FEW, MORE))
        flops = image_flops(recipe, run=run)
        for shard in (False, True) if devices > 1 else (False,):
            layouts.append(fitted(run, stage, size, devices, device_memory, shard, checkpointing, few, more, flops))
    layouts.sort(key=lambda one: one.shard)
    run = runs[False]
    found = Plan(
        recipe, devices, device_memory, parts(run), tuple(layouts), None, "", state_bytes(run), final_bytes(run), keep
    )
    layout = found.chosen or layouts[0]
    rate, basis = speed(recipe, layout.image_flops, images_per_second)
    return Plan(**{**vars(found), "rate": rate, "rate_basis": basis})


def image_flops(recipe: Recipe, teacher: Variant | str | None = None, run: ShapeRun | None = None) -> float:
    """FLOP of a training step for each image, the mean over the run: forward and backward pass, the frozen encoder and
    the teacher. With `run`, whatever that recomputes counts, too."""
    run = run or ShapeRun(recipe, teacher=teacher)
    stage, size = heaviest(recipe)
    counted = run.step(stage, size, *portion(recipe, FEW), count=True).flops / FEW
    return counted * mean_area(recipe) / (size[0] * size[1])


def fitted(
    run: ShapeRun,
    stage: Stage,
    size: tuple[int, int],
    devices: int,
    device_memory: float,
    shard: bool,
    checkpointing: bool,
    few: int,
    more: int,
    image_flops: float,
) -> Layout:
    """The fewest slices in which a layout fits, found on the line between two steps and tried on the slice itself."""
    image_bytes = (more - few) / (MORE - FEW)
    layout = Layout(shard, checkpointing, image_bytes, image_flops)
    most = -(-stage.batch // devices)
    limit = device_memory * GIB * (1 - RESERVE)

    def peak(accumulate: int, traced: bool) -> tuple[float, int]:
        labeled, unlabeled = largest_slice(run.recipe, stage, devices * accumulate)
        images = labeled + unlabeled
        if shard:
            return sharded_peak(run, devices, accumulate > 1, image_bytes * images), images
        if not traced:
            return more + (images - MORE) * image_bytes, images
        whole = devices * accumulate == 1
        cost = run.step(stage, size, labeled, unlabeled, whole, slices=min(accumulate, 2))
        return cost.peak + shared_gradient_bytes(run, devices), images

    possible = sorted({-(-most // images) for images in range(1, most + 1)})
    for accumulate in possible:
        if peak(accumulate, traced=False)[0] > limit and accumulate != possible[-1]:
            continue
        needed, images = peak(accumulate, traced=True)
        if needed <= limit or accumulate == possible[-1]:
            fits = accumulate if needed <= limit else None
            return Layout(**{**vars(layout), "accumulate": fits, "slice_images": images, "peak_bytes": needed})
    raise AssertionError("not reached")
