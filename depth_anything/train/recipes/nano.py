"""Nano's runs, from rendered scenes and random weights or a pretrained encoder, as functions. No torch here.

A variant of a run is a copy with two lines changed: `dataclasses.replace(nano_teacher(), seed=1)`.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from depth_anything.train.recipes.base import MaskedRecipe, Recipe, Stage, Unlabeled

SMALL = ((84, 112), (98, 98), (112, 84))
MIDDLE = ((112, 154), (126, 126), (154, 112))
LARGE = ((168, 224), (196, 196), (224, 168))
"""Nano's network inputs. One of 84 x 112 costs half of one of 112 x 154, and a fifth of one of 168 x 224."""
WIDE_SMALL = ((70, 126), (56, 168))
WIDE_MIDDLE = ((98, 182), (70, 238))
WIDE_LARGE = ((140, 266), (112, 364))
"""As many patches in the shape of films, and of the cameras that cars carry: 16 : 9 and 3 : 1."""
ALL_LARGER = MIDDLE + WIDE_MIDDLE + LARGE + WIDE_LARGE
ZOOMED = (0.5, 1.0)
"""Windows of nano's long runs, half to all of a picture. In short ones whole pictures were better (docs/log.md)."""


LITE_SMALL = ((96, 128), (128, 96), (96, 160), (64, 192))
LITE_MIDDLE = ((128, 192), (192, 128), (160, 160), (128, 224), (96, 288))
LITE_LARGE = ((192, 256), (256, 192), (224, 224), (160, 320), (128, 384))
LITE_LARGER = ((224, 288), (288, 224), (256, 256), (192, 352), (160, 480))
"""Inputs of the networks on EfficientNet-Lite; one costs twice one of those before, and of the last a third more. The
last two of each have the shape of films and of the cameras that cars carry."""


def nano_teacher() -> Recipe:
    """Ours: nano from random weights and rendered scenes, in half an hour of two cores, rendering included."""
    return Recipe(
        name="nano-teacher",
        variant="nano",
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


def nano_encoder() -> MaskedRecipe:
    """Ours: nano's encoder from pictures alone, in the place of DINOv2's weights; at nano-teacher's rates."""
    differs = {
        "name": "nano-encoder",
        "data": ("scenes", "pictures"),
        "stages": (Stage(samples=48_000, sizes=MIDDLE, batch=32),),
        "crop_scale": ZOOMED,
        "perturbation": "none",
    }
    return MaskedRecipe(**vars(nano_teacher()) | differs)


def nano_student() -> Recipe:
    """Ours: nano again from random weights, from scenes and photographs that nano-teacher labels, in V1's way.

    CutMix needs regions that are normalised on their own, so it comes with the second stage's loss.
    """
    return replace(
        nano_teacher(),
        name="nano-student",
        stages=(
            Stage(samples=36_000, sizes=SMALL, batch=48, loss="range", gradient_weight=0.5),
            Stage(samples=24_000, sizes=MIDDLE, batch=48, gradient_weight=0.5),
        ),
        labeled_weight=1 / 3,
        unlabeled=Unlabeled(
            data=("pictures",), share=2 / 3, teacher="nano", weight=1 / 3, perturbation="camera", feature_weight=1 / 3
        ),
    )


def nano_long_teacher() -> Recipe:
    """Ours: `make nano`, about twelve hours of two cores.

    Each stage takes about as long. The first has the most pictures, for small ones are where a step learns most for its
    time. The last ones are up to as large as photographs are at prediction, for outlines under V2's L_ssi + 2 L_gm. Not
    all of them: large ones alone made large inputs usable, but no input better than the small one had been before.
    """
    return replace(
        nano_teacher(),
        name="nano-long-teacher",
        stages=(
            Stage(samples=1_500_000, sizes=SMALL + WIDE_SMALL, batch=64, loss="range", gradient_weight=0.5),
            Stage(samples=600_000, sizes=MIDDLE + WIDE_MIDDLE, batch=32, gradient_weight=0.5),
            Stage(samples=300_000, sizes=ALL_LARGER, batch=32, gradient_weight=2.0),
        ),
        ema=0.999,
        crop_scale=ZOOMED,
        scenes=24_576,
    )


def nano_gpu_teacher() -> Recipe:
    """Ours: `make nano DEVICE=cuda`; the bundled nano began with this, seed 0, 14 minutes of a GPU (MODEL_CARD.md).

    Nearly as many pictures as nano-long-teacher sees, in batches four times as large: on a GPU nano's step takes as
    long as asking for it, whatever the batch.
    """
    long = nano_long_teacher()
    seen = (1_380_000, 552_000, 276_000)
    stages = tuple(
        replace(stage, samples=samples, batch=4 * stage.batch) for stage, samples in zip(long.stages, seen, strict=True)
    )
    return replace(long, name="nano-gpu-teacher", stages=stages, learning_rate=1.5e-3, warmup=29_440, scenes=10_240)


def nano_finish() -> Recipe:
    """Ours: what `make nano` ends with, from the weights of its long run (`--start-from`), with two seeds.

    Whole pictures, as in V1: photographs gain by them. Bundled is the mean of both and their start (MODEL_CARD.md).
    """
    long = nano_long_teacher()
    _, middle, larger = long.stages
    return replace(
        long,
        name="nano-finish",
        stages=(replace(middle, samples=45_000), replace(larger, samples=18_000)),
        learning_rate=4e-4,
        warmup=1_600,
        crop_scale=(1.0, 1.0),
        scenes=10_240,
    )


def nano_long_student() -> Recipe:
    """Ours: a student of nano-long-teacher, some hours of two cores. In trials the teacher was better (docs/log.md).

    Unlike V1's student it goes on from its teacher's weights (`--start-from`): there is no DINOv2 of nano's size to
    begin again from, and photographs whose licence is clear are few.
    """
    return replace(
        nano_student(),
        name="nano-long-student",
        stages=(
            Stage(samples=192_000, sizes=MIDDLE + WIDE_MIDDLE, batch=48, gradient_weight=0.5),
            Stage(samples=144_000, sizes=ALL_LARGER, batch=48, gradient_weight=2.0),
        ),
        learning_rate=3e-4,
        ema=0.999,
        crop_scale=ZOOMED,
        scenes=24_576,
    )


def nano_lite_teacher(number: int) -> Recipe:
    """Ours: nano on an EfficientNet-Lite that knows ImageNet, an hour of one core beside the rendering.

    V1's teacher in small: its loss, the encoder at a tenth of the decoder's rate. At the end V2's L_ssi + 2 L_gm on
    large inputs, for outlines.
    """
    return Recipe(
        name=f"nano-lite{number}-teacher",
        variant=f"nano-lite{number}",
        data=("scenes",),
        stages=(
            Stage(samples=32_000, sizes=LITE_SMALL, batch=16, gradient_weight=0.5),
            Stage(samples=16_000, sizes=LITE_MIDDLE, batch=16, gradient_weight=0.5),
            Stage(samples=8_000, sizes=LITE_LARGE, batch=16, gradient_weight=2.0),
        ),
        learning_rate=1e-3,
        weight_decay=0.05,
        warmup=1_600,
        ema=0.998,
        aspect_jitter=1.25,
        perturbation="camera",
        scenes=2_048,
    )


def nano_lite_long_teacher(number: int) -> Recipe:
    """Ours: the same for some twelve hours of a core. Each stage takes about as long.

    The last one is for outlines: inputs as large as at prediction, V2's L_ssi + 2 L_gm.
    """
    return replace(
        nano_lite_teacher(number),
        name=f"nano-lite{number}-long-teacher",
        stages=(
            Stage(samples=384_000, sizes=LITE_SMALL, batch=32, gradient_weight=0.5),
            Stage(samples=192_000, sizes=LITE_MIDDLE, batch=32, gradient_weight=0.5),
            Stage(samples=80_000, sizes=LITE_LARGE + LITE_LARGER, batch=16, gradient_weight=2.0),
        ),
        warmup=8_000,
        ema=0.999,
        scenes=10_240,
    )


def nano_lite_finish(number: int) -> Recipe:
    """Ours: half an hour of a core behind nano_lite_teacher, from its weights (`--start-from`)."""
    return replace(
        nano_lite_teacher(number),
        name=f"nano-lite{number}-finish",
        stages=(
            Stage(samples=8_000, sizes=LITE_MIDDLE, batch=16, gradient_weight=0.5),
            Stage(samples=10_000, sizes=LITE_LARGE + LITE_LARGER, batch=16, gradient_weight=2.0),
        ),
        learning_rate=5e-4,
        warmup=800,
    )


def nano_lite_student(number: int) -> Recipe:
    """Ours: V1's student in small (sections 3.2 and 3.3), from its own start and not from its teacher.

    The teacher is larger, nano-lite2-teacher; L_feat keeps near the encoder that it started from.
    """
    teacher = nano_lite_teacher(number)
    stages = (
        Stage(samples=36_000, sizes=LITE_SMALL, batch=24, gradient_weight=0.5),
        Stage(samples=18_000, sizes=LITE_MIDDLE, batch=24, gradient_weight=0.5),
    )
    labels = Unlabeled(
        data=("pictures",),
        share=2 / 3,
        teacher="nano-lite2",
        weight=1 / 3,
        feature_weight=1 / 3,
    )
    return replace(teacher, name=f"nano-lite{number}-student", stages=stages, labeled_weight=1 / 3, unlabeled=labels)


def nano_lite_v2_student(number: int) -> Recipe:
    """Ours: V2's student in small (section 5): pseudo labels alone, without their noisiest tenth, L_ssi + 2 L_gm.

    Pictures as they are: its author says so of small students.
    """
    student = nano_lite_student(number)
    assert student.unlabeled is not None
    stages = tuple(replace(stage, gradient_weight=2.0) for stage in student.stages)
    labels = replace(
        student.unlabeled, share=1.0, weight=1.0, noisiest=0.1, feature_weight=1.0, perturbation="none", cutmix=0.0
    )
    return replace(student, name=f"nano-lite{number}-v2-student", data=(), stages=stages, unlabeled=labels)


NANO_RECIPES: dict[str, Callable[[], Recipe]] = {
    "nano-encoder": nano_encoder,
    "nano-teacher": nano_teacher,
    "nano-student": nano_student,
    "nano-long-teacher": nano_long_teacher,
    "nano-gpu-teacher": nano_gpu_teacher,
    "nano-finish": nano_finish,
    "nano-long-student": nano_long_student,
    **{f"nano-lite{number}-teacher": partial(nano_lite_teacher, number) for number in (0, 1, 2)},
    **{f"nano-lite{number}-long-teacher": partial(nano_lite_long_teacher, number) for number in (0, 1, 2)},
    **{f"nano-lite{number}-finish": partial(nano_lite_finish, number) for number in (0, 1, 2)},
    **{f"nano-lite{number}-student": partial(nano_lite_student, number) for number in (0, 1, 2)},
    **{f"nano-lite{number}-v2-student": partial(nano_lite_v2_student, number) for number in (0, 1, 2)},
}
