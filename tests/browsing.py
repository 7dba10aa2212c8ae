"""A real browser (Debian's Chromium) for tests of the page, and what they do with it."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    *("--no-sandbox", "--no-first-run", "--disable-quic", "--disable-sync", "--disable-component-update"),
    "--disable-background-networking",
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"),  # WebGL without a GPU
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),  # a camera
]
WAIT_MS = 240_000  # a loaded machine without a GPU draws slowly
MAGIC = {
    **dict.fromkeys(("color", "png16", "side", "control", "normals", "confidence", "sbs", "anaglyph"), b"\x89PNG"),
    "npy": b"\x93NUMPY",
    "npz": b"PK",
    "json": b"{",
    **dict.fromkeys(("exr", "rgbz"), b"v/1\x01"),
    "pfm": b"Pf\n",
    "ply": b"ply\n",
    "glb": b"glTF",
    "colmap": b"240&160&1&",
    "colmap_camera": b"\x01\0\0\0\0\0\0\0",
}


def until(page, condition: str) -> None:
    """Waits for what JavaScript says (wait_for_function would be stopped by the page's own policy)."""
    for _ in range(WAIT_MS // 100):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"never: {condition}")


def upload(page, path: Path) -> None:
    page.evaluate("document.body.dataset.state = 'asked'")  # not the state of an earlier image
    page.set_input_files("#file", path)
    page.wait_for_selector("body[data-state=done]")


def point(page, x: float, y: float) -> None:
    """Moves the pointer to a place of the image, in fractions of its sides."""
    page.locator("#view").scroll_into_view_if_needed()
    box = page.locator("#view").bounding_box()
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])


def shot(page, selector: str) -> np.ndarray:
    image = Image.open(io.BytesIO(page.locator(selector).screenshot())).convert("RGB")
    return np.asarray(image).astype(int)


def words(page) -> str:
    return page.inner_text("#reading").replace("\n", ", ")
