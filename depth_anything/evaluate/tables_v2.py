"""The tables of Depth Anything V2 (NeurIPS 2024), as printed, and MoGe's, which others could reproduce.

`-` stands for a cell that could not be checked against the paper's text. No number here is from memory.
"""

from depth_anything.evaluate.table import MIDAS, RELATIVE_MARKS, Row, Table

_MOGE_SETS = tuple(f"moge-{name}" for name in ("nyuv2", "kitti", "eth3d", "ibims", "ddad", "diode", "sintel", "gso"))

TABLES_V2: tuple[Table, ...] = (
    Table(
        name="v2-table2",
        title="V2 Table 2: zero-shot relative depth",
        protocol="da-relative",
        sets=("kitti", "nyuv2", "sintel", "eth3d", "diode-indoor"),
        metrics=("abs_rel", "delta1"),
        rows=(
            Row("MiDaS v3.1 BEiT-L-512", MIDAS, "0.127 0.850 0.048 0.980 0.587 0.699 0.139 0.867 0.075 0.942"),
            Row("Depth Anything V1 ViT-S", "v1-small",
                "0.080 0.936 0.053 0.972 0.464 0.739 0.127 0.885 0.076 0.939"),
            Row("Depth Anything V1 ViT-B", "v1-base",
                "0.080 0.939 0.046 0.979 0.432 0.756 0.126 0.884 0.069 0.946"),
            Row("Depth Anything V1 ViT-L", "v1-large",
                "0.076 0.947 0.043 0.981 0.458 0.760 0.127 0.882 0.066 0.952"),
            Row("Depth Anything V2 ViT-S", "v2-small", "0.078 0.936 0.053 0.973 0.500 0.718 0.142 - 0.073 0.942"),
            Row("Depth Anything V2 ViT-B", "v2-base", "0.078 0.939 0.049 0.976 0.495 0.734 0.137 - 0.068 0.950"),
            Row("Depth Anything V2 ViT-L", "v2-large", "0.074 0.946 0.045 0.979 0.487 - 0.131 0.865 0.066 0.952"),
            Row("Depth Anything V2 ViT-G (never released)", None, "0.075 0.948 0.044 0.979 - - - - - -"),
        ),
        marks=RELATIVE_MARKS,
    ),
    Table(
        name="v2-table4-nyu",
        title="V2 Table 4, NYUv2: fine-tuned in ZoeDepth's framework",
        protocol="zoedepth-metric",
        sets=("nyuv2",),
        metrics=("delta1", "abs_rel", "rmse"),
        rows=(
            Row("Depth Anything V2 ViT-S", None, "0.961 0.073 0.261"),
            Row("Depth Anything V2 ViT-L", None, "0.984 0.056 0.206"),
        ),
        note="Not the released v2-metric models: those come from another, simpler recipe that no table covers.",
    ),
    Table(
        name="v2-table4-kitti",
        title="V2 Table 4, KITTI: fine-tuned in ZoeDepth's framework",
        protocol="zoedepth-metric",
        sets=("kitti",),
        metrics=("delta1", "abs_rel", "rmse"),
        rows=(
            Row("Depth Anything V2 ViT-S", None, "0.973 0.053 2.235"),
            Row("Depth Anything V2 ViT-L", None, "0.983 0.045 1.861"),
        ),
        note="Not the released v2-metric models: those come from another, simpler recipe that no table covers.",
    ),
    Table(
        name="v2-table8",
        title="V2 Table 8: Cityscapes, mIoU",
        protocol=None,
        sets=("cityscapes",),
        metrics=("miou",),
        rows=(Row("Depth Anything V2 ViT-L", "v2-large", "85.6"),),
    ),
    Table(
        name="moge-table3",
        title="MoGe Table 3, affine-invariant disparity: one protocol for models of many papers",
        protocol="moge",
        sets=_MOGE_SETS,
        metrics=("abs_rel",),
        rows=(
            Row("Depth Anything V2 ViT-L", "v2-large", "0.0420 0.0561 0.0473 0.0348 0.130 0.0533 0.214 0.0125"),
            Row("MoGe ViT-L", None, "0.0341 0.0408 0.0317 0.0320 0.0891 0.0400 0.184 0.0094"),
        ),
        marks={name: ("reproducible", "others reach every number of V2 ViT-L within 2 %") for name in _MOGE_SETS},
        note="MoGe resizes pictures for Depth Anything with torch's antialiased bicubic, we as the official code does.",
    ),
    Table(
        name="da2k",
        title="V2 Table 3: DA-2K, accuracy in per cent",
        protocol="da2k",
        sets=("da2k",),
        metrics=("ordinal",),
        rows=(
            Row("Marigold", None, "86.8"),
            Row("DepthFM", None, "85.8"),
            Row("Depth Anything V1 ViT-L", "v1-large", "88.5"),
            Row("Depth Anything V2 ViT-S", "v2-small", "95.3"),
            Row("Depth Anything V2 ViT-B", "v2-base", "97.0"),
            Row("Depth Anything V2 ViT-L", "v2-large", "97.1"),
            Row("Depth Anything V2 ViT-G (never released)", None, "97.4"),
        ),
        marks={"da2k": ("reproducible", "others measured 95.2 with V2 ViT-S")},
    ),
)  # fmt: skip
