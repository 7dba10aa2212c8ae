"""`depth-anything evaluate`: the tables of the papers, and the pairs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import OmitArgPrefixes, Positional

from depth_anything.cli.options import ModelOptions


def evaluate(
    table: Positional[str] = "",
    *,
    data: Path,
    model: tuple[str, ...] = (),
    sets: tuple[str, ...] = (),
    protocol: str | None = None,
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    form: Literal["text", "json", "csv", "markdown"] = "text",
    json: bool = False,
    partial: bool = False,
    images: int = 4,
    regions: str = "grid",
    network: OmitArgPrefixes[ModelOptions],
) -> None:
    """Score models under a named protocol, and print the published numbers beside them.

    Args:
        table: pairs, da2k, v1-table2, ..., or da2k-propose; an unknown name lists all of them. Without a table, any
            --sets are measured under any --protocol.
        data: the manifest for pairs, images for da2k-propose; for the tables the folder with one folder per test set.
        model: one or more of our models, hf:ID for a transformers model, predictions:QUANTITY:FOLDER for finished maps,
            or the baselines row and constant; by default nano for pairs, else the models of the table.
        sets: only these columns of the table; without a table, any test sets: kitti, diode, ...
        protocol: use another protocol than the table's; the published numbers are then omitted.
        out: folder for the scores, from which an interrupted run resumes, the report and a page of images.
        form: format of the printed report.
        json: short for --form json.
        partial: accept incomplete test sets; the report states it.
        images: number of images per set on the page.
        regions: where da2k-propose looks for points: grid, or sam:ID for a Segment Anything model.
    """
    from depth_anything.evaluate.run_tables import run

    report = run(
        table,
        data,
        model or (("nano",) if table == "pairs" else ()),
        form="json" if json else form,
        out=out,
        sets=sets,
        protocol=protocol,
        partial=partial,
        page_images=images,
        regions=regions,
        **asdict(network),
    )
    print(report)
