"""Evaluate DA-2K (V2 section 6, Table 3): is the point that people call closer also closer in the map?"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from depth_anything.data.benchmarks.da2k import Annotated
from depth_anything.data.benchmarks.da2k import read as read_annotations
from depth_anything.evaluate.align import resize_bilinear
from depth_anything.evaluate.candidate import Candidate, probe
from depth_anything.evaluate.journal import Journal, file_name
from depth_anything.evaluate.metrics import ordinal
from depth_anything.images.read import read_image
from depth_anything.system.lock import alone


@dataclass(frozen=True)
class Da2kScores:
    """One model on DA-2K. Accuracies are shares of all pairs, not means over images."""

    model: str
    accuracy: float
    scenarios: dict[str, float]
    """Accuracy by scenario."""
    pairs: dict[str, int]
    """Pairs by scenario."""
    ties: float
    """Share of pairs whose two points have the same value; they count as wrong."""
    images: int


def evaluate_da2k(root: Path, candidates: list[Candidate], out: Path) -> list[Da2kScores]:
    """Score models on DA-2K.

    The map is resized bilinearly to the image and read at the annotated pixels; metres are negated first. No
    alignment: only the order counts.

    Args:
        root: the folder of annotations.json.
        candidates: the models; every image is read once for all of them.
        out: folder for the scores, one line an image; an interrupted run resumes.

    Raises:
        ValueError: another job writes there, annotations or images that are missing or broken, a point outside its
            image, NaN in a map.
    """
    images = read_annotations(root)
    with alone(out / "da2k"):
        journals = [_journal(out, candidate) for candidate in candidates]
        for image in tqdm(images, desc="da2k", unit="image", disable=None):
            todo = [(c, j) for c, j in zip(candidates, journals, strict=True) if image.key not in j.entries]
            if not todo:
                continue
            try:
                image_HW3 = read_image(image.path)
                for candidate, journal in todo:
                    closer, farther = _values(candidate, image_HW3, image)
                    journal.add(image.key, closer=closer.tolist(), farther=farther.tolist())
            except ValueError as error:
                raise ValueError(f"DA-2K, {image.key}: {error}") from None
        return [_score(c, j, images) for c, j in zip(candidates, journals, strict=True)]


def _journal(out: Path, candidate: Candidate) -> Journal:
    definition = {"model": candidate.name, "set": "da2k", "answer to a probe picture": probe(candidate)}
    return Journal(out / "da2k" / f"{file_name(candidate.name)}.jsonl", definition, trusted=not candidate.finished)


def _values(candidate: Candidate, image_HW3: np.ndarray, image: Annotated) -> tuple[np.ndarray, np.ndarray]:
    """Disparity, or negated metres, at the closer and at the farther points."""
    height, width = image_HW3.shape[:2]
    points = np.concatenate([image.closer_P2, image.farther_P2])
    if (points < 0).any() or (points >= [height, width]).any():
        raise ValueError(f"a point lies outside the image of {height} rows and {width} columns")
    map_HW = resize_bilinear(candidate.predict(image_HW3, image.key), height, width)
    values = map_HW[points[:, 0], points[:, 1]]
    if not np.isfinite(values).all():
        raise ValueError("the map is NaN or infinite at an annotated point")
    closer, farther = np.split(-values if candidate.quantity == "depth_m" else values, 2)
    return closer, farther


def _score(candidate: Candidate, journal: Journal, images: list[Annotated]) -> Da2kScores:
    def gather(chosen: list[Annotated], side: str) -> np.ndarray:
        return np.concatenate([journal.entries[image.key][side] for image in chosen])

    by_scenario: dict[str, list[Annotated]] = {}
    for image in images:
        by_scenario.setdefault(image.scenario, []).append(image)
    closer, farther = gather(images, "closer"), gather(images, "farther")
    return Da2kScores(
        model=candidate.name,
        accuracy=ordinal(closer, farther),
        scenarios={name: ordinal(gather(p, "closer"), gather(p, "farther")) for name, p in by_scenario.items()},
        pairs={name: sum(len(image.closer_P2) for image in p) for name, p in by_scenario.items()},
        ties=float(np.mean(closer == farther)),
        images=len(images),
    )
