"""BlendedMVS with its second and third part (BlendedMVG): 502 reconstructed scenes, re-rendered (Yao et al. 2020).

    ROOT/<24 hex digits>/blended_images/00000000.jpg           not the _masked.jpg
    ROOT/<24 hex digits>/rendered_depth_maps/00000000.pfm
    ROOT/<24 hex digits>/cams/00000000_cam.txt                 optional: K

All parts are unpacked into one folder. Depth is z in a unit of each scene's own, 0 where the mesh has holes, which is
also what the sky is: SegFormer finds it. PFM rows are stored from the bottom up. Some maps are empty: `Unusable`.

Unconfirmed: whether the papers dropped the farthest values of each map, as others do (97 % quantile). They are kept
here: in disparity far outliers lie near 0 and do no harm.
"""

from pathlib import Path

import numpy as np

from depth_anything.data.labeled.folder import Label, LabeledFolder, depth_label, files_in
from depth_anything.images.map_files import read_pfm
from depth_anything.system.files import read_text


class BlendedMVS(LabeledFolder):
    """About 115,000 images of 768 x 576."""

    title = "BlendedMVS"
    layout = "<scene>/blended_images/00000000.jpg and <scene>/rendered_depth_maps/00000000.pfm"
    scale = "relative"
    places = ("", "BlendedMVS")

    def find(self, base: Path) -> list[str]:
        return files_in(base, "*/blended_images", r"\d{8}\.jpg")

    def label_path(self, image: Path) -> Path:
        return image.parent.with_name("rendered_depth_maps") / f"{image.stem}.pfm"

    def read_label(self, path: Path) -> Label:
        depth_HW = read_pfm(path)
        camera = path.parent.with_name("cams") / f"{path.stem}_cam.txt"
        return depth_label(depth_HW, depth_HW > 0, K_33=read_intrinsics(camera) if camera.is_file() else None)


def read_intrinsics(path: Path) -> np.ndarray:
    """K of a camera file in MVSNet's form: 16 numbers of the pose after `extrinsic`, 9 of K after `intrinsic`.

    Raises:
        ValueError: not such a file.
    """
    try:
        numbers = read_text(path).split("intrinsic")[-1].split()[:9]
        return np.array([float(number) for number in numbers]).reshape(3, 3)
    except ValueError:
        raise ValueError(f"{path}: not a camera file; expected `intrinsic` and nine numbers") from None
