"""Initial weights of runs for disparity and for masked patches: DINOv2's encoder and a random decoder, also for a
student (V1 section 3.2), or a whole model."""

import torch
from torch import Tensor, nn

from depth_anything.network.efficientnet import EfficientNetLite
from depth_anything.network.model import DepthAnything
from depth_anything.train.recipes.base import Recipe

DECODER_UNREAD = "depth_head.scratch.refinenet4.resConfUnit1."
UNREAD = ("pretrained.mask_token", DECODER_UNREAD)
"""Parameters in every official file that training for disparity does not use: DDP would wait for their gradients."""


def start_model(recipe: Recipe, weights: dict[str, Tensor] | None) -> DepthAnything:
    """A model with random weights from the seed, replaced by the given ones: DINOv2's encoder, or a whole model.

    Raises:
        ValueError: the recipe starts from a pretrained encoder, and no weights are given.
    """
    if recipe.from_backbone and weights is None:
        raise ValueError(f"{recipe.name} starts from a trained encoder (docs/train.md): give it with --backbone")
    torch.manual_seed(recipe.seed)
    model = DepthAnything(recipe.variant)
    # If random weights put everything below the last ReLU, the output is 0 everywhere and there is no gradient.
    last = model.depth_head.scratch.output_conv2[2]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    nn.init.constant_(last.bias, 0.5)
    if isinstance(model.pretrained, EfficientNetLite) and weights is None:
        model.pretrained.learn_statistics()
    if weights is not None:
        unknown = model.load_state_dict(weights, strict=False).unexpected_keys
        assert not unknown, unknown
    return model
