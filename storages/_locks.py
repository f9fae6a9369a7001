"""A lock that a fork can't leave locked."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from weakref import WeakSet


class ForkSafeLock:
    """Exclude the other threads of this process.

    A child process has none of its parent's other threads, so nobody in it could release what one of them held: there,
    the lock starts anew. What it guards has to be usable if a fork happens at any point.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _locks.add(self)

    def renew(self) -> None:
        """Start anew, not held by anybody."""
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._lock.release()


_locks: WeakSet[ForkSafeLock] = WeakSet()


def _renew() -> None:
    for lock in list(_locks):
        lock.renew()


os.register_at_fork(after_in_child=_renew)
