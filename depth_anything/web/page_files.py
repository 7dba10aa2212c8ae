"""Definitions that the served page and the page without a server share. No extra is needed."""

from importlib.resources import files
from pathlib import Path

from depth_anything.images.formats import FORMATS

STATIC = Path(str(files("depth_anything"))) / "web" / "static"
CONTENT_POLICY = (
    # The page may connect to its own origin only; blob: and data: are for files that the page itself creates.
    "default-src 'self'; connect-src 'self' blob: data:; img-src 'self' blob: data:; worker-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline'; script-src 'self' 'wasm-unsafe-eval'; base-uri 'none'; form-action 'none'"
)
OFFERED = tuple(name for name, row in FORMATS.items() if "sky" not in row.needs)
"""Formats to download: those without a sky mask."""
_SERVER_ONLY = ("rgbz", "confidence", "sbs", "anaglyph", "colmap", "colmap_camera")
IN_BROWSER = tuple(name for name in OFFERED if name not in _SERVER_ONLY)
"""The formats of the page without a server, which static/browser/files.js writes."""
