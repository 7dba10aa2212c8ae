"""Huge images in bounded memory, as docs/files.md states it."""

import subprocess
import sys

import pytest
from PIL import Image

GIGABYTE = 2**30
# VmHWM, not ru_maxrss: the latter is inherited from the process that started this one.
MEASURE = """
import sys
from depth_anything.__main__ import main
main(sys.argv[1:])
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) * 1024)
"""


@pytest.mark.slow
def test_100_megapixels(tmp_path):
    """The bound that the docs state: 2.5 GB for color and png16."""
    Image.linear_gradient("L").resize((12000, 8334)).convert("RGB").save(tmp_path / "huge.jpg", quality=80)
    arguments = ["predict", str(tmp_path / "huge.jpg"), "-o", str(tmp_path / "out")]
    run = subprocess.run([sys.executable, "-c", MEASURE, *arguments], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout.split()[-1]) < 2.5 * GIGABYTE
    with Image.open(tmp_path / "out" / "huge_disparity.png") as png:
        assert png.size == (12000, 8334)
