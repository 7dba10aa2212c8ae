"""`depth-anything models`: the list of models."""

from __future__ import annotations


def models() -> None:
    """List the models, the quantity that each predicts, and their licences."""
    from depth_anything.variants import VARIANTS

    rows = [("model", "predicts", "licence", "commercial use", "official file")]
    for row in VARIANTS.values():
        output = "disparity" if row.max_depth is None else f"metres, up to {row.max_depth:g}"
        commercial = {True: "yes", False: "no", None: "not stated"}[row.commercial]
        rows.append((row.name, output, row.licence, commercial, row.hub_file or row.note))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(
        "\nWeights that are not clearly free for commercial use need --accept-license once. "
        "Official files are read from the Hugging Face hub, or from a path that you give with --variant."
    )
