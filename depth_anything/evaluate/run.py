"""Evaluate models on a test set: each image is read once for all models, and each score is written at once.

Scores go to OUT/<protocol>/<set>/<model>.jsonl, one line an image. An interrupted run resumes; a line
that was cut short is done again. Nothing is averaged over fewer images without saying so: what a protocol skips is
recorded with its reason.
"""

import json
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from depth_anything.data.benchmarks.image import BenchmarkImage
from depth_anything.data.benchmarks.sets import Contents
from depth_anything.evaluate.align import resize_bilinear
from depth_anything.evaluate.candidate import Candidate, probe
from depth_anything.evaluate.crops import kb_window
from depth_anything.evaluate.html_page import save_images, saved_models
from depth_anything.evaluate.journal import Journal, file_name
from depth_anything.evaluate.protocol import Cut, Protocol
from depth_anything.evaluate.score import Aligned, TooFewPixels, align, check_same_way_up, score
from depth_anything.system.lock import alone


@dataclass(frozen=True)
class SetScores:
    """One model on one test set under one protocol."""

    model: str
    set_name: str
    protocol: Protocol
    expected: int
    """How many images the set has."""
    scores: dict[str, dict[str, float]]
    """By image key: metrics, and the fit's scale and shift."""
    groups: dict[str, str]
    """By image key: its scene."""
    skipped: dict[str, str]
    """By image key: why the protocol leaves it out."""

    def mean(self, metric: str) -> float:
        """Over images, or within a scene and then over scenes, as the protocol states.

        Raises:
            ValueError: no image was scored.
        """
        if not self.scores:
            raise ValueError(f"{self.set_name}: no image could be scored; {len(self.skipped)} were left out")
        if self.protocol.averaging == "image":
            return float(np.mean([s[metric] for s in self.scores.values()]))
        by_scene: dict[str, list[float]] = {}
        for key, s in self.scores.items():
            by_scene.setdefault(self.groups[key], []).append(s[metric])
        return float(np.mean([np.mean(values) for values in by_scene.values()]))


def evaluate_set(
    contents: Contents, candidates: list[Candidate], protocol: Protocol, out: Path, page_images: int = 0
) -> list[SetScores]:
    """Score models on a test set.

    Args:
        contents: the set's images, from `sets.read_benchmark`.
        candidates: the models; each image is read once for all of them.
        protocol: what is done and measured.
        out: folder for scores and images.
        page_images: how many images, spread evenly over the set, go to the page.

    Returns:
        One result per candidate, in their order.

    Raises:
        ValueError: another job writes there, a file, map or ground truth that cannot be used (the line names the
            image), or scores in `out` of another model of that name or under another definition of the protocol.
    """
    name = contents.benchmark.name
    with alone(out / protocol.name / name):
        journals = [_journal(out, name, candidate, protocol) for candidate in candidates]
        shown = image_folders(contents, protocol, out, page_images)
        names = [candidate.name for candidate in candidates]
        for image in tqdm(contents.images, desc=name, unit="image", disable=None):
            page_folder = shown.get(image.key)
            show = page_folder is not None and saved_models(page_folder) != names
            todo = [
                (candidate, journal)
                for candidate, journal in zip(candidates, journals, strict=True)
                if show or image.key not in journal.entries
            ]
            if todo:
                _evaluate_image(image, todo, protocol, name, page_folder if show else None)
        keys = {image.key for image in contents.images}
        return [
            _scores(candidate, contents, protocol, [entry for key, entry in journal.entries.items() if key in keys])
            for candidate, journal in zip(candidates, journals, strict=True)
        ]


def image_folders(contents: Contents, protocol: Protocol, out: Path, page_images: int) -> dict[str, Path]:
    """The folders of the images on the page, by image key: `page_images` images spread evenly over the set."""
    count = len(contents.images)
    spread = np.linspace(0, count - 1, min(page_images, count)).round().astype(int)
    folder = out / "pictures" / protocol.name / contents.benchmark.name
    return {contents.images[i].key: folder / contents.images[i].key for i in spread}


def predict(candidate: Candidate, image_HW3: np.ndarray, key: str, protocol: Protocol, cut: Cut) -> np.ndarray:
    """The model's map under a protocol.

    With a kb crop the model sees the cropped image only, as in the released code, and its map is put back where the
    crop was taken. With `flip_average` the map is the mean with that of the mirrored image. Finished maps are taken
    as they are.
    """
    if candidate.finished:
        return candidate.predict(image_HW3, key)
    if cut.crop.startswith("kb"):
        rows, columns = kb_window(*image_HW3.shape[:2])
        part_HW = predict(candidate, image_HW3[rows, columns], key, protocol, replace(cut, crop="none"))
        whole_HW = np.zeros(image_HW3.shape[:2])
        whole_HW[rows, columns] = resize_bilinear(part_HW, 352, 1216, protocol.align_corners)
        return whole_HW
    map_HW = candidate.predict(image_HW3, key)
    if protocol.flip_average:
        map_HW = (map_HW + candidate.predict(np.ascontiguousarray(image_HW3[:, ::-1]), key)[:, ::-1]) / 2
    return map_HW


def _evaluate_image(
    image: BenchmarkImage,
    todo: list[tuple[Candidate, Journal]],
    protocol: Protocol,
    set_name: str,
    page_folder: Path | None,
) -> None:
    shown: dict[str, Aligned] = {}
    cut = protocol.cut(set_name)
    try:
        image_HW3, ground_truth = image.read_image(), image.read_ground_truth()
        check_same_way_up(image_HW3, ground_truth)
        for candidate, journal in todo:
            map_HW = predict(candidate, image_HW3, image.key, protocol, cut)
            try:
                aligned = align(map_HW, candidate.quantity, ground_truth, protocol, cut)
            except TooFewPixels as error:
                if protocol.few_valid == "error":
                    raise
                journal.add(image.key, group=image.group, skipped=str(error))
                continue
            shown[candidate.name] = aligned
            scores = score(aligned, protocol.metrics) | {"scale": aligned.scale, "shift": aligned.shift}
            journal.add(image.key, group=image.group, scores=scores)
    except ValueError as error:
        raise ValueError(f"{set_name}, image {image.key}: {error}") from None
    if page_folder is not None and shown:
        save_images(page_folder, image_HW3, shown)


def _scores(candidate: Candidate, contents: Contents, protocol: Protocol, entries: list[dict[str, Any]]) -> SetScores:
    return SetScores(
        model=candidate.name,
        set_name=contents.benchmark.name,
        protocol=protocol,
        expected=contents.expected,
        scores={entry["key"]: entry["scores"] for entry in entries if "scores" in entry},
        groups={entry["key"]: entry["group"] for entry in entries},
        skipped={entry["key"]: entry["skipped"] for entry in entries if "skipped" in entry},
    )


def _journal(out: Path, set_name: str, candidate: Candidate, protocol: Protocol) -> Journal:
    """Where a model's scores are kept, and what they depend on. Existing maps may have changed: they are always read
    again."""
    path = out / protocol.name / set_name / f"{file_name(candidate.name)}.jsonl"
    definition = {
        "model": candidate.name,
        "set": set_name,
        "protocol": protocol.name,
        "definition": _fingerprint(protocol),
        "answer to a probe picture": probe(candidate),
    }
    return Journal(path, definition, trusted=not candidate.finished)


def _fingerprint(protocol: Protocol) -> str:
    """Changes whenever the protocol's definition does."""
    return sha256(json.dumps(asdict(protocol), sort_keys=True, default=str).encode()).hexdigest()[:16]
