"""The server's time, without asking for it each time."""

from __future__ import annotations

import threading
import time
from typing import Final

# The time that Linux counts on while the machine is suspended, unlike that of time.monotonic().
_BOOTTIME: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)


def elapsed() -> float:
    """Return seconds since some moment, those that the machine was suspended included where it counts them."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)


class ServerClock:
    """Tell a server's time from one answer and the time that has passed since.

    Within what the answer leaves open, this machine's clock is believed: the clocks of machines that agree with the
    server's agree with each other.

    Args:
        told: seconds since the epoch in the server's answer; ``None`` where it does not tell, then this machine's
            clock counts.
        resolution: the seconds that the answer is cut to.
        asked: ``elapsed()`` just before the server was asked; the answer has just come.
    """

    def __init__(self, told: float | None, resolution: float, asked: float) -> None:
        answered = elapsed()
        time_here = time.time()
        if told is not None:
            time_here = min(max(time_here, told), told + resolution + answered - asked)
        self._start = time_here - answered
        self._last = 0
        self._lock = threading.Lock()

    def now(self) -> float:
        """Return seconds since the epoch."""
        return self._start + elapsed()

    def stamp(self) -> int:
        """Return nanoseconds since the epoch, more with each call."""
        with self._lock:
            self._last = max(self._last + 1, int(self.now() * 1e9))
            return self._last
