"""docs/architecture.md: what the page names exists, the rooms are those of the code, the figure is that of LAYERS."""

import re
from pathlib import Path

import pytest
from benchmark_scripts import DOCS, script

from depth_anything.__main__ import COMMANDS
from depth_anything.evaluate.published import TABLES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "depth_anything"
PAGE = (ROOT / "docs/architecture.md").read_text()


rooms = script("rooms", DOCS)
stage = script("stage", DOCS)


def table(heading: str) -> list[list[str]]:
    """The rows of the first table under a heading, without its head."""
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[2:]]


def named() -> list[str]:
    """Everything that stands in backticks."""
    return sorted(set(re.findall(r"`([^`\n]+)`", PAGE)))


@pytest.mark.parametrize("name", named())
def test_what_the_page_names_exists(name):
    if name.startswith("depth-anything"):
        words = name.split()[1:]
        assert not words or words[0] in {command.__name__ for command in COMMANDS}
        return
    path, _, definition = name.partition("::")
    place = next((base / path for base in (PACKAGE, ROOT) if (base / path).exists()), None)
    if place is None:  # an extra
        extras = re.search(
            r"^\[project.optional-dependencies\]\n(.*?)^\[", (ROOT / "pyproject.toml").read_text(), re.M | re.S
        )
        assert extras is not None and re.search(rf"^{re.escape(path)} = ", extras[1], re.M), f"no {path}"
        return
    relative = str(place.relative_to(ROOT))
    assert not definition or stage.line_of(relative, definition), f"no {definition} in {relative}"


def test_the_table_of_rooms_is_that_of_the_code():
    found = rooms.TABLE.search(PAGE)
    assert found is not None and found[0] == rooms.table(), "run: python docs/rooms.py"
    names = {cells[0].strip("`/").removesuffix(".py") for cells in table("The rooms")}
    entries = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert names == {name for name in entries if not name.startswith("_")}


def test_the_twenty_questions_have_definitions_for_answers():
    rows = table("Twenty questions")
    assert len(rows) == 20
    for question, answer in rows:
        assert question.endswith("?")
        assert re.match(r"`[\w./]+\.py::[\w.]+`", answer), question


def test_every_equation_has_a_file():
    rows = [cells for cells in table("From the papers to the code") if "Eq." in cells[0]]
    numbers = [
        int(number) for cells in rows for number in re.findall(r"(?<![\d.])\d(?=,|$)", cells[0].partition("Eq.")[2])
    ]
    assert sorted(numbers) == list(range(1, 10))
    assert all("`" in cells[1] for cells in rows)


def test_every_published_table_has_a_file():
    for paper in ("V1", "V2"):
        section = PAGE.split(f"\n| {paper} (", 1)[1].split("\n\n", 1)[0]
        cells = [row.strip("|").split(" | ")[0] for row in section.splitlines()[2:]]
        lists = [numbers for cell in cells for numbers in re.findall(r"(?<!supplement )Tables? ([\d, ]+)", cell)]
        found = {int(number) for numbers in lists for number in re.findall(r"\d+", numbers)}
        tables = {re.match(rf"{paper.lower()}-table(\d+)", name) for name in TABLES} - {None}
        assert {int(match[1]) for match in tables if match} <= found


def test_the_figure_is_that_of_the_layers():
    assert (ROOT / "docs/images/rooms.svg").read_text() == rooms.image(), "run: python docs/rooms.py"
