"""`depth-anything calibrate`: metres from a relative disparity and known distances."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import Positional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from depth_anything.predict.prediction import Prediction


def calibrate(
    map: Positional[Path],
    points: Positional[tuple[str, ...]],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("out"),
    save: str = "npz,png16",
    max_depth: float = 1000.0,
    local: bool = False,
    image: str | None = None,
    overwrite: bool = False,
) -> None:
    """Metres from a relative disparity and two or more known distances.

    The scale and shift that map disparity to 1/metres are fitted by least squares.

    Args:
        map: a disparity map that predict wrote: png16, npz, exr or pfm. A metric map is corrected in the same way.
        points: two or more x,y,metres: a pixel of the upright image, counted from its upper left corner, and the
            distance there. Or one file of points: .csv with the columns x,y,metres; .npz with an array points
            (count, 3) or a sparse map depth_m (0: not measured); the folder of a COLMAP model.
        out: folder for the results.
        save: what to write, separated by commas: npz, png16, color, pfm, exr.
        max_depth: distances beyond this many metres are marked as unknown (0).
        local: correct the map locally too, with ten or more points, where that is better at points kept out.
        image: name of the image in a COLMAP model, if it differs from the name of the map.
        overwrite: replace existing results.
    """
    from depth_anything.images.formats import split_formats
    from depth_anything.predict.prediction import load

    if image and not (len(points) == 1 and Path(points[0]).is_dir()):
        raise ValueError(f"--image {image}: read only with the folder of a COLMAP model as points; leave it out")
    formats = split_formats(save)
    relative = load(map)
    stem = map.stem.removesuffix(f"_{relative.quantity}")
    known = known_points(points, relative, image or stem)
    metric = relative.align_to(known, max_depth_m=max_depth, local=local)
    for path in metric.save(out / stem, formats, overwrite=overwrite):
        print(path)
    for line in (metric.describe(), *metric.notes):
        print(line)


def known_points(points: tuple[str, ...], relative: Prediction, image: str) -> Sequence[Sequence[float]]:
    """The points of the command line, or those of the file that it names."""
    if len(points) == 1 and points[0].count(",") != 2:
        from depth_anything.geometry.measured_points import read_points

        return read_points(points[0], relative.height, relative.width, image).tolist()
    try:
        return [tuple(float(number) for number in point.split(",")) for point in points]
    except ValueError:
        raise ValueError(
            f"points {' '.join(points)}: expected x,y,metres as numbers for each point, or one file"
        ) from None
