"""Write the Markdown pages from which `make docs` builds the site: a mirror of the repository.

    python docs/stage.py build/pages

Pages of the navigation in mkdocs.yml keep their paths, so a link that works in the repository works in the site. Link
targets are copied, too: images as they are, other files as a page with their text, a folder as a list of its files. A
path in backticks becomes a link if the file exists in the repository or in `depth_anything/`; `losses.py::silog_loss`
links to the line of the definition. `{{ commands }}` is replaced by the help of every command.
"""

import ast
import contextlib
import io
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from posixpath import dirname, normpath, relpath
from unittest import mock

import yaml

ROOT = Path(__file__).parents[1]
PACKAGE = "depth_anything"
FENCED = re.compile(r"(^````.*?^````$|^```(?!`).*?^```$)", flags=re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?:(?<=\]\()|(?<=src=\"))(?!\w+:|#)([^)\"#\s]+)")
PATH = re.compile(r"(?<![`\[])`([\w.][\w./-]*)(?:::([\w.]+))?`(?![`\]])")
COMMANDS = re.compile(r"^{{ commands }}$", flags=re.MULTILINE)
SHOWN = {
    ".py": "python",
    ".toml": "toml",
    ".yml": "yaml",
    ".html": "html",
    ".json": "json",
    **dict.fromkeys((".txt", ".jsonl", ""), "text"),
}
"""Files that get a page with their text, and its language; Markdown is a page already, others are copied."""
LISTING = "---\nsearch: {exclude: true}\nhide: [navigation, toc]\n---\n\n"
"""Front matter of a page that shows a file or a folder: full width, not in the search index."""


def stage(out: Path) -> None:
    """Write the pages and everything that they link to."""
    shutil.rmtree(out, ignore_errors=True)
    config = read_config()
    waiting, done = [*paths_in(config["nav"]), *config["extra_css"], *config["extra"]["polyfills"]], set()
    while waiting:
        path = waiting.pop()
        place, target = ROOT / path, out / page_of(path)
        if path in done or not place.exists():
            continue  # the build reports a missing file
        done.add(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if place.is_file() and place.suffix not in {".md", *SHOWN}:
            shutil.copyfile(place, target)
            continue
        text = text_of(path)
        target.write_text(page(page_of(path), text))
        waiting += leads_to(page_of(path), text)


def read_config() -> dict:
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text())


def paths_in(nav: list | dict) -> Iterator[str]:
    """The files of a navigation, nested sections included."""
    for entry in nav.values() if isinstance(nav, dict) else nav:
        if isinstance(entry, str):
            yield entry
        else:
            yield from paths_in(entry)


def page_of(path: str) -> str:
    """The page of a file or folder of the repository."""
    place = ROOT / path
    if place.is_dir():
        return f"{path}/README.md" if (place / "README.md").exists() else f"{path}/index.md"
    return f"{path}.md" if place.suffix in SHOWN else path


def leads_to(here: str, text: str) -> Iterator[str]:
    """The paths in the repository that a page links to."""
    for part in FENCED.split(text)[::2]:
        yield from (normpath(f"{here}/../{match[0]}") for match in LINK.finditer(part))
        yield from filter(None, (existing(match[1]) for match in PATH.finditer(part)))


def existing(path: str) -> str | None:
    """The file or folder that a path in backticks names, relative to the repository; None if there is none.

    Files may be relative to the package. Folders may not: `images/` is also a folder of the user's data.
    """
    named = normpath(path)
    if Path(path).suffix in {".md", *SHOWN} - {""}:
        return next((place for place in (named, f"{PACKAGE}/{named}") if (ROOT / place).is_file()), None)
    return named if "/" in path and not named.startswith("..") and (ROOT / named).is_dir() else None


def page(here: str, text: str) -> str:
    """The text of a page of the site: links rewritten, commands filled in."""

    def linked(match: re.Match) -> str:
        path = normpath(f"{here}/../{match[0]}")
        return relpath(page_of(path), dirname(here) or ".") if (ROOT / path).exists() else match[0]

    def path_linked(match: re.Match) -> str:
        path = existing(match[1])
        if path is None or page_of(path) == here:
            return match[0]
        line = f"#__codelineno-0-{line_of(path, match[2])}" if match[2] else ""
        return f"[{match[0]}]({relpath(page_of(path), dirname(here) or '.')}{line})"

    parts = FENCED.split(text)
    parts[::2] = [PATH.sub(path_linked, LINK.sub(linked, part)) for part in parts[::2]]
    parts[::2] = [COMMANDS.sub(lambda _: "\n".join(command_help()), part) for part in parts[::2]]
    return "".join(parts)


def line_of(path: str, name: str) -> int | None:
    """The line of a module on which a function, a class, a member of one (`Class.name`) or a constant is defined."""
    body, line = ast.parse((ROOT / path).read_text()).body, None
    for part in name.split("."):
        node = next((node for node in body if part in names_of(node)), None)
        if node is None:
            return None
        body, line = getattr(node, "body", []), node.lineno
    return line


def names_of(node: ast.stmt) -> set[str]:
    """The names that a statement defines."""
    targets = getattr(node, "targets", [getattr(node, "target", node)])
    return {getattr(target, "id", getattr(target, "name", "")) for target in targets}


def text_of(path: str) -> str:
    """A file or folder of the repository as Markdown."""
    place = ROOT / path
    if place.is_dir():
        return (place / "README.md").read_text() if (place / "README.md").exists() else list_of(path)
    if place.suffix == ".md":
        return place.read_text()
    return f'{LISTING}# {path}\n\n````{SHOWN[place.suffix]} linenums="1"\n{place.read_text()}\n````\n'


def list_of(path: str) -> str:
    """A folder's files with links, and its packages without, so that the site does not show the whole source tree."""
    rows = []
    for place in sorted((ROOT / path).iterdir()):
        is_room = (place / "__init__.py").exists()
        source = place / "__init__.py" if is_room else place
        if source.suffix in {".py", ".md"}:
            docstring = ast.get_docstring(ast.parse(source.read_text())) if source.suffix == ".py" else None
            name = f"{place.name}/" if is_room else f"[{place.name}]({place.name})"
            rows.append(f"| {name} | {(docstring or '').partition(chr(10))[0]} |\n")
    return f"{LISTING}# {path}\n\n| file | description |\n|---|---|\n{''.join(rows)}"


def command_help(*words: str) -> Iterator[str]:
    """A section for every command: what its `--help` prints, without the lines under headings."""
    from depth_anything.__main__ import main

    plain = mock.patch.dict(os.environ, COLUMNS="86", NO_COLOR="1")
    with plain, contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main([*words, "--help"])
    text = re.sub(r" +$", "", out.getvalue().strip().replace(str(Path.home()), "~"), flags=re.MULTILINE)
    text = re.sub(r"^ (\S.*)\n -+$", r"\1:", text, flags=re.MULTILINE)
    yield f"## {' '.join(words) or 'depth-anything'}\n\n```text\n{text}\n```\n"
    commands = re.match(r"usage: [^\n]* \{([\w,-]+)\}\n", text)
    for command in commands[1].split(",") if commands else []:
        yield from command_help(*words, command)


if __name__ == "__main__":
    stage(Path(sys.argv[1]))
