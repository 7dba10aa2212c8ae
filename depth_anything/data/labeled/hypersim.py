"""Hypersim: photorealistic rooms (Roberts et al. 2021), the training part of the official split.

    ROOT/metadata_images_split_scene_v1.csv
    ROOT/metadata_camera_parameters.csv             optional: each scene's camera
    ROOT/ai_001_001/images/scene_cam_00_final_preview/frame.0000.tonemap.jpg
    ROOT/ai_001_001/images/scene_cam_00_geometry_hdf5/frame.0000.depth_meters.hdf5

Both lists come from the authors' repository (evermotion_dataset/analysis and contrib/mikeroberts3000). The split is
required: without it the test rooms would be learnt by heart. `depth_meters` is the distance along the ray and becomes z
by the camera: the scene's own where the second list is there, else the usual one (886.81 pixels, centred), as in the
released metric code. NaN, behind windows, is not valid.

Many scenes shift or tilt the image plane. z is then measured at right angles to this plane: that is the depth that a
K describes, and in which planes have linear disparity.
"""

from functools import cached_property
from pathlib import Path

import numpy as np

from depth_anything.data.benchmarks.hypersim import (
    SPLIT,
    depth_path,
    distance_to_z,
    image_names,
    pinhole,
    read_distance,
)
from depth_anything.data.labeled.folder import Label, LabeledFolder, depth_label
from depth_anything.system.files import find, read_csv

CAMERAS = "metadata_camera_parameters.csv"


class Hypersim(LabeledFolder):
    """59,543 images of 1024 x 768."""

    title = "Hypersim"
    layout = f"{SPLIT} and <scene>/images/scene_cam_00_final_preview/, .../scene_cam_00_geometry_hdf5/"
    scale = "metric"

    def find(self, base: Path) -> list[str]:
        split = base / SPLIT
        if not split.is_file():
            return []
        scenes = {folder.name for folder in find(base, "ai_*") if folder.is_dir()}
        return [name for name in image_names(split, "train") if name.partition("/")[0] in scenes]

    def label_path(self, image: Path) -> Path:
        return depth_path(image)

    def read_label(self, path: Path) -> Label:
        distance_HW = read_distance(path)
        K_33 = pinhole(*distance_HW.shape)
        if self.cameras:
            scene = path.parents[2].name
            if scene not in self.cameras:
                raise ValueError(f"{self.root / CAMERAS}: no row for the scene {scene}; fetch the list again")
            K_33 = intrinsics(self.cameras[scene], *distance_HW.shape)
        z_HW = distance_to_z(distance_HW, K_33)
        return depth_label(z_HW, np.isfinite(z_HW), K_33=K_33)

    @cached_property
    def cameras(self) -> dict[str, np.ndarray]:
        """M_cam_from_uv of every scene; empty where the list is not there."""
        table = self.root / CAMERAS
        if not table.is_file():
            return {}
        names = [[f"M_cam_from_uv_{row}{column}" for column in range(3)] for row in range(3)]
        return {
            row["scene_name"]: np.array([[float(row[name]) for name in line] for line in names])
            for row in read_csv(table, ("scene_name", *(name for line in names for name in line)))
        }


def intrinsics(ray_from_uv_33: np.ndarray, height: int, width: int) -> np.ndarray:
    """K of a camera that is given by its rays.

    `M_cam_from_uv` takes u, v in -1..1 (v upwards) to a ray with y up and z backwards. Such a matrix times that of the
    pixels is a rotation times the inverse of K, which a QR decomposition takes apart; the rotation turns the optical
    axis to the normal of the image plane.
    """
    uv_from_pixel_33 = np.array([[2 / width, 0, 1 / width - 1], [0, -2 / height, 1 - 1 / height], [0, 0, 1]])
    _, inverse_33 = np.linalg.qr(np.diag([1.0, -1.0, -1.0]) @ ray_from_uv_33 @ uv_from_pixel_33)
    inverse_33 = inverse_33 * np.sign(np.diag(inverse_33))[:, None]
    K_33 = np.linalg.inv(inverse_33)
    return K_33 / K_33[2, 2]
