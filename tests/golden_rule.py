"""The written rule behind tests/golden: weights and images from integer arithmetic alone (splitmix64).

tests/golden/README.md states it. The official models were filled by it where the golden outputs were made; here it
fills ours, so that no file of weights has to travel.
"""

import math
import zlib
from typing import TypeVar

import numpy as np
import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)
CHUNK = 1 << 16  # elements at a time: the passes below stay in the processor's cache


def uniform(key: str, start: int, count: int) -> np.ndarray:
    """Elements start .. start + count - 1 of the stream of `key`: float64, mean 0, variance 1, in [-sqrt 3, sqrt 3)."""
    z = np.arange(start + 1, start + count + 1, dtype=np.uint64)
    z *= np.uint64(0x9E3779B97F4A7C15)
    z += np.uint64(zlib.crc32(key.encode()))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z ^= z >> np.uint64(shift)
        z *= np.uint64(factor)
    z ^= z >> np.uint64(31)
    x = (z >> np.uint64(11)).astype(np.float64)
    x *= 2.0**-52
    x -= 1.0
    x *= math.sqrt(3)
    return x


def centre_and_spread(key: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """The rule's mean and standard deviation for the tensor called `key`."""
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "gamma":
        return 0.3, 0.1
    if leaf == "weight" and len(shape) == 1:
        return 1.0, 0.1
    if leaf in ("cls_token", "mask_token", "pos_embed"):
        return 0.0, 0.3
    if leaf == "weight":
        transposed = "resize_layers.0." in key or "resize_layers.1." in key
        fan = shape[0] if transposed else math.prod(shape[1:])
        return 0.0, (0.7 if "resConfUnit" in key else 1.0) / math.sqrt(fan)
    if key.endswith("output_conv2.2.bias"):
        return 2.0, 0.0
    return 0.0, 0.1


def fill(model: Module) -> Module:
    """Set every tensor of a model with official keys by the rule, in place."""
    for key, tensor in model.state_dict().items():
        flat = tensor.view(-1).numpy()
        centre, spread = centre_and_spread(key, tuple(tensor.shape))
        for start in range(0, flat.size, CHUNK):
            x = uniform(key, start, min(CHUNK, flat.size - start))
            x *= spread
            x += centre
            flat[start : start + x.size] = x
    return model


def image(height: int, width: int, salt: int = 0) -> np.ndarray:
    """The rule's RGB image (height, width, 3) uint8."""
    i, j = np.mgrid[:height, :width].astype(np.int64)
    red = i * 255 // max(height - 1, 1)
    green = j * 255 // max(width - 1, 1)
    blue = ((3 * i * i + 5 * j * j + 2 * i * j) // 512 + 37 * salt) % 256
    block = (((i // 32) * 73856093) ^ ((j // 32) * 19349663) ^ (salt * 83492791)) % 64
    fine = (((i * 7) ^ (j * 13)) + 11 * salt) % 16
    channels = (red + block + fine, green + 2 * block + fine, blue + 3 * block + 2 * fine)
    return (np.stack(channels, axis=-1) % 256).astype(np.uint8)


def network_input(height: int, width: int) -> torch.Tensor:
    """The rule's image (salt 0), normalised in float64 and rounded once: (1, 3, height, width) float32."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    image_HW3 = (image(height, width) / 255.0 - mean) / std
    return torch.from_numpy(np.ascontiguousarray(image_HW3.transpose(2, 0, 1)[None], dtype=np.float32))
