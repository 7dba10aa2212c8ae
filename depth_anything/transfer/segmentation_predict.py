"""Prediction of class maps: sliding windows, several scales, mirroring; and coloured images of them with a legend."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from depth_anything.evaluate.metrics import mean_iou
from depth_anything.network.resize import normalise
from depth_anything.train.distributed import Ranks, sum_over_ranks
from depth_anything.transfer.segmentation import Segmenter
from depth_anything.transfer.segmentation_data import ClassSamples, confusion, palette

MULTI_SCALE = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
"""Scales of V1's multi-scale test."""


@torch.inference_mode()
def predict(model: Segmenter, image_HW3: np.ndarray, ratios: tuple[float, ...] = (), device: str = "cpu") -> np.ndarray:
    """The class of every pixel, uint8 (H, W).

    Args:
        image_HW3: uint8 RGB, any size.
        ratios: empty: one scale, at which the shorter side is one crop and the longer one at most four (V1's test).
            Otherwise scales relative to the size of the image, each also mirrored, whose softmax scores are averaged
            (V1's multi-scale test: 0.5 to 2 in steps of 0.25).
    """
    height, width = image_HW3.shape[:2]
    if not ratios:
        scale = min(model.about.crop / min(height, width), 4 * model.about.crop / max(height, width))
        scores_KHW = scaled_scores(model, image_HW3, scale, device)
    else:
        scores_KHW = torch.zeros(len(model.about.names), height, width, device=device)
        for ratio in ratios:
            for mirrored in (False, True):
                image = np.ascontiguousarray(image_HW3[:, ::-1]) if mirrored else image_HW3
                part_KHW = scaled_scores(model, image, ratio, device).softmax(0)
                scores_KHW += part_KHW.flip(2) if mirrored else part_KHW
    return scores_KHW.argmax(0).to(torch.uint8).cpu().numpy()


def scaled_scores(model: Segmenter, image_HW3: np.ndarray, scale: float, device: str) -> Tensor:
    """Scores (K, H, W) at the size of the image, computed at `scale` times that size."""
    height, width = image_HW3.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = np.array(Image.fromarray(image_HW3).resize(size, Image.Resampling.BILINEAR))
    image_13HW = normalise(torch.from_numpy(image).permute(2, 0, 1)[None].to(device) / 255)
    scores_1KHW = sliding_scores(model, image_13HW)
    return F.interpolate(scores_1KHW, size=(height, width), mode="bilinear", align_corners=False)[0]


def sliding_scores(model: Segmenter, image_13HW: Tensor) -> Tensor:
    """Mean scores of all windows that cover a pixel. Windows are `stride` apart; the last ones end at the border."""
    height, width = image_13HW.shape[2:]
    patch = model.variant.patch
    image_13HW = F.pad(image_13HW, (0, -width % patch, 0, -height % patch))
    crop, stride = model.about.crop, model.about.stride
    total_1KHW = torch.zeros(1, len(model.about.names), *image_13HW.shape[2:], device=image_13HW.device)
    count_11HW = torch.zeros_like(total_1KHW[:, :1])
    for top in starts(image_13HW.shape[2], crop, stride):
        for left in starts(image_13HW.shape[3], crop, stride):
            window = np.s_[:, :, top : top + crop, left : left + crop]
            total_1KHW[window] += model(image_13HW[window])
            count_11HW[window] += 1
    return (total_1KHW / count_11HW)[:, :, :height, :width]


def starts(side: int, crop: int, stride: int) -> list[int]:
    """First positions of the windows along one axis."""
    steps = max(side - crop + stride - 1, 0) // stride + 1
    return [max(min(index * stride, side - crop), 0) for index in range(steps)]


def evaluate(
    model: Segmenter,
    samples: ClassSamples,
    ratios: tuple[float, ...] = (),
    device: str = "cpu",
    ranks: Ranks = Ranks(),  # noqa: B008 (frozen)
) -> float:
    """mIoU over a set, 0 to 1. Several processes share the images, and all return the same value.

    Raises:
        ValueError: the number of classes differs from that of the model.
    """
    count = len(model.about.names)
    if len(samples.names) != count:
        raise ValueError(f"the model has {count} classes, the set has {len(samples.names)}")
    counts = np.zeros((count, count), np.int64)
    for number in range(ranks.rank, len(samples), ranks.world):
        sample = samples[number]
        counts += confusion(predict(model, sample.image_HW3, ratios, device), sample.classes_HW, count)
    return mean_iou(sum_over_ranks(torch.from_numpy(counts).to(device)).cpu().numpy())


def colored(
    classes_HW: np.ndarray, names: tuple[str, ...], image_HW3: np.ndarray | None = None, opacity: float = 1.0
) -> np.ndarray:
    """uint8 (H, W, 3): each class in its colour, blended with the image if the opacity is below 1."""
    paint_HW3 = palette(names)[classes_HW]
    if image_HW3 is None or opacity >= 1:
        return paint_HW3
    return np.rint(opacity * paint_HW3 + (1 - opacity) * image_HW3).astype(np.uint8)


def with_legend(colored_HW3: np.ndarray, classes_HW: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """The same with a legend on the right: the classes that occur, by decreasing area, with their share."""
    shares = np.bincount(classes_HW.ravel(), minlength=len(names)) / classes_HW.size
    order = [index for index in np.argsort(-shares, kind="stable") if shares[index] > 0]
    row, margin = 16, 4
    height = max(colored_HW3.shape[0], margin * 2 + row * len(order))
    canvas = Image.new("RGB", (colored_HW3.shape[1] + 190, height), "white")
    canvas.paste(Image.fromarray(colored_HW3), (0, 0))
    draw, left = ImageDraw.Draw(canvas), colored_HW3.shape[1] + margin
    for line, index in enumerate(order):
        top = margin + line * row
        fill = tuple(int(value) for value in palette(names)[index])
        draw.rectangle((left, top + 2, left + 12, top + 13), fill=fill, outline="black")
        draw.text((left + 18, top + 2), f"{names[index][:20]}  {shares[index]:.1%}", fill="black")
    return np.asarray(canvas)
