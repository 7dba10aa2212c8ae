"""Write the figure and the table of the rooms in docs/architecture.md from the code: python docs/rooms.py.

The layers are those that tests/test_imports.py checks, the descriptions are the first lines of the docstrings.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "depth_anything"
PAGE = ROOT / "docs/architecture.md"
IMAGE = ROOT / "docs/images/rooms.svg"
TABLE = re.compile(r"(?<=\| room \| contents \|\n\|---\|---\|\n)(\|.*\n)+")
WIDTH, LEFT, HEIGHT, GAP = 760, 50, 30, 8
CHARACTER, PADDING = 8.5, 20
STYLE = (
    ".layer{fill:#9fa8da;fill-opacity:.3} .room{fill:#3f51b5} path{fill:none;stroke:#888;stroke-width:2} "
    "text{fill:#fff;font:14px ui-monospace,monospace;text-anchor:middle}"
)


def layers() -> list[list[str]]:
    """LAYERS of tests/test_imports.py, from the top down, as paths."""
    for node in ast.parse((ROOT / "tests/test_imports.py").read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "LAYERS":
            found = [sorted(name.replace(".", "/") for name in names) for names in ast.literal_eval(node.value)]
            return [[name for name in names if not name.startswith("__")] for names in reversed(found)]
    raise ValueError("tests/test_imports.py has no LAYERS")


def lines_of(names: list[str]) -> list[list[tuple[str, int]]]:
    """A layer's boxes with their widths, as many in a line as there is room for."""
    lines: list[list[tuple[str, int]]] = [[]]
    for name in names:
        width = round(CHARACTER * len(name) + PADDING)
        if sum(taken + GAP for _, taken in lines[-1]) + width > WIDTH - LEFT - 2 * GAP:
            lines.append([])
        lines[-1].append((name, width))
    return lines


def image() -> str:
    """The SVG: a band for each layer, the command line on top. Readable on a light and a dark background."""
    parts, y = [], 0
    for names in layers():
        lines, top = lines_of(names), y
        for line in lines:
            y += GAP
            x = LEFT + (WIDTH - LEFT - sum(width for _, width in line) - GAP * (len(line) - 1)) // 2
            for name, width in line:
                parts.append(f'<rect class="room" x="{x}" y="{y}" width="{width}" height="{HEIGHT}" rx="6"/>')
                parts.append(f'<text x="{x + width // 2}" y="{y + 20}">{name}</text>')
                x += width + GAP
            y += HEIGHT
        y += GAP
        band = f'<rect class="layer" x="{LEFT}" y="{top}" width="{WIDTH - LEFT}" height="{y - top}" rx="8"/>'
        parts.insert(len(parts) - 2 * len(names), band)
        y += GAP
    arrow = f'<path d="M24 12 V{y - 24} m-7 -10 l7 10 l7 -10"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y - GAP}" role="img">'
    title = "<title>Layers of rooms; imports go down</title>"
    return "\n".join([head, title, f"<style>{STYLE}</style>", arrow, *parts, "</svg>\n"])


def table() -> str:
    """A row for each folder and module of the package, by layer from the top down."""
    rows = []
    for name in (name for names in layers() for name in names):
        is_folder = (PACKAGE / name).is_dir()
        place = PACKAGE / name / "__init__.py" if is_folder else PACKAGE / f"{name}.py"
        if "/" not in name:
            first = (ast.get_docstring(ast.parse(place.read_text())) or "").partition("\n")[0]
            rows.append(f"| `{name}{'/' if is_folder else '.py'}` | {first} |\n")
    return "".join(rows)


if __name__ == "__main__":
    IMAGE.write_text(image())
    PAGE.write_text(TABLE.sub(lambda _: table(), PAGE.read_text()))
