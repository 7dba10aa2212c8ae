"""Protocols as data: each says where it comes from and what it covers."""

from dataclasses import fields
from math import isfinite
from typing import Literal, get_args, get_origin, get_type_hints

import pytest

from depth_anything.evaluate.metrics import METRICS
from depth_anything.evaluate.protocol import PROTOCOLS, Crop, Floor, Protocol, get_protocol


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
    hints = get_type_hints(Protocol)
    for name in (field.name for field in fields(Protocol) if get_origin(hints[field.name]) is Literal):
        assert getattr(protocol, name) in get_args(hints[name])
    assert isinstance(protocol.floor, float) or protocol.floor in get_args(Floor)
    assert all(cut.crop in get_args(Crop) for cut in protocol.cuts.values())


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


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match=r"no protocol 'midass'; did you mean midas\? expected one of pairs, midas"):
        get_protocol("midass")
    with pytest.raises(ValueError, match="not defined for ddad; it covers: nyuv2, kitti"):
        get_protocol("midas").cut("ddad")
