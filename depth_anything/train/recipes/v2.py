"""The runs of Depth Anything V2 (NeurIPS 2024): teacher and student (sections 4 to 6)."""

from collections.abc import Callable
from functools import partial

from depth_anything.train.recipes.base import SQUARE_518, Recipe, Stage, Unlabeled
from depth_anything.train.recipes.v1 import UNLABELED

V2_SYNTHETIC = ("blendedmvs", "hypersim", "irs", "tartanair", "vkitti2")


def v2_teacher_giant() -> Recipe:
    """V2's teacher: 160,000 steps of 64 images from five synthetic sets, L_ssi + 2 L_gm."""
    return Recipe(
        name="v2-teacher-giant",
        variant="v2-giant",
        data=V2_SYNTHETIC,
        stages=(Stage(samples=160_000 * 64, sizes=SQUARE_518, batch=64, gradient_weight=2.0),),
    )


def v2_student(size: str) -> Recipe:
    """V2's student: 480,000 steps of 192 pseudo-labelled images, L_ssi + 2 L_gm without the noisiest tenth, + L_feat.

    The author states that small and base need no perturbation with labels of the giant teacher; large and giant have
    V1's.
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


V2_RECIPES: dict[str, Callable[[], Recipe]] = {
    "v2-teacher-giant": v2_teacher_giant,
    **{f"v2-student-{size}": partial(v2_student, size) for size in ("small", "base", "large", "giant")},
}
