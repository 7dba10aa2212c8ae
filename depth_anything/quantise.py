"""int8 by post-training quantisation (NNCF), on the user's photographs, and refused where it costs too much.

A quarter of the photographs, at least one, is kept out of the calibration. On these the int8 file has to agree with our
own float32 within 2 % aligned AbsRel; else there is no file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import image_io, parity
from .backends import feeds
from .openvino_graph import core

if TYPE_CHECKING:
    from .variants import Variant

IN_FLOAT32 = ["^before/", "^after/", "projects", "resize_layers", r"layer\d_rn", "BackpropData"]
"""Parts of the names of what is not quantised: the road, and the decoder's reassembly. A few channels of DINOv2's
tokens are a hundred times larger than the rest: with one int8 scale for all, that stage costs nano 30 % AbsRel, while
everything else together costs 0.3 %."""
MOST_CALIBRATED = 100
"""Photographs that statistics are taken from; more do not change them."""
LIMIT = parity.INT8.abs_rel


def quantise(path: Path, photos: tuple[Path, ...], variant: Variant) -> None:
    """Replace an exported OpenVINO file by its int8 form, in place.

    Raises:
        ValueError: too few photographs, NNCF is not installed, or the answer differs too much.
    """
    if len(photos) < 4:
        raise ValueError(
            f"{len(photos)} photographs to calibrate on: expected at least 4, better 50 to 100, like yours"
        )
    try:
        import nncf
        import openvino
    except ModuleNotFoundError:
        raise ValueError('int8 needs NNCF, which is not installed: pip install "depth-anything[openvino]"') from None
    kept_out = photos[3::4]
    calibrated = [photo for photo in photos if photo not in kept_out][:MOST_CALIBRATED]
    exact = maps(path, kept_out, variant)
    dataset = nncf.Dataset(list(calibrated), lambda photo: feeds(image_io.read(photo), variant.input_size))
    # From bytes: the files are replaced below, and must not be mapped then.
    model = nncf.quantize(
        core().read_model(path.read_bytes(), path.with_suffix(".bin").read_bytes()),
        dataset,
        subset_size=len(calibrated),
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=nncf.IgnoredScope(
            patterns=[f"{part}.*" if part[0] == "^" else f".*{part}.*" for part in IN_FLOAT32], validate=False
        ),
    )
    openvino.save_model(model, path, compress_to_fp16=False)
    costs = [
        parity.aligned_abs_rel(map_HW, exact_HW)
        for map_HW, exact_HW in zip(maps(path, kept_out, variant), exact, strict=True)
    ]
    if np.mean(costs) > LIMIT:
        raise ValueError(
            f"int8 would change {variant.name} by {np.mean(costs):.1%} aligned AbsRel on {len(costs)} photographs that "
            f"were kept out of the calibration, more than {LIMIT:.0%}: not written; use bf16, or calibrate on others"
        )


def maps(path: Path, photos: tuple[Path, ...], variant: Variant) -> list[np.ndarray]:
    """What a file answers for photographs."""
    backend = parity.road(path)
    return [backend([image_io.read(photo)], variant.input_size)[0] for photo in photos]
