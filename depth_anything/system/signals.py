"""Stop signals: SIGTERM and SIGINT, handled at a suitable moment of the program."""

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SAME_WISH = 3.0
"""Seconds within which a second signal counts as the same request."""
NOTED = 2.0
"""Seconds within which the thread notes the time of a signal, also on a busy machine."""


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set, so that a run ends after a complete step. A second signal ends it
    immediately, unless it arrives within SAME_WISH seconds: the terminal or `timeout` sends a signal to all processes,
    and torchrun and make send it again.

    The arrival times count. Python's handlers may run seconds later, after a backward pass. So a thread notes the time:
    each signal is written to a socket on arrival, which wakes the thread.
    """
    asked = threading.Event()
    came: list[float] = []
    heard = 0
    before: dict[int, Any] = {}

    def ask(number: int, frame: object) -> None:
        nonlocal heard
        heard += 1
        if not asked.is_set():
            asked.set()
            return
        until = time.monotonic() + NOTED
        time.sleep(0.05)  # lets the thread note the time of this signal
        while len(came) < heard and time.monotonic() < until:  # on a busy machine that takes longer
            time.sleep(0.01)
        if came and came[-1] - came[0] > SAME_WISH:
            signal.signal(number, before[number])
            signal.raise_signal(number)

    def read_clock() -> None:
        while number := woken.recv(1):
            if number[0] in before:
                came.append(time.monotonic())

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    woken, wakes = socket.socketpair()
    wakes.setblocking(False)
    clock = threading.Thread(target=read_clock, name="signals", daemon=True)
    woken_before = signal.set_wakeup_fd(wakes.fileno(), warn_on_full_buffer=False)
    before |= {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    clock.start()
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(woken_before)
        wakes.close()
        clock.join()
        woken.close()
