"""Hypersim, test images of the official split.

    ROOT/hypersim/metadata_images_split_scene_v1.csv
    ROOT/hypersim/ai_001_010/images/scene_cam_00_final_preview/frame.0000.tonemap.jpg
    ROOT/hypersim/ai_001_010/images/scene_cam_00_geometry_hdf5/frame.0000.depth_meters.hdf5

`depth_meters` is the distance to the camera centre, not z: at the image's corner z is only 0.81 of it.
"""

from pathlib import Path

import numpy as np

from depth_anything.data.benchmarks.image import BenchmarkImage, GroundTruth, metres
from depth_anything.data.benchmarks.read_ground_truth import from_files, hdf5
from depth_anything.system.files import read_csv

FOCAL_PIXELS = 886.81
"""Of a 1024 x 768 frame, as the released metric code has it (60 degrees across; a few scenes tilt and shift)."""
SPLIT = "metadata_images_split_scene_v1.csv"


def read(root: Path) -> list[BenchmarkImage]:
    """The public test frames of the split file, in its order; none where the file is missing."""
    if not (root / SPLIT).is_file():
        return []
    images = []
    for name in image_names(root / SPLIT, "test"):
        image = root / name
        scene, frame = image.parents[2].name, image.name.split(".")[1]
        camera = image.parent.name.removeprefix("scene_").removesuffix("_final_preview")
        images.append(from_files(f"{scene}/{camera}/{frame}", image, depth_path(image), _ground_truth, scene, "indoor"))
    return images


def image_names(split: Path, partition: str) -> list[str]:
    """The public frames of a partition (train, val, test) of the split file, in its order, relative to the root."""
    columns = ("scene_name", "camera_name", "frame_id", "split_partition_name", "included_in_public_release")
    return [
        f"{row['scene_name']}/images/scene_{row['camera_name']}_final_preview/"
        f"frame.{int(row['frame_id']):04d}.tonemap.jpg"
        for row in read_csv(split, columns)
        if row["split_partition_name"] == partition and row["included_in_public_release"] == "True"
    ]


def depth_path(image: Path) -> Path:
    """The file with the distances of an image."""
    folder = image.parent.name.replace("_final_preview", "_geometry_hdf5")
    return image.parent.with_name(folder) / image.name.replace(".tonemap.jpg", ".depth_meters.hdf5")


def pinhole(height: int, width: int) -> np.ndarray:
    """K of the usual frame: FOCAL_PIXELS at 1024 pixels, principal point in the middle, first pixel's centre (0, 0)."""
    focal = FOCAL_PIXELS * width / 1024
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])


def read_distance(path: Path) -> np.ndarray:
    """A depth_meters file: metres along each pixel's ray as float64 (H, W), NaN where there is nothing."""
    with hdf5(path) as file:
        if "dataset" not in file:
            raise ValueError(f"{path}: no field named dataset; is this a Hypersim depth_meters file?")
        return np.asarray(file["dataset"], dtype=np.float64)


def distance_to_z(distance_HW: np.ndarray, K_33: np.ndarray | None = None) -> np.ndarray:
    """z-depth from the distance along each pixel's ray: z = distance / |K^-1 (x, y, 1)|. Without K: `pinhole`."""
    height, width = distance_HW.shape
    inverse_33 = np.linalg.inv(pinhole(height, width) if K_33 is None else K_33)
    y, x = np.mgrid[:height, :width]
    ray_HW3 = np.stack([x, y, np.ones_like(x)], axis=-1) @ inverse_33.T
    return distance_HW / np.linalg.norm(ray_HW3, axis=-1)


def _ground_truth(path: Path) -> GroundTruth:
    return metres(distance_to_z(read_distance(path)))
