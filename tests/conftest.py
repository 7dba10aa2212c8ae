"""What several tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with golden data and photographs that CI has beside the checkout; strangers do not."""
    folder = Path(os.environ.get("DEPTH_ANYTHING_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: it holds the photographs with ground truth that only CI has")
    return folder
