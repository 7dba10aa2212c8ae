"""Training of segmentation models: their batches, loss, learning rates and validation in the common loop
(`train.steps`)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from depth_anything.losses import Losses
from depth_anything.network.resize import normalise
from depth_anything.train.checkpoint import Run
from depth_anything.train.distributed import Machine, Ranks
from depth_anything.train.run_log import RunLog
from depth_anything.train.steps import Task, run_steps
from depth_anything.transfer import segmentation
from depth_anything.transfer.segmentation import Segmenter, Segments
from depth_anything.transfer.segmentation_data import IGNORE, ClassSamples, training_crop
from depth_anything.transfer.segmentation_predict import evaluate
from depth_anything.transfer.segmentation_recipes import SegmentationRecipe


def rate_share(step: int, recipe: SegmentationRecipe) -> float:
    """The learning rate at a step relative to the highest: linear increase during warm-up, then linear decay to 0."""
    if step < recipe.warmup:
        return 1e-6 + (1 - 1e-6) * step / max(recipe.warmup - 1, 1)
    return 1 - (step - recipe.warmup) / (recipe.steps - recipe.warmup)


UNREAD = ("pretrained.mask_token",)
"""In every DINOv2 file but unused here: DDP would wait for its gradient."""
NO_DECAY = ("pos_embed", "relative_position_bias", "queries_embedder", "queries_features", "level_embed")
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)


def groups(model: Segmenter, recipe: SegmentationRecipe) -> list[dict]:
    """Parameter groups of AdamW: the encoder at its share of the rate, no decay on norms, positions, queries and levels
    (V1's keys)."""
    plain = {id(p) for module in model.modules() if isinstance(module, NORMS) for p in module.parameters()}
    chosen: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        share = recipe.encoder_rate if name.startswith("pretrained.") else 1.0
        undecayed = id(parameter) in plain or any(part in name for part in NO_DECAY)
        chosen.setdefault((share, 0.0 if undecayed else recipe.weight_decay), []).append(parameter)
    return [{"params": found, "share": share, "weight_decay": decay} for (share, decay), found in chosen.items()]


@dataclass(frozen=True)
class Windows:
    """The input of one forward pass."""

    image_B3HW: Tensor
    """float32, ImageNet-normalised, 0 where padded."""
    classes_BHW: Tensor
    seed: int
    """Seed of the points at which Mask2Former's loss is computed."""


def build_slice(
    recipe: SegmentationRecipe, samples: ClassSamples, step: int, slices: int = 1, index: int = 0, device: str = "cpu"
) -> Windows:
    """Slice `index` of the images of a step, which is divided into equal slices; each image is a crop x crop crop."""
    images, classes = [], []
    each = recipe.batch // slices
    first = step * recipe.batch + index * each
    for place in range(first, first + each):
        epoch, number = divmod(place, len(samples))
        order = np.random.default_rng([recipe.seed, 1, epoch]).permutation(len(samples))
        rng = np.random.default_rng([recipe.seed, 2, place])
        window = training_crop(samples[int(order[number])], recipe.crop, recipe.short_edges, recipe.most, rng)
        image_13HW = normalise(torch.from_numpy(window.image_HW3.copy()).permute(2, 0, 1)[None] / 255)
        missing = (0, recipe.crop - image_13HW.shape[3], 0, recipe.crop - image_13HW.shape[2])
        images.append(F.pad(image_13HW, missing))
        classes.append(F.pad(torch.from_numpy(window.classes_HW)[None], missing, value=IGNORE))
    seed = recipe.seed * 1_000_003 + step * slices + index
    return Windows(torch.cat(images).to(device), torch.cat(classes).to(device), seed)


def step_losses(network: nn.Module, one: Windows) -> Losses:
    """The loss of the head, at random points from the seed of the batch."""
    torch.manual_seed(one.seed)
    loss = network(one.image_B3HW, one.classes_BHW)
    return Losses(loss, {"loss": loss.detach()})


def set_rate(optimizer: torch.optim.Optimizer, recipe: SegmentationRecipe, step: int) -> float:
    """Set the learning rate of every group; return that of the head."""
    rate = recipe.learning_rate * rate_share(step, recipe)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["share"]
    return rate


class LossOf(nn.Module):
    """A segmentation model that returns its loss, so that DDP can wrap it."""

    def __init__(self, model: Segmenter):
        super().__init__()
        self.model = model

    def forward(self, image_B3HW: Tensor, classes_BHW: Tensor) -> Tensor:
        return self.model.loss(image_B3HW, classes_BHW)


def train(
    recipe: SegmentationRecipe,
    out: str | Path,
    training: ClassSamples,
    encoder: dict[str, Tensor] | None,
    validation: ClassSamples | None = None,
    ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
    accumulate: int = 1,
    validate_every: int = 5000,
    save_seconds: float = 300.0,
    log_every: int = 50,
) -> Segmenter:
    """Run a recipe; `out` receives the same files as every run (docs/train.md).

    A step is divided into equal slices, `accumulate` for each process: V1's 16 GPUs with one image each correspond to 4
    processes with `accumulate` 4. BatchNorm statistics are per slice; V1's SyncBN is not implemented.

    Args:
        encoder: result of `segmentation.encoder_of`; None starts from random weights.
        validation: set to measure every `validate_every` steps and at the end, at one scale.
        ranks: the processes and their devices (`distributed.join`).

    Raises:
        ValueError: there are no images, the classes do not fit the recipe, or `out` holds a state of another recipe.
    """
    if not len(training) or len(training.names) != recipe.classes:
        raise ValueError(
            f"{recipe.name} expects images with {recipe.classes} classes: got {len(training)} of {len(training.names)}"
        )
    machine = Machine(accumulate=accumulate)
    slices, _ = ranks.slices(machine)
    if recipe.batch % slices:
        raise ValueError(f"a step of {recipe.batch} images cannot be divided into {slices} equal slices")
    model, optimizer = start(recipe, training.names, encoder, ranks.device)
    network: nn.Module = LossOf(model)
    if ranks.world > 1:
        network = DistributedDataParallel(network)
    run = Run(recipe, model, network, optimizer)

    def learn() -> None:
        model.train()
        if recipe.frozen:
            model.pretrained.eval()

    def validate(log: RunLog | None) -> None:
        assert validation is not None
        miou = evaluate(model.eval(), validation, device=ranks.device, ranks=ranks)
        if log:
            log.add({"step": run.step, "miou": miou})
        learn()

    task = Task(
        build=lambda step, index, pool: build_slice(recipe, training, step, slices, index, ranks.device),
        losses=lambda network, one, step: step_losses(network, one),
        set_rate=lambda optimizer, step: set_rate(optimizer, recipe, step),
        validate=validate if validation is not None else None,
    )
    learn()
    run_steps(run, task, out, machine, ranks, log_every, validate_every, save_seconds)
    if ranks.first:
        segmentation.save(model.eval(), Path(out) / "final.safetensors")
    return model.eval()


def start(
    recipe: SegmentationRecipe, names: tuple[str, ...], encoder: dict[str, Tensor] | None, device: str = "cpu"
) -> tuple[Segmenter, torch.optim.Optimizer]:
    """The state at step 0: random weights from the seed, the given weights of the encoder, AdamW."""
    torch.manual_seed(recipe.seed)
    model = segmentation.build(Segments(recipe.variant, recipe.head, names, recipe.crop, recipe.stride, recipe.queries))
    if encoder is not None:
        model.pretrained.load_state_dict(encoder)
    for name, parameter in model.named_parameters():
        if name in UNREAD or (recipe.frozen and name.startswith("pretrained.")):
            parameter.requires_grad_(False)
    return model.to(device), torch.optim.AdamW(groups(model, recipe), lr=recipe.learning_rate)
