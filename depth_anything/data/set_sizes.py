"""How many images the papers train on, set by set, as they print it (V1 Table 1; V2 for Hypersim, VKITTI 2)."""

LABELED_PICTURES = {
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
UNLABELED_PICTURES = {
    "sa1b": 11_100_000,
    "imagenet21k": 13_100_000,
    "lsun": 9_800_000,
    "bdd100k": 8_200_000,
    "openimages": 7_800_000,
    "places365": 6_500_000,
    "landmarks": 4_100_000,
    "objects365": 1_700_000,
}
