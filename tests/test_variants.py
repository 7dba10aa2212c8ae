"""The table of models."""

import subprocess
import sys

import pytest

from depth_anything.variants import VARIANTS, get_variant


def test_names():
    sizes = ("small", "base", "large")
    expected = {"nano", "nano-vit", "v2-giant", "v1-metric-nyu-large", "v1-metric-kitti-large"}
    expected |= {f"{version}-{size}" for version in ("v1", "v2") for size in sizes}
    expected |= {f"v2-metric-{place}-{size}" for place in ("indoor", "outdoor") for size in sizes}
    assert set(VARIANTS) == expected
    assert all(name == row.name for name, row in VARIANTS.items())


def test_v1_reads_the_last_blocks_and_v2_spread_ones():
    assert VARIANTS["v1-small"].taps == (8, 9, 10, 11)
    assert VARIANTS["v1-large"].taps == (20, 21, 22, 23)
    assert VARIANTS["v2-small"].taps == (2, 5, 8, 11)
    assert VARIANTS["v2-large"].taps == (4, 11, 17, 23)
    assert VARIANTS["v2-giant"].taps == (9, 19, 29, 39)


def test_way_back_and_quantity():
    for row in VARIANTS.values():
        relative_v1 = row.version == "v1" and row.max_depth is None
        assert row.align_corners_back == (not relative_v1)
        assert (row.quantity == "depth_m") == ("metric" in row.name)


def test_licences():
    assert {name for name, row in VARIANTS.items() if row.commercial is False} == {"v2-base", "v2-large", "v2-giant"}
    assert all((row.commercial is None) == name.startswith("v2-metric") for name, row in VARIANTS.items())


def test_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match="v2-small"):
        get_variant("v3-small")


def test_the_table_needs_no_torch():
    code = "import sys, depth_anything.variants; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
