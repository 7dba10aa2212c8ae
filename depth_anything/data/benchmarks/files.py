"""Files of test sets: all there or none, and read without losing a bit."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError


def require(paths: Sequence[Path], set_name: str, expected: str, advice: str) -> None:
    """All of these files, or one line that says how many are missing and where they were expected.

    A mean over the images that happen to be there is another number than the published one, so a test set is read
    whole or not at all.

    Raises:
        ValueError: a path is missing.
    """
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise ValueError(
            f"{set_name}: {len(paths) - len(missing)} of {len(paths)} files found ({expected}); "
            f"the first missing one is {missing[0]}. {advice}"
        )


def read_uint16(path: Path) -> np.ndarray:
    """A single-channel 16-bit PNG as uint16 (H, W), exactly as stored.

    Raises:
        ValueError: missing, damaged, or not 16 bits of one channel (8-bit truth has lost its depth).
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("I;16", "I;16B", "I;16L", "I"):
                raise ValueError(f"{path}: expected a 16-bit PNG with one channel, got mode {image.mode}")
            values = np.asarray(image)
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise ValueError(f"{path}: cannot be read as a PNG ({error})") from None
    return values.astype(np.uint16)
