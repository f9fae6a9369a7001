"""The server's time, from one answer."""

from __future__ import annotations

import threading
import time
from typing import Final

# The time that Linux counts on while the machine is suspended, unlike that of time.monotonic().
_BOOTTIME: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)


def elapsed() -> float:
    """Return monotonic seconds, including suspended ones if possible."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)


class ServerClock:
    """A server's clock: the time of one answer, plus the time since.

    Within the resolution of the answer, this machine's clock counts: machines whose clocks agree with the server's
    agree with each other.

    Args:
        answer: seconds since the epoch in the server's answer; None if it has no time: this machine's counts.
        resolution: seconds to which the answer is cut.
        asked: ``elapsed()`` just before the request; the answer has just arrived.
    """

    def __init__(self, answer: float | None, resolution: float, asked: float) -> None:
        answered = elapsed()
        time_here = time.time()
        if answer is not None:
            time_here = min(max(time_here, answer), answer + resolution + answered - asked)
        self._start = time_here - answered
        self._last = 0
        self._lock = threading.Lock()

    def now(self) -> float:
        """Return seconds since the epoch."""
        return self._start + elapsed()

    def stamp(self) -> int:
        """Return nanoseconds since the epoch, greater with each call."""
        with self._lock:
            self._last = max(self._last + 1, int(self.now() * 1e9))
            return self._last
