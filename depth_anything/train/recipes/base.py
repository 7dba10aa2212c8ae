"""The dataclasses of recipes. No torch here.

Each run of the papers is a function in this folder that returns a recipe. A variant of a run is a changed copy:
`dataclasses.replace(v2_student("small"), seed=1)`.
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of a run with the same input sizes, batch size and loss."""

    samples: int
    """Number of images in this stage."""
    sizes: tuple[tuple[int, int], ...]
    """Network inputs (H, W), multiples of the variant's patch size; one is drawn for each step."""
    batch: int
    """Images per step."""
    loss: Literal["affine", "range"] = "affine"
    """`affine`: V1 Eq. 1. `range`: ours; ground truth normalised to 0..1, the prediction not normalised
    (`losses.range_normalised_residual`)."""
    gradient_weight: float = 0.0
    """Weight of gradient matching beside the loss: 0 in V1, 2 in V2."""
    outline_weight: float = 1.0
    """Ours: how many times gradient matching counts a difference across an outline of a label whose disparity has no
    unknown shift; not of a pseudo label. 1 in the papers."""

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
    """Settings of a student for unlabelled images (V1 sections 3.2 and 3.3, V2 section 5)."""

    data: tuple[str, ...]
    """Sets of unlabelled images, joined without balancing."""
    share: float
    """Share of each batch. 2/3 in V1 (labelled : unlabelled = 1 : 2), 1 in V2 (no synthetic images)."""
    teacher: str
    """Row of `VARIANTS` that labels them: V1 ViT-L, V2 ViT-g. With another teacher there is a warning."""
    weight: float = 1.0
    """Weight of the loss on pseudo labels. V1 averages its three losses: 1/3. V2: 1."""
    perturbation: Perturbation = "unimatch"
    """Applied to the student's input, not to the teacher's: strong colours and blur (V1 section 3.2)."""
    cutmix: float = 0.5
    """Probability of CutMix (V1 section 3.2). Only with the loss `affine`."""
    noisiest: float = 0.0
    """Share of each image's pixels, those with the largest loss, to ignore as noisy labels. V2 section 5: 0.1."""
    feature_weight: float = 0.0
    """Weight of L_feat (V1 Eq. 9). V1: 1/3. V2 does not state it; 1 is our choice."""
    feature_margin: float = 0.85
    """Tolerance margin alpha of V1 Eq. 9."""
    feature_on: Literal["unlabeled", "labeled", "both"] = "unlabeled"
    """The images of L_feat. On labelled ones it did not help V1 (supplement, Table 2)."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that determines the trained weights, except the data and the machine."""

    name: str
    variant: str
    """Row of `VARIANTS` (or `TRIED`) to train."""
    data: tuple[str, ...]
    """Labelled sets, joined without balancing (V1 section 4.1)."""
    minor: tuple[str, float] | None = None
    """One more set and its share of the labelled images, repeated as often as necessary (V2's 5 % of HRWSI)."""
    stages: tuple[Stage, ...]
    labeled_weight: float = 1.0
    """Weight of the loss on labels. 1/3 in V1's student."""
    unlabeled: Unlabeled | None = None
    """None for a teacher."""
    learning_rate: float = 5e-5
    """Initial rate of the decoder (V1 section 4.1, V2)."""
    encoder_rate: float = 0.1
    """Rate of the encoder relative to the decoder: 5e-6 from DINOv2 (V1 section 4.1). 1 from random weights; 0:
    frozen."""
    layer_rates: tuple[tuple[str, float], ...] = ()
    """Layers with a rate of their own, relative to encoder's or decoder's, by the name of the module. Only fine-tuning
    has some (`learning_rates.rates_by_size`)."""
    from_backbone: bool = True
    """Whether the encoder starts from its family's weights (DINOv2's, except for `TRIED`); else from random ones."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of AdamW. The papers do not state them."""
    weight_decay: float = 0.01
    """Of AdamW, on matrices only. The value of V2's metric code; the papers do not state it for relative training."""
    warmup: int = 0
    """Number of images over which the rate rises from 0. None in the papers; random weights need some."""
    clip: float = 1.0
    """Maximum norm of a step's gradient. The papers do not state it."""
    ema: float = 0.0
    """Decay per step of the running mean of the weights, which is validated and released; 0: no running mean."""
    flip: float = 0.5
    """Probability of a horizontal flip. V1 states the flip, not the probability."""
    crop_scale: tuple[float, float] = (1.0, 1.0)
    """Range of the size of random crops relative to the largest. 1: V1's crop with the whole shorter side."""
    aspect_jitter: float = 1.0
    """Crops are wider or higher than the network's input by up to this factor. 1: never, as in the papers."""
    perturbation: Perturbation = "none"
    """Perturbation of labelled images (`data.augment`). None in the papers' teachers."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Of the encoder; decoder and loss are float32."""
    scenes: int = 0
    """Number of rendered training images; missing ones are rendered."""
    validation_scenes: int = 128
    """Number of rendered held-out images, which have other seeds."""
    seed: int = 0
    """Of weights, order, crops and perturbations."""

    def __post_init__(self):
        if self.seed < 0:
            raise ValueError(f"seed {self.seed}: expected 0 or more")
        if self.steps < 1:
            raise ValueError(f"{self.name}: every stage has fewer images than a batch: use more, or a smaller --batch")

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return sum(stage.steps for stage in self.stages)

    def stage_of(self, step: int) -> tuple[Stage, int]:
        """The stage of step number `step` (from 0), and the number of images before that step."""
        seen = self.seen(step)
        for stage in self.stages:
            if step < stage.steps:
                return stage, seen
            step -= stage.steps
        raise IndexError("past the end of the run")

    def seen(self, steps: int) -> int:
        """Number of images in the first `steps` steps."""
        total = 0
        for stage in self.stages:
            total += min(steps, stage.steps) * stage.batch
            steps = max(steps - stage.steps, 0)
        return total

    @property
    def unlabeled_share(self) -> float:
        """Share of unlabelled images in each batch; 0 for a teacher."""
        return self.unlabeled.share if self.unlabeled else 0.0


@dataclass(frozen=True, kw_only=True)
class MaskedRecipe(Recipe):
    """Pretraining of an encoder by masked image modelling (train/masked_patches.py); sets may lack labels."""

    hidden: float = 0.6
    """Share of the patches that are hidden from the encoder."""


SQUARE_518 = ((518, 518),)


def as_json(recipe: Any) -> str:
    """Every field of a recipe as JSON, the contents of recipe.json."""
    return json.dumps(dataclasses.asdict(recipe), indent=1) + "\n"


def changed_fields(recipe: Any, written: dict[str, Any]) -> list[str]:
    """Names of the fields in which a recipe differs from the JSON object of a saved one.

    Fields that the JSON lacks have their defaults, and fields that the recipe lacks do not count: recipes may gain and
    lose fields while runs are in progress.
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
