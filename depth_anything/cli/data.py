"""`depth-anything data check`: the contents of a copy of a data set."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from depth_anything.cli.exits import Failed
from depth_anything.cli.options import AcceptLicense, Device
from depth_anything.system.words import one_of


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
    """Check a copy of a data set: count its images, show their value ranges, list broken files.

    Files in OUT: NAME.png shows some images, for a labelled set beside their disparity (grey is invalid, black is sky);
    NAME_left_out.txt lists broken and refused images, if there are any; after a check of a whole labelled set
    NAME_pictures.txt lists the usable images. Copy it to ROOT as pictures.txt to train on these only.

    Args:
        action: check.
        name: a labelled set, such as tartanair; an unlabelled set, such as sa1b; or folder, list, tars for your own
            images. An unknown name lists all of them.
        root: the folder of the set.
        out: folder for the files.
        limit: read only this many images, evenly distributed.
        sky: sky of a labelled set. off: none; renderer: the sky that the set itself states; segformer: also the sky
            that SegFormer finds on --device (extra transfer).
        segmenter: a SegFormer for ADE20K instead of the largest released one: a hub id or a folder.
        cache: folder for SegFormer's masks, which training reads too; by default OUT/sky.
        threads: number of images that are read at the same time.
    """
    from depth_anything.data.labeled.sets import LABELED
    from depth_anything.data.set_sizes import UNLABELED_IMAGES
    from depth_anything.data.unlabeled.sets import OTHERS, UNLABELED, shards

    if sky != "segformer" and (segmenter or cache):
        raise ValueError("--segmenter, --cache: read only with --sky segformer; add it, or leave them out")
    sheet = out / f"{name}.png"
    if name in LABELED:
        from depth_anything.data.check import check
        from depth_anything.data.sky import SEGFORMER, SkySegmenter, choose_sky

        chosen = LABELED[name]
        samples = chosen.open(root)
        names = getattr(samples, "images", None)  # file names; rendered scenes have none
        say_count(name, root, len(samples), chosen.images)
        segment = None
        if sky == "segformer":
            segment = SkySegmenter(segmenter or SEGFORMER, device=device, accept_license=accept_license)
        report = check(choose_sky(samples, sky, segment, cache or out / "sky"), limit, sheet, threads)
        usable, broken, refused = len(report.usable), report.broken, report.refused
        images = [names[number] for number in report.usable] if names is not None and limit is None else []
    elif name in UNLABELED or name in OTHERS:
        from depth_anything.data.check_images import check_images

        if sky == "segformer":
            raise ValueError(f"--sky segformer: {name} has no labels in which a sky could be set; leave it out")
        found = shards(name, root)
        counts = [shard.count for shard in found]
        if None in counts:
            print(f"{name}: {len(found):,} shards in {root}; the number of images is known after reading them")
        else:
            say_count(name, root, sum(count or 0 for count in counts), UNLABELED_IMAGES.get(name))
        report = check_images(found, limit, sheet, threads)
        usable, broken, refused, images = len(report.shorter_sides), report.broken, [], []
    else:
        known = (*LABELED, *UNLABELED, *OTHERS)
        raise ValueError(f"no data set {name!r}; {one_of(name, known)}")
    for line in report.lines():
        print(line)
    if usable:
        print(sheet)
    write_lines(out / f"{name}_left_out.txt", [*broken, *refused])
    write_lines(out / f"{name}_pictures.txt", images)
    for kind, lines in (("error", broken), ("refused", refused)):
        if lines:
            print(f"{kind}: {lines[0]}", file=sys.stderr)
    if broken or not usable:
        raise Failed(1 if usable else 2)


def say_count(name: str, root: Path, found: int, expected: int | None) -> None:
    """Print the number of images, and the number in the papers."""
    from depth_anything.data.set_sizes import LABELED_IMAGES, UNLABELED_IMAGES

    printed = (LABELED_IMAGES | UNLABELED_IMAGES).get(name)
    of = f"; the papers train on {short(printed)}" if printed else ""
    of += f": {found / expected:.1%} of {expected:,}" if expected else ""
    print(f"{name}: {found:,} images in {root}{of}")


def short(count: int) -> str:
    """A number of images as the papers print it: 11.1M, 115K, 24,231."""
    if count >= 1_000_000:
        return f"{count / 1e6:.1f}M"
    return f"{count:,}" if count % 1000 else f"{count // 1000}K"


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write a text file if there are any lines, and print its name."""
    from depth_anything.system.files import atomic_path

    if lines:
        with atomic_path(path) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(path)
