"""The revisions of records: numbers that are never used twice, not even after a record was deleted."""

from __future__ import annotations

import os
import threading
import time
from typing import Final

LATEST: Final = 2**53 - 1
"""The largest revision. Up to here, every database and every script in one counts exactly."""


class Revisions:
    """Hand out first revisions of records: microseconds since the epoch, each once per process."""

    def __init__(self) -> None:
        self._last = 0
        self.renew_after_fork()

    def renew_after_fork(self) -> None:
        """Start anew with a lock that no thread holds."""
        # Reentrant, because a signal handler may store something too.
        self._lock = threading.RLock()

    def next(self) -> int:
        """Return the revision of a new record: a number above all earlier ones, even if the clock was set back.

        Each replacement of a record adds one. It would take a million replacements in a second to overtake the clock.
        See docs/adr/0014 for what is guaranteed, and why.
        """
        with self._lock:
            self._last = max(self._last + 1, time.time_ns() // 1000)
            return self._last


_revisions: Final = Revisions()
os.register_at_fork(after_in_child=_revisions.renew_after_fork)

new_revision: Final = _revisions.next
