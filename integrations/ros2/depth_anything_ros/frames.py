"""Images of ROS messages to maps and points, as NumPy arrays. Nothing here imports ROS.

Names and values follow REP 118 (depth images: 32FC1 in metres, 16UC1 in millimetres with 0 for unknown), REP 117
(32FC1: NaN for unknown, +infinity for beyond the range) and REP 103 (optical frames: x right, y down, z forward).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from depth_anything import Prediction
from depth_anything.geometry import camera

MapEncoding = Literal["32FC1", "16UC1"]
CHANNELS = {"rgb8": 3, "bgr8": 3, "8UC3": 3, "rgba8": 4, "bgra8": 4, "8UC4": 4, "mono8": 1, "8UC1": 1}
"""Encodings of 8 bits and how many channels each has. Without colours in the name the order is OpenCV's, BGR."""
WIDER = {"mono16": 1, "16UC1": 1, "rgb16": 3, "bgr16": 3}
"""Encodings of 16 bits, of which the upper eight are used."""
POINT_FIELDS = (("x", 0), ("y", 4), ("z", 8), ("rgb", 12))
"""Names and offsets of a point's float32 values; `rgb` holds 0x00RRGGBB, as PCL and RViz read it."""


def to_rgb(data: bytes, encoding: str, height: int, width: int, step: int, is_bigendian: bool = False) -> np.ndarray:
    """uint8 RGB (H, W, 3) of a sensor_msgs/Image.

    Raises:
        ValueError: an encoding that is not an image of colours or grey, or too little data.
    """
    channels = CHANNELS.get(encoding) or WIDER.get(encoding)
    if channels is None:
        known = ", ".join([*CHANNELS, *WIDER])
        raise ValueError(f"image of encoding {encoding!r}: expected one of {known}; image_proc converts others")
    bytes_each = 2 if encoding in WIDER else 1
    row = width * channels * bytes_each
    if height < 1 or width < 1 or step < row or len(data) < step * (height - 1) + row:
        raise ValueError(
            f"image {width}x{height} of encoding {encoding} with {len(data)} bytes in rows of {step}: expected rows of "
            f"{row} bytes or more"
        )
    # The last row may come without its padding.
    whole = np.frombuffer(bytes(data).ljust(step * height, b"\0"), np.uint8, step * height)
    rows_HS = whole.reshape(height, step)[:, :row]
    if bytes_each == 2:
        wide = np.ascontiguousarray(rows_HS).view(">u2" if is_bigendian else "<u2")
        rows_HS = (wide >> 8).astype(np.uint8)
    image_HWC = rows_HS.reshape(height, width, channels)
    if channels == 1:
        return np.repeat(image_HWC, 3, axis=2)
    is_rgb = encoding.startswith("rgb")
    return np.ascontiguousarray(image_HWC[:, :, :3] if is_rgb else image_HWC[:, :, 2::-1])


def camera_matrix(k: list[float] | np.ndarray, info_size: tuple[int, int], size: tuple[int, int]) -> np.ndarray | None:
    """K (3, 3) of a sensor_msgs/CameraInfo for an image of `size` (H, W), or None where it does not describe one.

    A camera that is not calibrated has zeros in `k`. Where the image is a scaled one, K is scaled with it.

    Args:
        k: the nine numbers of CameraInfo.k.
        info_size: (height, width) of CameraInfo.
    """
    K = np.asarray(k, dtype=np.float64).reshape(3, 3)
    height, width = size
    if K[0, 0] <= 0 or K[1, 1] <= 0 or min(info_size) < 1 or info_size[0] * width != info_size[1] * height:
        return None
    scale = width / info_size[1]
    # Pixel (0, 0) is the centre of the first pixel, so the corner that stays in place lies at -0.5.
    scaled = K * scale
    scaled[:2, 2] += (scale - 1) / 2
    scaled[2] = (0, 0, 1)
    return scaled


def map_values(prediction: Prediction, encoding: MapEncoding, max_range: float = float("inf")) -> np.ndarray:
    """The map as ROS expects it: float32 or uint16 (H, W).

    Metres: 32FC1 in metres, NaN where unknown, +infinity beyond `max_range`; 16UC1 in millimetres, 0 where unknown or
    beyond what it can hold. Disparity has no unit: 32FC1 in 0..1 of this image, 16UC1 in 0..65535, larger is nearer.
    """
    if prediction.depth_m is None:
        nearness_HW = prediction.nearness()
        return nearness_HW.astype(np.float32) if encoding == "32FC1" else np.rint(nearness_HW * 65535).astype(np.uint16)
    depth_m_HW = prediction.depth_m
    if encoding == "16UC1":
        millimetres_HW = np.rint(depth_m_HW * 1000.0)
        fits_HW = (depth_m_HW <= max_range) & (millimetres_HW <= 65535)
        return np.where(fits_HW, millimetres_HW, 0).astype(np.uint16)
    known_HW = np.where(depth_m_HW > 0, depth_m_HW, np.float32(np.nan))
    return np.where(depth_m_HW > max_range, np.float32(np.inf), known_HW).astype(np.float32)


def cloud(prediction: Prediction, K: np.ndarray, max_range: float = float("inf")) -> np.ndarray:
    """float32 (H, W, 4) with the fields of POINT_FIELDS, in the optical frame; NaN where unknown or out of range.

    Raises:
        ValueError: the prediction holds no metres.
    """
    if prediction.depth_m is None:
        raise ValueError(f"{prediction.model} predicts disparity without a scale: points need a model of metres")
    near_HW = np.where(prediction.depth_m <= max_range, prediction.depth_m, 0)
    values_HW4 = np.full((*near_HW.shape, 4), np.nan, np.float32)
    values_HW4[:, :, :3] = camera.unproject(near_HW, K)
    if prediction.image is not None:
        red, green, blue = (prediction.image[:, :, i].astype(np.uint32) for i in range(3))
        values_HW4[:, :, 3] = (red << 16 | green << 8 | blue).view(np.float32)
    return values_HW4


@dataclass
class Rate:
    """Lets at most `max_rate` images a second through; 0 lets all."""

    max_rate: float
    last: float = float("-inf")

    def lets_through(self, seconds: float) -> bool:
        """Whether an image that comes at that time is used. A clock that went back starts anew."""
        # A thousandth of tolerance: cameras are not exact, and a rate of 30 must not halve theirs of 30.
        if self.max_rate > 0 and 0 <= seconds - self.last < 0.999 / self.max_rate:
            return False
        self.last = seconds
        return True


@dataclass
class Frames:
    """One camera's images to maps: the newest calibration goes with every image."""

    predict: Callable[[np.ndarray], Prediction]
    """A `Predictor`."""
    encoding: MapEncoding = "32FC1"
    max_range: float = float("inf")
    """Metres; what is farther counts as beyond the range."""

    def __call__(self, image_HW3: np.ndarray, K: np.ndarray | None) -> tuple[Prediction, np.ndarray]:
        """The prediction, with metres for this camera where the model depends on it, and the map's values."""
        prediction = self.predict(image_HW3)
        if K is not None:
            prediction = prediction.with_camera(K)
        return prediction, map_values(prediction, self.encoding, self.max_range)
