"""What the papers print about the sets that they train on: V1 Table 1; V2 for Hypersim and VKITTI 2."""

from dataclasses import dataclass

LABELED_IMAGES = {
    "blendedmvs": 115_000,
    "diml": 927_000,
    "hrwsi": 20_000,
    "irs": 103_000,
    "megadepth": 128_000,
    "tartanair": 306_000,
    "hypersim": 60_000,
    "vkitti2": 20_000,
    "nyuv2": 24_231,
    "kitti": 23_158,
}
"""The last two are for metres only, by ZoeDepth's and BTS' lists."""
UNLABELED_IMAGES = {
    "sa1b": 11_100_000,
    "imagenet21k": 13_100_000,
    "lsun": 9_800_000,
    "bdd100k": 8_200_000,
    "openimages": 7_800_000,
    "places365": 6_500_000,
    "landmarks": 4_100_000,
    "objects365": 1_700_000,
}


@dataclass(frozen=True)
class PrintedRow:
    """A row of V1 Table 1, but for the number of images."""

    title: str
    indoor: bool
    outdoor: bool
    label: str
    """Where its depth comes from: Stereo, SfM or None."""


V1_TABLE_1 = {
    "blendedmvs": PrintedRow("BlendedMVS", True, True, "Stereo"),
    "diml": PrintedRow("DIML", True, True, "Stereo"),
    "hrwsi": PrintedRow("HRWSI", True, True, "Stereo"),
    "irs": PrintedRow("IRS", True, False, "Stereo"),
    "megadepth": PrintedRow("MegaDepth", False, True, "SfM"),
    "tartanair": PrintedRow("TartanAir", True, True, "Stereo"),
    "bdd100k": PrintedRow("BDD100K", False, True, "None"),
    "landmarks": PrintedRow("Google Landmarks", False, True, "None"),
    "imagenet21k": PrintedRow("ImageNet-21K", True, True, "None"),
    "lsun": PrintedRow("LSUN", True, False, "None"),
    "objects365": PrintedRow("Objects365", True, True, "None"),
    "openimages": PrintedRow("Open Images V7", True, True, "None"),
    "places365": PrintedRow("Places365", True, True, "None"),
    "sa1b": PrintedRow("SA-1B", True, True, "None"),
}
"""In rows with one check mark, the paper's text does not state its column; it is inferred from the description of the
set."""
