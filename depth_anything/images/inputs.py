"""The images that a command line names, each with a name for its outputs that no other image shares."""

import glob
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from depth_anything.images import raw
from depth_anything.images.source import SUFFIXES, ImageError, Source
from depth_anything.system.files import is_hidden, read_text, walk


def find_images(
    inputs: Sequence[str | os.PathLike[str]], exclude: str | os.PathLike[str] | None = None
) -> list[Source]:
    """The images that `inputs` name, each once, in order, with unique names for their outputs.

    An input is a file, a folder (searched through all its folders, sorted), a glob pattern such as
    `'shots/**/*.jpg'`, a .txt file with one path or folder per line (relative to the current folder, or else to the
    list's own), or `-` for one image through standard input. Files that do not exist are kept: reading them gives the
    error, and the rest is done. Raw camera files are found by their names and by patterns; in a folder they are
    skipped, since their JPEGs are usually next to them.

    The output stem of an image in a folder is its path below that folder without the suffix; of a file its name
    without the suffix. Where two images would share a stem (letters' case ignored, as some disks do), each of them
    gets its path below the deepest folder that holds all inputs, and where that is still shared, with its suffix:
    a/x.jpg b/x.jpg -> a/x b/x; x.jpg x.png -> x.jpg x.png.

    Args:
        inputs: as above.
        exclude: a folder that is not searched: the output folder, if it is inside an input.

    Raises:
        ImageError: nothing was named, or a folder, pattern or list holds no image.
    """
    if not inputs:
        raise ImageError("no input: give files, folders, patterns, a .txt list of paths, or - for standard input")
    excluded = Path(exclude).resolve() if exclude is not None else None
    found: dict[object, tuple[Path | None, str]] = {}  # in order, each file once
    for entry in inputs:
        for path, stem in _expand(os.fspath(entry), excluded):
            found.setdefault(path.resolve() if path is not None else "-", (path, stem))
    stems = _distinct([(path.absolute() if path is not None else None, stem) for path, stem in found.values()])
    return [
        Source(stem, path, sys.stdin.buffer.read() if path is None else None)
        for (path, _), stem in zip(found.values(), stems, strict=True)
    ]


def _expand(entry: str, excluded: Path | None, in_list: bool = False) -> Iterator[tuple[Path | None, str]]:
    """(path, stem of its outputs) of every image that one input names; the path is None for standard input."""
    path = Path(entry)
    if entry == "-" and not in_list:
        yield None, "stdin"
    elif path.is_dir():
        images = list(walk(path, SUFFIXES, excluded))
        if not images:
            raise ImageError(f"{entry}: no image in this folder; looked for {' '.join(sorted(SUFFIXES))}")
        for file in images:
            yield file, file.relative_to(path).with_suffix("").as_posix()
    elif path.suffix.lower() == ".txt" and path.is_file() and not in_list:
        try:
            lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
        except ValueError as error:
            raise ImageError(f"{error}; expected one path per line") from None
        if not lines:
            raise ImageError(f"{entry}: the list is empty; expected one path per line")
        for line in lines:
            beside = path.parent / line
            yield from _expand(str(beside) if beside.exists() and not Path(line).exists() else line, excluded, True)
    elif any(character in entry for character in "*?[") and not path.exists():
        matches = sorted(Path(match) for match in glob.glob(entry, recursive=True))
        images = [match for match in matches if match.is_file() and match.suffix.lower() in SUFFIXES | raw.SUFFIXES]
        named = Path(entry).parts
        images = [match for match in images if not any(is_hidden(part) for part in match.parts if part not in named)]
        if not images:
            raise ImageError(f"{entry}: no image matches this pattern")
        for file in images:
            yield file, file.stem
    else:
        yield path, path.stem


def _distinct(entries: list[tuple[Path | None, str]]) -> list[str]:
    """Stems in which every pair differs: those that collide step from their own to the longer forms until none does."""
    paths = [path for path, _ in entries if path is not None]
    common = Path(os.path.commonpath([path.parent for path in paths])) if paths else Path()
    forms = []
    for path, stem in entries:
        below = path.relative_to(common) if path is not None else Path(stem)
        forms.append((stem, below.with_suffix("").as_posix(), below.as_posix()))
    level = [0] * len(entries)
    while True:
        stems = [form[step] for form, step in zip(forms, level, strict=True)]
        count = Counter(stem.casefold() for stem in stems)
        clashing = [i for i, stem in enumerate(stems) if count[stem.casefold()] > 1 and level[i] < 2]
        if not clashing:
            return stems
        for i in clashing:
            level[i] += 1
