"""Photographs whose licence is clear, from Debian packages of wallpapers, with a manifest of authors and licences.

    python scripts/wallpapers.py runs/wallpapers            # needs apt-get and dpkg-deb; no root
    python scripts/wallpapers.py runs/wallpapers --debs .   # packages that are here already

OUT receives the photographs, and manifest.json with each one's file, package and version, path in the package, authors,
licence, size and windows. OUT/windows/ receives images to train with: each photograph, and of a large one the four
quarters and the middle, at most `WINDOW_SIDE` pixels on the shorter side.

Only files that the package's copyright file (Debian's machine-readable format) puts under CC0, CC BY, CC BY-SA or the
public domain are taken. Drawings and abstract patterns, which no rule can tell from photographs, are named in
`NOT_PHOTOGRAPHS`: somebody looked at every image.
"""

import fnmatch
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath

import tyro
from PIL import Image
from tyro.conf import Positional

from depth_anything.images.read import read_image
from depth_anything.system.files import atomic_path, make_folder

PACKAGES = ("lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04")
"""Of Debian 12. Not among them: gnome-backgrounds and ukui-wallpapers (drawings), mate-backgrounds and
plasma-workspace-wallpapers (their photographs are under the GPL)."""
NOT_PHOTOGRAPHS = (
    "analogpattern_by_Peter_Nerlich.jpg",
    "umang_by_Abhishek_Mudgal.jpg",
    "Fossa_by_Jasper_Roks.jpg",
    "Infinite-Sea_by_Aury88.jpg",
    "Painting-Colors_by__herobrine7gamer.jpg",
)
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
CLEAR = re.compile(r"CC0(-1\.0)?|CC-BY(-SA)?-[1-4]\.\d|public-domain", re.IGNORECASE)
"""Short names of licences that are taken."""
SHORTEST_SIDE = 480
"""Smaller images are previews of others."""
WINDOW_SIDE = 768
"""Pixels of a window's shorter side, if it has more; training inputs have fewer."""


@dataclass(frozen=True)
class Stanza:
    """What a copyright file says of some files."""

    patterns: tuple[str, ...]
    """Paths in the package's source, with * and ?."""
    authors: str
    licence: str

    def covers(self, path: str) -> bool:
        """Whether a pattern fits an installed file. Packages install files from other folders than those of the source,
        so names decide; a pattern for everything in a folder asks for a folder of that name."""
        parts = PurePosixPath(path).parts
        for pattern in self.patterns:
            *folders, name = PurePosixPath(pattern).parts
            if fnmatch.fnmatchcase(parts[-1], name) and (set(name) != {"*"} or not folders or folders[-1] in parts):
                return True
        return False

    @property
    def is_clear(self) -> bool:
        """Whether one of several licences to choose from, and all that apply together, are clear."""
        choices = re.split(r"\s+or\s+|\s*\|\s*", self.licence)
        return any(
            all(CLEAR.fullmatch(one.strip(" ,")) for one in re.split(r"\s+and\s+", choice)) for choice in choices
        )


def wallpapers(out: Positional[Path], debs: Path | None = None, packages: tuple[str, ...] = PACKAGES) -> None:
    """Fetch the packages, and write the photographs, their windows and manifest.json.

    Args:
        out: folder for all of them.
        debs: folder with the packages' files, instead of `apt-get download`.
        packages: their names.
    """
    make_folder(out / "windows")
    entries = []
    with tempfile.TemporaryDirectory(prefix="wallpapers-") as folder:
        if debs is None:
            subprocess.run(["apt-get", "download", *packages], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        for package in packages:
            found = sorted((debs or Path(folder)).glob(f"{package}_*.deb"))
            if not found:
                raise ValueError(f"{debs or folder}: no {package}_*.deb; fetch it with `apt-get download {package}`")
            entries += take(found[-1], out)
    with atomic_path(out / "manifest.json") as temporary:
        temporary.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{out / 'manifest.json'}: {len(entries)} photographs", file=sys.stderr)


def take(deb: Path, out: Path) -> list[dict]:
    """Write a package's photographs and their windows; return their entries in the manifest."""
    fields = subprocess.run(
        ["dpkg-deb", "--field", str(deb), "Package", "Version"], check=True, capture_output=True, text=True
    )
    package, version = HeaderParser().parsestr(fields.stdout).values()
    stream = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(deb)], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(stream)) as tar:
        members = {member.name.removeprefix("./"): member for member in tar.getmembers() if member.isfile()}
        told = members.get(f"usr/share/doc/{package}/copyright")
        if told is None:
            raise ValueError(f"{deb.name}: no copyright file: its licence is not clear")
        try:
            stanzas = list(read_copyright(read(tar, told).decode("utf-8")))
        except ValueError as error:
            raise ValueError(f"{deb.name}: {error}") from None
        entries, unclear = [], 0
        for path, member in sorted(members.items()):
            name = PurePosixPath(path).name
            if not path.lower().endswith(SUFFIXES) or name in NOT_PHOTOGRAPHS:
                continue
            covering = [stanza for stanza in stanzas if stanza.covers(path)]
            if not covering or not covering[-1].is_clear:
                unclear += 1
                continue
            content = read(tar, member)
            with Image.open(io.BytesIO(content)) as image:
                size = image.size
            if min(size) < SHORTEST_SIDE:
                continue
            file = f"{package}-{name}"
            with atomic_path(out / file) as temporary:
                temporary.write_bytes(content)
            entries.append(
                {"file": file, "package": package, "version": version, "path": path}
                | {key: value for key, value in asdict(covering[-1]).items() if key != "patterns"}
                | {"size": size, "windows": write_windows(out / file, out / "windows")}
            )
    print(f"{deb.name}: {len(entries)} photographs, {unclear} images under other licences", file=sys.stderr)
    return entries


def write_windows(photograph: Path, folder: Path) -> list[dict]:
    """Write the windows of a photograph; return their files and boxes (left, upper, right, lower; upright pixels)."""
    image = Image.fromarray(read_image(photograph))
    found = []
    for number, box in enumerate(window_boxes(*image.size)):
        window = image.crop(box)
        scale = min(1.0, WINDOW_SIDE / min(window.size))
        window = window.resize((round(window.width * scale), round(window.height * scale)), Image.Resampling.LANCZOS)
        file = f"{photograph.stem}-{number}.jpg"
        with atomic_path(folder / file) as temporary:
            window.save(temporary, "JPEG", quality=92)
        found.append({"file": f"windows/{file}", "box": box})
    return found


def window_boxes(width: int, height: int) -> list[tuple[int, int, int, int]]:
    """All of an image; of a large one also its quarters and its middle."""
    boxes = [(0, 0, width, height)]
    half_width, half_height = width // 2, height // 2
    if min(half_width, half_height) >= SHORTEST_SIDE:
        corners = [(x, y) for y in (0, height - half_height) for x in (0, width - half_width)]
        for x, y in (*corners, ((width - half_width) // 2, (height - half_height) // 2)):
            boxes.append((x, y, x + half_width, y + half_height))
    return boxes


def read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """The content of a regular file."""
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


def read_copyright(text: str) -> Iterator[Stanza]:
    """The file stanzas of a copyright file in Debian's machine-readable format 1.0; in it the last one that fits wins.

    Raises:
        ValueError: the file is free text.
    """
    if not text.lstrip().startswith("Format:"):
        raise ValueError(
            "the copyright file is not in Debian's machine-readable format: read it, it cannot be used here"
        )
    for block in re.split(r"\n\s*\n", text.strip()):
        fields = HeaderParser().parsestr(block)
        if fields["Files"] and fields["License"]:
            authors = "; ".join(line.strip() for line in (fields["Copyright"] or "").splitlines() if line.strip())
            yield Stanza(tuple(fields["Files"].split()), authors, fields["License"].splitlines()[0].strip())


if __name__ == "__main__":
    tyro.cli(wallpapers)
