"""The published tables as values: columns, printed numbers, which of our models a row is, whether it can be reproduced.

The numbers are in published_tables.json, as printed, each table with the source in whose text they were read. `-` is a
cell that the paper leaves empty.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from depth_anything.system.files import package_text
from depth_anything.system.words import one_of

Mark = Literal["reproducible", "irreproducible", "unknown"]


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    label: str
    model: str | None
    """The name that `load_candidate` knows it by; None if no weights are available. For
    segmentation the variant whose encoder it has."""
    values: str
    """Numbers as printed, in the order of the table's columns."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """One published table."""

    name: str
    source: str
    """The publication in whose text the numbers were read."""
    title: str
    protocol: str | None
    sets: tuple[str, ...]
    metrics: tuple[str, ...]
    """Per set, in this order: the columns are sets x metrics."""
    rows: tuple[Row, ...]
    marks: Mapping[str, tuple[Mark, str]] = field(default_factory=dict)
    """By set: whether the published column can be reproduced from released weights, and why we say so."""
    note: str = ""
    recipes: Mapping[str, str] = field(default_factory=dict)
    """By a row's label: the recipe that trains it, where the table is an ablation."""

    @property
    def columns(self) -> list[tuple[str, str]]:
        """(set, metric) of every printed number of a row."""
        return [(name, metric) for name in self.sets for metric in self.metrics]

    def published(self, row: Row) -> dict[tuple[str, str], float | None]:
        """The row's numbers by (set, metric)."""
        values = [None if word == "-" else float(word) for word in row.values.split()]
        return dict(zip(self.columns, values, strict=True))

    def published_for(self, model: str) -> dict[tuple[str, str], float | None]:
        """The printed numbers of one of our models; empty where the table has no such row."""
        row = next((row for row in self.rows if row.model == model), None)
        return self.published(row) if row else {}

    def mark(self, set_name: str) -> tuple[Mark, str]:
        """What is known about a column."""
        return self.marks.get(set_name, ("unknown", ""))


def _read_tables() -> dict[str, Table]:
    found = json.loads(package_text("evaluate/published_tables.json"))
    tables = {}
    for table in found["tables"]:
        marks = table.pop("marks", {})
        if isinstance(marks, str):
            marks = found["marks"][marks]
        tables[table["name"]] = Table(
            **table
            | {
                "sets": tuple(table["sets"]),
                "metrics": tuple(table["metrics"]),
                "rows": tuple(Row(*row) for row in table["rows"]),
                "marks": {name: (mark, why) for name, (mark, why) in marks.items()},
            }
        )
    return tables


TABLES: dict[str, Table] = _read_tables()
"""Every published table by name."""


def get_table(name: str) -> Table:
    """A table by name.

    Raises:
        ValueError: no such table; the line names those that exist.
    """
    if name not in TABLES:
        raise ValueError(f"no table {name!r}; {one_of(name, ('pairs', 'da2k-propose', *TABLES))}")
    return TABLES[name]
