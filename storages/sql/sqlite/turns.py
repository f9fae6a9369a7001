"""Turns of a process's threads at writing to a SQLite database."""

from __future__ import annotations

import threading
import time
from typing import Final, Protocol

_LOOK: Final = 0.05


class Turn(Protocol):
    """What ends a turn."""

    def release(self) -> None: ...


class Writer(Protocol):
    """Who takes a turn, and whether it is still at work."""

    busy: bool


class Turns:
    """Let writers work one after the other, as fairly as a lock does.

    SQLite itself would have all but one sleep, longer each time, while the file is free again. Only speed depends on
    it: where an interrupt came between getting a turn and using it, the next one goes ahead.
    """

    def __init__(self) -> None:
        # Reentrant, because a signal's handler may write too.
        self._lock = threading.RLock()
        self._writer: Writer | None = None

    def take(self, writer: Writer, seconds: float) -> Turn | None:
        """Wait for a turn, which is to be released; return ``None`` where it took too long."""
        lock = self._lock
        if lock.acquire(blocking=False):
            self._writer = writer
            return lock
        deadline = time.monotonic() + seconds
        while True:
            lock = self._lock
            if lock.acquire(timeout=max(0.0, min(_LOOK, deadline - time.monotonic()))):
                self._writer = writer
                return lock
            other = self._writer
            if other is None or not other.busy:
                self._lock = threading.RLock()
            elif time.monotonic() >= deadline:
                return None
