"""`depth-anything evaluate`: the papers' tables, and the pairs."""

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
    pictures: int = 4,
    regions: str = "grid",
    network: OmitArgPrefixes[ModelOptions],
) -> None:
    """Score models under a named protocol, beside the published numbers.

    Args:
        table: pairs, da2k, v1-table2, ..., or da2k-propose; an unknown name lists them all. Without a table, any
            --sets are measured under any --protocol.
        data: the manifest for pairs, pictures for da2k-propose; for the tables the folder with one folder per test set.
        model: one or more of ours, hf:ID for a transformers model, predictions:QUANTITY:FOLDER for finished maps, or
            the floors row and constant; by default nano for pairs, and the table's own models.
        sets: only these columns of the table; without a table, any test sets: kitti, diode, ...
        protocol: another protocol than the table's; the published numbers are then left out.
        out: folder for scores, from which a stopped run goes on, the report and the page of pictures.
        form: of what is printed.
        json: short for --form json.
        partial: take incomplete test sets; the report says so.
        pictures: images per set on the page.
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
        pictures=pictures,
        regions=regions,
        **asdict(network),
    )
    print(report)
