"""Results of protocol `pairs`: each metric beside the baselines, as text, JSON, CSV, Markdown or HTML."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from depth_anything.evaluate.metrics import METRICS
from depth_anything.evaluate.protocol import PAIRS
from depth_anything.evaluate.report import Report, heading

OUTLINES = ("boundary_f1", "coarse_boundary_f1")
"""Metrics of whole maps, where the ground truth is dense."""
MEASURED = (*PAIRS.metrics, "ordinal", *OUTLINES)
"""In the order of the table."""
REGIONS = ("all", "indoor", "outdoor")
RESAMPLES = 10_000
"""Draws of the bootstrap over scene groups."""


@dataclass(frozen=True)
class Scores:
    """One map against one truth."""

    values: dict[str, float]
    """Score by metric of MEASURED, without those that this ground truth does not allow."""
    scale: float
    """Fitted scale; negative where the map runs the wrong way."""


@dataclass(frozen=True)
class PairScore:
    """One pair: the model and the two baselines on it."""

    key: str
    group: str
    region: str
    model: Scores
    row: Scores
    constant: Scores


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The mean of a metric over a region: within a scene group, then over groups."""

    region: str
    metric: str
    groups: int
    pairs: int
    model: float
    row: float
    constant: float
    minus_row_95: tuple[float, float]
    """Paired bootstrap over groups of model - row; of one group both ends are the difference itself."""


@dataclass(frozen=True)
class PairsResult:
    """All pairs of a test set under protocol `pairs`."""

    model: str
    scores: tuple[PairScore, ...]

    def of(self, region: str) -> list[PairScore]:
        """The pairs of one of REGIONS."""
        return [s for s in self.scores if region in ("all", s.region)]

    def comparison(self, region: str, metric: str) -> Comparison | None:
        """A metric over a region; None if no pair has it."""
        chosen = [s for s in self.of(region) if metric in s.model.values]
        if not chosen:
            return None
        model = _by_group(chosen, lambda s: s.model.values[metric])
        row = _by_group(chosen, lambda s: s.row.values[metric])
        constant = _by_group(chosen, lambda s: s.constant.values[metric])
        return Comparison(
            region=region,
            metric=metric,
            groups=len(model),
            pairs=len(chosen),
            model=float(model.mean()),
            row=float(row.mean()),
            constant=float(constant.mean()),
            minus_row_95=_bootstrap(model - row),
        )

    def as_dict(self) -> dict[str, Any]:
        """What `--json` prints: protocol, model, and the regions all, indoor, outdoor that have pairs."""
        regions = {region: self._region(region) for region in REGIONS if self.of(region)}
        return {"protocol": PAIRS.name, "model": self.model} | regions

    def report(self) -> Report:
        """Each metric by region beside the baselines; CSV has a line per pair, empty where there is no number."""
        sides = ("model", "row", "constant")
        found = [self.comparison(region, metric) for metric in MEASURED for region in REGIONS]
        turned = sum(s.model.scale < 0 for s in self.scores)
        return Report(
            title=f"Protocol pairs, model {self.model}",
            rows=[_HEADER, *(_cells(c) for c in found if c)],
            notes=[
                "mean within a scene, then over scenes; row: disparity = image row; const: one value; "
                "minus row: 95 % interval, paired bootstrap over scenes",
                f"upside down: {turned} of {len(self.scores)} maps",
            ],
            numbers=self.as_dict(),
            fields=["key", "group", "region", "scale", *(f"{side}_{name}" for name in MEASURED for side in sides)],
            records=[
                {"key": s.key, "group": s.group, "region": s.region, "scale": s.model.scale}
                | {f"{side}_{name}": value for side in sides for name, value in getattr(s, side).values.items()}
                for s in self.scores
            ],
        )

    def _region(self, region: str) -> dict[str, Any]:
        chosen = self.of(region)
        groups = len({s.group for s in chosen}) if region != "all" else len({(s.region, s.group) for s in chosen})
        found: dict[str, Any] = {"groups": groups, "pairs": len(chosen)}
        found["negative_scale"] = sum(s.model.scale < 0 for s in chosen)
        for metric in MEASURED:
            c = self.comparison(region, metric)
            found[metric] = c and c.model
            found[f"row_{metric}"] = c and c.row
            found[f"constant_{metric}"] = c and c.constant
            found[f"{metric}_minus_row_95"] = c and list(c.minus_row_95)
            if metric not in PAIRS.metrics:  # which every pair gives
                found[f"{metric}_groups"] = c.groups if c else 0
                found[f"{metric}_pairs"] = c.pairs if c else 0
        return found


_HEADER = ("metric", "region", "scenes", "pairs", "model", "row", "const", "model minus row, 95 %")


def _cells(c: Comparison) -> tuple[str, ...]:
    low, high = c.minus_row_95
    return (
        heading(METRICS[c.metric]),
        c.region,
        str(c.groups),
        str(c.pairs),
        *(f"{value:.3f}" for value in (c.model, c.row, c.constant)),
        f"{c.model - c.row:+.3f} " + (f"[{low:+.3f}, {high:+.3f}]" if c.groups > 1 else "(one scene)"),
    )


def _by_group(scores: list[PairScore], of: Callable[[PairScore], float]) -> np.ndarray:
    """(groups,): the mean within each scene group. A group is one per region."""
    groups: dict[tuple[str, str], list[float]] = {}
    for s in scores:
        groups.setdefault((s.region, s.group), []).append(of(s))
    return np.array([np.mean(values) for values in groups.values()])


def _bootstrap(difference: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean over groups of (groups,) paired differences. Seeded."""
    draws = np.random.default_rng(0).integers(len(difference), size=(RESAMPLES, len(difference)))
    low, high = np.percentile(difference[draws].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)
