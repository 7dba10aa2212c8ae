"""Every run of the papers, and ours, as a function that returns its configuration. No torch here.

A variant of a run is a copy with two lines changed: `dataclasses.replace(nano_teacher(), seed=1)`.
"""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from depth_anything.files import atomic_path


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

    @property
    def steps(self) -> int:
        """Whole batches in this stage."""
        return self.samples // self.batch


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides the weights of a run, besides the data and the machine."""

    name: str
    variant: str
    """Row of `VARIANTS` to train."""
    data: tuple[str, ...]
    """Labelled sets, joined without balancing (V1 section 4.1)."""
    stages: tuple[Stage, ...]
    learning_rate: float = 5e-5
    """Of the decoder, before decay (V1 section 4.1, V2)."""
    encoder_rate: float = 0.1
    """The encoder's share of it: 5e-6 for DINOv2 starts (V1 section 4.1). 1 for nano, which starts from nothing."""
    from_backbone: bool = True
    """Start the encoder from a DINOv2 file; else from random weights."""
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
    perturbation: Literal["none", "unimatch", "camera"] = "none"
    """Colours of labelled pictures (`data.augment`). None in the papers' teachers."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Of the network's arithmetic; the loss is float32."""
    scenes: int = 0
    """Rendered pictures to train on, made when they are not there yet."""
    validation_scenes: int = 0
    """Rendered pictures held out: other seeds."""
    seed: int = 0
    """Of weights, order, crops and colours."""

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

    def as_json(self) -> str:
        """Every field, resolved."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    def save(self, path: str | Path) -> None:
        """Write `as_json` to a file."""
        with atomic_path(path) as temporary:
            temporary.write_text(self.as_json())


def nano_teacher() -> Recipe:
    """Ours: nano from random weights and rendered scenes, in half an hour of two cores, rendering included.

    Small pictures first: a picture of 84 x 112 costs half of one of 112 x 154, and a fifth of one of 168 x 224.
    """
    small, middle = ((84, 112), (98, 98), (112, 84)), ((112, 154), (126, 126), (154, 112))
    large = ((168, 224), (196, 196), (224, 168))
    return Recipe(
        name="nano-teacher",
        variant="nano",
        data=("scenes",),
        stages=(
            Stage(samples=24_000, sizes=small, batch=32, loss="range", gradient_weight=0.5),
            Stage(samples=24_000, sizes=middle, batch=32, loss="range", gradient_weight=0.5),
            Stage(samples=8_000, sizes=large, batch=32, gradient_weight=0.5),
        ),
        learning_rate=1e-3,
        encoder_rate=1.0,
        from_backbone=False,
        weight_decay=0.05,
        warmup=3_200,
        ema=0.998,
        crop_scale=(0.5, 1.0),
        aspect_jitter=1.25,
        perturbation="camera",
        scenes=4_096,
        validation_scenes=128,
    )


V1_LABELED = ("blendedmvs", "diml", "hrwsi", "irs", "megadepth", "tartanair")
V2_SYNTHETIC = ("blendedmvs", "hypersim", "irs", "tartanair", "vkitti2")
SQUARE_518 = ((518, 518),)


def v1_teacher_large() -> Recipe:
    """V1's teacher: 20 epochs of six labelled sets (1,599,000 pictures by V1 Table 1). The batch is our choice."""
    return Recipe(
        name="v1-teacher-large",
        variant="v1-large",
        data=V1_LABELED,
        stages=(Stage(samples=20 * 1_599_000, sizes=SQUARE_518, batch=64),),
    )


def v2_teacher_giant() -> Recipe:
    """V2's teacher: 160,000 steps of 64 pictures from five synthetic sets, L_ssi + 2 L_gm."""
    return Recipe(
        name="v2-teacher-giant",
        variant="v2-giant",
        data=V2_SYNTHETIC,
        stages=(Stage(samples=160_000 * 64, sizes=SQUARE_518, batch=64, gradient_weight=2.0),),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "nano-teacher": nano_teacher,
    "v1-teacher-large": v1_teacher_large,
    "v2-teacher-giant": v2_teacher_giant,
}


def get_recipe(name: str) -> Recipe:
    """The recipe called `name`.

    Raises:
        ValueError: no such recipe; the message lists the names.
    """
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}: expected one of {', '.join(RECIPES)}")
    return RECIPES[name]()
