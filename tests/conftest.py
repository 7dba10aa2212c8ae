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


@pytest.fixture
def one_thread():
    """Tiny networks are slower on more threads, and answer the same on every machine with one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def renderer() -> None:
    """Mitsuba with its LLVM library; without them the test is skipped, or fails where REQUIRE_SYSTEM=1."""
    from depth_anything.data.scenes.stage import load_mitsuba

    try:
        load_mitsuba()
    except ValueError as error:
        if os.environ.get("REQUIRE_SYSTEM") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))
