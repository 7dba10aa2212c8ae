"""`depth-anything export`: a model as one file that needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional


def export(
    model: Positional[str],
    to: Literal["onnx"] = "onnx",
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    variant: str | None = None,
    half: bool = False,
    accept_license: bool = False,
) -> None:
    """One ONNX file with the whole road inside: a uint8 picture of any size in, its map at that size out.

    Args:
        model: a name of `depth-anything models` or a checkpoint.
        to: the form.
        out: the file; by default MODEL.onnx.
        variant: which model a checkpoint holds, where the file does not say it.
        half: store the weights as float16; half the size, computed in float32.
        accept_license: as for predict.
    """
    from ..export import export_onnx
    from ..model import DepthAnything

    network = DepthAnything.from_pretrained(model, variant=variant, accept_license=accept_license)
    path = out or Path(f"{Path(model).stem}.onnx")
    export_onnx(network, path, half=half)
    print(f"{path}: uint8 (H, W, 3) RGB in, {network.variant.quantity} (H, W) out, licence {network.variant.licence}")
