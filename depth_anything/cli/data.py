"""`depth-anything data check`: what is in a copy of a data set."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from depth_anything.cli.exits import Failed
from depth_anything.cli.options import AcceptLicense, Device


def data(
    action: Positional[Literal["check"]],
    name: Positional[str],
    root: Positional[Path],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("data_check"),
    limit: int | None = None,
    sky: Literal["off", "renderer", "segformer"] = "renderer",
    segmenter: str | None = None,
    cache: Path | None = None,
    device: Device = "cpu",
    threads: int = 2,
    accept_license: AcceptLicense = False,
) -> None:
    """Walk a copy of a data set: count it, show its ranges, name what is broken.

    Written to OUT: NAME.png, some pictures, those of a labelled set beside their disparity (grey is not valid, black is
    sky); NAME_left_out.txt, a line for each picture that is broken or refused, where there are any; and after a walk
    over all of a labelled set NAME_pictures.txt, the usable ones: put it into ROOT as pictures.txt and only these are
    trained on.

    Args:
        action: check.
        name: of a labelled set, such as tartanair; of an unlabelled one, such as sa1b; or folder, list, tars for your
            own pictures. An unknown name lists them all.
        root: the folder of this set.
        out: folder for the files.
        limit: read only this many pictures, evenly spread.
        sky: of a labelled set: off; renderer, what the set itself knows; segformer, also what SegFormer finds (extra
            transfer).
        segmenter: another SegFormer for ADE20K than the largest released one: a hub id or a folder.
        cache: folder that keeps SegFormer's masks, for training too; by default OUT/sky.
        threads: how many pictures are read at a time.
    """
    from depth_anything.data.labeled.sets import LABELED
    from depth_anything.data.set_sizes import UNLABELED_PICTURES
    from depth_anything.data.unlabeled.sets import OTHERS, UNLABELED, units

    sheet = out / f"{name}.png"
    if name in LABELED:
        from depth_anything.data.check import check
        from depth_anything.data.sky import SEGFORMER, SkySegmenter, choose_sky

        chosen = LABELED[name]
        samples = chosen.open(root)
        names = getattr(samples, "pictures", None)  # of files; rendered scenes have none
        say_count(name, root, len(samples), chosen.pictures)
        segment = None
        if sky == "segformer":
            segment = SkySegmenter(segmenter or SEGFORMER, device=device, accept_license=accept_license)
        report = check(choose_sky(samples, sky, segment, cache or out / "sky"), limit, sheet, threads)
        usable, broken, refused = len(report.usable), report.broken, report.refused
        pictures = [names[number] for number in report.usable] if names is not None and limit is None else []
    elif name in UNLABELED or name in OTHERS:
        from depth_anything.data.check_pictures import check_pictures

        found = units(name, root)
        counts = [unit.count for unit in found]
        if None in counts:
            print(f"{name}: {len(found):,} units in {root}; how many pictures they hold, only reading tells")
        else:
            say_count(name, root, sum(count or 0 for count in counts), UNLABELED_PICTURES.get(name))
        report = check_pictures(found, limit, sheet, threads)
        usable, broken, refused, pictures = len(report.shorter_sides), report.broken, [], []
    else:
        raise ValueError(f"no data set {name!r}; choose one of: {', '.join((*LABELED, *UNLABELED, *OTHERS))}")
    for line in report.lines():
        print(line)
    if usable:
        print(sheet)
    write_lines(out / f"{name}_left_out.txt", [*broken, *refused])
    write_lines(out / f"{name}_pictures.txt", pictures)
    for kind, lines in (("error", broken), ("refused", refused)):
        if lines:
            print(f"{kind}: {lines[0]}", file=sys.stderr)
    if broken or not usable:
        raise Failed(1 if usable else 2)


def say_count(name: str, root: Path, found: int, expected: int | None) -> None:
    """How many pictures there are, beside the papers' number."""
    from depth_anything.data.set_sizes import LABELED_PICTURES, UNLABELED_PICTURES

    printed = (LABELED_PICTURES | UNLABELED_PICTURES).get(name)
    of = f"; the papers train on {short(printed)}" if printed else ""
    of += f": {found / expected:.1%} of {expected:,}" if expected else ""
    print(f"{name}: {found:,} pictures in {root}{of}")


def short(count: int) -> str:
    """A number of pictures as the papers print it: 11.1M, 115K, 24,231."""
    if count >= 1_000_000:
        return f"{count / 1e6:.1f}M"
    return f"{count:,}" if count % 1000 else f"{count // 1000}K"


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """A text file, if there is a line to write; its name is printed."""
    from depth_anything.system.files import atomic_path

    if lines:
        with atomic_path(path) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(path)
