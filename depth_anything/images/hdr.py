"""Tone-map HDR images to SDR: from the light of PQ and HLG signals (ITU-R BT.2100) to sRGB uint8.

Networks were trained on ordinary photographs. Shown as one, an HDR signal is pale and dim. Here its light is taken
relative to reference white (BT.2408: 203 cd/m2 of PQ, 75 % of HLG), brought from BT.2020's to sRGB's primaries
(BT.2087) and written as sRGB. Up to 0.9 of its white the result is what the same scene is in SDR; above that,
highlights go softly towards white instead of being cut off. HLG's light is the scene's: no display is assumed.
"""

from functools import lru_cache
from typing import Literal

import numpy as np

Transfer = Literal["PQ", "HLG"]
KNEE = 0.9
"""Of sRGB's white: where highlights begin to be compressed."""
BRIGHTEST = 16.0
"""Times reference white: what is brighter is white, as this is already."""
STEPS = 4096
"""Table entries from black to reference white, in the square root of light."""
BT2020_TO_SRGB = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]], np.float32
)
ROWS = 64


def to_sdr(signal_HW3: np.ndarray, transfer: Transfer, wide: bool = True) -> np.ndarray:
    """An HDR image as an ordinary one.

    Args:
        signal_HW3: uint16 (H, W, 3), R'G'B' over the full range of 16 bits.
        transfer: transfer function of the signal.
        wide: its primaries are BT.2020's; otherwise they are sRGB's already.

    Returns:
        uint8 (H, W, 3), sRGB.
    """
    light, shown = light_table(transfer), srgb_table()
    sdr_HW3 = np.empty(signal_HW3.shape, np.uint8)
    for top in range(0, len(signal_HW3), ROWS):  # bands that stay in the processor's cache
        light_hW3 = light[signal_HW3[top : top + ROWS]]
        if wide:
            light_hW3 = light_hW3 @ BT2020_TO_SRGB.T
        root_hW3 = np.sqrt(np.clip(light_hW3, 0, BRIGHTEST))
        sdr_HW3[top : top + ROWS] = shown[np.round(root_hW3 * STEPS).astype(np.uint16)]
    return sdr_HW3


@lru_cache
def light_table(transfer: Transfer) -> np.ndarray:
    """float32 (65536,): light relative to reference white for every signal, by BT.2100's tables 4 and 5."""
    signal = np.linspace(0, 1, 65536)
    if transfer == "PQ":
        power = signal ** (1 / 78.84375)
        light = (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (1 / 0.1593017578125)
        return (light * 10_000 / 203).astype(np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    white = (np.exp((0.75 - c) / a) + b) / 12
    return (light / white).astype(np.float32)


@lru_cache
def srgb_table() -> np.ndarray:
    """uint8: sRGB of light (IEC 61966-2-1) by the square root of that light, highlights compressed."""
    light = (np.arange(int(np.sqrt(BRIGHTEST) * STEPS) + 1) / STEPS) ** 2
    srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    room = 1 - KNEE
    soft = KNEE + room * (1 - np.exp(-np.maximum(srgb - KNEE, 0) / room))
    return np.round(np.where(srgb > KNEE, soft, srgb) * 255).astype(np.uint8)
