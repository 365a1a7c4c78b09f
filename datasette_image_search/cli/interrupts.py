"""Ctrl-C: once to stop in order, twice to stop at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def interruptible() -> Iterator[None]:
    """The first Ctrl-C raises KeyboardInterrupt as ever, the second ends the process.

    A KeyboardInterrupt in the midst of what the first one makes a command put away, threads
    at work, ends in a crash; and nothing is lost by a process that just ends.
    """
    before = signal.getsignal(signal.SIGINT)
    if (
        before is not signal.default_int_handler
        or threading.current_thread() is not threading.main_thread()
    ):
        yield  # somebody else has a say in it
        return

    def second(*_) -> None:
        with suppress(Exception):  # there may be none
            os.write(sys.__stderr__.fileno(), b"\nStopped at once.\n")
        os._exit(130)

    def first(*_) -> None:
        signal.signal(signal.SIGINT, second)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is first:  # else the process is about to end
            signal.signal(signal.SIGINT, before)
