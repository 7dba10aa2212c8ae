"""`depth-anything finetune`: further training of a model on your own images."""

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
    rate: float | None = None,
    max_depth: float | None = None,
    intrinsics: str | None = None,
    seed: int = 0,
    device: Device = "cpu",
    accumulate: int = 1,
    readers: int = 1,
    accept_license: AcceptLicense = False,
) -> None:
    """Train a model on your own images with disparity or depth in metres, and measure it before and after.

    Args:
        model: a name that `depth-anything models` lists, a hub id, a checkpoint or a transformers folder.
        folder: folder with images/, and depth_m/ (metres) or disparity/ with files of the same names (docs/train.md).
        out: folder for the weights (final.safetensors), the training curve and report.json. Run the same command again
            to resume.
        epochs: passes over the images.
        batch: images per step.
        rate: learning rate of the decoder; the encoder has a tenth of it. By default 5e-5, and 1e-3 for nano.
        max_depth: upper end of the range in metres; by default that of the model, or the largest depth in your images.
        intrinsics: cameras, for models whose metres depend on the focal length: exif, one fx,fy,cx,cy in pixels for all
            images, or a text file with lines NAME,fx,fy,cx,cy (docs/metric.md).
        seed: seed of the order, the crops and the mirroring.
        accumulate: number of slices in which a step is computed if a whole step does not fit into memory.
        readers: number of threads that read images.
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
