"""Commands in the documents: every one exists, with the options and the recipes that are shown."""

import contextlib
import io
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from depth_anything.__main__ import main
from depth_anything.train.recipes.all_recipes import get_recipe

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md")) + [ROOT / "README.md", ROOT / "MODEL_CARD.md"]


def shown(page: Path) -> list[list[str]]:
    """The command lines of a page, continued lines joined, without what stands before `depth-anything`."""
    text = page.read_text().replace("\\\n", " ")
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
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
