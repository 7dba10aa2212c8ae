"""Protocols as data: each says where it comes from and what it covers."""

from math import isfinite

import pytest

from depth_anything.evaluate.metrics import METRICS
from depth_anything.evaluate.protocol import PROTOCOLS, get_protocol


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=list(PROTOCOLS))
def test_protocol_is_consistent(protocol):
    assert protocol.source
    assert protocol.cuts or protocol.default_cut
    assert all(METRICS[name].of == "pixels" for name in protocol.metrics)
    assert all(cut.nearest_m < cut.farthest_m for cut in protocol.cuts.values())
    if protocol.floor == "cap":
        assert all(isfinite(cut.farthest_m) for cut in protocol.cuts.values())
    if protocol.align == "none":
        assert protocol.space == "depth"


def test_the_cuts_that_people_trip_over():
    assert get_protocol("da-relative").cut("kitti").crop == "garg"
    assert get_protocol("marigold").cut("kitti").crop == "kb+eigen"
    assert get_protocol("zoedepth-metric").cut("kitti").crop == "kb+garg"
    assert get_protocol("v2-metric").cut("kitti").crop == "none"
    assert get_protocol("moge").cut("anything").crop == "none"
    assert get_protocol("v2-metric").cut("hypersim").farthest_m == 20
    assert get_protocol("zoedepth-metric").cut("hypersim").farthest_m == 80


def test_only_pairs_averages_within_a_scene_first():
    """Its scenes have different numbers of photographs."""
    assert [p.name for p in PROTOCOLS.values() if p.averaging == "scene_group"] == ["pairs"]


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"no protocol 'midass'; choose one of: pairs, midas"):
        get_protocol("midass")
    with pytest.raises(ValueError, match="not defined for ddad; it covers: nyuv2, kitti"):
        get_protocol("midas").cut("ddad")
