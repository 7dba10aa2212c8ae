"""scripts/wallpapers.py with packages that are made here."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from benchmark_scripts import SCRIPTS, script
from PIL import Image

wallpapers = script("wallpapers", SCRIPTS)
pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is not installed")
COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Source: https://example.org

Files: *
Copyright: 2001, Everybody
License: GPL-2+

Files: photos/harbour_by_Ann.jpg
 photos/hill_*.jpg
Copyright: 2018, Ann Example
  2019, Bo Example
License: CC-BY-SA-4.0

Files: photos/hill_drawn.jpg
Copyright: 2020, Cy Example
License: CC-BY-NC-4.0

Files: photos/small.jpg photos/umang_by_Abhishek_Mudgal.jpg
Copyright: 2018, Ann Example
License: CC0-1.0

Files: debian/*
Copyright: 2020, Di Example
License: CC0-1.0

License: CC-BY-SA-4.0
 The text of the licence.
"""
SIZES = {
    "harbour_by_Ann.jpg": (800, 600),
    "hill_1.jpg": (600, 500),
    "hill_drawn.jpg": (800, 600),
    "small.jpg": (320, 240),
    "umang_by_Abhishek_Mudgal.jpg": (800, 600),
    "other.jpg": (800, 600),
}


def package(folder: Path, copyright_text: str = COPYRIGHT) -> None:
    """Build somepapers_1.0-1_all.deb in the folder."""
    root = folder / "root"
    for path, text in (
        ("DEBIAN/control", "Package: somepapers\nVersion: 2:1.0-1\nArchitecture: all\nMaintainer: A <a@b.c>\n"
         "Description: some\n"),
        ("usr/share/doc/somepapers/copyright", copyright_text),
    ):  # fmt: skip
        (root / path).parent.mkdir(parents=True)
        (root / path).write_text(text)
    for name, size in SIZES.items():
        path = root / "usr/share/backgrounds" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, "olive").save(path)
    command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(root), str(folder)]
    subprocess.run(command, check=True, capture_output=True)


def test_only_large_photographs_under_a_clear_licence_are_taken(tmp_path):
    package(tmp_path)
    wallpapers.wallpapers(tmp_path / "out", debs=tmp_path, packages=("somepapers",))
    entries = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [entry["file"] for entry in entries] == ["somepapers-harbour_by_Ann.jpg", "somepapers-hill_1.jpg"]
    assert entries[0] == {
        "file": "somepapers-harbour_by_Ann.jpg",
        "package": "somepapers",
        "version": "2:1.0-1",
        "path": "usr/share/backgrounds/harbour_by_Ann.jpg",
        "authors": "2018, Ann Example; 2019, Bo Example",
        "licence": "CC-BY-SA-4.0",
        "size": [800, 600],
        "windows": [{"file": "windows/somepapers-harbour_by_Ann-0.jpg", "box": [0, 0, 800, 600]}],
    }
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files == {"manifest.json", "windows", *(e["file"] for e in entries)}


def test_a_large_photograph_gives_its_quarters_and_its_middle_upright(tmp_path):
    image_HW = np.arange(1000, dtype=np.uint16)[:, None] // 4 + np.zeros((1, 1800), np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    photograph = tmp_path / "large.png"
    Image.fromarray(image_HW.astype(np.uint8)).save(photograph, exif=exif)
    (tmp_path / "windows").mkdir()
    found = wallpapers.write_windows(photograph, tmp_path / "windows")
    assert [window["box"] for window in found] == [
        (0, 0, 1000, 1800),
        (0, 0, 500, 900),
        (500, 0, 1000, 900),
        (0, 900, 500, 1800),
        (500, 900, 1000, 1800),
        (250, 450, 750, 1350),
    ]
    whole, left, right, *_ = (np.asarray(Image.open(tmp_path / window["file"]).convert("L")) for window in found)
    assert whole.shape == (1382, 768) and left.shape == (900, 500)
    # Columns of the upright image go from bright (the last row) to dark.
    assert abs(int(left[0, 0]) - 249) <= 2 and abs(int(right[0, -1])) <= 2


def test_a_smaller_one_gives_itself_alone():
    assert wallpapers.window_boxes(1900, 959) == [(0, 0, 1900, 959)]
    assert len(wallpapers.window_boxes(1900, 960)) == 6


@pytest.mark.parametrize(
    ("licence", "clear"),
    [
        ("CC0", True),
        ("CC0-1.0", True),
        ("CC-BY-3.0", True),
        ("CC-BY-SA-4.0", True),
        ("public-domain", True),
        ("GPL-2+ or CC-BY-SA-3.0", True),
        ("GPL-2+ and CC-BY-SA-3.0", False),
        ("CC-BY-NC-4.0", False),
        ("CC-BY-ND-4.0", False),
        ("CC-BY-NC-SA-4.0", False),
        ("GPL-2+", False),
    ],
)
def test_a_licence_is_clear_if_it_allows_changed_copies_for_any_use(licence, clear):
    assert wallpapers.Stanza(("*",), "", licence).is_clear is clear


def test_free_text_is_refused_and_so_is_a_missing_package(tmp_path):
    package(tmp_path, "Everything here is under some licence.\n")
    with pytest.raises(ValueError, match=r"somepapers_1\.0-1_all\.deb: .* not in Debian's machine-readable format"):
        wallpapers.wallpapers(tmp_path / "out", debs=tmp_path, packages=("somepapers",))
    with pytest.raises(ValueError, match=r"no others_\*\.deb; fetch it with `apt-get download others`"):
        wallpapers.wallpapers(tmp_path / "out", debs=tmp_path, packages=("others",))
