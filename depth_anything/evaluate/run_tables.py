"""The command `evaluate`: evaluate the sets of a published table and print our results next to the published ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from depth_anything.data.benchmarks import da2k
from depth_anything.data.benchmarks.sets import BENCHMARKS, Contents, read_benchmark
from depth_anything.evaluate.candidate import Candidate
from depth_anything.evaluate.da2k import evaluate_da2k
from depth_anything.evaluate.da2k_propose import propose
from depth_anything.evaluate.load_candidate import load_candidate
from depth_anything.evaluate.pairs import run_pairs
from depth_anything.evaluate.protocol import PROTOCOLS, Protocol, get_protocol
from depth_anything.evaluate.published import Table, get_table
from depth_anything.evaluate.report import Line, check_form, report_of
from depth_anything.evaluate.run import SetScores, evaluate_set, image_folders


def run(
    table: str | None,
    data: str | Path,
    models: Sequence[str] = (),
    *,
    form: str = "text",
    out: str | Path | None = None,
    sets: Sequence[str] = (),
    protocol: str | None = None,
    partial: bool = False,
    page_images: int = 4,
    regions: str = "grid",
    **options: Any,
) -> str:
    """The command `evaluate`: evaluate models, write scores and pages under `out`, return the report.

    Args:
        table: `pairs`, `da2k-propose`, or a name in TABLES; those of segmentation measure files of `segment train`.
            None: any `sets` under any `protocol`, without published results.
        data: the manifest for `pairs`; images for `da2k-propose`; else ROOT, the folder with one folder per test set.
        models: names for `load_candidate`; none: the table's own models that are available.
        form: one of report.FORMS.
        out: folder for scores (from which an interrupted run resumes), report.{txt,json,csv,md} and index.html;
            None: `evaluation` for a table, nothing for pairs, `da2k-proposed` for proposals.
        sets: only these columns of the table; without a table, any keys of BENCHMARKS.
        protocol: another protocol than the table's; the published numbers are then not shown.
        partial: accept incomplete test sets; the report states this.
        page_images: images per set on the page.
        regions: where `da2k-propose` looks for points: `grid` or `sam:ID`.
        options: for our models, see `load_candidate`.

    Raises:
        ValueError: anything unknown, missing or broken, in one line.
    """
    check_form(form)
    if table == "pairs":
        if len(models) != 1:
            raise ValueError(f"pairs measures one model at a time, got {len(models)}")
        return run_pairs(data, load_candidate(models[0], **options), form, out, page_images)
    if table == "da2k-propose":
        folder = Path(out or "da2k-proposed")
        disputes = propose(Path(data), [load_candidate(name, **options) for name in models], folder, regions)
        return f"{len(disputes)} disputed pairs in {folder}: look at index.html, settle them in annotations.json"
    chosen = get_table(table) if table else unpublished(sets, protocol)
    root, out = Path(data), Path(out or "evaluation")
    folders: list[Path] = []
    if chosen.protocol is None:
        lines, notes = _segmentation(chosen, root, models, sets, options.get("device", "cpu"))
    else:
        names = list(models) or [row.model for row in chosen.rows if row.model]
        if not names:
            about = f"{table} has no released model" if table else "no model to measure"
            raise ValueError(f"{about}; say which to measure: --model NAME")
        if not root.is_dir():
            raise ValueError(f"no folder {root}: expected the folder that has one folder per test set")
        if chosen.protocol == "da2k":
            lines, notes = _da2k(chosen, root, [load_candidate(name, **options) for name in names], out)
        else:
            rules = get_protocol(protocol or chosen.protocol)
            lacking = [metric for metric in chosen.metrics if metric not in rules.metrics]
            if lacking:
                raise ValueError(f"protocol {rules.name} does not measure {', '.join(lacking)}, which {table} prints")
            contents = _contents(chosen, root, sets, rules, partial)
            candidates = [load_candidate(name, **options) for name in names]
            lines, notes = _depth(chosen, contents, candidates, rules, out, page_images)
            folders = [f for c in contents for f in image_folders(c, rules, out, page_images).values()]
    report = report_of(chosen.title, lines, notes)
    report.write(out, folders)
    return report.render(form)


def unpublished(sets: Sequence[str], protocol: str | None) -> Table:
    """Any sets under any protocol: a table without a printed number, with the protocol's metrics.

    Raises:
        ValueError: no set, no protocol, or an unknown protocol.
    """
    if not sets or not protocol:
        raise ValueError(
            "nothing to measure: give a table (pairs, da2k, v1-table2, ...), or test sets and a protocol: --sets NAME "
            f"--protocol NAME; sets: {', '.join(BENCHMARKS)}; protocols: {', '.join(PROTOCOLS)}"
        )
    return Table(
        name="",
        source="",
        title=f"{', '.join(dict.fromkeys(sets))} under protocol {protocol}",
        protocol=protocol,
        sets=tuple(dict.fromkeys(sets)),
        metrics=get_protocol(protocol).metrics,
        rows=(),
    )


def _depth(
    table: Table, contents: list[Contents], candidates: list[Candidate], protocol: Protocol, out: Path, page_images: int
) -> tuple[list[Line], list[str]]:
    """Measure models on test sets of depth. Published results are shown only for the protocol that they used."""
    results = [r for c in contents for r in evaluate_set(c, candidates, protocol, out, page_images)]
    notes = [f"protocol {protocol.name}: {protocol.source}", *([table.note] if table.note else [])]
    lines = [
        _line(
            table,
            result.model if protocol.name == table.protocol else None,
            protocol=protocol.name,
            set=result.set_name,
            model=result.model,
            metric=metric,
            ours=result.mean(metric),
            images=len(result.scores),
            expected=result.expected,
            skipped=len(result.skipped),
        )
        for result in results
        for metric in table.metrics
    ]
    return lines, notes + _means(table, results)


def _contents(table: Table, root: Path, sets: Sequence[str], protocol: Protocol, partial: bool) -> list[Contents]:
    """The table's test sets; every one that is missing is named before the first hour of work."""
    found, problems = [], []
    for name in _columns(table, sets):
        try:
            protocol.cut(name)
            found.append(read_benchmark(name, root, partial))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError(
            "; ".join(problems) + (f". --sets {' '.join(c.benchmark.name for c in found)}" if found else "")
        )
    return found


def _columns(table: Table, sets: Sequence[str]) -> list[str]:
    """The sets to evaluate: the requested ones, or else all of the table.

    Raises:
        ValueError: one that is no column of it.
    """
    unknown = [name for name in sets if name not in table.sets]
    if unknown:
        raise ValueError(
            f"{table.name} has no column {', '.join(unknown)}; it has: {', '.join(table.sets)}. "
            f"Other sets are measured without a table: --sets {' '.join(unknown)} --protocol NAME"
        )
    return list(dict.fromkeys(sets or table.sets))


def _line(table: Table, row: str | None, **measured: Any) -> Line:
    """Our result and the one that the table prints for the model `row`; None: no published result."""
    mark, reason = table.mark(measured["set"]) if row else ("unknown", "")
    published = table.published_for(row).get((measured["set"], measured["metric"])) if row else None
    return Line(table=table.name, published=published, mark=mark, reason=reason, **measured)


def _means(table: Table, results: list[SetScores]) -> list[str]:
    """Per model the mean over the sets, where there are several and all of the table's."""
    if len(table.sets) < 2:
        return []
    notes = []
    for model in dict.fromkeys(result.model for result in results):
        own = [result for result in results if result.model == model]
        if len(own) == len(table.sets):
            means = ", ".join(f"{metric} {np.mean([r.mean(metric) for r in own]):.3f}" for metric in table.metrics)
            notes.append(f"mean over the {len(own)} sets, {model}: {means}")
    return notes


def _da2k(table: Table, root: Path, candidates: list[Candidate], out: Path) -> tuple[list[Line], list[str]]:
    folder = root / "da2k" if (root / "da2k").is_dir() else root
    lines, notes = [], []
    for result in evaluate_da2k(folder, candidates, out):
        lines.append(
            _line(
                table,
                result.model,
                protocol="da2k",
                set="da2k",
                model=result.model,
                metric="ordinal",
                ours=100 * result.accuracy,
                images=result.images,
                expected=da2k.IMAGES,
            )
        )
        scenarios = ", ".join(f"{name} {100 * share:.1f}" for name, share in result.scenarios.items())
        notes.append(
            f"{result.model}: {scenarios}; ties {100 * result.ties:.1f}, of {sum(result.pairs.values())} pairs"
        )
    return lines, notes


def _segmentation(
    table: Table, root: Path, models: Sequence[str], sets: Sequence[str], device: str
) -> tuple[list[Line], list[str]]:
    """Measure segmentation models (files of `segment train`) on those of the table's sets whose classes they know."""
    from depth_anything.transfer import segmentation
    from depth_anything.transfer.segmentation_data import open_classes
    from depth_anything.transfer.segmentation_predict import MULTI_SCALE, evaluate

    if not models:
        raise ValueError(
            f"{table.name} is about segmentation, for which this program has no released weights: give --model a file "
            "of `depth-anything segment train`"
        )
    lines = []
    for path in models:
        model = segmentation.load(path, device)
        for name in _columns(table, sets):
            samples = open_classes(name, root / name, held_out=True)
            if len(samples.names) != len(model.about.names):
                continue
            row = model.about.variant if model.about.head == "mask2former" else None
            lines += [
                _line(
                    table,
                    row,
                    protocol="mmsegmentation",
                    set=name,
                    model=str(path),
                    metric=metric,
                    ours=100 * evaluate(model, samples, MULTI_SCALE if metric == "miou_multiscale" else (), device),
                    images=len(samples),
                    expected=len(samples),
                )
                for metric in table.metrics
            ]
    if not lines:
        raise ValueError(f"no model given knows the classes of {', '.join(sets or table.sets)}")
    return lines, ["in per cent; sliding windows as in V1's configuration", *([table.note] if table.note else [])]
