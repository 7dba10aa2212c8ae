"""Convert any of Pillow's modes to RGB uint8, in strips of rows. The rules are at the top of images/read.py."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from PIL import Image, ImageCms

from depth_anything.images import cicp, hdr, tiff

COLORS = "depth_anything_colors"
"""Key in `Image.info` for the `cicp.Colors` that the file states, or None."""
_STRIP_PIXELS = 4_000_000


def strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The image in bands of whole rows, so that conversions need little additional memory."""
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def converter(image: Image.Image) -> Callable[[Image.Image], np.ndarray]:
    """The function that turns a strip of `image` into uint8 (rows, W, 3)."""
    colors = image.info.get(COLORS)
    if colors and (colors.hdr_transfer or colors.narrow):
        return partial(_by_signal, colors=colors)
    if image.mode.startswith("I") or image.mode == "F" or tiff.is_signed(image):
        return _grey_converter(image)
    if image.mode == "LAB":
        lab_to_srgb = ImageCms.buildTransform(
            ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
        )
        return lambda strip: np.asarray(ImageCms.applyTransform(strip, lab_to_srgb))
    if image.has_transparency_data or image.mode in ("La", "RGBa"):
        return on_white
    return lambda strip: np.asarray(strip.convert("RGB"))


def on_white(strip: Image.Image) -> np.ndarray:
    """An image with transparency as it looks on white."""
    rgba = strip.convert("LA").convert("RGBA") if strip.mode == "La" else strip.convert("RGBA")
    result = Image.new("RGB", strip.size, "white")
    result.paste(rgba, mask=rgba.getchannel("A"))
    return np.asarray(result)


def _by_signal(strip: Image.Image, colors: cicp.Colors) -> np.ndarray:
    """An image that states HDR or narrow range as it looks in SDR and full range, on white."""
    if strip.mode.startswith("I"):  # grey of 16 bits, which Pillow would cut off at 255
        grey_HW = np.asarray(strip).astype(np.uint16)
        sdr_HW3 = _sdr(np.repeat(grey_HW[:, :, None], 3, axis=2), 16, colors)
        transparent = strip.info.get("transparency")
        if isinstance(transparent, int):
            sdr_HW3[grey_HW == transparent] = 255
        return sdr_HW3
    rgba_HW4 = np.array(strip.convert("RGBA"))  # its opacity is in full range always
    rgba_HW4[..., :3] = _sdr(rgba_HW4[..., :3], 8, colors)
    return on_white(Image.fromarray(rgba_HW4))


def _sdr(signal_HW3: np.ndarray, bits: int, colors: cicp.Colors) -> np.ndarray:
    """uint8 (H, W, 3) of R'G'B' of 8 or 16 bits."""
    black, white = (16 << bits - 8, 235 << bits - 8) if colors.narrow else (0, (1 << bits) - 1)
    values = np.clip((np.arange(1 << bits) - black) / (white - black), 0, 1)
    if colors.hdr_transfer is None:
        return np.round(values * 255).astype(np.uint8)[signal_HW3]
    full_HW3 = np.round(values * 65535).astype(np.uint16)[signal_HW3]
    return hdr.to_sdr(full_HW3, colors.hdr_transfer, colors.wide)


def _grey_converter(image: Image.Image) -> Callable[[Image.Image], np.ndarray]:
    """16-bit, 32-bit and float grey to 8 bits by the rule at the top of images/read.py."""
    low, high = np.inf, -np.inf
    for _, strip in strips(image):
        values = tiff.values(image, strip)
        values = values[np.isfinite(values)] if image.mode == "F" else values
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    if low > high:  # nothing finite
        low, high = 0.0, 1.0
    if image.mode == "F":
        black, white = (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
    elif low >= 0 and high <= 65535 and not tiff.is_signed(image):
        declared_12bit = image.format == "TIFF" and image.tag_v2.get(258) == (12,)  # type: ignore[attr-defined]
        bits = max(8, int(high).bit_length())
        black, white = 0.0, 4095.0 if declared_12bit else float(2**bits - 1) if bits <= 12 else 65535.0
    else:
        black, white = low, high
    scale = 255.0 / (white - black) if white > black else 0.0
    if tiff.white_is_zero(image):
        black, scale = white, -scale
    transparent = image.info.get("transparency")

    def to_rgb(strip: Image.Image) -> np.ndarray:
        values_HW = tiff.values(image, strip)
        with np.errstate(invalid="ignore"):  # NaN
            grey_HW = np.nan_to_num((values_HW.astype(np.float64) - black) * scale, nan=0, posinf=255, neginf=0)
        grey_HW = np.round(np.clip(grey_HW, 0, 255)).astype(np.uint8)
        if isinstance(transparent, int):
            grey_HW[values_HW == transparent] = 255
        return np.repeat(grey_HW[:, :, None], 3, axis=2)

    return to_rgb
