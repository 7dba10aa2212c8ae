"""The two files of the bundled nano from the weights of a run: how `weights/` was made.

    python -m depth_anything.train.bundle runs/nano/final.safetensors

Of several runs that began from the same weights it takes the mean (model soups, Wortsman et al. 2022).
Both hold the same float16 numbers, which are computed with as float32, and so give the same answers.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
import tyro
from tyro.conf import Positional

from depth_anything.checkpoints import save
from depth_anything.export import ExportOptions, export
from depth_anything.model import DepthAnything

WEIGHTS = Path(__file__).parents[1] / "weights"


def bundle(weights: Positional[tuple[Path, ...]], out: Path = WEIGHTS) -> None:
    """Write nano.safetensors and nano.onnx, once the ONNX file has answered like torch on photographs.

    Args:
        weights: what one or more runs of nano left: final.safetensors.
        out: folder; by default that of the package.

    Raises:
        ValueError: no file, or one of another model.
    """
    model = mean_of(weights).half().float()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".bundle") as folder:
        candidate = Path(folder) / "nano.onnx"
        export(model, candidate, ExportOptions(half=True))
        save(model, out / "nano.safetensors", dtype=torch.float16)
        candidate.replace(out / candidate.name)


def mean_of(weights: Sequence[Path]) -> DepthAnything:
    """The network whose every number is the mean over these files."""
    models = [DepthAnything.from_pretrained(path) for path in weights]
    if not models:
        raise ValueError("no weights are given: expected the final.safetensors of one or more runs of nano")
    for path, model in zip(weights, models, strict=True):
        if model.variant.name != "nano":
            raise ValueError(f"{path} holds {model.variant.name}: expected nano")
    with torch.no_grad():
        for parameters in zip(*(model.parameters() for model in models), strict=True):
            parameters[0].copy_(torch.stack(parameters).mean(0))
    return models[0]


if __name__ == "__main__":
    tyro.cli(bundle)
