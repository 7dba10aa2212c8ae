"""Runs of nano and its trial variants on other EfficientNet-Lite networks, as functions. No torch here.

All start from an encoder that knows ImageNet and learn depth from rendered scenes. A variant of a run is a copy with
two lines changed: `dataclasses.replace(nano_teacher(), seed=1)`. The ViT's runs are in nano_vit.py.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from depth_anything.train.recipes.base import Recipe, Stage, Unlabeled

SMALL = ((96, 128), (128, 96), (96, 160), (64, 192))
MIDDLE = ((128, 192), (192, 128), (160, 160), (128, 224), (96, 288))
LARGE = ((192, 256), (256, 192), (224, 224), (160, 320), (128, 384))
LARGER = ((224, 288), (288, 224), (256, 256), (192, 352), (160, 480))
"""Network inputs. One costs twice one of those before, and of the last a third more. The last two of each have the
shape of films and of the cameras that cars carry."""
FAMILY = ("nano", "nano-lite0", "nano-lite1")
"""Variants that these recipes train."""


def nano_teacher(variant: str = "nano") -> Recipe:
    """Ours: an EfficientNet-Lite that knows ImageNet, an hour of one core beside the rendering.

    V1's teacher in small: its loss, the encoder at a tenth of the decoder's rate. At the end V2's L_ssi + 2 L_gm on
    large inputs, for outlines.
    """
    return Recipe(
        name=f"{variant}-teacher",
        variant=variant,
        data=("scenes",),
        stages=(
            Stage(samples=32_000, sizes=SMALL, batch=16, gradient_weight=0.5),
            Stage(samples=16_000, sizes=MIDDLE, batch=16, gradient_weight=0.5),
            Stage(samples=8_000, sizes=LARGE, batch=16, gradient_weight=2.0),
        ),
        learning_rate=1e-3,
        weight_decay=0.05,
        warmup=1_600,
        ema=0.998,
        aspect_jitter=1.25,
        perturbation="camera",
        scenes=2_048,
    )


def nano_long_teacher(variant: str = "nano") -> Recipe:
    """Ours: the same for some twelve hours of a core. Each stage takes about as long.

    The last one is for outlines: inputs as large as at prediction, V2's L_ssi + 2 L_gm.
    """
    return replace(
        nano_teacher(variant),
        name=f"{variant}-long-teacher",
        stages=(
            Stage(samples=384_000, sizes=SMALL, batch=32, gradient_weight=0.5),
            Stage(samples=192_000, sizes=MIDDLE, batch=32, gradient_weight=0.5),
            Stage(samples=80_000, sizes=LARGE + LARGER, batch=16, gradient_weight=2.0),
        ),
        warmup=8_000,
        ema=0.999,
        scenes=10_240,
    )


def nano_finish(variant: str = "nano") -> Recipe:
    """Ours: half an hour of a core behind a teacher, from its weights (`--start-from`): `make nano` ends with two."""
    return replace(
        nano_teacher(variant),
        name=f"{variant}-finish",
        stages=(
            Stage(samples=8_000, sizes=MIDDLE, batch=16, gradient_weight=0.5),
            Stage(samples=10_000, sizes=LARGE + LARGER, batch=16, gradient_weight=2.0),
        ),
        learning_rate=5e-4,
        warmup=800,
    )


def nano_student(variant: str = "nano") -> Recipe:
    """Ours: V1's student in small (sections 3.2 and 3.3), from its own start and not from its teacher.

    The teacher is nano, which is no smaller; L_feat keeps near the encoder that the student started from.
    """
    stages = (
        Stage(samples=36_000, sizes=SMALL, batch=24, gradient_weight=0.5),
        Stage(samples=18_000, sizes=MIDDLE, batch=24, gradient_weight=0.5),
    )
    labels = Unlabeled(data=("pictures",), share=2 / 3, teacher="nano", weight=1 / 3, feature_weight=1 / 3)
    return replace(
        nano_teacher(variant), name=f"{variant}-student", stages=stages, labeled_weight=1 / 3, unlabeled=labels
    )


def nano_v2_student(variant: str = "nano") -> Recipe:
    """Ours: V2's student in small (section 5): pseudo labels alone, without their noisiest tenth, L_ssi + 2 L_gm.

    Images as they are: its author says so of small students.
    """
    student = nano_student(variant)
    assert student.unlabeled is not None
    stages = tuple(replace(stage, gradient_weight=2.0) for stage in student.stages)
    labels = replace(
        student.unlabeled, share=1.0, weight=1.0, noisiest=0.1, feature_weight=1.0, perturbation="none", cutmix=0.0
    )
    return replace(student, name=f"{variant}-v2-student", data=(), stages=stages, unlabeled=labels)


NANO_RECIPES: dict[str, Callable[[], Recipe]] = {
    f"{variant}-{run}": partial(recipe, variant)
    for variant in FAMILY
    for run, recipe in (
        ("teacher", nano_teacher),
        ("long-teacher", nano_long_teacher),
        ("finish", nano_finish),
        ("student", nano_student),
        ("v2-student", nano_v2_student),
    )
}
