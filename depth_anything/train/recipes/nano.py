"""Runs of nano and of its trial variants with other EfficientNet-Lite networks, as functions. No torch here.

All start from an encoder pretrained on ImageNet and learn depth from rendered scenes. The runs of the ViT are in
nano_vit.py.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from depth_anything.train.recipes.base import Recipe, Stage, Unlabeled

SMALL = ((96, 128), (128, 96), (96, 160), (64, 192))
MIDDLE = ((128, 192), (192, 128), (160, 160), (128, 224), (96, 288))
LARGE = ((192, 256), (256, 192), (224, 224), (160, 320), (128, 384))
LARGER = ((224, 288), (288, 224), (256, 256), (192, 352), (160, 480))
"""Network inputs. From one line to the next the cost doubles, to the last one it grows by a third. The last two sizes
of a line have about the aspect ratios of videos and of car cameras."""
FAMILY = ("nano", "nano-lite0", "nano-lite1")
"""The variants of these recipes."""


def nano_teacher(variant: str = "nano") -> Recipe:
    """Ours: an EfficientNet-Lite from ImageNet's weights; an hour on one core, without the rendering.

    A small version of V1's teacher: its loss, and the encoder at a tenth of the decoder's rate. The last stage has V2's
    L_ssi + 2 L_gm on large inputs, for sharp edges.
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
    """Ours: a longer run of `nano_teacher`, about twelve hours on one core, divided equally between the stages.

    The last stage is for sharp edges: inputs as large as in prediction, and V2's L_ssi + 2 L_gm.
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
    """Ours: another half hour on one core from a teacher's weights (`--start-from`); `make nano` does it twice."""
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


def nano_outlines(variant: str = "nano") -> Recipe:
    """Ours: outlines that are less soft, from the weights of the runs above (`--start-from`); the encoder stays frozen.

    The runs above find few of the outlines and place those well (docs/log.md). Here gradient matching counts outlines
    four times, so that less certain ones pay, too. Windows of half to all of an image have outlines at the scale of
    the inputs of prediction for a fraction of their cost.
    """
    return replace(
        nano_teacher(variant),
        name=f"{variant}-outlines",
        stages=(
            Stage(samples=2_400, sizes=MIDDLE, batch=6, gradient_weight=2.0, outline_weight=4.0),
            Stage(samples=1_080, sizes=LARGE, batch=6, gradient_weight=2.0, outline_weight=4.0),
        ),
        learning_rate=5e-4,
        encoder_rate=0.0,
        warmup=120,
        ema=0.98,
        crop_scale=(0.6, 1.0),
    )


def nano_long_outlines(variant: str = "nano") -> Recipe:
    """Ours: `nano_outlines` for more than two hours on one core, the encoder too, larger inputs (`--start-from`)."""
    return replace(
        nano_outlines(variant),
        name=f"{variant}-long-outlines",
        stages=(
            Stage(samples=48_000, sizes=MIDDLE, batch=16, gradient_weight=2.0, outline_weight=4.0),
            Stage(samples=18_000, sizes=LARGE + LARGER, batch=16, gradient_weight=2.0, outline_weight=4.0),
        ),
        encoder_rate=0.1,
        warmup=1_600,
        ema=0.998,
        scenes=4_096,
    )


def nano_student(variant: str = "nano") -> Recipe:
    """Ours: a small version of V1's student (sections 3.2 and 3.3), from ImageNet's weights, not from its teacher's.

    The teacher is nano, which has the same size. The frozen encoder of L_feat is the student's initial encoder.
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
    """Ours: a small V2 student (section 5): pseudo labels only, without their noisiest tenth, L_ssi + 2 L_gm.

    No perturbations, as V2's author recommends for small students.
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
        ("outlines", nano_outlines),
        ("long-outlines", nano_long_outlines),
        ("student", nano_student),
        ("v2-student", nano_v2_student),
    )
}
