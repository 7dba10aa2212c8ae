"""What a recipe is, and every run of the papers as a function that returns its configuration. No torch here.

A variant of a run is a copy with two lines changed: `dataclasses.replace(v2_student("small"), seed=1)`. Nano's runs are
in recipes/nano.py.
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stretch of the run in which image size, batch and loss stay the same."""

    samples: int
    """Images seen in this stage."""
    sizes: tuple[tuple[int, int], ...]
    """Network inputs (H, W), multiples of the variant's patch; one is drawn for each batch."""
    batch: int
    """Images in one step."""
    loss: Literal["affine", "range"] = "affine"
    """`affine`: V1 Eq. 1. `range`: truth in 0..1, prediction free (ours; `losses.range_normalised_residual`)."""
    gradient_weight: float = 0.0
    """Weight of gradient matching beside the loss: 0 in V1, 2 in V2."""

    def __post_init__(self):
        if self.batch < 1:
            raise ValueError(f"a stage in batches of {self.batch}: expected 1 or more")

    @property
    def steps(self) -> int:
        """Whole batches in this stage."""
        return self.samples // self.batch


Perturbation = Literal["none", "unimatch", "camera"]


@dataclass(frozen=True, kw_only=True)
class Unlabeled:
    """What a student learns from images that a teacher labels (V1 sections 3.2 and 3.3, V2 section 5)."""

    data: tuple[str, ...]
    """Sets of images, joined without balancing."""
    share: float
    """Of each batch. 2/3 in V1 (labelled : unlabelled = 1 : 2), 1 in V2 (synthetic labels are dropped)."""
    teacher: str
    """Row of `VARIANTS` that labels them: V1 ViT-L, V2 ViT-g. Another one is taken with a warning."""
    weight: float = 1.0
    """Of the loss on pseudo labels. V1 averages its three losses: 1/3. V2: 1."""
    perturbation: Perturbation = "unimatch"
    """What the student sees and the teacher does not: strong colours and blur (V1 section 3.2)."""
    cutmix: float = 0.5
    """Probability that another image is pasted in (V1 section 3.2). Only under the loss `affine`."""
    noisiest: float = 0.0
    """Share of each image's pixels, those of largest loss, taken for noisy labels and left out. V2 section 5: 0.1."""
    feature_weight: float = 0.0
    """Of L_feat (V1 Eq. 9). V1: 1/3. V2 names no weight; 1 is our choice."""
    feature_margin: float = 0.85
    """Tolerance margin alpha of V1 Eq. 9."""
    feature_on: Literal["unlabeled", "labeled", "both"] = "unlabeled"
    """Images of L_feat. V1 tried the labelled ones without gain (supplement, Table 2)."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides the weights of a run, besides the data and the machine."""

    name: str
    variant: str
    """Row of `VARIANTS` (or `TRIED`) to train."""
    data: tuple[str, ...]
    """Labelled sets, joined without balancing (V1 section 4.1)."""
    minor: tuple[str, float] | None = None
    """One more set and its share of the labelled images, seen as often as that takes (V2's 5 % of HRWSI)."""
    stages: tuple[Stage, ...]
    labeled_weight: float = 1.0
    """Of the loss on labels. 1/3 in V1's student."""
    unlabeled: Unlabeled | None = None
    """None for a teacher."""
    learning_rate: float = 5e-5
    """Of the decoder, before decay (V1 section 4.1, V2)."""
    encoder_rate: float = 0.1
    """The encoder's share of it: 5e-6 for DINOv2 starts (V1 section 4.1). 1 where it starts from nothing; 0: frozen."""
    from_backbone: bool = True
    """Start the encoder from its family's weights (DINOv2's, but for `TRIED`); else from random ones."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's. The papers are silent."""
    weight_decay: float = 0.01
    """AdamW's, on matrices only. Value of V2's metric code; the papers are silent for relative training."""
    warmup: int = 0
    """Images over which the rate rises from 0. None in the papers; random weights need some."""
    clip: float = 1.0
    """Largest norm of a step's gradient. The papers are silent."""
    ema: float = 0.0
    """Decay a step of the running mean of the weights that is validated and released; 0 for the weights themselves."""
    flip: float = 0.5
    """Probability of mirroring. V1 names the flip, not the probability."""
    crop_scale: tuple[float, float] = (1.0, 1.0)
    """Sides of the random window, as a share of the largest one. 1: V1's crop at full shorter side."""
    aspect_jitter: float = 1.0
    """The window is up to this factor wider or higher than the network's input. 1: none, as in the papers."""
    perturbation: Perturbation = "none"
    """Colours of labelled images (`data.augment`). None in the papers' teachers."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Of the encoder's arithmetic; decoder and loss are float32."""
    scenes: int = 0
    """Rendered images to train on, made when they are not there yet."""
    validation_scenes: int = 128
    """Rendered images held out: other seeds."""
    seed: int = 0
    """Of weights, order, crops and colours."""

    def __post_init__(self):
        if self.seed < 0:
            raise ValueError(f"seed {self.seed}: expected 0 or more")
        if self.steps < 1:
            raise ValueError(f"{self.name}: no stage has the images of one batch")

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return sum(stage.steps for stage in self.stages)

    def stage_of(self, step: int) -> tuple[Stage, int]:
        """The stage that step number `step` (from 0) belongs to, and how many images were seen before the step."""
        seen = self.seen(step)
        for stage in self.stages:
            if step < stage.steps:
                return stage, seen
            step -= stage.steps
        raise IndexError("past the end of the run")

    def seen(self, steps: int) -> int:
        """Images of the first `steps` steps."""
        total = 0
        for stage in self.stages:
            total += min(steps, stage.steps) * stage.batch
            steps = max(steps - stage.steps, 0)
        return total

    @property
    def unlabeled_share(self) -> float:
        """The part of each batch that a teacher labels; 0 for a teacher's own run."""
        return self.unlabeled.share if self.unlabeled else 0.0


@dataclass(frozen=True, kw_only=True)
class MaskedRecipe(Recipe):
    """A run that learns what hidden patches show, before any depth (train/masked_patches.py); sets may lack labels."""

    hidden: float = 0.6
    """Share of the patches that the encoder does not see."""


SQUARE_518 = ((518, 518),)


def as_json(recipe: Any) -> str:
    """Every field of a recipe, resolved: what recipe.json holds."""
    return json.dumps(dataclasses.asdict(recipe), indent=1) + "\n"


def changed_fields(recipe: Any, written: dict[str, Any]) -> list[str]:
    """Fields in which a recipe is another one than a JSON object that was written, perhaps when it had fewer fields.

    A field that was not written then has its default; one that is not known now does not count.
    """
    return [
        field.name
        for field in dataclasses.fields(recipe)
        if not _same(getattr(recipe, field.name), written.get(field.name, field.default))
    ]


def _same(value: Any, written: Any) -> bool:
    if dataclasses.is_dataclass(value) and isinstance(written, dict):
        return not changed_fields(value, written)
    if isinstance(value, tuple) and isinstance(written, list | tuple):
        return len(value) == len(written) and all(map(_same, value, written))
    return value == written
