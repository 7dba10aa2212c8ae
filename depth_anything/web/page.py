"""`depth-anything page`: a folder of static files in which a browser runs the model itself.

It is the page of `serve` with another backend: a web worker with ONNX Runtime's build for browsers instead of the
server. `page.json` replaces the server's /v1/models.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from depth_anything import __version__
from depth_anything.images import colormap
from depth_anything.images.formats import FORMATS
from depth_anything.predict.backends import OnnxBackend
from depth_anything.predict.prediction import Prediction
from depth_anything.system.files import atomic_folder
from depth_anything.web.browser_runtime import FILES, VERSION
from depth_anything.web.page_files import CONTENT_POLICY, IN_BROWSER, STATIC

MAX_BYTES, MAX_PIXELS = 64 * 2**20, 50_000_000
"""Largest image. ONNX Runtime has at most 4 GiB of memory in a browser; a map of 50 megapixels needs half of it."""
LICENCES = '<p><a href="licences.txt">Licences</a></p>'
VENDOR = Path("static/vendor/onnxruntime-web")


def write_page(out: Path, models: Mapping[str, Path], runtime: Path, overwrite: bool = False) -> dict[str, int]:
    """Write the folder `out`, which any static web server can publish.

    Args:
        models: exported .onnx files by the names that the page shows; the first is the default.
        runtime: a folder with the `FILES` of onnxruntime-web, as `browser_runtime.find` returns it.
        overwrite: replace a page that is at `out`.

    Returns:
        Bytes of each file that a browser loads before the first map, by the file's path in `out`.

    Raises:
        ValueError: a file is not an exported model, or a browser cannot run it; or `out` exists already.
    """
    check_free(out, overwrite)
    rows = [describe(name, path) for name, path in models.items()]
    with atomic_folder(out) as folder:
        shutil.copytree(STATIC, folder / "static")
        (folder / "static" / "index.html").unlink()
        (folder / "index.html").write_text(index_html(), encoding="utf-8")
        (folder / "models").mkdir()
        for path, row in zip(models.values(), rows, strict=True):
            shutil.copyfile(path, folder / row["file"])
        (folder / VENDOR).mkdir(parents=True)
        for name in FILES:
            shutil.copyfile(runtime / name, folder / VENDOR / name)
        write_licences(folder, rows)
        text = json.dumps(page_json(rows), separators=(",", ":"))
        (folder / "page.json").write_text(text, encoding="utf-8")
    first = [VENDOR / name for name in FILES if "asyncify" not in name and "webgpu" not in name]
    own = [path.relative_to(out) for path in (out / "static").rglob("*.js") if "vendor" not in path.parts]
    loaded = [Path("index.html"), Path("page.json"), Path("static/style.css"), *own, *first, Path(rows[0]["file"])]
    return {path.as_posix(): (out / path).stat().st_size for path in loaded}


def check_free(out: Path, overwrite: bool) -> None:
    """Raise ValueError if `out` is a file, has other contents than a page, or may not be replaced."""
    if not out.exists():
        return
    if not out.is_dir():
        raise ValueError(f"{out}: a file is there; expected a folder for the page, or a name for a new one")
    if any(out.iterdir()) and not (out / "page.json").is_file():
        raise ValueError(f"{out}: has other files than a page of this command; choose another folder")
    if any(out.iterdir()) and not overwrite:
        raise ValueError(f"{out}: has a page already; use --overwrite to replace it, or another folder")


def describe(name: str, path: Path) -> dict[str, Any]:
    """The entry of a model in page.json.

    Raises:
        ValueError: not an exported file, or its metres depend on the camera.
    """
    backend = OnnxBackend(path, threads=1)
    row = backend.variant
    if row.canonical_focal is not None:
        raise ValueError(f"{path}: its metres depend on the camera, which the page cannot take into account: use serve")
    image = next(one for one in backend.session.get_inputs() if one.type == "tensor(uint8)")
    text = Prediction(
        **{row.quantity: np.ones((1, 1), np.float32)},  # type: ignore[arg-type]
        model=row.name,
        licence=row.licence,
    ).text()
    return {
        "name": name,
        "quantity": row.quantity,
        "max_depth": row.max_depth,
        "licence": row.licence,
        "commercial": row.commercial,
        "input_size": row.input_size,
        "note": row.note,
        "file": f"models/{name}.onnx",
        "bytes": path.stat().st_size,
        "input": image.name,
        "output": backend.session.get_outputs()[0].name,
        "text": {key: value for key, value in text.items() if key != "picture_size"},
    }


def page_json(models: list[dict[str, Any]]) -> dict[str, Any]:
    """Contents of page.json: models, file formats, colours, limits."""
    return {
        "version": __version__,
        "onnxruntime_web": VERSION,
        "models": models,
        "formats": list(IN_BROWSER),
        "files": [
            {"name": name, "kind": FORMATS[name].kind, "ending": FORMATS[name].ending, "needs": FORMATS[name].needs}
            for name in IN_BROWSER
        ],
        "needs": {name: FORMATS[name].needs for name in IN_BROWSER},
        "says_camera": [name for name in IN_BROWSER if FORMATS[name].says_camera],
        "colormaps": list(colormap.COLORMAPS),
        "tables": {name: colormap.table(name).tolist() for name in colormap.COLORMAPS},
        "max_bytes": MAX_BYTES,
        "max_pixels": MAX_PIXELS,
    }


def index_html() -> str:
    """The index.html of the served page, with the worker as its backend and the content policy as a meta element."""
    html = (STATIC / "index.html").read_text(encoding="utf-8")
    served = '<meta name="backend" content="./server.js" />'
    here = (
        f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}" />\n'
        '    <meta name="backend" content="./browser/backend.js" />'
    )
    link = '<p><a href="openapi.json">API</a></p>'
    problem = '<p class="problem" id="problem" role="alert" hidden></p>'
    late = (
        '<p class="problem late">The page has not started. Opened as a file it cannot: '
        "publish its folder with a web server, for example python -m http.server.</p>"
    )
    for part, new in ((served, here), (problem, f"{problem}\n      {late}"), (link, LICENCES)):
        assert html.count(part) == 1
        html = html.replace(part, new)
    return html


def write_licences(folder: Path, models: list[dict[str, Any]]) -> None:
    """Write licences.txt, and ONNX Runtime's licence from the Python package: the npm package has none."""
    runtime = find_spec("onnxruntime")
    assert runtime is not None and runtime.origin is not None
    for name in ("LICENSE", "ThirdPartyNotices.txt"):
        shutil.copyfile(Path(runtime.origin).parent / name, folder / VENDOR / name)
    weights = "".join(f"  {row['name']}: {row['licence']}\n" for row in models)
    (folder / "licences.txt").write_text(
        f"This page was written by depth-anything {__version__}, which is under the Apache License 2.0\n"
        "(https://www.apache.org/licenses/LICENSE-2.0). It contains:\n\n"
        f"onnxruntime-web {VERSION} (Microsoft, MIT): {VENDOR}/LICENSE and {VENDOR}/ThirdPartyNotices.txt\n"
        "model-viewer (Google, Apache-2.0) with three.js, fflate, ktx-parse (MIT) and lit (BSD-3-Clause):\n"
        "  static/vendor/*.LICENSE\n"
        "Photographs of the Kodak Lossless True Color Image Suite, released for unrestricted use: static/examples/\n"
        f"Weights in models/, with the licence that their owner states:\n{weights}",
        encoding="utf-8",
    )
