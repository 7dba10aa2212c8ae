"""The README's commands and Python, as written, in a folder that has the examples."""

import re
import shlex
from pathlib import Path

import pytest

from depth_anything.__main__ import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("block", blocks("bash"))
def test_commands(block, folder):
    lines = [words for line in block.splitlines() if (words := shlex.split(line, comments=True))]
    assert lines
    for line in lines:
        assert line[0] == "depth-anything"
        main(line[1:])


@pytest.mark.parametrize("block", blocks("python"))
def test_python(block, folder):
    exec(compile(block, "README.md", "exec"), {})


def test_every_command_that_is_shown_exists(capsys):
    shown = set(re.findall(r"depth-anything (\w+)", README))
    with pytest.raises(SystemExit):
        main(["--help"])
    help_text = capsys.readouterr().out
    for command in shown:
        assert command in help_text, command


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
