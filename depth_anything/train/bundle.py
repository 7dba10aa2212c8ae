"""The two files of the bundled nano from the weights of a run, or of several: how `weights/` was made.

    python -m depth_anything.train.bundle runs/nano/final.safetensors
    python -m depth_anything.train.bundle runs/before/final.safetensors runs/nano/final.safetensors

Both files hold the same float16 numbers, which are computed with as float32, and so give the same answers.
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
        weights: what runs of nano left: final.safetensors. Of several, the mean.
        out: folder; by default that of the package.
    """
    model = mean_of_weights(weights).half().float()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".bundle") as folder:
        candidate = Path(folder) / "nano.onnx"
        export(model, candidate, ExportOptions(half=True))
        save(model, out / "nano.safetensors", dtype=torch.float16)
        candidate.replace(out / candidate.name)


def mean_of_weights(paths: Sequence[Path]) -> DepthAnything:
    """The mean of the weights of runs that went on from one another, or from the same start (Wortsman et al. 2022).

    Raises:
        ValueError: no file, or one that does not hold nano.
    """
    if not paths:
        raise ValueError("no weights given: expected one final.safetensors or more")
    models = [DepthAnything.from_pretrained(path) for path in paths]
    for path, model in zip(paths, models, strict=True):
        if model.variant.name != "nano":
            raise ValueError(f"{path} holds {model.variant.name}: expected nano")
    states = [model.state_dict() for model in models]
    models[0].load_state_dict({key: torch.stack([state[key] for state in states]).mean(0) for key in states[0]})
    return models[0]


if __name__ == "__main__":
    tyro.cli(bundle)
