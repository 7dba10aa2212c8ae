"""Protocol `pairs`: depth, order and outlines per region, compared with two baselines.

Every score is reported beside two baselines. `row` predicts disparity = image row (lower in the image is nearer), a
fair guess for many photographs; `constant` predicts one value. A model that is not better than `row` has learned
nothing beyond the usual orientation of a camera.

Order is DA-2K's question without its people: of random pairs of pixels, how often is the nearer one nearer in the map?
Outlines are measured where the ground truth is dense.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from depth_anything.data.benchmarks import pairs as manifest_of_pairs
from depth_anything.data.benchmarks.image import BenchmarkImage
from depth_anything.evaluate.align import resize_bilinear
from depth_anything.evaluate.candidate import CONSTANT, ROW, Candidate
from depth_anything.evaluate.html_page import save_images
from depth_anything.evaluate.metrics import METRICS, ordinal
from depth_anything.evaluate.pairs_result import OUTLINES, PairScore, PairsResult, Scores
from depth_anything.evaluate.protocol import PAIRS
from depth_anything.evaluate.report import check_form
from depth_anything.evaluate.score import Aligned, Quantity, align, check_same_way_up, score

__all__ = ["PairsResult", "evaluate_pairs", "point_pairs", "run_pairs"]

POINT_PAIRS = 20_000
"""Pairs of pixels drawn in each image: then an image's accuracy is known to about half a per cent."""
CLEAR_RATIO = 1.1
"""A pair counts where one point is at least this many times as far: sensors err by less, so its order is certain."""
FEWEST_POINT_PAIRS = 100
"""An image with fewer clear pairs is too flat for an ordinal score."""
DENSE = 0.9
"""Minimum share of pixels with ground truth for boundary metrics: depth cameras and stereo matching lose outlines."""


def evaluate_pairs(
    manifest: str | Path, predict: Callable[[np.ndarray], np.ndarray], model_name: str, quantity: Quantity = "disparity"
) -> PairsResult:
    """Protocol `pairs` for anything that turns an image into a map.

    Args:
        manifest: JSON file, see `data.benchmarks.pairs`, or a folder with scene shards.
        predict: uint8 (H, W, 3) RGB -> float map at any size.
        model_name: how the result is called.
        quantity: what the map is; metres are inverted before the fit.

    Raises:
        ValueError: a broken manifest, or a map or ground truth that cannot be scored; the line names the pair.
    """
    return _evaluate(manifest, Candidate(model_name, quantity, lambda image_HW3, key: predict(image_HW3)))


def run_pairs(
    data: str | Path, candidate: Candidate, form: str = "text", out: str | Path | None = None, page_images: int = 12
) -> str:
    """The command `evaluate pairs`: what it prints.

    Args:
        data: the manifest, or a folder with scene shards.
        candidate: the model.
        form: one of report.FORMS.
        out: folder for report.{txt,json,csv,md} and a page of images, index.html; None: neither.
        page_images: how many pairs, spread evenly over the manifest, the page shows.

    Raises:
        ValueError: an unknown form; see `evaluate_pairs`.
    """
    check_form(form)
    folder = None if out is None else Path(out) / "pictures" / "pairs"
    report = _evaluate(data, candidate, folder, page_images).report()
    if out is not None and folder is not None:
        report.write(Path(out), sorted(path.parent for path in folder.rglob("models.txt")))
    return report.render(form)


def point_pairs(aligned: Aligned) -> tuple[np.ndarray, np.ndarray]:
    """Random pairs of scored pixels whose true order is certain, the same for the same ground truth.

    Two points are drawn independently from all scored pixels. The pair counts where the farther one's depth is at least
    CLEAR_RATIO of the nearer one's; a ground truth that is a disparity is compared as such.

    Returns:
        (pairs,) the nearer point, (pairs,) the farther one, as positions in the flattened map.
    """
    first, second = np.random.default_rng(0).choice(np.flatnonzero(aligned.mask_HW), (2, POINT_PAIRS))
    a, b = aligned.ground_truth_HW.ravel()[first], aligned.ground_truth_HW.ravel()[second]
    clear = np.maximum(a, b) >= CLEAR_RATIO * np.minimum(a, b)
    first_is_nearer = a > b if aligned.measure == "disparity" else a < b
    nearer, farther = np.where(first_is_nearer, [first, second], [second, first])[:, clear]
    return nearer, farther


def _evaluate(
    manifest: str | Path, candidate: Candidate, folder: Path | None = None, page_images: int = 0
) -> PairsResult:
    images = manifest_of_pairs.read(manifest)
    shown = set(np.linspace(0, len(images) - 1, min(page_images, len(images))).round().astype(int))
    scores = []
    for number, image in enumerate(tqdm(images, desc="pairs", unit="pair", disable=None)):
        page_folder = folder / image.key if folder is not None and number in shown else None
        scores.append(_evaluate_pair(image, candidate, page_folder))
    return PairsResult(candidate.name, tuple(scores))


def _evaluate_pair(image: BenchmarkImage, candidate: Candidate, page_folder: Path | None) -> PairScore:
    measured = (candidate, ROW, CONSTANT)
    try:
        image_HW3, ground_truth = image.read_image(), image.read_ground_truth()
        check_same_way_up(image_HW3, ground_truth)
        maps = [one.predict(image_HW3, image.key) for one in measured]
        aligned = [
            align(map_HW, one.quantity, ground_truth, PAIRS, PAIRS.cut("pairs"))
            for one, map_HW in zip(measured, maps, strict=True)
        ]
        points = point_pairs(aligned[0])
        dense = image.exact or ground_truth.valid_HW.mean() >= DENSE
        model, row, constant = (
            _scores(map_HW, one.quantity, on_ground_truth, points, dense)
            for one, map_HW, on_ground_truth in zip(measured, maps, aligned, strict=True)
        )
    except ValueError as error:
        raise ValueError(f"pair {image.key}: {error}") from None
    if page_folder is not None:
        save_images(page_folder, image_HW3, {candidate.name: aligned[0], ROW.name: aligned[1]})
    return PairScore(image.key, image.group, image.region, model, row, constant)


def _scores(
    map_HW: np.ndarray, quantity: Quantity, aligned: Aligned, points: tuple[np.ndarray, np.ndarray], dense: bool
) -> Scores:
    """All metrics that the ground truth allows. Ordinal accuracy uses the map without alignment."""
    values = score(aligned, PAIRS.metrics)
    if len(points[0]) >= FEWEST_POINT_PAIRS:
        height, width = aligned.ground_truth_HW.shape
        resized_HW = resize_bilinear(map_HW, height, width, PAIRS.align_corners)
        nearness = (resized_HW if quantity == "disparity" else -resized_HW).ravel()
        values["ordinal"] = ordinal(nearness[points[0]], nearness[points[1]])
    if dense:
        maps = aligned.prediction_HW, aligned.ground_truth_HW, aligned.mask_HW
        values |= {name: METRICS[name].compute(*maps) for name in OUTLINES}
    return Scores(values, aligned.scale)
