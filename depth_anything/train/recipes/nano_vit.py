"""Runs of nano-vit, the small ViT, on rendered scenes and from random weights, as functions. No torch here."""

from collections.abc import Callable
from dataclasses import replace

from depth_anything.train.recipes.base import MaskedRecipe, Recipe, Stage, Unlabeled

SMALL = ((84, 112), (98, 98), (112, 84))
MIDDLE = ((112, 154), (126, 126), (154, 112))
LARGE = ((168, 224), (196, 196), (224, 168))
"""Network inputs. 84 x 112 costs half as much as 112 x 154, and a fifth of 168 x 224."""
WIDE_SMALL = ((70, 126), (56, 168))
WIDE_MIDDLE = ((98, 182), (70, 238))
WIDE_LARGE = ((140, 266), (112, 364))
"""The same numbers of patches with the aspect ratios of videos and of car cameras: 16 : 9 and 3 : 1."""
ALL_LARGER = MIDDLE + WIDE_MIDDLE + LARGE + WIDE_LARGE
ZOOMED = (0.5, 1.0)
"""Crops of the long runs: half to all of an image. Short runs use whole images (docs/log.md)."""


def nano_vit_teacher() -> Recipe:
    """Ours: the ViT from random weights on rendered scenes; half an hour on two cores, including the rendering."""
    return Recipe(
        name="nano-vit-teacher",
        variant="nano-vit",
        data=("scenes",),
        stages=(
            Stage(samples=24_000, sizes=SMALL, batch=32, loss="range", gradient_weight=0.5),
            Stage(samples=24_000, sizes=MIDDLE, batch=32, loss="range", gradient_weight=0.5),
            Stage(samples=8_000, sizes=LARGE, batch=32, gradient_weight=0.5),
        ),
        learning_rate=1e-3,
        encoder_rate=1.0,
        from_backbone=False,
        weight_decay=0.05,
        warmup=3_200,
        ema=0.998,
        aspect_jitter=1.25,
        perturbation="camera",
        scenes=4_096,
    )


def nano_vit_encoder() -> MaskedRecipe:
    """Ours: pretraining of its encoder on images without labels, as a replacement of DINOv2's weights."""
    differs = {
        "name": "nano-vit-encoder",
        "data": ("scenes", "pictures"),
        "stages": (Stage(samples=48_000, sizes=MIDDLE, batch=32),),
        "crop_scale": ZOOMED,
        "perturbation": "none",
    }
    return MaskedRecipe(**vars(nano_vit_teacher()) | differs)


def nano_vit_student() -> Recipe:
    """Ours: V1's student: the ViT from random weights, on scenes and on photographs that nano-vit-teacher labels.

    CutMix needs regions that are normalised separately, so it starts with the loss of the second stage.
    """
    return replace(
        nano_vit_teacher(),
        name="nano-vit-student",
        stages=(
            Stage(samples=36_000, sizes=SMALL, batch=48, loss="range", gradient_weight=0.5),
            Stage(samples=24_000, sizes=MIDDLE, batch=48, gradient_weight=0.5),
        ),
        labeled_weight=1 / 3,
        unlabeled=Unlabeled(
            data=("pictures",),
            share=2 / 3,
            teacher="nano-vit",
            weight=1 / 3,
            perturbation="camera",
            feature_weight=1 / 3,
        ),
    )


def nano_vit_long_teacher() -> Recipe:
    """Ours: about twelve hours on two cores, divided equally between the stages.

    The first stage has the most images, because training on small inputs improves the model most for the time. The
    last stage is for sharp edges: inputs of mixed sizes (docs/log.md), up to those of prediction, and V2's
    L_ssi + 2 L_gm.
    """
    return replace(
        nano_vit_teacher(),
        name="nano-vit-long-teacher",
        stages=(
            Stage(samples=1_500_000, sizes=SMALL + WIDE_SMALL, batch=64, loss="range", gradient_weight=0.5),
            Stage(samples=600_000, sizes=MIDDLE + WIDE_MIDDLE, batch=32, gradient_weight=0.5),
            Stage(samples=300_000, sizes=ALL_LARGER, batch=32, gradient_weight=2.0),
        ),
        ema=0.999,
        crop_scale=ZOOMED,
        scenes=24_576,
    )


def nano_vit_gpu_teacher() -> Recipe:
    """Ours: the long teacher for a GPU, 14 minutes on an H200 (docs/log.md).

    Nearly as many images in batches four times as large: a step of this network on a GPU takes as long as launching its
    kernels, for any batch.
    """
    long = nano_vit_long_teacher()
    seen = (1_380_000, 552_000, 276_000)
    stages = tuple(
        replace(stage, samples=samples, batch=4 * stage.batch) for stage, samples in zip(long.stages, seen, strict=True)
    )
    return replace(long, name="nano-vit-gpu-teacher", stages=stages, learning_rate=1.5e-3, warmup=29_440, scenes=10_240)


def nano_vit_finish() -> Recipe:
    """Ours: another half hour on two cores from the weights of a long run (`--start-from`).

    Whole images, as in V1, are better for photographs, and so is the mean of the weights of two such runs and their
    start (scripts/bundle.py).
    """
    long = nano_vit_long_teacher()
    _, middle, larger = long.stages
    return replace(
        long,
        name="nano-vit-finish",
        stages=(replace(middle, samples=45_000), replace(larger, samples=18_000)),
        learning_rate=4e-4,
        warmup=1_600,
        crop_scale=(1.0, 1.0),
        scenes=10_240,
    )


def nano_vit_long_student() -> Recipe:
    """Ours: a student of nano-vit-long-teacher, hours on two cores; results in docs/log.md.

    Unlike V1's student it starts from its teacher's weights (`--start-from`): there is no DINOv2 of this size, and few
    photographs have a clear licence.
    """
    return replace(
        nano_vit_student(),
        name="nano-vit-long-student",
        stages=(
            Stage(samples=192_000, sizes=MIDDLE + WIDE_MIDDLE, batch=48, gradient_weight=0.5),
            Stage(samples=144_000, sizes=ALL_LARGER, batch=48, gradient_weight=2.0),
        ),
        learning_rate=3e-4,
        ema=0.999,
        crop_scale=ZOOMED,
        scenes=24_576,
    )


NANO_VIT_RECIPES: dict[str, Callable[[], Recipe]] = {
    "nano-vit-encoder": nano_vit_encoder,
    "nano-vit-teacher": nano_vit_teacher,
    "nano-vit-student": nano_vit_student,
    "nano-vit-long-teacher": nano_vit_long_teacher,
    "nano-vit-gpu-teacher": nano_vit_gpu_teacher,
    "nano-vit-finish": nano_vit_finish,
    "nano-vit-long-student": nano_vit_long_student,
}
