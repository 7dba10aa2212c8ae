"""DDAD, the 3,950 front-camera images of the validation split, in the official DGP layout.

    ROOT/ddad/ddad.json                                     scene lists per split; "1" is validation
    ROOT/ddad/000150/scene_<hash>.json                      samples, poses, file names
    ROOT/ddad/000150/{rgb/CAMERA_01/*.png, point_cloud/LIDAR/*.npz, calibration/<hash>.json}

The truth is the lidar sweep of the same sample, carried to the camera and rounded down to a pixel, the later point
winning where two meet, as the data set's own library projects it. Up to 250 m.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from depth_anything.data.benchmarks.image import BenchmarkImage, GroundTruth, metres
from depth_anything.data.benchmarks.read_ground_truth import from_files
from depth_anything.images.map_files import read_npz
from depth_anything.system.files import read_json

CAMERA, LIDAR, VALIDATION = "CAMERA_01", "LIDAR", "1"


def read(root: Path) -> list[BenchmarkImage]:
    """The validation images, by scene and sample; none where ddad.json is missing."""
    if not (root / "ddad.json").is_file():
        return []
    splits = read_json(root / "ddad.json")["scene_splits"]
    names = sorted(splits[VALIDATION]["filenames"])
    return [image for name in names for image in _scene(root / name)]


def _scene(path: Path) -> list[BenchmarkImage]:
    scene = read_json(path)
    data = {datum["key"]: datum for datum in scene["data"]}
    images = []
    for index, sample in enumerate(scene["samples"]):
        sensors = {data[key]["id"]["name"]: data[key]["datum"] for key in sample["datum_keys"]}
        camera, lidar = sensors[CAMERA]["image"], sensors[LIDAR]["point_cloud"]
        calibration = path.parent / "calibration" / f"{sample['calibration_key']}.json"
        image, points = path.parent / camera["filename"], path.parent / lidar["filename"]
        images.append(
            from_files(
                f"{path.parent.name}/{index:03d}",
                image,
                (points, calibration),
                partial(_ground_truth, camera, lidar),
                group=path.parent.name,
                region="outdoor",
            )
        )
    return images


def _ground_truth(camera: dict[str, Any], lidar: dict[str, Any], points: Path, calibration: Path) -> GroundTruth:
    cameras = read_json(calibration)
    k = cameras["intrinsics"][cameras["names"].index(CAMERA)]
    arrays, _ = read_npz(points)
    if "data" not in arrays:
        raise ValueError(f"{points}: expected an array named data, it has {', '.join(arrays)}")
    lidar_N3 = arrays["data"][:, :3].astype(np.float64)
    to_camera = np.linalg.inv(pose_matrix(camera["pose"])) @ pose_matrix(lidar["pose"])
    x, y, z = to_camera[:3, :3] @ lidar_N3.T + to_camera[:3, 3:]
    depth_m = np.zeros((camera["height"], camera["width"]))
    front = z > 0
    x, y, z = x[front], y[front], z[front]
    u = np.trunc(k["fx"] * x / z + k.get("skew", 0.0) * y / z + k["cx"])
    v = np.trunc(k["fy"] * y / z + k["cy"])
    inside = (u >= 0) & (u < camera["width"]) & (v >= 0) & (v < camera["height"])
    depth_m[v[inside].astype(int), u[inside].astype(int)] = z[inside]
    return metres(depth_m)


def pose_matrix(pose: dict[str, Any]) -> np.ndarray:
    """DGP pose (unit quaternion, translation) of a sensor in the world, as 4 x 4. Fields that are 0 may be absent."""
    r, t = pose["rotation"], pose["translation"]
    w, x, y, z = (float(r.get(name, 0.0)) for name in ("qw", "qx", "qy", "qz"))
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = [float(t.get(name, 0.0)) for name in ("x", "y", "z")]
    return matrix
