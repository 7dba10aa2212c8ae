"""HR-WSI: photographs of the web with disparity from stereo pairs (Xian et al. 2020).

    ROOT/train/imgs/<name>.jpg
    ROOT/train/gts/<name>.png             relative disparity, larger is nearer; one or more channels, the first counts
    ROOT/train/valid_masks/<name>.png     not 0: both views agree

The labels are disparity already: they are not inverted. Their scale and shift differ from image to image. The sky
is mostly valid, at the map's lowest value. The 400 images of `val` are held out.

Unconfirmed: 8 or 16 bits (both are read). `depth-anything data check hrwsi ROOT` says in how many images the lower
half is the nearer one, which shows the direction on a real copy.
"""

from pathlib import Path

from depth_anything.data.benchmarks.read_ground_truth import read_first_channel
from depth_anything.data.labeled.folder import Label, LabeledFolder, disparity_label, files_in


class HRWSI(LabeledFolder):
    """20,378 training images of many sizes."""

    title = "HR-WSI"
    layout = "train/imgs/*.jpg, train/gts/*.png and train/valid_masks/*.png"
    scale = "affine"
    places = ("", "HR-WSI", "HRWSI")

    def find(self, base: Path) -> list[str]:
        return files_in(base, "train/imgs", r"[^.].*\.jpg")

    def label_path(self, image: Path) -> Path:
        return image.parent.with_name("gts") / f"{image.stem}.png"

    def read_label(self, path: Path) -> Label:
        disparity_HW = read_first_channel(path)
        mask = path.parent.with_name("valid_masks") / path.name
        mask_HW = read_first_channel(mask) > 0
        if mask_HW.shape != disparity_HW.shape:
            raise ValueError(f"{mask}: {mask_HW.shape} pixels, {path.name} in gts has {disparity_HW.shape}")
        return disparity_label(disparity_HW, mask_HW)
