"""The runs of Depth Anything V1 (CVPR 2024): teacher and student (sections 3 and 4.1)."""

from collections.abc import Callable
from functools import partial

from depth_anything.data.set_sizes import LABELED_IMAGES, UNLABELED_IMAGES
from depth_anything.train.recipes.base import SQUARE_518, Recipe, Stage, Unlabeled

V1_LABELED = ("blendedmvs", "diml", "hrwsi", "irs", "megadepth", "tartanair")
UNLABELED = tuple(UNLABELED_IMAGES)


def v1_teacher_large() -> Recipe:
    """V1's teacher: 20 epochs of six labelled sets. The batch size is our choice: the paper does not state it."""
    images = sum(LABELED_IMAGES[name] for name in V1_LABELED)
    return Recipe(
        name="v1-teacher-large",
        variant="v1-large",
        data=V1_LABELED,
        stages=(Stage(samples=20 * images, sizes=SQUARE_518, batch=64),),
    )


def v1_student(size: str) -> Recipe:
    """V1's student: one pass over the unlabelled images, two for each labelled one; L is the mean of three losses.

    The encoder starts from DINOv2 again, not from the teacher. The batch size is our choice: the paper does not state
    it.
    """
    return Recipe(
        name=f"v1-student-{size}",
        variant=f"v1-{size}",
        data=V1_LABELED,
        stages=(Stage(samples=sum(UNLABELED_IMAGES.values()) * 3 // 2, sizes=SQUARE_518, batch=96),),
        labeled_weight=1 / 3,
        unlabeled=Unlabeled(data=UNLABELED, share=2 / 3, teacher="v1-large", weight=1 / 3, feature_weight=1 / 3),
    )


V1_RECIPES: dict[str, Callable[[], Recipe]] = {
    "v1-teacher-large": v1_teacher_large,
    **{f"v1-student-{size}": partial(v1_student, size) for size in ("small", "base", "large")},
}
