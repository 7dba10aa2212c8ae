"""Temporal stabilisation: the maps of a clip are aligned with the preceding ones and averaged along the motion.

A relative model predicts every frame with its own scale, shift and noise. Both are removed here using past frames only,
so that a video of any length, or a camera, needs the memory of one frame:

1. Optical flow finds each pixel in the last frame; pixels whose colours differ count as not found.
2. The new map is aligned with the last stabilised one by scale and shift: robust least squares over the pixels that
   were found (evaluate/align.py), in both directions, because both maps are noisy and a fit in one direction would
   shrink the range a little with every frame. Scale and shift decay towards 1 and 0, so that long clips do not drift.
3. Each pixel becomes a running mean along its track, which forgets its past where the map really changes.
4. If too few pixels are found, a scene cut is assumed and the state is reset.

Metric maps keep their scale: they skip step 2.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from depth_anything.evaluate.align import fit_scale_shift
from depth_anything.system.extras import needs

FLOW_SIDE = 384
"""Longer side, in pixels, of the images on which motion is estimated and scales are fitted."""
FOUND = 20
"""Largest difference, in grey levels of 255, between a pixel and the same pixel in the last frame."""
CUT = 1 / 3
"""Share of pixels found in the last frame below which a scene cut is assumed."""
MEMORY = 8
"""Number of frames in the running mean of a pixel."""
GIVE_WAY = 4.0
"""A blurred change of the map above this many robust deviations counts as real, and the mean forgets its past."""
LEAN = 0.02
"""How far each frame returns to the model's own scale and shift."""


@dataclass(frozen=True)
class StabilisedFrame:
    """The result for one frame."""

    values_HW: np.ndarray
    """float32 (H, W), in the quantity of the model and the scale of the clip."""
    cut: bool
    """Whether a scene starts here; true for the first frame."""
    scale: float
    shift: float
    """The factor that the map of the model was multiplied by before averaging; `shift` was then added."""


class Stabiliser:
    """Stabilises the maps of one clip, frame by frame.

    Args:
        is_metric: the maps are in metres: they are averaged but keep their scale.
    """

    def __init__(self, is_metric: bool = False):
        load_cv2()
        self.is_metric = is_metric
        self.grey_hw = np.zeros((0, 0), np.uint8)
        self.mean_HW = self.count_HW = np.zeros((0, 0), np.float32)
        self.scale, self.shift = 1.0, 0.0

    def __call__(self, image_HW3: np.ndarray, values_HW: np.ndarray) -> StabilisedFrame:
        """Stabilise the next frame: its upright image, uint8 RGB, and its map, float32 of the same size."""
        grey_hw = small_grey(image_HW3)
        cut = True
        if self.mean_HW.shape == values_HW.shape:
            position_hw2, found_hw = find_again(self.grey_hw, grey_hw)
            cut = float(found_hw.mean()) < CUT
        if cut:
            self.scale, self.shift = 1.0, 0.0
            self.mean_HW = values_HW.astype(np.float32)
            self.count_HW = np.ones(values_HW.shape, np.float32)
        else:
            self._follow(values_HW, position_hw2, found_hw)
        self.grey_hw = grey_hw
        return StabilisedFrame(self.mean_HW, cut, self.scale, self.shift)

    def state(self) -> dict[str, np.ndarray]:
        """The state that the next frame needs, to resume in another process."""
        numbers = np.array([self.scale, self.shift])
        return {"grey": self.grey_hw, "mean": self.mean_HW, "count": self.count_HW, "numbers": numbers}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Resume from `state`."""
        self.grey_hw, self.mean_HW, self.count_HW = state["grey"], state["mean"], state["count"]
        self.scale, self.shift = (float(number) for number in state["numbers"])

    def _follow(self, values_HW: np.ndarray, position_hw2: np.ndarray, found_hw: np.ndarray) -> None:
        """Align a map with the last stabilised one and add it to the running mean along the motion."""
        cv2 = load_cv2()
        height, width = values_HW.shape
        last_hw = cv2.remap(small(self.mean_HW, found_hw.shape), position_hw2, None, cv2.INTER_LINEAR)
        values_hw = small(values_HW, found_hw.shape)
        if not self.is_metric:
            # The noise variance of a running mean of independent frames is 1 / (2 MEMORY - 1) of theirs.
            fitted = fair_fit(values_hw, last_hw, found_hw, self.scale**2 / (2 * MEMORY - 1))
            if fitted is not None:
                self.scale, self.shift = fitted[0] ** (1 - LEAN), fitted[1] * (1 - LEAN)
        change_hw = self.scale * values_hw + self.shift - last_hw
        sure_HW = cv2.resize(sureness(change_hw, found_hw), (width, height))

        position_HW2 = enlarge(position_hw2, height, width)
        border = {"borderMode": cv2.BORDER_REPLICATE}
        last_HW = cv2.remap(self.mean_HW, position_HW2, None, cv2.INTER_LINEAR, **border)
        count_HW = cv2.remap(self.count_HW, position_HW2, None, cv2.INTER_LINEAR, **border)
        count_HW = np.minimum(count_HW, MEMORY - 1) * sure_HW
        aligned_HW = np.float32(self.scale) * values_HW + np.float32(self.shift)
        self.mean_HW = last_HW + (aligned_HW - last_HW) / (count_HW + 1)
        self.count_HW = count_HW + 1


def sureness(change_hw: np.ndarray, found_hw: np.ndarray) -> np.ndarray:
    """Weight of each pixel's past, 0 to 1, float32: 0 where the pixel was not found, lower where the map changes.

    Blurring removes most of the noise, and the median estimates what is left; a change larger than GIVE_WAY times that
    comes from the scene. Single pixels would remain visible as specks, so whole patches with soft edges are used.
    """
    cv2 = load_cv2()
    blurred_hw = cv2.GaussianBlur(change_hw.astype(np.float32), (0, 0), 6)
    deviation = 1.4826 * float(np.median(np.abs(blurred_hw[found_hw]))) + 1e-12
    holds_hw = 1 / (1 + (blurred_hw / (GIVE_WAY * deviation)) ** 4)
    whole_hw = cv2.GaussianBlur(cv2.medianBlur(found_hw.astype(np.uint8), 5).astype(np.float32), (0, 0), 3)
    return (whole_hw * holds_hw).astype(np.float32)


def small_grey(image_HW3: np.ndarray) -> np.ndarray:
    """An image in grey, uint8, its longer side at most FLOW_SIDE."""
    cv2 = load_cv2()
    height, width = image_HW3.shape[:2]
    factor = min(1.0, FLOW_SIDE / max(height, width))
    size = (max(16, round(width * factor)), max(16, round(height * factor)))
    return cv2.cvtColor(cv2.resize(image_HW3, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)


def small(map_HW: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A map at the size at which motion is estimated."""
    cv2 = load_cv2()
    return cv2.resize(map_HW.astype(np.float32, copy=False), shape[::-1], interpolation=cv2.INTER_AREA)


def enlarge(position_hw2: np.ndarray, height: int, width: int) -> np.ndarray:
    """Positions (x, y) at another size: resized, and in pixels of that size."""
    cv2 = load_cv2()
    h, w = position_hw2.shape[:2]
    if (h, w) == (height, width):
        return position_hw2
    grid_hw2 = np.stack(np.meshgrid(np.arange(w), np.arange(h)), axis=-1).astype(np.float32)
    motion_HW2 = cv2.resize((position_hw2 - grid_hw2) * np.array([width / w, height / h], np.float32), (width, height))
    motion_HW2[..., 0] += np.arange(width, dtype=np.float32)
    motion_HW2[..., 1] += np.arange(height, dtype=np.float32)[:, None]
    return motion_HW2


def find_again(last_hw: np.ndarray, grey_hw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the pixels of an image in the last image (DIS optical flow, Kroeger et al. 2016).

    Returns:
        float32 (h, w, 2): x and y in the last image; bool (h, w): whether the colours there agree.
    """
    cv2 = load_cv2()
    flow_hw2 = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(grey_hw, last_hw, None)
    height, width = grey_hw.shape
    flow_hw2[..., 0] += np.arange(width, dtype=np.float32)
    flow_hw2[..., 1] += np.arange(height, dtype=np.float32)[:, None]
    inside_hw = (flow_hw2 >= 0).all(-1) & (flow_hw2 <= np.array([width - 1, height - 1], np.float32)).all(-1)
    same_hw = np.abs(cv2.remap(last_hw, flow_hw2, None, cv2.INTER_LINEAR).astype(np.int16) - grey_hw) < FOUND
    return flow_hw2, inside_hw & same_hw


def fair_fit(
    values: np.ndarray, target: np.ndarray, valid: np.ndarray, noise_ratio: float
) -> tuple[float, float] | None:
    """Robust scale and shift from values to target if both are noisy (Deming 1943); None if they differ too much.

    Plain least squares attributes all noise to the target and so underestimates the scale: the range of a clip would
    shrink from frame to frame. The unbiased scale lies between the forward fit and the inverse of the backward fit, at
    a position that the ratio of the noise variances determines. Five iterations reduce the weight of outliers (to a
    half at 2 robust deviations).

    Args:
        values, target: arrays of the same shape.
        valid: bool, same shape: points to use.
        noise_ratio: noise variance of the target divided by that of the values.
    """
    weights, scale, shift, agreement = np.ones(values.shape), 1.0, 0.0, 0.0
    for _ in range(5):
        there, _ = fit_scale_shift(values, target, valid, weights)
        back, _ = fit_scale_shift(target, values, valid, weights)
        if there <= 0 or back <= 0:
            return None
        agreement = there * back  # the square of their correlation
        half = (1 / back - noise_ratio / there) / 2
        scale = float(half + np.sqrt(half**2 + noise_ratio))
        total = weights[valid].sum()
        shift = float(weights[valid] @ (target[valid] - scale * values[valid]) / total)
        residual = np.abs(scale * values + shift - target)
        deviation = 1.4826 * float(np.median(residual[valid])) + 1e-12
        weights = 1 / (1 + (residual / (2 * deviation)) ** 4)
    return (scale, shift) if agreement > 0.25 else None


def load_cv2() -> Any:
    """The module cv2 (OpenCV).

    Raises:
        ValueError: OpenCV is not installed.
    """
    with needs("video", "this"):
        import cv2
    return cv2
