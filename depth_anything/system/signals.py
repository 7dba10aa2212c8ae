"""Requests to stop: SIGTERM and SIGINT, heard at a moment that suits the program."""

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SAME_WISH = 3.0
"""Seconds within which a second signal means what the first one meant."""


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set, so that a run ends behind a whole step. Another one ends it at once, not
    within SAME_WISH seconds: torchrun and make pass on a signal that the terminal, or `timeout`, sent to all processes.

    What counts is when a signal came: Python hears of it when a backward pass is over, which may be seconds later. So a
    thread reads the clock, woken by a socket into which each signal is written as it comes.
    """
    asked = threading.Event()
    came: list[float] = []
    before: dict[int, Any] = {}

    def ask(number: int, frame: object) -> None:
        if not asked.is_set():
            asked.set()
            return
        time.sleep(0.05)  # the thread's turn, if this one came just now
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
