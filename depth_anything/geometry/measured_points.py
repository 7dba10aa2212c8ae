"""Measured distances from a file: CSV, NPZ or the folder of a COLMAP model."""

import csv
import io
from pathlib import Path

import numpy as np

from depth_anything.geometry import colmap_model
from depth_anything.images.map_files import read_npz
from depth_anything.system.files import missing, read_text

COLUMNS = ("x", "y", "metres")


def read_points(path: str | Path, height: int, width: int, image: str) -> np.ndarray:
    """Measured distances, float64 (P, 3): x to the right and y down in pixels of the map, whose first one is (0, 0),
    and metres along the optical axis.

    Args:
        path: .csv with the columns x, y, metres; .npz with an array points (P, 3), or a sparse map depth_m (H, W), 0
            where nothing was measured; or the folder of a COLMAP model (the model's unit stands for metres).
        height, width: of the map.
        image: of a COLMAP model: the name of the image, with or without its folder and ending.

    Raises:
        ValueError: no such file, another kind, or one without such numbers; the line names the file.
    """
    path = Path(path)
    if path.is_dir():
        return colmap_model.read_points(path, image, height, width)
    if not path.is_file():
        raise ValueError(missing(path, "check the path"))
    match path.suffix.lower():
        case ".csv":
            return _from_csv(path)
        case ".npz":
            return _from_npz(path, height, width)
    raise ValueError(f"{path}: expected points as .csv, .npz or the folder of a COLMAP model")


def _from_csv(path: Path) -> np.ndarray:
    rows = csv.reader(io.StringIO(read_text(path), newline=""))
    head = [name.strip() for name in next(rows, [])]
    if not set(COLUMNS) <= set(head):
        raise ValueError(f"{path}: its first line is {','.join(head)[:60]!r}; expected the columns x,y,metres")
    wanted = [head.index(name) for name in COLUMNS]
    points = []
    for row in rows:
        if not row:
            continue
        try:
            points.append([float(row[index]) for index in wanted])
        except (ValueError, IndexError):
            raise ValueError(f"{path}, line {rows.line_num}: got {','.join(row)[:60]!r}; expected numbers") from None
    return np.array(points).reshape(-1, 3)


def _from_npz(path: Path, height: int, width: int) -> np.ndarray:
    arrays, _ = read_npz(path)
    held = {name: array for name, array in arrays.items() if array.dtype.kind in "uif"}
    if "points" in held:
        if held["points"].ndim != 2 or held["points"].shape[1] != 3:
            raise ValueError(f"{path}: points has shape {held['points'].shape}; expected (count, 3): x, y, metres")
        return held["points"].astype(np.float64)
    if "depth_m" not in held:
        named = ", ".join(arrays) or "nothing"
        raise ValueError(f"{path}: it holds {named}; expected an array points (count, 3) or depth_m (height, width)")
    depth_m_HW = held["depth_m"]
    if depth_m_HW.shape != (height, width):
        raise ValueError(f"{path}: depth_m has shape {depth_m_HW.shape}; expected {(height, width)}, as the map")
    y_P, x_P = np.nonzero(np.isfinite(depth_m_HW) & (depth_m_HW != 0))
    return np.column_stack([x_P, y_P, depth_m_HW[y_P, x_P]]).astype(np.float64)
