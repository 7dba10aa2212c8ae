"""What a published table is: columns, printed numbers, which of our models a row is, and who could reproduce it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Mark = Literal["reproducible", "irreproducible", "unknown"]


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    label: str
    model: str | None
    """The name that `models.load_candidate` knows it by; None where there are no weights to be had. For
    segmentation the variant whose encoder it has."""
    values: str
    """Numbers as printed, in the order of the table's columns."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """One published table."""

    name: str
    title: str
    protocol: str | None
    sets: tuple[str, ...]
    metrics: tuple[str, ...]
    """Per set, in this order: the columns are sets x metrics."""
    rows: tuple[Row, ...]
    marks: Mapping[str, tuple[Mark, str]] = field(default_factory=dict)
    """By set: whether the published column can be reproduced from released weights, and why we say so."""
    note: str = ""

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


MIDAS = "hf:Intel/dpt-beit-large-512"
"""The model that both papers compare with, as `models.load_candidate` knows it."""
RELATIVE_MARKS: dict[str, tuple[Mark, str]] = {
    "kitti": ("reproducible", "others reach it within 5 % with the Garg crop and 80 m"),
    "nyuv2": ("reproducible", "others reach it within 6 % with raw depth and the Eigen rectangle"),
    "diode-indoor": ("reproducible", "the printed column fits the 325 indoor images; all 771 give three times it"),
    "sintel": ("irreproducible", "released weights give about half of the printed error under any known sky rule"),
    "eth3d": ("irreproducible", "released weights give about two thirds of the printed error"),
    "ddad": ("irreproducible", "crop, cap and camera were never published"),
}
"""What is known about the columns of the relative tables (both papers evaluate alike)."""
