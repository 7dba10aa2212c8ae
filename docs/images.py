"""Makes the images of README.md and the documentation: runs what the quickstart shows and shrinks the results.

python docs/images.py             all of them; needs Chromium (`make system`)
python docs/images.py --readme    only docs/images/readme.jpg
python docs/images.py --page      only docs/images/page.jpg, the page that `depth-anything serve` shows
"""

import io
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path

import av
from PIL import Image

from depth_anything import Predictor
from depth_anything.__main__ import main as depth_anything
from depth_anything.images.read import read_image

DOCS = Path(__file__).resolve().parent
sys.path.append(str(DOCS.parent / "tests"))
from clips import write_video  # noqa: E402
from serving import serving  # noqa: E402

CHROMIUM = "/usr/bin/chromium"

IMAGES = {
    "photo.jpg": ("photo/kodak_24_side.png", 1000),
    "video.jpg": ("video/frame.png", 800),
    "control.jpg": ("artist/kodak_20_control.png", 480),
    "normals.jpg": ("artist/kodak_20_normals.png", 480),
    "metres.jpg": ("robot/kodak_24_color.png", 640),
    "label.jpg": ("labels/first.png", 800),
}
"""Name in docs/images -> (what the commands wrote, its width)."""
README = ("kodak_12", "kodak_20", "kodak_24")
"""Photographs of examples/, all of one size, that the README shows above their maps."""


def main() -> None:
    if "--page" not in sys.argv:
        make_readme()
    if "--readme" not in sys.argv:
        make_page()
    if len(sys.argv) == 1:
        make_quickstart()


def make_quickstart() -> None:
    """IMAGES, from the commands of docs/quickstart.md."""
    text = (DOCS / "quickstart.md").read_text()
    (DOCS / "images").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "examples").symlink_to(DOCS.parent / "examples")
        os.chdir(folder)
        write_video(Path("clip.mp4"), frames=12, size=(400, 300))
        for language, block in re.findall(r"^```(bash|python)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
            if language == "python":
                exec(compile(block, "quickstart.md", "exec"), {})
                continue
            for line in block.splitlines():
                depth_anything(shlex.split(line, comments=True)[1:])
        with av.open("video/clip_side.mp4") as video:
            next(video.decode(video=0)).to_image().save("video/frame.png")
        for name, (source, width) in IMAGES.items():
            with Image.open(source) as image:
                height = round(image.height * width / image.width)
                image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS).save(
                    DOCS / "images" / name, quality=82, optimize=True
                )
        os.chdir(DOCS)


def make_page(size: tuple[int, int] = (1280, 852), width: int = 1000) -> None:
    """docs/images/page.jpg: the page with its first example, opened as a visitor opens it."""
    from playwright.sync_api import sync_playwright

    with serving() as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme="light")
        page.set_default_timeout(120_000)
        page.goto(server.url)
        page.wait_for_selector("body[data-ready]")
        page.click("[data-example='kodak_24.jpg']")
        page.wait_for_selector("body[data-state=done]")
        page.wait_for_timeout(1000)  # what fades in
        shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        browser.close()
    shot = shot.resize((width, round(shot.height * width / shot.width)), Image.Resampling.LANCZOS)
    shot.save(DOCS / "images/page.jpg", quality=82, optimize=True)


def make_readme(size: tuple[int, int] = (400, 267), gap: int = 6) -> None:
    """docs/images/readme.jpg: the photographs in a row, the bundled model's map below each."""
    predictor = Predictor("nano")
    canvas = Image.new("RGB", (len(README) * (size[0] + gap) - gap, 2 * size[1] + gap), "white")
    for column, name in enumerate(README):
        image_HW3 = read_image(DOCS.parent / f"examples/{name}.jpg")
        for row, tile_HW3 in enumerate((image_HW3, predictor(image_HW3).colored())):
            tile = Image.fromarray(tile_HW3).resize(size, Image.Resampling.LANCZOS)
            canvas.paste(tile, (column * (size[0] + gap), row * (size[1] + gap)))
    canvas.save(DOCS / "images/readme.jpg", quality=82, optimize=True)


if __name__ == "__main__":
    main()
