"""Small models with random weights."""

from dataclasses import replace

import torch

from depth_anything.network.model import DepthAnything
from depth_anything.variants import VARIANTS, Variant

TINY = dict(width=32, depth=4, heads=2, table_side=5, taps=(0, 1, 2, 3), features=16, out_channels=(8, 8, 16, 16))


def tiny(**changes) -> Variant:
    """A member of the family that is quick to export; its name only has to be one of the table's."""
    return replace(VARIANTS["v2-small"], **{**TINY, "input_size": 70, **changes})


def random_model(variant: Variant | str) -> DepthAnything:
    torch.manual_seed(0)
    model = DepthAnything(variant).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 1 / parameter[0].numel() ** 0.5)
            elif name.endswith("output_conv2.2.bias"):
                parameter.fill_(1.0 if model.variant.max_depth is None else 0.0)
    return model
