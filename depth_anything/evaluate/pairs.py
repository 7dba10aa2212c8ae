"""Protocol `pairs` over a manifest: AbsRel and delta1 per region, beside what no model at all would score.

Two floors stand beside every number. `row` answers disparity = image row (lower in the picture is nearer), which on
many photographs is a fair guess; `constant` answers one value. A model that does not beat `row` has learned nothing
that the camera's usual pose does not already say.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from depth_anything.data.benchmarks import pairs as manifest_of_pairs
from depth_anything.data.benchmarks.case import Case
from depth_anything.evaluate.models import CONSTANT, ROW, Candidate, load_candidate
from depth_anything.evaluate.page import save_pictures, write_page
from depth_anything.evaluate.protocol import PAIRS
from depth_anything.evaluate.score import Quantity, align, check_same_way_up, score

RESAMPLES = 10_000
"""Draws of the bootstrap over scene groups."""


@dataclass(frozen=True)
class Scores:
    """One map against one truth."""

    abs_rel: float
    delta1: float
    scale: float
    """Fitted scale; negative where the map runs the wrong way."""


@dataclass(frozen=True)
class PairScore:
    """One pair: the model and the two floors on it."""

    key: str
    group: str
    region: str
    model: Scores
    row: Scores
    constant: Scores


@dataclass(frozen=True)
class PairsResult:
    """All pairs of a manifest under protocol `pairs`."""

    model: str
    scores: tuple[PairScore, ...]

    def as_dict(self) -> dict[str, Any]:
        """What `--json` prints: protocol, model, and the regions all, indoor, outdoor that have pairs."""
        regions = {region: self._region(region) for region in ("all", "indoor", "outdoor")}
        return {"protocol": PAIRS.name, "model": self.model} | {k: v for k, v in regions.items() if v}

    def text(self) -> str:
        """The same as a table to read."""
        result = self.as_dict()
        lines = [
            f"protocol pairs, model {self.model}: mean within a scene, then over scenes",
            f"{'':9}{'scenes':>7}{'pairs':>6}  {'AbsRel':>7}{'row':>7}{'const':>7}   {'δ1':>6}{'row':>7}{'const':>7}"
            f"   {'δ1 minus row, 95 %':>22}  {'upside down':>11}",
        ]
        for region in ("all", "indoor", "outdoor"):
            if region not in result:
                continue
            r = result[region]
            low, high = r["delta1_minus_row_95"]
            lines.append(
                f"{region:9}{r['groups']:7d}{r['pairs']:6d}  "
                f"{r['abs_rel']:7.3f}{r['row_abs_rel']:7.3f}{r['constant_abs_rel']:7.3f}   "
                f"{r['delta1']:6.3f}{r['row_delta1']:7.3f}{r['constant_delta1']:7.3f}   "
                f"{r['delta1'] - r['row_delta1']:+6.3f} [{low:+.3f}, {high:+.3f}]  {r['negative_scale']:11d}"
            )
        lines.append("AbsRel: lower is better. δ1: higher is better. row: disparity = image row. const: one value.")
        return "\n".join(lines)

    def _region(self, region: str) -> dict[str, Any]:
        chosen = [s for s in self.scores if region in ("all", s.region)]
        if not chosen:
            return {}
        model = _by_group(chosen, lambda s: s.model)
        row = _by_group(chosen, lambda s: s.row)
        constant = _by_group(chosen, lambda s: s.constant)
        abs_rel, delta1 = model.mean(axis=0)
        difference_95 = _bootstrap(model - row)
        return {
            "abs_rel": float(abs_rel),
            "delta1": float(delta1),
            "negative_scale": sum(s.model.scale < 0 for s in chosen),
            "groups": len(model),
            "pairs": len(chosen),
            "row_abs_rel": float(row[:, 0].mean()),
            "row_delta1": float(row[:, 1].mean()),
            "constant_abs_rel": float(constant[:, 0].mean()),
            "constant_delta1": float(constant[:, 1].mean()),
            "abs_rel_minus_row_95": [float(x) for x in difference_95[:, 0]],
            "delta1_minus_row_95": [float(x) for x in difference_95[:, 1]],
        }


def evaluate_pairs(
    manifest: str | Path,
    predict: Callable[[np.ndarray], np.ndarray],
    model_name: str,
    quantity: Quantity = "disparity",
) -> PairsResult:
    """Protocol `pairs` for anything that turns a picture into a map.

    Args:
        manifest: JSON file, see `data.benchmarks.pairs`.
        predict: uint8 (H, W, 3) RGB -> float map at any size.
        model_name: how the result is called.
        quantity: what the map is; metres are inverted before the fit.

    Raises:
        ValueError: a broken manifest, or a map or truth that cannot be scored; the line names the pair.
    """
    return _evaluate(manifest, Candidate(model_name, quantity, lambda image_HW3, key: predict(image_HW3)))


def run_pairs(
    data: str | Path,
    model: str,
    as_json: bool = False,
    out: str | Path | None = None,
    pictures: int = 12,
    **options: Any,
) -> str:
    """The command `evaluate pairs`: what it prints.

    Args:
        data: the manifest.
        model: any name that `models.load_candidate` knows, among them `row` and `constant`.
        as_json: one JSON object instead of a table.
        out: folder for a page of pictures, index.html; None: no page.
        pictures: how many pairs, spread evenly over the manifest, it shows.
        options: for the model, as `models.load_candidate` takes them.

    Raises:
        ValueError: see `evaluate_pairs` and `models.load_candidate`.
    """
    candidate = load_candidate(model, **options)
    if out is None:
        result = _evaluate(data, candidate)
    else:
        out = Path(out)
        result = _evaluate(data, candidate, out / "pictures" / "pairs", pictures)
        folders = sorted(path.parent for path in (out / "pictures" / "pairs").rglob("models.txt"))
        write_page(out / "index.html", f"pairs: {candidate.name}", f"<pre>{escape(result.text())}</pre>", folders)
    return json.dumps(result.as_dict(), indent=1) if as_json else result.text()


def _evaluate(manifest: str | Path, candidate: Candidate, folder: Path | None = None, pictures: int = 0) -> PairsResult:
    from tqdm import tqdm

    cases = manifest_of_pairs.read(manifest)
    shown = set(np.linspace(0, len(cases) - 1, min(pictures, len(cases))).round().astype(int))
    scores = []
    for number, case in enumerate(tqdm(cases, desc="pairs", unit="pair", disable=None)):
        picture = folder / case.key if folder is not None and number in shown else None
        scores.append(_evaluate_case(case, candidate, picture))
    return PairsResult(candidate.name, tuple(scores))


def _evaluate_case(case: Case, candidate: Candidate, picture: Path | None) -> PairScore:
    try:
        image_HW3, truth = case.read_image(), case.read_truth()
        check_same_way_up(image_HW3, truth)
        aligned = [
            align(one.predict(image_HW3, case.key), one.quantity, truth, PAIRS, PAIRS.cut("pairs"))
            for one in (candidate, ROW, CONSTANT)
        ]
        scores = [Scores(**score(one, PAIRS.metrics), scale=one.scale) for one in aligned]
    except ValueError as error:
        raise ValueError(f"pair {case.key}: {error}") from None
    if picture is not None:
        save_pictures(picture, image_HW3, {candidate.name: aligned[0], ROW.name: aligned[1]})
    return PairScore(case.key, case.group, case.region, *scores)


def _by_group(scores: list[PairScore], of: Callable[[PairScore], Scores]) -> np.ndarray:
    """(groups, 2): AbsRel and delta1, each the mean within a scene group. A group is one per region."""
    groups: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for s in scores:
        groups.setdefault((s.region, s.group), []).append((of(s).abs_rel, of(s).delta1))
    return np.array([np.mean(values, axis=0) for values in groups.values()])


def _bootstrap(difference: np.ndarray) -> np.ndarray:
    """95 % interval, (2, metrics), of the mean over groups of (groups, metrics) paired differences. Seeded."""
    draws = np.random.default_rng(0).integers(len(difference), size=(RESAMPLES, len(difference)))
    return np.percentile(difference[draws].mean(axis=1), [2.5, 97.5], axis=0)
