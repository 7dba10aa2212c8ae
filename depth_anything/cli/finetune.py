"""`depth-anything finetune`: a model, further on your own pictures."""

from __future__ import annotations

import sys
from pathlib import Path

from tyro.conf import Positional

from depth_anything.cli.options import AcceptLicense, Device, Variant


def finetune(
    model: Positional[str],
    folder: Positional[Path],
    out: Positional[Path],
    variant: Variant = None,
    epochs: int = 10,
    batch: int = 8,
    rate: float = 5e-5,
    max_depth: float | None = None,
    intrinsics: str | None = None,
    seed: int = 0,
    device: Device = "cpu",
    accumulate: int = 1,
    readers: int = 1,
    accept_license: AcceptLicense = False,
) -> None:
    """Train a model further on your own pictures with disparity or with metres, and report before and after.

    Args:
        model: a name of `depth-anything models`, a hub id, a checkpoint or a transformers folder.
        folder: images/ beside depth_m/ (metres) or disparity/ with files of the same names (docs/train.md).
        out: folder for the weights (final.safetensors), the curve and report.json. Run again, it goes on.
        epochs: passes over the pictures.
        batch: pictures in a step.
        rate: learning rate of the decoder; the encoder has a tenth.
        max_depth: top of the range in metres; by default the model's own, or the farthest of your pictures.
        intrinsics: the cameras, for metres that hang on focal lengths: exif, one fx,fy,cx,cy in pixels for all
            pictures, or a text file of lines NAME,fx,fy,cx,cy (docs/metric.md).
        seed: of order, windows and mirroring.
        accumulate: slices of a step, where a whole step does not fit.
        readers: threads that read pictures.
    """
    import logging

    from depth_anything.network.model import DepthAnything
    from depth_anything.train.distributed import Machine, join
    from depth_anything.train.finetune import as_text
    from depth_anything.train.finetune import finetune as run

    with join(device) as ranks:
        level = logging.INFO if ranks.first else logging.WARNING
        logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
        network = DepthAnything.from_pretrained(model, variant, ranks.device, accept_license)
        machine = Machine(accumulate=accumulate, readers=readers)
        report = run(network, folder, out, epochs, batch, rate, max_depth, seed, intrinsics, machine, ranks)
        if ranks.first:
            print(as_text(report))
            final = out / "final.safetensors"
            print(f"{final}: try it with depth-anything predict PHOTO --model {final}")
