"""Small images in many formats and modes, made here, for the tests that read images."""

import io

import numpy as np
from PIL import Image


def photo(height: int = 40, width: int = 48) -> np.ndarray:
    """uint8 (H, W, 3): smooth slopes and some grain, no symmetry."""
    y, x = np.mgrid[:height, :width]
    slopes = np.stack([x * 4, y * 5, (x + y) * 2], axis=2)
    grain = np.random.default_rng(0).integers(0, 30, (height, width, 1))
    return np.clip(slopes + grain, 0, 255).astype(np.uint8)


def encode(image: Image.Image, fmt: str, **options) -> bytes:
    """The bytes of a file."""
    stream = io.BytesIO()
    image.save(stream, fmt, **options)
    return stream.getvalue()


def seeds() -> dict[str, bytes]:
    """A whole, small file of every format and of the layouts inside it that have decoders of their own."""
    image = Image.fromarray(photo())
    turned = image.rotate(90)
    grey16 = Image.fromarray(photo()[:, :, 0].astype(np.uint16) * 257)
    return {
        "baseline.jpg": encode(image, "JPEG"),
        "progressive.jpg": encode(image, "JPEG", progressive=True),
        "cmyk.jpg": encode(image.convert("CMYK"), "JPEG"),
        "rgb.png": encode(image, "PNG"),
        "grey16.png": encode(grey16, "PNG"),
        "palette.png": encode(image.convert("P"), "PNG", transparency=3),
        "raw.tif": encode(image, "TIFF"),
        "float.tif": encode(image.convert("F"), "TIFF"),
        "lzw.tif": encode(image, "TIFF", compression="tiff_lzw"),
        "deflate.tif": encode(image, "TIFF", compression="tiff_deflate"),
        "packbits.tif": encode(image, "TIFF", compression="packbits"),
        "jpeg.tif": encode(image, "TIFF", compression="jpeg"),
        "fax.tif": encode(image.convert("1"), "TIFF", compression="group4"),
        "still.gif": encode(image, "GIF"),
        "animated.gif": encode(image, "GIF", save_all=True, append_images=[turned]),
        "lossy.webp": encode(image, "WEBP"),
        "lossless.webp": encode(image, "WEBP", lossless=True),
        "animated.webp": encode(image, "WEBP", save_all=True, append_images=[turned]),
        "rgb.avif": encode(image, "AVIF"),
        "rgb.jp2": encode(image, "JPEG2000"),
        "rgb.bmp": encode(image, "BMP"),
        "rgb.ppm": encode(image, "PPM"),
        "rle.tga": encode(image, "TGA", compression="tga_rle"),
        "png.ico": encode(image, "ICO", sizes=[(48, 40)]),
        "rgb.pcx": encode(image, "PCX"),
        "rgb.sgi": encode(image, "SGI"),
        "rgb.qoi": encode(image, "QOI"),
    }
