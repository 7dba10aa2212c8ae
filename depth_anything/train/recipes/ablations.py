"""The papers' ablations: each is a run of `v1.py` or `v2.py` with one or two changed settings. No torch here.

A length that a paper does not state is that of the original run.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from depth_anything.data.set_sizes import LABELED_IMAGES
from depth_anything.train.recipes.base import SQUARE_518, Recipe, Stage
from depth_anything.train.recipes.nano import FAMILY, nano_student, nano_v2_student
from depth_anything.train.recipes.nano_vit import nano_vit_student
from depth_anything.train.recipes.v1 import V1_LABELED, v1_student, v1_teacher_large
from depth_anything.train.recipes.v2 import V2_SYNTHETIC, v2_student, v2_teacher_giant

MARGINS = (1.0, 0.85, 0.7)
"""V1 supplement, Table 1."""
GRADIENT_WEIGHTS = (0.0, 0.5, 1.0, 2.0, 4.0)
"""Weights of L_gm relative to L_ssi. V2 shows the effect of the weight; the intermediate values are ours."""


def v1_table6(data: str) -> Recipe:
    """V1 Table 6: a ViT-L trained on a single labelled set, 20 epochs."""
    stage = Stage(samples=20 * LABELED_IMAGES[data], sizes=SQUARE_518, batch=64)
    return replace(v1_teacher_large(), name=f"v1-table6-{data}", data=(data,), stages=(stage,))


def ladder(student: Recipe, rung: str) -> Recipe:
    """V1 Table 9: `labeled`, labels only; `naive`, with pseudo labels; `perturbed`, with perturbations of the student's
    input; `aligned`, with L_feat.

    The numbers of steps and of labelled images are the same; without pseudo labels, batches are smaller.
    """
    assert student.unlabeled is not None
    unlabeled = student.unlabeled
    if rung == "labeled":
        stages = tuple(
            replace(s, samples=round(s.samples * (1 - unlabeled.share)), batch=round(s.batch * (1 - unlabeled.share)))
            for s in student.stages
        )
        return replace(student, stages=stages, labeled_weight=1.0, unlabeled=None)
    if rung == "aligned":
        return student
    plain = replace(unlabeled, weight=1 / 2, feature_weight=0.0)
    if rung == "naive":
        plain = replace(plain, perturbation="none", cutmix=0.0)
    return replace(student, labeled_weight=1 / 2, unlabeled=plain)


RUNGS = ("labeled", "naive", "perturbed", "aligned")
NANO_RUNGS = (*RUNGS, "margin-100", "v2")


def v1_table9(rung: str, size: str) -> Recipe:
    """V1 Table 9 for one encoder size."""
    return replace(ladder(v1_student(size), rung), name=f"v1-table9-{rung}-{size}")


def nano_vit_table9(rung: str) -> Recipe:
    """V1 Table 9 for nano-vit, from random weights."""
    return replace(ladder(nano_vit_student(), rung), name=f"nano-vit-table9-{rung}")


def nano_table9(variant: str, rung: str) -> Recipe:
    """V1 Table 9 for encoders pretrained on ImageNet; also L_feat on every token (margin 1), and V2's student."""
    name = f"{variant}-table9-{rung}"
    if rung == "v2":
        return replace(nano_v2_student(variant), name=name)
    student = nano_student(variant)
    if rung == "margin-100":
        assert student.unlabeled is not None
        return replace(student, name=name, unlabeled=replace(student.unlabeled, feature_margin=1.0))
    return replace(ladder(student, rung), name=name)


def v1_margin(margin: float) -> Recipe:
    """V1 supplement, Table 1: the tolerance margin of Eq. 9, ViT-S."""
    student = v1_student("small")
    assert student.unlabeled is not None
    name = f"v1-margin-{margin * 100:.0f}"
    return replace(student, name=name, unlabeled=replace(student.unlabeled, feature_margin=margin))


def v1_feature_on(images: str) -> Recipe:
    """V1 supplement, Table 2, ViT-S: L_feat on no images, on unlabelled ones, or on labelled ones (no gain)."""
    student = v1_student("small")
    assert student.unlabeled is not None
    if images == "none":
        student = ladder(student, "perturbed")
    elif images == "labeled":
        student = replace(student, unlabeled=replace(student.unlabeled, feature_on="labeled"))
    return replace(student, name=f"v1-feature-on-{images}")


def v2_teacher_with_hrwsi() -> Recipe:
    """V2: 5 % of the teacher's images come from HRWSI, whose real labels blur its maps."""
    return replace(v2_teacher_giant(), name="v2-teacher-giant-hrwsi", minor=("hrwsi", 0.05))


def v2_student_with_synthetic(size: str) -> Recipe:
    """V2 Table 5: synthetic images in addition to pseudo-labelled ones. The ratio is V1's: V2 does not state it."""
    student = v2_student(size)
    assert student.unlabeled is not None
    name = f"v2-student-{size}-with-synthetic"
    return replace(student, name=name, data=V2_SYNTHETIC, unlabeled=replace(student.unlabeled, share=2 / 3))


def v2_diml(labels: str) -> Recipe:
    """V2 Table 6: DIML with its own labels (`manual`) or with a teacher's (`pseudo`)."""
    student = v2_student("small")
    name = f"v2-diml-{labels}"
    if labels == "manual":
        return replace(student, name=name, data=("diml",), unlabeled=None)
    assert student.unlabeled is not None
    return replace(student, name=name, unlabeled=replace(student.unlabeled, data=("diml",)))


def v2_gradient_weight(weight: float) -> Recipe:
    """V2: the weight of L_gm in the teacher, which determines the sharpness of its maps."""
    teacher = v2_teacher_giant()
    stages = tuple(replace(stage, gradient_weight=weight) for stage in teacher.stages)
    return replace(teacher, name=f"v2-gradient-weight-{weight:g}", stages=stages)


def v2_teacher(size: str) -> Recipe:
    """V2 Table 13: smaller encoders as teachers trained on synthetic images only, which fail on photographs."""
    return replace(v2_teacher_giant(), name=f"v2-teacher-{size}", variant=f"v2-{size}")


def v2_teacher_of_family(family: str) -> Recipe:
    """V2 Table 13: a ViT-L of another family (beit_sam.py) as a teacher trained on synthetic images only."""
    return replace(v2_teacher_giant(), name=f"v2-teacher-{family}-large", variant=f"v2-{family}-large")


ABLATIONS: dict[str, Callable[[], Recipe]] = {
    **{f"nano-vit-table9-{rung}": partial(nano_vit_table9, rung) for rung in RUNGS},
    **{f"{variant}-table9-{rung}": partial(nano_table9, variant, rung) for variant in FAMILY for rung in NANO_RUNGS},
    **{f"v1-table6-{data}": partial(v1_table6, data) for data in V1_LABELED},
    **{
        f"v1-table9-{rung}-{size}": partial(v1_table9, rung, size)
        for rung in RUNGS
        for size in ("small", "base", "large")
    },
    **{f"v1-margin-{margin * 100:.0f}": partial(v1_margin, margin) for margin in MARGINS},
    **{f"v1-feature-on-{images}": partial(v1_feature_on, images) for images in ("none", "unlabeled", "labeled")},
    "v2-teacher-giant-hrwsi": v2_teacher_with_hrwsi,
    **{
        f"v2-student-{size}-with-synthetic": partial(v2_student_with_synthetic, size)
        for size in ("small", "base", "large")
    },
    **{f"v2-diml-{labels}": partial(v2_diml, labels) for labels in ("manual", "pseudo")},
    **{f"v2-gradient-weight-{weight:g}": partial(v2_gradient_weight, weight) for weight in GRADIENT_WEIGHTS},
    **{f"v2-teacher-{size}": partial(v2_teacher, size) for size in ("small", "base", "large")},
    **{f"v2-teacher-{family}-large": partial(v2_teacher_of_family, family) for family in ("beit", "sam", "synclr")},
}
