"""The papers' three steps in one go, at nano's size: teacher, pseudo labels, student; both scored in one table.

Teacher and student start from the encoder of the installed EfficientNet-Lite2 (extra `train`), near which L_feat keeps
the student.

    python scripts/engine.py --size 0.1

Every step can be resumed. `--size 1` runs the full recipes.
"""

import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import tyro

from depth_anything.checkpoints.official import load_backbone
from depth_anything.evaluate.pairs import PairsResult, evaluate_pairs
from depth_anything.label.jobs import LabelOptions
from depth_anything.label.launch import label
from depth_anything.network.efficientnet import installed_weights
from depth_anything.network.model import DepthAnything
from depth_anything.system.files import atomic_path
from depth_anything.train.loop import train
from depth_anything.train.recipes.all_recipes import get_recipe, shrunk
from depth_anything.train.sources import open_data
from depth_anything.train.student import frozen_encoder
from depth_anything.variants import get_variant

LOG = logging.getLogger(__name__)


def engine(
    out: Path = Path("out/engine"),
    size: float = 0.1,
    photos: Path = Path("examples"),
    pairs: Path | None = None,
    seed: int = 0,
) -> None:
    """Teacher, pseudo labels, student.

    Args:
        out: folder for scenes, teacher, labels, student, table.json.
        size: part of the recipes' images and scenes.
        photos: unlabelled photographs: a folder, tars or a list.
        pairs: manifest of photographs with measured truth, to score on.
        seed: of both runs.
    """
    teacher_recipe = replace(shrunk(get_recipe("nano-teacher"), size), seed=seed)
    backbone = installed_weights(get_variant(teacher_recipe.variant))
    start = {f"pretrained.{key}": x for key, x in load_backbone(backbone, teacher_recipe.variant).items()}
    learned, held_out = open_data(teacher_recipe, {}, out / "scenes")
    LOG.info("step 1: a teacher from %d rendered scenes", teacher_recipe.scenes)
    train(teacher_recipe, out / "teacher", learned, held_out, weights=start)
    weights = out / "teacher" / "final.safetensors"

    LOG.info("step 2: the teacher labels %s", photos)
    label(str(photos), str(out / "labels"), LabelOptions(teacher=str(weights)))
    student_recipe = replace(shrunk(get_recipe("nano-student"), size), seed=seed)
    learned, held_out = open_data(student_recipe, {}, out / "scenes", [out / "labels"])
    assert learned.unlabeled is not None
    LOG.info("step 3: a student from the scenes and %d labelled photographs", len(learned.unlabeled))
    frozen = frozen_encoder(backbone, student_recipe.variant)
    train(student_recipe, out / "student", learned, held_out, weights=start, frozen=frozen)

    tests = {"held-out scenes": out / "scenes" / "held_out"} | ({"pairs": pairs} if pairs else {})
    results = [
        (test, score(out / name / "final.safetensors", name, path))
        for test, path in tests.items()
        for name in ("teacher", "student")
    ]
    print(as_table(results))
    with atomic_path(out / "table.json") as temporary:
        temporary.write_text(json.dumps([{"test": test} | result.as_dict() for test, result in results], indent=1))


def score(weights: Path, name: str, data: Path) -> PairsResult:
    """A model under protocol `pairs`."""
    return evaluate_pairs(data, DepthAnything.from_pretrained(weights).infer_rgb, name)


def as_table(results: list[tuple[str, PairsResult]]) -> str:
    """One row a model and test set, beside the floor of the image's row."""
    lines = [f"{'test':17}{'model':10}{'AbsRel':>8}{'δ1':>8}   {'row':>6}{'δ1':>8}  {'upside down':>11}"]
    for test, result in results:
        r = result.as_dict()["all"]
        lines.append(
            f"{test:17}{result.model:10}{r['abs_rel']:8.3f}{r['delta1']:8.3f}   {r['row_abs_rel']:6.3f}"
            f"{r['row_delta1']:8.3f}  {r['negative_scale']:5d} of {r['pairs']}"
        )
    lines.append("AbsRel: lower is better. δ1: higher is better. row: disparity = image row.")
    return "\n".join(lines)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    tyro.cli(engine)
