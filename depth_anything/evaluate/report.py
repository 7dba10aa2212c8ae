"""The report of an evaluation: as text, JSON, CSV, Markdown, and on top of a page of images."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from depth_anything.evaluate.html_page import write_page
from depth_anything.evaluate.metrics import METRICS, Metric
from depth_anything.system.files import write_text
from depth_anything.system.words import one_of

FORMS = {"text": "txt", "json": "json", "csv": "csv", "markdown": "md"}
"""Form of a report -> suffix of its file."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """A table with its notes, and the numbers behind it."""

    title: str
    rows: Sequence[Sequence[str]]
    """Cells; the first row is the header. The first two columns are names, the others numbers."""
    notes: Sequence[str]
    numbers: dict[str, Any]
    """What JSON holds."""
    fields: Sequence[str]
    """Columns of CSV."""
    records: Sequence[dict[str, Any]]
    """Lines of CSV, in full precision; what a record lacks is empty."""

    def render(self, form: str) -> str:
        """The report in one of FORMS.

        Raises:
            ValueError: another form.
        """
        check_form(form)
        if form == "json":
            return json.dumps(self.numbers, indent=1, ensure_ascii=False)
        if form == "csv":
            text = io.StringIO()
            writer = csv.DictWriter(text, self.fields, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.records)
            return text.getvalue().rstrip("\n")
        header, *rows = self.rows
        if form == "markdown":
            rule = ("---", "---", *("---:",) * (len(header) - 2))
            table = ["| " + " | ".join(row) + " |" for row in (header, rule, *rows)]
            return "\n".join([f"## {self.title}", "", *table, "", *(f"- {note}" for note in self.notes)])
        widths = [max(map(len, column)) for column in zip(*self.rows, strict=True)]
        lines = (
            "  ".join(row[i].ljust(width) if i < 2 else row[i].rjust(width) for i, width in enumerate(widths))
            for row in self.rows
        )
        return "\n".join([self.title, *(line.rstrip() for line in lines), *self.notes])

    def write(self, out: Path, folders: Iterable[Path]) -> None:
        """report.{txt,json,csv,md}, and index.html with the images of `folders` (`html_page.save_images`)."""
        for form, suffix in FORMS.items():
            write_text(out / f"report.{suffix}", self.render(form) + "\n")
        header, *rows = self.rows
        head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
        notes = "".join(f"<p>{escape(note)}</p>" for note in self.notes)
        write_page(out / "index.html", self.title, f"<table><tr>{head}</tr>{body}</table>{notes}", folders)


def check_form(form: str) -> None:
    """Raises ValueError where there is no such form of a report."""
    if form not in FORMS:
        raise ValueError(f"no report form {form!r}; {one_of(form, FORMS)}")


def heading(metric: Metric) -> str:
    """A metric's name, with an arrow towards the better end."""
    return f"{metric.label} {'↓' if metric.better == 'lower' else '↑'}"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One number of ours, and the published one if there is one."""

    table: str
    protocol: str
    set: str
    model: str
    metric: str
    ours: float
    published: float | None
    mark: str = "unknown"
    """reproducible, irreproducible or unknown: what is known about the published number."""
    reason: str = ""
    images: int
    """How many the number is a mean of."""
    expected: int
    """How many the set has."""
    skipped: int = 0
    """How many the protocol excludes."""

    @property
    def difference(self) -> float | None:
        """Ours minus published."""
        return None if self.published is None else self.ours - self.published

    @property
    def complete(self) -> bool:
        """Whether the whole set was measured."""
        return self.images + self.skipped == self.expected


def report_of(title: str, lines: Sequence[Line], notes: Sequence[str]) -> Report:
    """The report of a table's lines: then the notes, what is known about each column, and what is missing from it."""
    records = [asdict(line) | {"difference": line.difference} for line in lines]
    return Report(
        title=title,
        rows=[_HEADER, *map(_cells, lines)],
        notes=_footnotes(lines, notes),
        numbers={"title": title, "lines": records, "notes": list(notes)},
        fields=[*Line.__dataclass_fields__, "difference"],
        records=records,
    )


_HEADER = ("set", "model", "metric", "ours", "published", "difference", "images")


def _cells(line: Line) -> tuple[str, ...]:
    irreproducible = " †" if line.mark == "irreproducible" and line.published is not None else ""
    return (
        line.set,
        line.model,
        heading(METRICS[line.metric]),
        f"{line.ours:.3f}",
        "-" if line.published is None else f"{line.published:.3f}{irreproducible}",
        "-" if line.difference is None else f"{line.difference:+.3f}",
        str(line.images) if line.complete else f"{line.images} of {line.expected}",
    )


def _footnotes(lines: Sequence[Line], notes: Sequence[str]) -> list[str]:
    """The notes, then what is known about each column and what is missing from it, without repetitions."""
    found = list(notes)
    for line in lines:
        if line.published is not None and line.reason:
            sign = "† " if line.mark == "irreproducible" else ""
            found.append(f"{sign}{line.set}: {line.mark}: {line.reason}")
        if not line.complete:
            found.append(
                f"{line.set}: only {line.images} of {line.expected} images; not comparable with any publication"
            )
        elif line.skipped:
            found.append(f"{line.set}: the protocol left out {line.skipped} images with too few pixels")
    return list(dict.fromkeys(found))
