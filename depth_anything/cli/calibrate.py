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

    1/metres is fitted to the map by scale and shift, least squares, as everywhere in this package.

    Args:
        map: a disparity that predict wrote: png16, npz, exr or pfm. A map of metres is corrected likewise.
        points: two or more x,y,metres: pixels of the upright picture from its upper left, and the distance there.
        out: folder for the results.
        save: what to write, separated by commas: npz, png16, color, pfm, exr.
        max_depth: metres beyond which the fit is not believed: unknown, 0.
        overwrite: replace results that exist.
    """
    from depth_anything.images.formats import split_formats
    from depth_anything.predict.prediction import load

    try:
        known = [tuple(float(number) for number in point.split(",")) for point in points]
    except ValueError:
        raise ValueError(f"points {' '.join(points)}: expected x,y,metres of numbers, for each") from None
    relative = load(map)
    metric = relative.align_to(known, max_depth_m=max_depth)
    stem = map.stem.removesuffix(f"_{relative.quantity}")
    for path in metric.save(out / stem, split_formats(save), overwrite=overwrite):
        print(path)
    for line in (metric.describe(), *metric.notes):
        print(line)
