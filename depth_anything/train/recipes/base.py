"""What a recipe is, and every run of the papers as a function that returns its configuration. No torch here.

A variant of a run is a copy with two lines changed: `dataclasses.replace(v2_student("small"), seed=1)`. Nano's runs are
in recipes/nano.py.
"""

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from depth_anything.system.files import atomic_path


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stretch of the run in which picture size, batch and loss stay the same."""

    samples: int
    """Pictures seen in this stage."""
    sizes: tuple[tuple[int, int], ...]
    """Network inputs (H, W), multiples of 14; one is drawn for each batch."""
    batch: int
    """Pictures in one step."""
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
    """What a student learns from pictures that a teacher labels (V1 sections 3.2 and 3.3, V2 section 5)."""

    data: tuple[str, ...]
    """Sets of pictures, joined without balancing."""
    share: float
    """Of each batch. 2/3 in V1 (labelled : unlabelled = 1 : 2), 1 in V2 (synthetic labels are dropped)."""
    teacher: str
    """Row of `VARIANTS` that labels them: V1 ViT-L, V2 ViT-g."""
    weight: float = 1.0
    """Of the loss on pseudo labels. V1 averages its three losses: 1/3. V2: 1."""
    perturbation: Perturbation = "unimatch"
    """What the student sees and the teacher does not: strong colours and blur (V1 section 3.2)."""
    cutmix: float = 0.5
    """Probability that another picture is pasted in (V1 section 3.2). Only under the loss `affine`."""
    noisiest: float = 0.0
    """Share of each picture's pixels, those of largest loss, taken for noisy labels and left out. V2 section 5: 0.1."""
    feature_weight: float = 0.0
    """Of L_feat (V1 Eq. 9). V1: 1/3. V2 names no weight; 1 is our choice."""
    feature_margin: float = 0.85
    """Tolerance margin alpha of V1 Eq. 9."""
    feature_on_labeled: bool = False
    """L_feat on labelled pictures, too: V1 tried it without gain (supplement, Table 2)."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides the weights of a run, besides the data and the machine."""

    name: str
    variant: str
    """Row of `VARIANTS` (or `TRIED`) to train."""
    data: tuple[str, ...]
    """Labelled sets, joined without balancing (V1 section 4.1)."""
    minor: tuple[str, float] | None = None
    """One more set and its share of the labelled pictures, seen as often as that takes (V2's 5 % of HRWSI)."""
    stages: tuple[Stage, ...]
    labeled_weight: float = 1.0
    """Of the loss on labels. 1/3 in V1's student."""
    unlabeled: Unlabeled | None = None
    """None for a teacher."""
    learning_rate: float = 5e-5
    """Of the decoder, before decay (V1 section 4.1, V2)."""
    encoder_rate: float = 0.1
    """The encoder's share of it: 5e-6 for DINOv2 starts (V1 section 4.1). 1 for nano, which starts from nothing."""
    from_backbone: bool = True
    """Start the encoder from its family's weights (DINOv2's, but for `TRIED`); else from random ones."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's. The papers are silent."""
    weight_decay: float = 0.01
    """AdamW's, on matrices only. Value of V2's metric code; the papers are silent for relative training."""
    warmup: int = 0
    """Pictures over which the rate rises from 0. None in the papers; random weights need some."""
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
    """Colours of labelled pictures (`data.augment`). None in the papers' teachers."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Of the network's arithmetic; the loss is float32."""
    scenes: int = 0
    """Rendered pictures to train on, made when they are not there yet."""
    validation_scenes: int = 128
    """Rendered pictures held out: other seeds."""
    seed: int = 0
    """Of weights, order, crops and colours."""

    def __post_init__(self):
        if self.seed < 0:
            raise ValueError(f"seed {self.seed}: expected 0 or more")
        if self.steps < 1:
            raise ValueError(f"{self.name}: no stage has the pictures of one batch")

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return sum(stage.steps for stage in self.stages)

    def stage_of(self, step: int) -> tuple[Stage, int]:
        """The stage that step number `step` (from 0) belongs to, and how many pictures were seen before the step."""
        seen = 0
        for stage in self.stages:
            if step < stage.steps:
                return stage, seen + step * stage.batch
            step, seen = step - stage.steps, seen + stage.steps * stage.batch
        raise IndexError("past the end of the run")

    @property
    def unlabeled_share(self) -> float:
        """The part of each batch that a teacher labels; 0 for a teacher's own run."""
        return self.unlabeled.share if self.unlabeled else 0.0

    def as_json(self) -> str:
        """Every field, resolved."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    def save(self, path: str | Path) -> None:
        """Write `as_json` to a file."""
        with atomic_path(path) as temporary:
            temporary.write_text(self.as_json())


@dataclass(frozen=True, kw_only=True)
class MaskedRecipe(Recipe):
    """A run that learns what hidden patches show, before any depth (train/masked_patches.py). Sets may be without labels."""

    hidden: float = 0.6
    """Share of the patches that the encoder does not see."""


V1_LABELED = ("blendedmvs", "diml", "hrwsi", "irs", "megadepth", "tartanair")
V1_LABELED_PICTURES = 1_599_000
"""V1 Table 1, summed."""
V2_SYNTHETIC = ("blendedmvs", "hypersim", "irs", "tartanair", "vkitti2")
UNLABELED = ("sa1b", "imagenet21k", "lsun", "bdd100k", "openimages", "places365", "landmarks", "objects365")
UNLABELED_PICTURES = 62_300_000
"""V1 Table 1, summed."""
SQUARE_518 = ((518, 518),)


def v1_teacher_large() -> Recipe:
    """V1's teacher: 20 epochs of six labelled sets. The batch is our choice: the paper names none."""
    return Recipe(
        name="v1-teacher-large",
        variant="v1-large",
        data=V1_LABELED,
        stages=(Stage(samples=20 * V1_LABELED_PICTURES, sizes=SQUARE_518, batch=64),),
    )


def v1_student(size: str) -> Recipe:
    """V1's student: one pass over the unlabelled pictures, two of them beside each labelled one, L = the mean of three.

    The encoder starts from DINOv2 again, not from the teacher. The batch is our choice: the paper names none.
    """
    return Recipe(
        name=f"v1-student-{size}",
        variant=f"v1-{size}",
        data=V1_LABELED,
        stages=(Stage(samples=UNLABELED_PICTURES * 3 // 2, sizes=SQUARE_518, batch=96),),
        labeled_weight=1 / 3,
        unlabeled=Unlabeled(data=UNLABELED, share=2 / 3, teacher="v1-large", weight=1 / 3, feature_weight=1 / 3),
    )


def v2_teacher_giant() -> Recipe:
    """V2's teacher: 160,000 steps of 64 pictures from five synthetic sets, L_ssi + 2 L_gm."""
    return Recipe(
        name="v2-teacher-giant",
        variant="v2-giant",
        data=V2_SYNTHETIC,
        stages=(Stage(samples=160_000 * 64, sizes=SQUARE_518, batch=64, gradient_weight=2.0),),
    )


def v2_student(size: str) -> Recipe:
    """V2's student: 480,000 steps of 192 pseudo-labelled pictures, L_ssi + 2 L_gm without the noisiest tenth, + L_feat.

    Its author says that small and base need no perturbation under the giant teacher's labels; for large and giant we
    keep V1's.
    """
    strong = size in ("large", "giant")
    return Recipe(
        name=f"v2-student-{size}",
        variant=f"v2-{size}",
        data=(),
        stages=(Stage(samples=480_000 * 192, sizes=SQUARE_518, batch=192, gradient_weight=2.0),),
        unlabeled=Unlabeled(
            data=UNLABELED,
            share=1.0,
            teacher="v2-giant",
            perturbation="unimatch" if strong else "none",
            cutmix=0.5 if strong else 0.0,
            noisiest=0.1,
            feature_weight=1.0,
        ),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "v1-teacher-large": v1_teacher_large,
    **{f"v1-student-{size}": partial(v1_student, size) for size in ("small", "base", "large")},
    "v2-teacher-giant": v2_teacher_giant,
    **{f"v2-student-{size}": partial(v2_student, size) for size in ("small", "base", "large", "giant")},
}


def get_recipe(name: str) -> Recipe:
    """The recipe called `name`: nano's, one of these, of the papers' ablations, or of those for metres.

    Raises:
        ValueError: no such recipe; the message lists the names.
    """
    from depth_anything.train.recipes.ablations import ABLATIONS
    from depth_anything.train.recipes.metric import METRIC_RECIPES
    from depth_anything.train.recipes.nano import NANO_RECIPES

    recipes: dict[str, Callable[[], Recipe]] = {**NANO_RECIPES, **RECIPES, **ABLATIONS, **METRIC_RECIPES}
    if name not in recipes:
        raise ValueError(f"unknown recipe {name!r}: expected one of {', '.join(recipes)}")
    return recipes[name]()


def shrunk(recipe: Recipe, size: float) -> Recipe:
    """A part of a recipe's pictures, scenes and warm-up, at least a batch of each stage: to try it out.

    Raises:
        ValueError: not in 0..1.
    """
    if not 0 < size <= 1:
        raise ValueError(f"--size {size}: expected a part of the recipe, above 0 and up to 1")
    if size == 1:
        return recipe
    return replace(
        recipe,
        stages=tuple(replace(stage, samples=max(stage.batch, round(stage.samples * size))) for stage in recipe.stages),
        warmup=round(recipe.warmup * size),
        scenes=math.ceil(recipe.scenes * size),
        validation_scenes=math.ceil(recipe.validation_scenes * size),
    )
