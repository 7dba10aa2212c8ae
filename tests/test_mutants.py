"""The list of mutations does not rot: every text is there once, every test exists. `make mutants` runs them."""

import pytest
from mutants import MUTATIONS, mutations, stale


@pytest.mark.parametrize("room", [path.stem for path in sorted(MUTATIONS.glob("*.toml"))])
def test_every_mutation_fits_the_package(room):
    faults = {f"{m.file}: {m.rule}": stale(m) for m in mutations() if m.room == room}
    assert not {name: why for name, why in faults.items() if why}


def test_there_are_enough_and_few_survive():
    found = mutations()
    assert len(found) >= 100 and sum(bool(m.survives) for m in found) <= 0.03 * len(found)
    assert len({(m.file, m.old, m.new) for m in found}) == len(found)
    assert all(m.old != m.new and m.tests and m.rule.endswith(".") for m in found)
