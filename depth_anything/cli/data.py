"""`depth-anything data check`: what is in a copy of a data set."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from .exits import Failed


def data(
    action: Positional[Literal["check"]],
    name: Positional[str],
    root: Positional[Path],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("data_check"),
    limit: int | None = None,
    sky: Literal["off", "renderer", "segformer"] = "renderer",
    segmenter: str | None = None,
    cache: Path | None = None,
    device: str = "cpu",
    threads: int = 2,
    accept_license: bool = False,
) -> None:
    """Walk a copy of a labelled data set: count it, show its ranges, name what is broken.

    Written to OUT: NAME.png, pictures beside their disparity (grey is not valid, black is sky); NAME_left_out.txt, a
    line for each picture that is broken or refused, where there are any; and after a walk over all pictures
    NAME_pictures.txt, the usable ones: put it into ROOT as pictures.txt and only these are trained on.

    Args:
        action: check.
        name: blendedmvs, diml, hrwsi, irs, megadepth, tartanair, hypersim, vkitti2, nyuv2, kitti, scenes.
        root: the folder of this set.
        out: folder for the files.
        limit: read only this many pictures, evenly spread.
        sky: off; renderer, what the set itself knows; segformer, also what SegFormer finds (extra transfer).
        segmenter: another SegFormer for ADE20K than the largest released one: a hub id or a folder.
        cache: folder that keeps SegFormer's masks, for training too; by default OUT/sky.
        device: of SegFormer: cpu, cuda, mps.
        threads: how many pictures are read at a time.
        accept_license: needed once for SegFormer's weights, which are not for commercial use.
    """
    from ..data.check import check
    from ..data.labeled.sets import find_set
    from ..data.sky import SEGFORMER, SkySegmenter, choose_sky
    from ..files import atomic_path

    chosen = find_set(name)
    samples = chosen.open(root)
    names = getattr(samples, "pictures", None)  # of files; rendered scenes have none
    said = f"{name}: {len(samples):,} pictures in {root}"
    if chosen.pictures is not None:
        said += f"; the papers train on {chosen.printed}: {len(samples) / chosen.pictures:.1%} of {chosen.pictures:,}"
    print(said)
    segment = None
    if sky == "segformer":
        segment = SkySegmenter(segmenter or SEGFORMER, device=device, accept_license=accept_license)
    report = check(choose_sky(samples, sky, segment, cache or out / "sky"), limit, out / f"{name}.png", threads)
    for line in report.lines():
        print(line)
    written = [out / f"{name}.png"] if report.usable else []
    for kind, lines in (
        ("left_out", report.broken + report.refused),
        ("pictures", [names[number] for number in report.usable] if names is not None and limit is None else []),
    ):
        if lines:
            written.append(out / f"{name}_{kind}.txt")
            with atomic_path(written[-1]) as temporary:
                temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for path in written:
        print(path)
    for kind, lines in (("error", report.broken), ("refused", report.refused)):
        if lines:
            print(f"{kind}: {lines[0]}", file=sys.stderr)
    if report.broken or not report.usable:
        raise Failed(1 if report.usable else 2)
