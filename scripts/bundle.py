"""The two files of the bundled nano from the weights of its runs: how `weights/` was made.

    python scripts/bundle.py runs/nano/teacher/final.safetensors

Both hold the same float16 numbers, which are computed with as float32, and so give the same maps: each convolution
takes its batch normalisation in before its numbers are rounded. Then renew what shows the model: `make pictures`.
"""

import math
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
import tyro
from torch import nn
from tyro.conf import Positional

from depth_anything.checkpoints.hub import WEIGHTS
from depth_anything.checkpoints.official import save
from depth_anything.export.export_model import export
from depth_anything.export.options import ExportOptions
from depth_anything.images.read import read_image
from depth_anything.network.efficientnet import VARIANCE, ConvNorm
from depth_anything.network.model import DepthAnything
from depth_anything.system.files import make_folder
from depth_anything.train.learning_rates import size_to_initial

PHOTOGRAPHS = Path(__file__).parents[1] / "depth_anything" / "web" / "static" / "examples"


def bundle(weights: Positional[Path], more: Positional[tuple[Path, ...]] = (), out: Path = WEIGHTS) -> None:
    """Write nano.safetensors and nano.onnx, after the ONNX file has been compared with torch on photographs.

    Args:
        weights: what a run of nano left: final.safetensors.
        more: of runs that began from those weights: then the mean of all is taken.
        out: folder; by default that of the package.
    """
    models = []
    for path in (weights, *more):
        models.append(DepthAnything.from_pretrained(path))
        if models[-1].variant.name != "nano":
            raise ValueError(f"{path} holds {models[-1].variant.name}: expected nano")
        absorb(models[-1])
    model = mean_of(models)
    bring_to_one(model)
    round_to_half(model)
    make_folder(out)
    with tempfile.TemporaryDirectory(dir=out, prefix=".bundle") as folder:
        candidate = Path(folder) / "nano.onnx"
        export(model, candidate, ExportOptions(half=True))
        save(model, out / "nano.safetensors", dtype=torch.float16)
        candidate.replace(out / candidate.name)


@torch.no_grad()
def mean_of(models: Sequence[DepthAnything]) -> DepthAnything:
    """The model whose every number is the mean over the models' (Wortsman et al. 2022, uniform soup), in the first."""
    states = [model.state_dict() for model in models]
    for key, tensor in states[0].items():
        tensor.copy_(torch.stack([state[key] for state in states]).mean(0))
    return models[0]


def absorb(model: DepthAnything) -> None:
    """Let every convolution take its batch normalisation in, but for powers of two."""
    for part in model.modules():
        if isinstance(part, ConvNorm):
            part.absorb()


@torch.no_grad()
def round_to_half(model: DepthAnything) -> None:
    """Round to the numbers that a float16 file holds (`official.save`)."""
    for key, tensor in model.state_dict().items():
        if not key.endswith(VARIANCE):
            tensor.copy_(tensor.half())


def bring_to_one(model: DepthAnything) -> None:
    """Multiply the map by a power of two, so that its largest number is near 1 on the page's photographs.

    An affine-invariant loss (V1 Eq. 1) leaves the scale to chance, and a long run can carry it to thousands, inside the
    decoder to more than a float16 holds.
    """
    largest = [float(model.infer_rgb(read_image(path)).max()) for path in sorted(PHOTOGRAPHS.glob("*.jpg"))]
    scale_decoder(model, -round(math.log2(max(statistics.median(largest), 1e-9))))


@torch.no_grad()
def scale_decoder(model: DepthAnything, power: int) -> None:
    """Multiply the map by 2^power, and bring the weights of every layer of the decoder near the size that they are
    initialised with, as far as that leaves the map as it is.

    Between its layers are only sums, ReLU and resizing, so the features at seven points can take any scale of their
    own; it is chosen by least squares on the logarithms of the sizes. Fine-tuning needs this: a step of AdamW moves all
    weights by as much, and would replace a layer of small ones.
    """
    scratch = model.depth_head.scratch
    stages = [scratch.refinenet4, scratch.refinenet3, scratch.refinenet2, scratch.refinenet1]
    levels = [scratch.layer4_rn, scratch.layer3_rn, scratch.layer2_rn, scratch.layer1_rn]
    first, last = (cast(nn.Conv2d, scratch.output_conv2[index]) for index in (0, 2))
    in_series = [*(stage.out_conv for stage in stages), scratch.output_conv1, first, last]
    # Point 0: the encoder's maps, 1 to 4: the fusion stages, 5 to 7: behind the next layers, 8: the map.
    layers = [(level, 0, point) for point, level in enumerate(levels, 1)]
    layers += [(layer, point, point + 1) for point, layer in enumerate(in_series, 1)]
    steps = np.zeros((len(layers), 9))
    for row, (_, before, after) in enumerate(layers):
        steps[row, [before, after]] = -1, 1
    larger = np.array([math.log2(size_to_initial(layer)) for layer, _, _ in layers])
    found = np.linalg.lstsq(steps[:, 1:8], -larger - power * steps[:, 8], rcond=None)[0]
    scales = [0, *(round(float(scale)) for scale in found), power]
    for layer, before, after in layers:
        layer.weight.mul_(2.0 ** (scales[after] - scales[before]))
        if layer.bias is not None:
            layer.bias.mul_(2.0 ** scales[after])
    for point, stage in enumerate(stages, 1):
        for unit in (stage.resConfUnit1, stage.resConfUnit2):
            for layer in (unit.conv1, unit.conv2):
                cast(torch.Tensor, layer.bias).mul_(2.0 ** scales[point])


if __name__ == "__main__":
    tyro.cli(bundle)
