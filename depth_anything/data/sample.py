"""One labelled image, the contract of every reader, and what geometry does to it. numpy and Pillow, no torch."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL import Image

from depth_anything.geometry.camera import mean_focal


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An image with its ground truth.

    Where `scale` is "metric", disparity is 1 / metres, so metres are one division away; "relative" has an unknown
    factor, "affine" an unknown factor and shift. Sky is valid, with disparity 0.
    """

    image_HW3: np.ndarray
    """uint8 RGB."""
    disparity_HW: np.ndarray
    """float32, larger is nearer, 0 in the sky and where not valid."""
    valid_HW: np.ndarray
    """bool: the disparity may be used."""
    sky_HW: np.ndarray
    """bool."""
    classes_HW: np.ndarray | None = None
    """int16 class indices."""
    K_33: np.ndarray | None = None
    """Pinhole intrinsics in pixels; the centre of the first pixel is (0, 0), as in camera.py."""
    scale: Literal["metric", "relative", "affine"]
    key: str = ""

    def __post_init__(self):
        size = self.image_HW3.shape[:2]
        for name in ("disparity_HW", "valid_HW", "sky_HW", "classes_HW"):
            part = getattr(self, name)
            assert part is None or part.shape == size, f"{name} is {part.shape}, the image {size}"


@dataclass(frozen=True)
class Crop:
    """A crop in pixels of the image, fractions allowed; its size after resizing; whether it is mirrored."""

    top: float
    left: float
    height: float
    width: float
    size: tuple[int, int]
    """(H, W) after resizing."""
    flip: bool = False


def to_disparity(depth_HW: np.ndarray, valid_HW: np.ndarray, sky_HW: np.ndarray) -> np.ndarray:
    """1 / depth at valid pixels, 0 in the sky and elsewhere (V1 section 3.1: d = 1 / t, no constant added)."""
    usable = valid_HW & ~sky_HW
    return np.divide(1, depth_HW, out=np.zeros(depth_HW.shape, np.float32), where=usable).astype(np.float32)


def min_max(disparity_HW: np.ndarray, valid_HW: np.ndarray) -> np.ndarray:
    """Disparity in 0..1 over the valid pixels of this map (V1 section 3.1); 0 elsewhere and for a constant map."""
    values = disparity_HW[valid_HW]
    if values.size == 0 or values.max() == values.min():
        return np.zeros_like(disparity_HW)
    scaled = (disparity_HW - values.min()) / (values.max() - values.min())
    return np.where(valid_HW, scaled, 0).astype(disparity_HW.dtype)


def random_crop(
    height: int,
    width: int,
    size: tuple[int, int],
    scale: tuple[float, float],
    aspect_jitter: float,
    flip: float,
    draws_5: np.ndarray,
) -> Crop:
    """A random crop of an image of height x width pixels.

    With scale (1, 1), no jitter and a square `size` this is the papers' crop: shorter side to the network's size, then
    a random square crop (V1 supplement). A crop that has the network's size already, as of a pseudo-labelled image,
    begins at whole pixels: fractions would resample the image between the pixels of its label.

    Args:
        scale: range of the crop's sides, as a share of the largest crop of that shape.
        aspect_jitter: the crop is up to this factor wider or higher than `size`, log-uniform; 1 for none.
        flip: probability of mirroring.
        draws_5: uniform random numbers in 0..1, for shape, size, top, left, mirroring.
    """
    aspect = size[1] / size[0] * np.exp((2 * draws_5[0] - 1) * np.log(aspect_jitter))
    share = scale[0] + (scale[1] - scale[0]) * draws_5[1]
    crop_height, crop_width = min(height, width / aspect) * share, min(height * aspect, width) * share
    mirrored = bool(draws_5[4] < flip)
    if np.allclose((crop_height, crop_width), size, rtol=0, atol=1e-6):
        top, left = int((height - size[0] + 1) * draws_5[2]), int((width - size[1] + 1) * draws_5[3])
        return Crop(top, left, *size, size, mirrored)
    top, left = (height - crop_height) * draws_5[2], (width - crop_width) * draws_5[3]
    return Crop(top, left, crop_height, crop_width, size, mirrored)


def cut(sample: Sample, crop: Crop) -> Sample:
    """The crop, resized and mirrored: the image bicubic with antialias, every label by its nearest pixel."""
    (height, width), mirror = crop.size, slice(None, None, -1 if crop.flip else 1)
    top, left = int(crop.top), int(crop.left)
    if (crop.height, crop.width, crop.top, crop.left) == (height, width, top, left):

        def pick(map_HW: np.ndarray) -> np.ndarray:
            return map_HW[top : top + height, left : left + width][:, mirror].copy()

        image_HW3 = pick(sample.image_HW3)
    else:
        box = (crop.left, crop.top, crop.left + crop.width, crop.top + crop.height)
        resized = Image.fromarray(sample.image_HW3).resize((width, height), Image.Resampling.BICUBIC, box)
        image_HW3 = np.asarray(resized)[:, mirror]
        rows = nearest(crop.top, crop.height, height, sample.image_HW3.shape[0])
        columns = nearest(crop.left, crop.width, width, sample.image_HW3.shape[1])[mirror]

        def pick(map_HW: np.ndarray) -> np.ndarray:
            return map_HW.take(rows, 0).take(columns, 1)  # a third of the time of both at once

    return replace(
        sample,
        image_HW3=image_HW3,
        disparity_HW=pick(sample.disparity_HW),
        valid_HW=pick(sample.valid_HW),
        sky_HW=pick(sample.sky_HW),
        classes_HW=None if sample.classes_HW is None else pick(sample.classes_HW),
        K_33=None if sample.K_33 is None else cut_intrinsics(sample.K_33, crop),
    )


def to_canonical(sample: Sample, canonical_focal: float) -> Sample:
    """The sample as a camera of focal length f_c would see the same pixels: z_c = z f_c / f (`camera.from_canonical`).

    Args:
        canonical_focal: f_c in pixels of the sample, which has the network's size.

    Raises:
        ValueError: the sample has no intrinsics, or no metres.
    """
    if sample.K_33 is None or sample.scale != "metric":
        lacks = "intrinsics" if sample.K_33 is None else "metres"
        raise ValueError(f"{sample.key or 'an image'}: no {lacks}; a camera-aware run needs both")
    focal = mean_focal(sample.K_33)
    return replace(sample, disparity_HW=sample.disparity_HW * np.float32(focal / canonical_focal))


def nearest(start: float, length: float, size: int, limit: int) -> np.ndarray:
    """Source index of each of `size` pixels that cover `length` pixels from `start`: the pixel under their centre."""
    centres = start + (np.arange(size) + 0.5) * (length / size)
    return np.clip(centres.astype(np.int64), 0, limit - 1)


def cut_intrinsics(K_33: np.ndarray, crop: Crop) -> np.ndarray:
    """Intrinsics after the crop. Mirroring moves the principal point. Windows are measured from pixels' corners."""
    height, width = crop.size
    across, down = width / crop.width, height / crop.height
    to_window = np.array([[1, 0, 0.5 - crop.left], [0, 1, 0.5 - crop.top], [0, 0, 1]])
    K = np.diag([across, down, 1.0]) @ to_window @ K_33
    K[:2, 2] -= 0.5
    if crop.flip:
        K[0, 2] = width - 1 - K[0, 2]
    return K
