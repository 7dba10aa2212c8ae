"""Makes the pictures of docs/quickstart.md anew: runs what it shows and keeps the results, smaller, in docs/images/.

    python docs/images.py

docs/images/page.jpg is a screenshot of the page that `depth-anything serve` shows; it is made by hand.
"""

import os
import re
import shlex
import sys
import tempfile
from pathlib import Path

import av
from PIL import Image

from depth_anything import cli

DOCS = Path(__file__).resolve().parent
sys.path.append(str(DOCS.parent / "tests"))
from clips import write_film  # noqa: E402

PICTURES = {
    "photo.jpg": ("photo/kodak_24_side.png", 1000),
    "film.jpg": ("film/frame.png", 800),
    "control.jpg": ("artist/kodak_20_control.png", 480),
    "normals.jpg": ("artist/kodak_20_normals.png", 480),
    "metres.jpg": ("robot/kodak_24_color.png", 640),
    "label.jpg": ("labels/first.png", 800),
}
"""Name in docs/images -> (what the commands wrote, its width)."""


def main() -> None:
    text = (DOCS / "quickstart.md").read_text()
    (DOCS / "images").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "examples").symlink_to(DOCS.parent / "examples")
        os.chdir(folder)
        write_film(Path("clip.mp4"), frames=12, size=(400, 300))
        for language, block in re.findall(r"^```(bash|python)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
            if language == "python":
                exec(compile(block, "quickstart.md", "exec"), {})
                continue
            for line in block.splitlines():
                cli.main(shlex.split(line, comments=True)[1:])
        with av.open("film/clip_side.mp4") as film:
            next(film.decode(video=0)).to_image().save("film/frame.png")
        for name, (source, width) in PICTURES.items():
            with Image.open(source) as image:
                height = round(image.height * width / image.width)
                image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS).save(
                    DOCS / "images" / name, quality=82, optimize=True
                )
        os.chdir(DOCS)


if __name__ == "__main__":
    main()
