"""Scene shards with random content, written in memory."""

import io
import json

import numpy as np
from PIL import Image


def as_bytes(array: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return buffer.getvalue()


def scene(seed: int, height: int, width: int) -> tuple[str, dict[str, bytes]]:
    """A flat-coloured image with random disparity; the first row is sky, which the valid mask leaves out."""
    rng = np.random.default_rng(seed)
    disparity_HW = rng.uniform(0.05, 2, (height, width)).astype(np.float32)
    disparity_HW[0] = 0
    sky_HW = np.zeros((height, width), np.uint8)
    sky_HW[0] = 255
    archive = io.BytesIO()
    np.savez_compressed(archive, disparity=disparity_HW)
    files = {
        "rgb.jpg": as_bytes(np.full((height, width, 3), rng.integers(40, 200, 3), np.uint8), "JPEG"),
        "disparity.npz": archive.getvalue(),
        "valid.png": as_bytes(np.where(disparity_HW > 0.1, 255, 0).astype(np.uint8), "PNG"),
        "sky.png": as_bytes(sky_HW, "PNG"),
        "class.png": as_bytes(rng.integers(0, 9, (height, width)).astype(np.uint8), "PNG"),
        "json": json.dumps({"K": [[50, 0, width / 2], [0, 50, height / 2], [0, 0, 1]], "kind": "room"}).encode(),
    }
    return f"{seed:08d}", files


SIZES = [(24, 32), (24, 32), (32, 24), (16, 48), (24, 32)]
