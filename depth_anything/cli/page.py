"""`depth-anything page`: the page of `serve` as static files, with the model running in the browser."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional


def page(
    out: Positional[Path],
    model: tuple[str, ...] = ("nano",),
    onnxruntime_web: Path | None = None,
    overwrite: bool = False,
) -> None:
    """A folder of static files: a web page that runs the model in the visitor's browser. No server is needed.

    Any static web server can publish it. Images stay in the browser.

    Args:
        out: the folder.
        model: nano, or files that `export` wrote (.onnx); visitors choose among them, and the first is the default.
        onnxruntime_web: the npm package onnxruntime-web as a file of `npm pack` or as a folder. By default it is
            downloaded once from the npm registry (33 MB) and checked.
        overwrite: replace a page that is there.
    """
    from depth_anything.predict.backends import NANO_ONNX
    from depth_anything.variants import VARIANTS
    from depth_anything.web import browser_runtime
    from depth_anything.web.page import check_free, write_page

    models: dict[str, Path] = {}
    for given in model:
        if given in VARIANTS and given != "nano":
            raise ValueError(
                f"--model {given}: expected nano or an .onnx file: write one with `depth-anything export {given}`"
            )
        path = NANO_ONNX if given == "nano" else Path(given)
        if path.suffix != ".onnx":
            raise ValueError(f"--model {given}: expected nano or an .onnx file that `depth-anything export` wrote")
        if path.stem in models:
            raise ValueError(f"--model {' '.join(model)}: two of them have one name; rename a file")
        models[path.stem] = path
    check_free(out, overwrite)
    loaded = sum(write_page(out, models, browser_runtime.find(onnxruntime_web), overwrite).values())
    total = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out}: {', '.join(models)}; {total / 1e6:.1f} MB, of which a first visit loads {loaded / 1e6:.1f} MB")
    print(f"To try it: python -m http.server --bind 127.0.0.1 --directory {out}")
