"""The two files of the bundled nano from the weights of a run: how `weights/` was made.

    python -m depth_anything.train.bundle runs/nano/final.safetensors

Both hold the same float16 numbers, which are computed with as float32, and so give the same answers.
"""

import tempfile
from pathlib import Path

import torch
import tyro
from tyro.conf import Positional

from depth_anything.checkpoints import save
from depth_anything.export import ExportOptions, export
from depth_anything.model import DepthAnything

WEIGHTS = Path(__file__).parents[1] / "weights"


def bundle(weights: Positional[Path], out: Path = WEIGHTS) -> None:
    """Write nano.safetensors and nano.onnx, once the ONNX file has answered like torch on photographs.

    Args:
        weights: what a run of nano left: final.safetensors.
        out: folder; by default that of the package.
    """
    model = DepthAnything.from_pretrained(weights).half().float()
    if model.variant.name != "nano":
        raise ValueError(f"{weights} holds {model.variant.name}: expected nano")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".bundle") as folder:
        candidate = Path(folder) / "nano.onnx"
        export(model, candidate, ExportOptions(half=True))
        save(model, out / "nano.safetensors", dtype=torch.float16)
        candidate.replace(out / candidate.name)


if __name__ == "__main__":
    tyro.cli(bundle)
