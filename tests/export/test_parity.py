"""How an export is compared with torch."""

import numpy as np
import pytest

from depth_anything.export.agreement import relative_difference


def test_metres_are_compared_without_a_fit():
    """Metres that are a tenth too large are wrong by a tenth; of a disparity neither scale nor shift is known."""
    expected_HW = np.linspace(1, 9, 200).reshape(10, 20)
    assert relative_difference(1.1 * expected_HW, expected_HW, "depth_m") == pytest.approx(0.1)
    assert relative_difference(1.1 * expected_HW + 3, expected_HW, "disparity") == pytest.approx(0, abs=1e-9)
