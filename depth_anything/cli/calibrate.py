"""`depth-anything calibrate`: metres from a relative disparity and known distances."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional


def calibrate(
    map: Positional[Path],
    points: Positional[tuple[str, ...]],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("out"),
    save: str = "npz,png16",
    max_depth: float = 1000.0,
    overwrite: bool = False,
) -> None:
    """Metres from a relative disparity and two or more known distances.

    The scale and shift that map disparity to 1/metres are fitted by least squares.

    Args:
        map: a disparity map that predict wrote: png16, npz, exr or pfm. A metric map is corrected in the same way.
        points: two or more x,y,metres: a pixel of the upright image, counted from its upper left corner, and the
            distance there.
        out: folder for the results.
        save: what to write, separated by commas: npz, png16, color, pfm, exr.
        max_depth: distances beyond this many metres are marked as unknown (0).
        overwrite: replace existing results.
    """
    from depth_anything.images.formats import split_formats
    from depth_anything.predict.prediction import load

    try:
        known = [tuple(float(number) for number in point.split(",")) for point in points]
    except ValueError:
        raise ValueError(f"points {' '.join(points)}: expected x,y,metres as numbers for each point") from None
    relative = load(map)
    metric = relative.align_to(known, max_depth_m=max_depth)
    stem = map.stem.removesuffix(f"_{relative.quantity}")
    for path in metric.save(out / stem, split_formats(save), overwrite=overwrite):
        print(path)
    for line in (metric.describe(), *metric.notes):
        print(line)
