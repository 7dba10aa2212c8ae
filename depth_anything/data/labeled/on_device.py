"""Rendered scenes kept in the device's memory; crops are cut there, many at once."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from depth_anything.data.labeled.rendered import PackedScenes
from depth_anything.data.sample import Crop, Sample, nearest

BYTES_A_PIXEL = 8
"""Three of colour, four of disparity, one of mask."""
CUBIC_A = -0.5
"""Pillow's bicubic kernel."""


class ScenesOnDevice:
    """Scenes of one size, by number, as `PackedScenes`; and windows of many of them in one call.

    Raises:
        ValueError: scenes of different sizes.
    """

    def __init__(self, scenes: PackedScenes, device: str | torch.device):
        if not one_size(scenes):
            raise ValueError("the scenes have different sizes: expected one, to lie as one array on the device")
        self.scenes = scenes
        height, width, _ = scenes.packs[0]["index"][0]
        self.size = shape = (int(height), int(width))
        """(H, W) of every scene."""
        count = len(scenes)
        self.image_NHW3 = torch.empty(count, *shape, 3, dtype=torch.uint8, device=device)
        self.disparity_NHW = torch.empty(count, *shape, dtype=torch.float32, device=device)
        self.valid_NHW = torch.empty(count, *shape, dtype=torch.bool, device=device)
        first = 0
        for pack in scenes.packs:
            some = slice(first, first + len(pack["index"]))
            self.image_NHW3[some] = on_host(pack["image"]).view(-1, *shape, 3).to(device)
            self.disparity_NHW[some] = on_host(pack["disparity"]).view(-1, *shape).to(device)
            self.valid_NHW[some] = (on_host(pack["mask"]).view(-1, *shape).to(device) & 1) > 0
            first = some.stop

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, number: int) -> Sample:
        return self.scenes[number]

    def windows(self, numbers: Sequence[int], crops: Sequence[Crop]) -> tuple[Tensor, Tensor, Tensor]:
        """`samples.OnDevice.windows`; all crops of one size in the end."""
        device = self.image_NHW3.device
        (height, width), size = self.size, crops[0].size
        rows = cubic_weights([crop.top for crop in crops], [crop.height for crop in crops], size[0], height, device)
        columns = cubic_weights([crop.left for crop in crops], [crop.width for crop in crops], size[1], width, device)
        flip_B = torch.tensor([crop.flip for crop in crops], device=device)
        columns = torch.where(flip_B[:, None, None], columns.flip(1), columns)
        number_B = torch.tensor(numbers, device=device)
        image_B3HW = self.image_NHW3[number_B].permute(0, 3, 1, 2).float() / 255
        image_B3HW = torch.einsum("bchw,bjw->bchj", image_B3HW, columns).clamp(0, 1)  # across first, as Pillow
        image_B3HW = torch.einsum("bchj,bih->bcij", image_B3HW, rows).clamp(0, 1)

        down_BH = np.stack([nearest(crop.top, crop.height, size[0], height) for crop in crops])
        across_BW = np.stack(
            [nearest(crop.left, crop.width, size[1], width)[:: -1 if crop.flip else 1] for crop in crops]
        )
        pixels = (
            number_B[:, None, None],
            torch.from_numpy(down_BH).to(device)[:, :, None],
            torch.from_numpy(across_BW).to(device)[:, None],
        )
        return image_B3HW.contiguous(), self.disparity_NHW[pixels], self.valid_NHW[pixels]


def one_size(scenes: PackedScenes) -> bool:
    """Whether all scenes have the same height and width."""
    return len({tuple(size) for pack in scenes.packs for size in np.unique(pack["index"][:, :2], axis=0)}) == 1


def bytes_of(scenes: PackedScenes) -> int:
    """What the scenes take on the device."""
    return BYTES_A_PIXEL * sum(len(pack["disparity"]) for pack in scenes.packs)


def on_host(array: np.ndarray) -> Tensor:
    """A memory-mapped array, read into memory."""
    return torch.from_numpy(np.array(array))


def cubic_weights(
    starts: Sequence[float], lengths: Sequence[float], size: int, limit: int, device: torch.device
) -> Tensor:
    """Pillow's bicubic resampling with antialias as matrices (B, size, limit): each output pixel's weights.

    Args:
        starts, lengths: of the windows, in pixels, fractions allowed.
        size: pixels of a crop after resizing.
        limit: pixels of the whole image; the resize filter may read beyond the edges of a crop.
    """
    start_B11, length_B11 = (
        torch.tensor(values, dtype=torch.float32, device=device)[:, None, None] for values in (starts, lengths)
    )
    step_B11 = length_B11 / size
    centre = start_B11 + (torch.arange(size, device=device)[:, None] + 0.5) * step_B11
    x = ((torch.arange(limit, device=device) + 0.5 - centre) / step_B11.clamp(min=1)).abs()
    inner = ((CUBIC_A + 2) * x - (CUBIC_A + 3)) * x**2 + 1
    outer = ((x - 5) * x + 8) * x * CUBIC_A - 4 * CUBIC_A
    weights = torch.where(x < 1, inner, torch.where(x < 2, outer, 0))
    return weights / weights.sum(2, keepdim=True)
