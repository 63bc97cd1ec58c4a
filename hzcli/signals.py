"""Signals that end the program: what is being done stops, once, and then nothing disturbs its end.

Stopped by the system, a run ends as by Ctrl-C: no half picture, the report written.
"""

from __future__ import annotations

import atexit
import math
import signal
import time

# Seconds after a signal in which others like it are taken for the same.
PATIENCE_S = 5.0


class _Ended:
    """What a signal does that ends the program: it stops what is done, as Ctrl-C always does.

    One that follows soon, from fingers or systems in a hurry, must not stop the tidying up.
    """

    def __init__(self) -> None:
        self._until = -math.inf

    def __call__(self, number: int, frame: object) -> None:
        now = time.monotonic()
        if now >= self._until:
            self._until = now + PATIENCE_S
            raise KeyboardInterrupt


def listen() -> None:
    """Have SIGTERM, and SIGINT where it is not turned off, raise KeyboardInterrupt."""
    ended = _Ended()
    signal.signal(signal.SIGTERM, ended)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not in the background
        signal.signal(signal.SIGINT, ended)
    atexit.register(_leave_alone)


def _leave_alone() -> None:
    """All threads have ended, and the exit code is decided. Python is about to give signals back
    to the system, at whose hands a late one would kill it and take that code along."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if isinstance(signal.getsignal(number), _Ended):
            signal.signal(number, signal.SIG_IGN)
