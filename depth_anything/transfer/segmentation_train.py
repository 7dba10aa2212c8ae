"""Training a segmenter: V1's recipes for ADE20K and Cityscapes, and ours for nano on rendered scenes.

A loop of its own: model, batches, loss, rates and measure all differ from those of depth, so THE loop would share only
its frame. Random draws follow from seed, step and part, and a stopped run goes on from state.pt. torchrun gives it more
devices (DDP).
"""

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from depth_anything.network.resize import normalise
from depth_anything.system.files import make_folder
from depth_anything.train.distributed import Ranks, any_rank, gradients_shared, mean_over_ranks
from depth_anything.train.loop import stop_signals
from depth_anything.transfer import run_files, segmentation
from depth_anything.transfer.segmentation import Segmenter, Segments
from depth_anything.transfer.segmentation_data import IGNORE, ClassSamples, training_crop
from depth_anything.transfer.segmentation_predict import evaluate


@dataclass(frozen=True, kw_only=True)
class SegmentationRecipe:
    """All that decides the weights of a segmenter, besides the data and the machine. Values: V1 semseg/."""

    name: str
    variant: str
    """Row of `VARIANTS` whose encoder is used."""
    data: Literal["ade20k", "cityscapes", "scenes"]
    classes: int
    head: Literal["mask2former", "linear"] = "mask2former"
    frozen: bool = False
    """Leave the encoder as it is (linear probe)."""
    queries: int = 200
    crop: int = 896
    stride: int = 426
    """Between windows at inference: 426 on ADE20K, 518 on Cityscapes."""
    edges: tuple[float, float] = (0.5, 2.0)
    """The shorter side before the crop, as shares of it; in steps of a tenth."""
    most: float = 0.75
    """Largest share of one class in a window."""
    steps: int
    batch: int = 16
    """Pictures of a step: 16 GPUs with one each."""
    learning_rate: float = 3e-5
    encoder_rate: float = 0.1
    """The encoder's share: 3e-6."""
    weight_decay: float = 0.05
    """None on norms, biases of norms, positions, queries and levels."""
    clip: float = 0.01
    """Largest norm of a step's gradient."""
    warmup: int = 1500
    """Steps in which the rate rises in a line from a millionth of itself."""
    seed: int = 0

    def __post_init__(self):
        if min(self.steps, self.batch) < 1 or self.seed < 0:
            raise ValueError(f"{self.steps} steps of {self.batch}, seed {self.seed}: expected 1, 1 and 0, or more")

    @property
    def short_edges(self) -> tuple[int, ...]:
        """Lengths that the shorter side may take: int(crop x 0.1 x k), k = 5 to 20."""
        first, last = (round(10 * edge) for edge in self.edges)
        return tuple(int(tenth * 0.1 * self.crop) for tenth in range(first, last + 1))

    def as_json(self) -> str:
        """Every field, resolved."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"


def ade20k(size: str) -> SegmentationRecipe:
    """V1 Table 8: 150 classes, 160,000 steps. The authors trained large only."""
    return SegmentationRecipe(name=f"ade20k-{size}", variant=f"v1-{size}", data="ade20k", classes=150, steps=160_000)


def cityscapes(size: str) -> SegmentationRecipe:
    """V1 Table 7: 19 classes, 80,000 steps. V2 Table 8: the same from V2's encoder."""
    return SegmentationRecipe(
        name=f"cityscapes-{size}", variant=f"v1-{size}", data="cityscapes", classes=19, steps=80_000, stride=518
    )


def with_midas(run: Callable[[str], SegmentationRecipe]) -> SegmentationRecipe:
    """V1 Tables 10 and 11, first row: the same from MiDaS 3.1's encoder (give it with --start-from)."""
    large = run("large")
    return replace(large, name=large.name.replace("large", "midas"), variant="v1-midas-large")


def linear_probe(size: str) -> SegmentationRecipe:
    """DINOv2's linear probe on ADE20K: 512 crop, 40,000 steps, AdamW 1e-3. No part of V1; values unconfirmed."""
    return SegmentationRecipe(
        name=f"ade20k-linear-{size}", variant=f"v1-{size}", data="ade20k", classes=150, head="linear", frozen=True,
        crop=518, stride=341, steps=40_000, learning_rate=1e-3, weight_decay=1e-4, clip=1.0,
    )  # fmt: skip


def nano_scenes(head: Literal["mask2former", "linear"] = "linear", frozen: bool = True) -> SegmentationRecipe:
    """Ours: nano's encoder on the classes of rendered scenes, in minutes of two cores."""
    return SegmentationRecipe(
        name=f"nano-scenes-{head}", variant="nano", data="scenes", classes=18, head=head, frozen=frozen, queries=50,
        crop=168, stride=112, edges=(1.0, 1.5), steps=400, batch=16, learning_rate=1e-3, encoder_rate=1.0,
        weight_decay=1e-4, clip=1.0, warmup=50,
    )  # fmt: skip


RECIPES: dict[str, Callable[[], SegmentationRecipe]] = {
    "nano-scenes-linear": nano_scenes,
    "nano-scenes-mask2former": partial(nano_scenes, "mask2former", False),
    **{f"ade20k-{size}": partial(ade20k, size) for size in ("small", "base", "large")},
    **{f"cityscapes-{size}": partial(cityscapes, size) for size in ("small", "base", "large")},
    "ade20k-midas": partial(with_midas, ade20k),
    "cityscapes-midas": partial(with_midas, cityscapes),
    **{f"ade20k-linear-{size}": partial(linear_probe, size) for size in ("small", "base", "large")},
}


def get_recipe(name: str) -> SegmentationRecipe:
    """The recipe called `name`.

    Raises:
        ValueError: no such recipe; the message lists the names.
    """
    if name not in RECIPES:
        raise ValueError(f"unknown segmentation recipe {name!r}: expected one of {', '.join(RECIPES)}")
    return RECIPES[name]()


def rate_share(step: int, recipe: SegmentationRecipe) -> float:
    """The rate at a step as a share of the highest: a line up over the warm-up, then a line down to 0."""
    if step < recipe.warmup:
        return 1e-6 + (1 - 1e-6) * step / max(recipe.warmup - 1, 1)
    return 1 - (step - recipe.warmup) / (recipe.steps - recipe.warmup)


UNREAD = ("pretrained.mask_token",)
"""In every DINOv2 file, and never read: DDP would wait for its gradient."""
NO_DECAY = ("pos_embed", "relative_position_bias", "queries_embedder", "queries_features", "level_embed")
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d)


def groups(model: Segmenter, recipe: SegmentationRecipe) -> list[dict]:
    """AdamW's groups: the encoder at its share, decay on all but norms, positions, queries and levels (V1's keys)."""
    plain = {id(p) for module in model.modules() if isinstance(module, NORMS) for p in module.parameters()}
    chosen: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        share = recipe.encoder_rate if name.startswith("pretrained.") else 1.0
        undecayed = id(parameter) in plain or any(part in name for part in NO_DECAY)
        chosen.setdefault((share, 0.0 if undecayed else recipe.weight_decay), []).append(parameter)
    return [{"params": found, "share": share, "weight_decay": decay} for (share, decay), found in chosen.items()]


def build_batch(
    recipe: SegmentationRecipe, samples: ClassSamples, step: int, part: int = 0, parts: int = 1
) -> tuple[Tensor, Tensor]:
    """Pictures (B, 3, crop, crop), normalised, 0 where padded, and classes (B, crop, crop), of a part of a step.

    Args:
        part, parts: of the step's pictures, cut into equal parts, the one with this number.
    """
    images, classes = [], []
    each = recipe.batch // parts
    first = step * recipe.batch + part * each
    for place in range(first, first + each):
        epoch, number = divmod(place, len(samples))
        order = np.random.default_rng([recipe.seed, 1, epoch]).permutation(len(samples))
        rng = np.random.default_rng([recipe.seed, 2, place])
        window = training_crop(samples[int(order[number])], recipe.crop, recipe.short_edges, recipe.most, rng)
        image_13HW = normalise(torch.from_numpy(window.image_HW3.copy()).permute(2, 0, 1)[None] / 255)
        missing = (0, recipe.crop - image_13HW.shape[3], 0, recipe.crop - image_13HW.shape[2])
        images.append(F.pad(image_13HW, missing))
        classes.append(F.pad(torch.from_numpy(window.classes_HW)[None], missing, value=IGNORE))
    return torch.cat(images), torch.cat(classes)


class LossOf(nn.Module):
    """A segmenter that answers its loss: what DDP can wrap."""

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
    """Carry out a recipe; `out` receives recipe.json, curve.jsonl, state.pt and at the end final.safetensors.

    A step is cut into equal parts, one for each process times `accumulate`: V1's 16 GPUs with a picture each are 4
    processes with `accumulate` 4. Norms see a part at a time, as V1's do without its SyncBN.

    Args:
        encoder: `segmentation.encoder_of`; None starts from random weights.
        validation: measured every `validate_every` steps and at the end, at one scale.
        ranks: the processes and their devices (`distributed.join`).

    Raises:
        ValueError: no pictures, classes that do not fit the recipe, or a state of another recipe.
    """
    if not len(training) or len(training.names) != recipe.classes:
        raise ValueError(
            f"{recipe.name} wants pictures of {recipe.classes} classes: got {len(training)} of {len(training.names)}"
        )
    parts = ranks.world * accumulate
    if recipe.batch % parts:
        raise ValueError(f"a step of {recipe.batch} pictures cannot be cut into {parts} equal parts")
    own = range(ranks.rank * accumulate, (ranks.rank + 1) * accumulate)
    out = Path(out)
    make_folder(out)
    model, optimizer = start(recipe, training.names, encoder, ranks.device)
    step = run_files.resume(out, recipe.as_json(), model, optimizer)
    if ranks.first:
        run_files.start(out, recipe.as_json(), step)
    network: nn.Module = LossOf(model)
    if ranks.world > 1:
        network = DistributedDataParallel(network)
    saved = time.monotonic()
    with stop_signals() as asked:
        while step < recipe.steps:
            model.train()
            if recipe.frozen:
                model.pretrained.eval()
            share = rate_share(step, recipe)
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * share * group["share"]
            optimizer.zero_grad(set_to_none=True)
            total = torch.zeros((), device=ranks.device)
            for part in own:
                torch.manual_seed(recipe.seed * 1_000_003 + step * parts + part)  # Mask2Former draws its loss's points
                image_B3HW, classes_BHW = build_batch(recipe, training, step, part, parts)
                with gradients_shared(network, part == own[-1]):
                    loss = network(image_B3HW.to(ranks.device), classes_BHW.to(ranks.device)) / accumulate
                    loss.backward()
                total += loss.detach()
            value = float(mean_over_ranks(total))
            if not np.isfinite(value):
                raise ValueError(f"the loss is {value} at step {step}: lower the learning rate or look at the data")
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
            step += 1
            done = step == recipe.steps
            if ranks.first and (step % log_every == 0 or done):
                run_files.note(out, {"step": step, "loss": value, "rate": recipe.learning_rate * share})
            if validation is not None and (step % validate_every == 0 or done):
                miou = evaluate(model.eval(), validation, device=ranks.device, ranks=ranks)
                if ranks.first:
                    run_files.note(out, {"step": step, "miou": miou})
            due = time.monotonic() - saved > save_seconds
            stopping, due = any_rank([asked.is_set(), due], ranks.device)
            if due or stopping or done:
                if ranks.first:
                    run_files.save(out, recipe.as_json(), step, model, optimizer)
                saved = time.monotonic()
            if stopping and not done:
                raise KeyboardInterrupt(f"stopped and saved after step {step} of {recipe.steps}")
    if ranks.first:
        segmentation.save(model.eval(), out / "final.safetensors")
    return model.eval()


def start(
    recipe: SegmentationRecipe, names: tuple[str, ...], encoder: dict[str, Tensor] | None, device: str = "cpu"
) -> tuple[Segmenter, torch.optim.Optimizer]:
    """Step 0: random weights from the seed, the encoder's where they are given, AdamW."""
    torch.manual_seed(recipe.seed)
    model = segmentation.build(Segments(recipe.variant, recipe.head, names, recipe.crop, recipe.stride, recipe.queries))
    if encoder is not None:
        model.pretrained.load_state_dict(encoder)
    for name, parameter in model.named_parameters():
        if name in UNREAD or (recipe.frozen and name.startswith("pretrained.")):
            parameter.requires_grad_(False)
    return model.to(device), torch.optim.AdamW(groups(model, recipe), lr=recipe.learning_rate)
