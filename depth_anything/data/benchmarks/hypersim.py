"""Hypersim, test images of the official split.

    ROOT/hypersim/metadata_images_split_scene_v1.csv
    ROOT/hypersim/ai_001_010/images/scene_cam_00_final_preview/frame.0000.tonemap.jpg
    ROOT/hypersim/ai_001_010/images/scene_cam_00_geometry_hdf5/frame.0000.depth_meters.hdf5

`depth_meters` is the distance to the camera centre, not z: at the picture's corner z is only 0.81 of it.
"""

import csv
from pathlib import Path

import numpy as np

from depth_anything import image_io
from depth_anything.data.benchmarks.case import Case, Truth
from depth_anything.data.benchmarks.files import hdf5

FOCAL_PIXELS = 886.81
"""Of every 1024 x 768 frame, as the released metric code has it (60 degrees across; a few scenes tilt and shift)."""


def read(root: Path) -> list[Case]:
    """The public test frames of the split file, in its order; none where the file is missing."""
    split = root / "metadata_images_split_scene_v1.csv"
    if not split.is_file():
        return []
    cases = []
    with split.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["split_partition_name"] != "test" or row["included_in_public_release"] != "True":
                continue
            scene, camera, frame = row["scene_name"], row["camera_name"], int(row["frame_id"])
            images = root / scene / "images"
            image = images / f"scene_{camera}_final_preview" / f"frame.{frame:04d}.tonemap.jpg"
            truth = images / f"scene_{camera}_geometry_hdf5" / f"frame.{frame:04d}.depth_meters.hdf5"
            cases.append(
                Case(
                    key=f"{scene}/{camera}/{frame:04d}",
                    read_image=lambda image=image: image_io.read(image),
                    read_truth=lambda truth=truth: _truth(truth),
                    files=(image, truth),
                    group=scene,
                    region="indoor",
                )
            )
    return cases


def distance_to_z(distance_HW: np.ndarray, focal_pixels: float = FOCAL_PIXELS) -> np.ndarray:
    """z-depth from the distance along each pixel's ray, principal point in the middle, rays through pixel centres."""
    height, width = distance_HW.shape
    x = np.arange(width) - (width - 1) / 2
    y = np.arange(height) - (height - 1) / 2
    return distance_HW * focal_pixels / np.sqrt(x[None, :] ** 2 + y[:, None] ** 2 + focal_pixels**2)


def _truth(path: Path) -> Truth:
    with hdf5(path) as file:
        if "dataset" not in file:
            raise ValueError(f"{path}: no field named dataset; is this a Hypersim depth_meters file?")
        depth_m = distance_to_z(np.asarray(file["dataset"], dtype=np.float64))
    return Truth(depth_m, np.isfinite(depth_m) & (depth_m > 0), "metric_depth")
