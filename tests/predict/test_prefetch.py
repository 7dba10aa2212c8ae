"""A step of a chain in a thread of its own: order, errors, how far it runs ahead, and that it ends."""

import threading
import time

import pytest

from depth_anything.predict.prefetch import prefetch


def others() -> set[threading.Thread]:
    return set(threading.enumerate()) - {threading.main_thread()}


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = others()
    yield
    assert others() <= before


def test_the_same_items_in_their_order():
    assert list(prefetch(iter(range(1000)), 3)) == list(range(1000))
    assert list(prefetch(iter([]), 1)) == []
    assert list(prefetch(iter([None, None]), 1)) == [None, None]  # nothing is taken for the end


@pytest.mark.parametrize("depth", [1, 4])
def test_it_runs_ahead_and_no_farther(depth):
    """`depth` items wait, and one more is in the maker's hand: so memory is bounded."""
    made = []

    def make():
        for number in range(100):
            made.append(number)
            yield number

    items = prefetch(make(), depth)
    assert next(items) == 0
    most = 1 + depth + 1
    until = time.monotonic() + 5
    while len(made) < most and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.3)  # were there no bound, it would make all of them meanwhile
    assert len(made) == most
    items.close()


def test_both_sides_work_at_the_same_time():
    """Maker and taker wait for each other's sign: one after the other they would wait for ever."""
    taken = threading.Event()

    def make():
        yield 1
        assert taken.wait(10), "the taker had to wait for the second item"
        yield 2

    items = prefetch(make(), 1)
    assert next(items) == 1
    taken.set()
    assert list(items) == [2]


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt(), MemoryError()])
def test_errors_come_through_after_what_was_made_before(error):
    def make():
        yield 1
        yield 2
        raise error

    items, seen = prefetch(make(), 1), []
    with pytest.raises(type(error)) as caught:
        for item in items:
            seen.append(item)
    assert seen == [1, 2] and caught.value is error


def test_whoever_stops_early_ends_the_chain():
    """Closing the last generator ends every thread of the chain and runs what its steps do at their end."""
    ended = []

    def source():
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            ended.append("source")

    def doubled(items):
        try:
            for item in items:
                yield 2 * item
        finally:
            ended.append("doubled")

    chain = prefetch(doubled(prefetch(source(), 2)), 2)
    assert [next(chain) for _ in range(5)] == [0, 2, 4, 6, 8]
    chain.close()
    assert sorted(ended) == ["doubled", "source"]


def test_a_taker_that_fails_ends_it_too():
    def make():
        while True:
            yield 1

    with pytest.raises(RuntimeError, match="taker"):
        for _ in prefetch(make(), 1):
            raise RuntimeError("taker")
