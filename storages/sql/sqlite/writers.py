"""The queue of a process's threads for writing to a SQLite database."""

from __future__ import annotations

import threading
import time
from typing import Final

from flowstore.errors import UnreachableError

from ..database import Writers
from ..link import Link
from ..target import Target

_CHECK: Final = 0.05
"""Seconds after which a waiting writer checks whether the one before it is still at work."""


class WriterQueue(Writers):
    """Let one thread write at a time, as fairly as a lock does.

    SQLite itself would have all but one sleep, longer each time, while the file is free again. Only speed depends on
    it. If an interrupt came between acquiring and using a turn, the next writer goes ahead.
    """

    def __init__(self, target: Target, timeout: float) -> None:
        # Reentrant, because a signal handler may write too.
        self._lock = threading.RLock()
        self._writer: Link | None = None
        self._target = target
        self._timeout = timeout

    def acquire(self, link: Link) -> threading.RLock:
        """Wait for this writer's turn; return the lock to release after it.

        Raises:
            UnreachableError: others wrote for longer than the timeout.
        """
        lock = self._lock
        if lock.acquire(blocking=False):
            self._writer = link
            return lock
        deadline = time.monotonic() + self._timeout
        while True:
            lock = self._lock
            if lock.acquire(timeout=max(0.0, min(_CHECK, deadline - time.monotonic()))):
                self._writer = link
                return lock
            other = self._writer
            if other is None or not other.busy:
                self._lock = threading.RLock()
            elif time.monotonic() >= deadline:
                raise UnreachableError(f"{self._target} is locked by another writer for longer than the timeout")
