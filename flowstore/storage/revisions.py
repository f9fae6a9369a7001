"""The revisions of records: numbers that don't come again, not even after a record was deleted."""

from __future__ import annotations

import os
import threading
import time
from typing import Final

LATEST: Final = 2**53 - 1
"""No revision is larger: up to here, every database and every script in one counts exactly."""


class Numbers:
    """Give out numbers for the first revisions of records: microseconds since the epoch, each once in a process."""

    def __init__(self) -> None:
        self._last = 0
        self.renew_after_fork()

    def renew_after_fork(self) -> None:
        """Start anew with a lock that nobody holds."""
        # Reentrant, because a signal's handler may store something too.
        self._lock = threading.RLock()

    def next(self) -> int:
        """Return a number above all that were given out before, also where the clock was set back."""
        with self._lock:
            self._last = max(self._last + 1, time.time_ns() // 1000)
            return self._last


_numbers: Final = Numbers()
os.register_at_fork(after_in_child=_numbers.renew_after_fork)


def new_revision() -> int:
    """Return the revision of a record that is stored where none is.

    Each replacement adds one to it. So many in a row that they would overtake the clock don't happen: that takes a
    million in a second. See docs/adr/0014 for what is guaranteed, and why.
    """
    return _numbers.next()
