"""Commands in the documents: every one exists, with the options and the recipes that are shown."""

import ast
import contextlib
import io
import re
import runpy
import shlex
from functools import cache
from pathlib import Path

import pytest

from depth_anything.__main__ import main
from depth_anything.train.recipes.all_recipes import get_recipe

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md")) + [ROOT / "README.md", ROOT / "MODEL_CARD.md"]


def shown(page: Path) -> list[list[str]]:
    """The command lines of a page, continued lines joined, without what stands before `depth-anything`.

    Blocks are fenced, or indented by four spaces.
    """
    text = page.read_text().replace("\\\n", " ")
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    blocks += re.findall(r"^ {4}(depth-anything .*)", text, flags=re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    found = [re.search(r"(?:^|-m )depth[-_]anything (.*)", line) for line in lines]
    return [shlex.split(match.group(1).split(" | ")[0], comments=True) for match in found if match]


@cache
def options(command: str) -> str:
    said = io.StringIO()
    with pytest.raises(SystemExit), contextlib.redirect_stdout(said):
        main([*command.split(), "--help"])
    return said.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist_with_their_options(page):
    for words in shown(page):
        nested = words[0] in ("segment", "controlnet")
        known = options(" ".join(words[: 1 + nested]))
        for word in words[1:]:
            if word.startswith("--"):
                assert word.split("=")[0] in known, f"{page.name}: {' '.join(words)}"
        if words[0] == "train" and words[1].islower() and not words[1].startswith("-"):
            assert get_recipe(words[1]).name == words[1]


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def parameters(node: ast.AST) -> set[str]:
    """The parameters of a function; of a class, those of all its methods, and its fields."""
    if isinstance(node, ast.ClassDef):
        fields = {
            part.target.id
            for part in node.body
            if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
        }
        return fields.union(*map(parameters, node.body))
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return set()
    given = node.args
    several = [one for one in (given.vararg, given.kwarg) if one]
    return {one.arg for one in given.posonlyargs + given.args + given.kwonlyargs + several}


def described(docstring: str) -> set[str]:
    """The names below Args: in a docstring."""
    _, _, behind = docstring.partition("\nArgs:\n")
    section = re.split(r"^(?=\S)", behind, maxsplit=1, flags=re.MULTILINE)[0]
    names = re.findall(r"^    (\w[\w, ]*?):", section, flags=re.MULTILINE)
    return {name.strip() for line in names for name in line.split(",")}


@pytest.mark.parametrize("script", sorted((ROOT / "docs").glob("*.py")), ids=lambda script: script.name)
def test_scripts_of_the_documentation_find_what_they_import(script):
    pytest.importorskip("fastapi", reason="the extra web is not installed")
    runpy.run_path(str(script), run_name="loaded")


def test_docstrings_describe_parameters_that_exist():
    assert described("One line.\n\nArgs:\n    a, b: two.\n        c: not this.\n\nReturns:\n    d: no.") == {"a", "b"}
    seen = 0
    for path in sorted((ROOT / "depth_anything").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names = described(ast.get_docstring(node) or "")
                seen += len(names)
                assert names <= parameters(node), f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}"
    assert seen > 300
