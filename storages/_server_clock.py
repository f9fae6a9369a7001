"""The server's time, without asking for it each time."""

from __future__ import annotations

import threading
import time


class ServerClock:
    """Tell a server's time from one answer and the time that has passed since.

    Within what the answer leaves open, this machine's clock is believed: the clocks of machines that agree with the
    server's agree with each other.

    Args:
        told: seconds since the epoch in the server's answer; ``None`` where it does not tell, then this machine's
            clock counts.
        resolution: the seconds that the answer is cut to.
        asked: ``time.monotonic()`` just before the server was asked; the answer has just come.
    """

    def __init__(self, told: float | None, resolution: float, asked: float) -> None:
        answered = time.monotonic()
        time_here = time.time()
        if told is not None:
            time_here = min(max(time_here, told), told + resolution + answered - asked)
        self._start = time_here - answered
        self._last = 0
        self._lock = threading.Lock()

    def now(self) -> float:
        """Return seconds since the epoch."""
        return self._start + time.monotonic()

    def stamp(self) -> int:
        """Return nanoseconds since the epoch, more with each call."""
        with self._lock:
            self._last = max(self._last + 1, int(self.now() * 1e9))
            return self._last
