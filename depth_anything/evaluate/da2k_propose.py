"""Propose more pairs like those of DA-2K (V2 section 6): regions give points, models vote, a person decides.

Points that all models order alike are taken as easy and left out, as the paper does; the pairs over which they differ
are written to annotations.json with an empty `closer_point`, and each is drawn on a copy of its image. A person fills
in point1 or point2, or removes the pair. `evaluate da2k` refuses the file until every pair is settled.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from depth_anything.evaluate.align import resize_bilinear
from depth_anything.evaluate.candidate import Candidate
from depth_anything.images.inputs import find_images
from depth_anything.images.read import read_image
from depth_anything.system.extras import needs
from depth_anything.system.files import atomic_path, write_text

PAIRS_PER_IMAGE = 12
"""Drawn and voted on; only the disputed ones are kept."""
APART = 0.05
"""Minimum distance between the two points of a pair, as a share of the shorter side."""

Regions = Callable[[np.ndarray], np.ndarray]
"""uint8 (H, W, 3) -> key points (points, 2) int, (row, column)."""


@dataclass(frozen=True)
class Dispute:
    """A pair of points that the models order differently."""

    image: str
    """Path below the output folder."""
    point1: tuple[int, int]
    """(row, column) in the upright image."""
    point2: tuple[int, int]
    votes: dict[str, str]
    """By model: point1, point2 or tie: which it takes to be closer."""


def propose(
    images: Path, candidates: list[Candidate], out: Path, regions: str = "grid", seed: int = 0
) -> list[Dispute]:
    """Write OUT/annotations.json, OUT/images/ and OUT/index.html with the pairs that a person should settle.

    Args:
        images: an image or a folder of images; the first folder below it becomes the scenario.
        candidates: at least two models; the paper takes four.
        out: a folder that holds no annotations.json yet.
        regions: `grid`, or `sam:ID` for a Segment Anything model of transformers.
        seed: of the draw of pairs; the same seed gives the same pairs.

    Raises:
        ValueError: fewer than two models, nothing to read, or annotations that are there already.
    """
    if len(candidates) < 2:
        raise ValueError(f"a dispute needs at least two models, got {len(candidates)}; the paper takes four")
    if (out / "annotations.json").exists():
        raise ValueError(f"{out / 'annotations.json'} exists; choose another --out: settled pairs are not overwritten")
    find_points = grid_points if regions == "grid" else sam_points(regions)
    disputes: list[Dispute] = []
    for number, source in enumerate(tqdm(find_images([str(images)]), desc="propose", unit="image", disable=None)):
        image_HW3 = read_image(source)
        pairs = draw_pairs(find_points(image_HW3), image_HW3.shape[:2], np.random.default_rng([seed, number]))
        name = f"images/{source.stem}.png"
        found = vote(candidates, image_HW3, name, pairs)
        if found:
            with atomic_path(out / name) as temporary:
                Image.fromarray(image_HW3).save(temporary)
            for index, dispute in enumerate(found, len(disputes)):
                _draw(image_HW3, dispute, out / "disputed" / f"{index:04d}.jpg")
        disputes += found
    _write(out, disputes)
    return disputes


def vote(candidates: list[Candidate], image_HW3: np.ndarray, name: str, pairs_P22: np.ndarray) -> list[Dispute]:
    """The pairs over which the models differ; one that cannot tell (a tie) differs from those that can."""
    height, width = image_HW3.shape[:2]
    votes: list[dict[str, str]] = [{} for _ in pairs_P22]
    for candidate in candidates:
        map_HW = resize_bilinear(candidate.predict(image_HW3, name), height, width)
        nearness_HW = -map_HW if candidate.quantity == "depth_m" else map_HW
        for cast, (one, two) in zip(votes, pairs_P22, strict=True):
            difference = nearness_HW[tuple(one)] - nearness_HW[tuple(two)]
            cast[candidate.name] = "tie" if difference == 0 else "point1" if difference > 0 else "point2"
    return [
        Dispute(name, (int(one[0]), int(one[1])), (int(two[0]), int(two[1])), cast)
        for cast, (one, two) in zip(votes, pairs_P22, strict=True)
        if len(set(cast.values())) > 1
    ]


def draw_pairs(points_P2: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Up to PAIRS_PER_IMAGE different pairs of key points that are far enough apart, (pairs, 2, 2)."""
    first, second = np.triu_indices(len(points_P2), k=1)
    apart = np.linalg.norm((points_P2[first] - points_P2[second]).astype(float), axis=1) >= APART * min(size)
    first, second = first[apart], second[apart]
    chosen = rng.permutation(len(first))[:PAIRS_PER_IMAGE]
    pairs = np.stack([points_P2[first[chosen]], points_P2[second[chosen]]], axis=1)
    swap = rng.random(len(pairs)) < 0.5  # neither point is the upper one by habit
    return np.where(swap[:, None, None], pairs[:, ::-1], pairs)


# -- regions -----------------------------------------------------------------------------------------------------------


def grid_points(image_HW3: np.ndarray, cells: int = 6) -> np.ndarray:
    """The calmest pixel of every cell of a grid: a point at an edge cannot be judged by eye."""
    grey = image_HW3.mean(axis=2)
    restless = np.zeros_like(grey)
    restless[:, 1:] += np.abs(np.diff(grey, axis=1))
    restless[1:] += np.abs(np.diff(grey, axis=0))
    radius = max(1, min(grey.shape) // 100)
    restless = _box_mean(restless, radius)
    rows, columns = (np.linspace(0, side, cells + 1).astype(int) for side in grey.shape)
    points = []
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            cell = restless[top:bottom, left:right]
            if cell.size:
                row, column = np.unravel_index(cell.argmin(), cell.shape)
                points.append((top + row, left + column))
    return np.array(points, dtype=np.int64)


def sam_points(name: str) -> Regions:
    """One point inside each region that Segment Anything finds when prompted with a grid of points.

    Args:
        name: `sam:ID`, a SAM model of transformers by hub id or folder.

    Raises:
        ValueError: not such a name, or a model that cannot be loaded.
    """
    kind, _, model_id = name.partition(":")
    if kind != "sam" or not model_id:
        raise ValueError(f"regions {name!r}: expected grid, or sam:ID, for example sam:facebook/sam-vit-base")
    with needs("transfer", name):
        import torch
        from transformers import AutoProcessor, SamModel
    try:
        processor, model = AutoProcessor.from_pretrained(model_id), SamModel.from_pretrained(model_id).eval()
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{name}: transformers cannot load it ({reason})") from None

    def points(image_HW3: np.ndarray) -> np.ndarray:
        prompts = grid_points(image_HW3)
        inputs = processor(images=image_HW3, input_points=[[[[float(x), float(y)]] for y, x in prompts]],
                           return_tensors="pt")  # fmt: skip
        with torch.inference_mode():
            outputs = model(pixel_values=inputs["pixel_values"], input_points=inputs["input_points"])
        masks = processor.image_processor.post_process_masks(
            outputs.pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"]
        )[0].numpy()
        best = outputs.iou_scores[0].argmax(dim=1).numpy()
        return key_points(masks[np.arange(len(best)), best])

    return points


def key_points(masks_NHW: np.ndarray) -> np.ndarray:
    """For every different, non-empty mask the pixel of it that is nearest to its centre of mass."""
    points = []
    for mask in masks_NHW:
        inside = np.argwhere(mask)
        if len(inside):
            points.append(inside[((inside - inside.mean(axis=0)) ** 2).sum(axis=1).argmin()])
    return np.unique(np.array(points, dtype=np.int64).reshape(-1, 2), axis=0)


def _box_mean(map_HW: np.ndarray, radius: int) -> np.ndarray:
    size = 2 * radius + 1
    padded = np.pad(map_HW, radius, mode="edge")
    sums = np.pad(padded.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    return (sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]) / size**2


# -- what a person gets ------------------------------------------------------------------------------------------------


def _draw(image_HW3: np.ndarray, dispute: Dispute, path: Path) -> None:
    image = Image.fromarray(image_HW3)
    draw = ImageDraw.Draw(image)
    radius = max(4, min(image.size) // 60)
    for label, (row, column), color in (("1", dispute.point1, "#e6194b"), ("2", dispute.point2, "#0082fe")):
        box = (column - radius, row - radius, column + radius, row + radius)
        draw.ellipse(box, outline="white", width=radius // 2 + 2)
        draw.ellipse(box, outline=color, width=radius // 2)
        draw.text((column + radius * 1.5, row - radius), label, fill=color, stroke_fill="white", stroke_width=2,
                  font_size=2.5 * radius)  # fmt: skip
    with atomic_path(path) as temporary:
        image.save(temporary, quality=90)


def _write(out: Path, disputes: list[Dispute]) -> None:
    annotations: dict[str, list[dict[str, object]]] = {}
    figures = []
    for index, d in enumerate(disputes):
        pair = {"point1": d.point1, "point2": d.point2, "closer_point": "", "votes": d.votes}
        annotations.setdefault(d.image, []).append(pair)
        votes = ", ".join(f"{model}: {choice}" for model, choice in d.votes.items())
        figures.append(
            f'<figure><img loading="lazy" src="disputed/{index:04d}.jpg" alt="pair {index}"><figcaption>'
            f"{escape(d.image)}, pair {len(annotations[d.image])}. {escape(votes)}</figcaption></figure>"
        )
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Which point is closer?</title>'
        "<style>body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto}img{max-width:100%}</style>"
        "<h1>Which point is closer?</h1><p>For each pair write point1 (red) or point2 (blue) into its closer_point in "
        "annotations.json, or remove the pair where you cannot tell.</p>" + "\n".join(figures) + "</html>\n"
    )
    write_text(out / "index.html", page)
    write_text(out / "annotations.json", json.dumps(annotations, indent=1) + "\n")
