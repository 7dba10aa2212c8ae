"""Results beside the published numbers, as text, JSON, CSV, Markdown and HTML."""

import csv
import io
import json
from dataclasses import asdict, dataclass
from html import escape

from depth_anything.evaluate.metrics import METRICS


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
    mark: str
    """reproducible, irreproducible or unknown: what is known about the published number."""
    reason: str
    images: int
    """How many the number is a mean of."""
    expected: int
    """How many the set has."""
    skipped: int
    """How many the protocol itself left out."""

    @property
    def difference(self) -> float | None:
        """Ours minus published."""
        return None if self.published is None else self.ours - self.published

    @property
    def complete(self) -> bool:
        """Whether the whole set was measured."""
        return self.images + self.skipped == self.expected


FORMS = ("text", "json", "csv", "markdown")


def render(title: str, lines: list[Line], notes: list[str], form: str) -> str:
    """A report in one of FORMS.

    Raises:
        ValueError: an unknown form.
    """
    match form:
        case "text":
            return as_text(title, lines, notes)
        case "json":
            rows = [asdict(line) | {"difference": line.difference} for line in lines]
            return json.dumps({"title": title, "lines": rows, "notes": notes}, indent=1, ensure_ascii=False)
        case "csv":
            return as_csv(lines)
        case "markdown":
            return as_markdown(title, lines, notes)
    raise ValueError(f"no report form {form!r}; choose one of: {', '.join(FORMS)}")


def as_text(title: str, lines: list[Line], notes: list[str]) -> str:
    """A table to read in a terminal."""
    cells = [_HEADER, *(_cells(line) for line in lines)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(_HEADER))]
    rows = [
        "  ".join(
            cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    return "\n".join([title, *(row.rstrip() for row in rows), *_footnotes(lines, notes)])


def as_markdown(title: str, lines: list[Line], notes: list[str]) -> str:
    """A Markdown table with its notes as a list."""
    rows = ["| " + " | ".join(cells) + " |" for cells in (_HEADER, *(_cells(line) for line in lines))]
    rule = "|---|---|" + "---:|" * (len(_HEADER) - 2)
    return "\n".join([f"## {title}", "", rows[0], rule, *rows[1:], "", *(f"- {n}" for n in _footnotes(lines, notes))])


def as_html(lines: list[Line], notes: list[str]) -> str:
    """An HTML table with its notes, for the page of pictures."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in _HEADER)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in _cells(line)) + "</tr>" for line in lines)
    under = "".join(f"<p>{escape(note)}</p>" for note in _footnotes(lines, notes))
    return f"<table><tr>{head}</tr>{body}</table>{under}"


def as_csv(lines: list[Line]) -> str:
    """One row per number, with everything that is known about it, full precision."""
    text = io.StringIO()
    fields = [*Line.__dataclass_fields__, "difference"]
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    for line in lines:
        writer.writerow(asdict(line) | {"difference": line.difference})
    return text.getvalue()


_HEADER = ("set", "model", "metric", "ours", "published", "difference", "images")


def _cells(line: Line) -> tuple[str, ...]:
    metric = METRICS[line.metric]
    arrow = "↓" if metric.better == "lower" else "↑"
    irreproducible = " †" if line.mark == "irreproducible" and line.published is not None else ""
    return (
        line.set,
        line.model,
        f"{metric.label} {arrow}",
        f"{line.ours:.3f}",
        "-" if line.published is None else f"{line.published:.3f}{irreproducible}",
        "-" if line.difference is None else f"{line.difference:+.3f}",
        str(line.images) if line.complete else f"{line.images} of {line.expected}",
    )


def _footnotes(lines: list[Line], notes: list[str]) -> list[str]:
    """The notes, then what is known about each column and what is missing from it; each said once."""
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
