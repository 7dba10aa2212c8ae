"""The documentation site: its navigation, the pages that docs/stage.py writes, and docs/check_site.py.

`make docs` builds the site; these tests need only PyYAML.
"""

import re
from pathlib import Path

import pytest
import yaml
from benchmark_scripts import DOCS, script

import depth_anything
from depth_anything.__main__ import COMMANDS

ROOT = Path(__file__).parents[1]
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text())


stage = script("stage", DOCS)
check_site = script("check_site", DOCS)


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("site") / "pages"
    stage.stage(out)
    return out


def test_the_navigation_has_every_page_once():
    listed = list(stage.paths_in(CONFIG["nav"]))
    folders = ("*.md", "docs/**/*.md", "benchmarks/results/*.md", "integrations/*/*.md")
    written = [path for folder in folders for path in ROOT.glob(folder)]
    assert sorted(listed) == sorted([*(str(path.relative_to(ROOT)) for path in written), "examples/README.md"])


def test_the_site_loads_nothing_from_other_hosts():
    assert CONFIG["theme"]["font"] is False
    listed = [*CONFIG["extra_css"], *CONFIG["extra"]["polyfills"]]
    assert all((ROOT / path).exists() for path in listed), listed
    assert "repo_url" not in CONFIG  # the theme would query GitHub


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/api/*.md")), ids=lambda page: page.stem)
def test_what_api_pages_show_exists(page):
    for dotted in re.findall(r"^::: (\S+)$", page.read_text(), flags=re.MULTILINE):
        _, *parts = dotted.split(".")
        if parts[0] in depth_anything.__all__:
            continue
        files = [index for index in range(len(parts), 0, -1) if (module(parts[:index])).exists()]
        assert files, f"no module {dotted}"
        place, names = module(parts[: files[0]]), ".".join(parts[files[0] :])
        assert not names or stage.line_of(str(place.relative_to(ROOT)), names), f"no {names} in {place}"


def module(parts: list[str]) -> Path:
    return ROOT / "depth_anything" / Path(*parts).with_suffix(".py")


def test_public_names_have_api_pages():
    shown = "\n".join(path.read_text() for path in ROOT.glob("docs/api/*.md"))
    homes = {"VARIANTS": "variants"}
    for name in depth_anything.__all__:
        assert f"::: depth_anything.{homes.get(name, name)}\n" in shown, name


def test_links_of_the_pages_lead_to_pages(pages):
    texts = {path: path.read_text() for path in pages.rglob("*.md")}
    assert {"README.md", "docs/train.md", "depth_anything/losses.py.md"} <= {
        str(path.relative_to(pages)) for path in texts
    }
    for path, text in texts.items():
        outside_code = "".join(re.split(r"^(?:`{3,})[^`].*?^`{3,}$", text, flags=re.MULTILINE | re.DOTALL))
        for target in re.findall(r"\]\(([^)#\s]+)", outside_code):
            if not target.startswith("http"):
                assert (path.parent / target).is_file(), f"{path.relative_to(pages)}: {target}"


def test_links_to_sources_lead_to_their_pages():
    shown = stage.page(
        "docs/x.md", "[loop](../depth_anything/train/loop.py) [recipes](../depth_anything/train/recipes)"
    )
    assert shown == "[loop](../depth_anything/train/loop.py.md) [recipes](../depth_anything/train/recipes/index.md)"


def test_paths_in_backticks_become_links_to_the_line():
    line = (ROOT / "depth_anything/losses.py").read_text().split("\n").index("GRADIENT_SCALES = 4") + 1
    shown = stage.page("docs/x.md", "`losses.py::GRADIENT_SCALES`, `docs/train.md`")
    target = f"../depth_anything/losses.py.md#__codelineno-0-{line}"
    assert shown == f"[`losses.py::GRADIENT_SCALES`]({target}), [`docs/train.md`](train.md)"


def test_other_text_is_unchanged():
    text = (
        "`images/` and `recipe.json`, `a/b.py`, `../tests/`, `checkpoints/weights/nano.onnx`\n"
        "```\n`losses.py` [x](docs)\n```\n````\n`losses.py`\n```\n[x](docs)\n````\n"
        "[web](https://example.org) [here](#x)"
    )
    assert stage.page("docs/x.md", text) == text


def test_lines_of_definitions(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "ROOT", tmp_path)
    (tmp_path / "a.py").write_text("N: int = 1\n\n\nclass A:\n    x = 2\n\n    def f(self): ...\n")
    assert [stage.line_of("a.py", name) for name in ("N", "A", "A.x", "A.f", "f", "A.g")] == [1, 4, 5, 7, None, None]


def test_every_command_shows_its_options(pages):
    text = (pages / "docs/api/commands.md").read_text()
    for command in COMMANDS:
        assert f"\n## {command.__name__}\n" in text
    assert "\n## segment train\n" in text
    assert "--overwrite" in text and "\x1b" not in text and str(Path.home()) not in text


@pytest.mark.parametrize(
    ("html", "fault"),
    [
        ('<a href="b.html#there">x</a> <a href="#top">x</a> <a id="top"></a> <a href="https://x.org">x</a>', None),
        ('<a href="c.html">x</a>', "a.html: no c.html"),
        ('<a href="/b.html">x</a>', "a.html: no /b.html"),
        ('<a href="b.html#nowhere">x</a>', "a.html: no anchor b.html#nowhere"),
        ('<img src="x.png">', "a.html: no x.png"),
        ('<script src="https://unpkg.com/x"></script>', "a.html: would load https://unpkg.com/x"),
        ('<link rel="stylesheet" href="//fonts.org/a.css">', "a.html: would load //fonts.org/a.css"),
        ('<link rel="next" href="b.html">', None),
    ],
)
def test_the_check_reports_faults(tmp_path, html, fault):
    (tmp_path / "a.html").write_text(html)
    (tmp_path / "b.html").write_text('<h1 id="there">b</h1>')
    assert check_site.check(tmp_path) == ([fault] if fault else [])


def test_the_check_reads_styles_and_needs_pages(tmp_path):
    assert check_site.check(tmp_path) == [f"{tmp_path}: no pages in it"]
    (tmp_path / "a.html").write_text("")
    (tmp_path / "a.css").write_text("@import 'https://fonts.org/x'; a { background: url(x.png) }")
    assert check_site.check(tmp_path) == ["a.css: would load //fonts.org/x"]
