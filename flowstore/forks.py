"""Renewing locks and connections after a fork."""

from __future__ import annotations

import os
import threading
import weakref
from types import TracebackType
from typing import Protocol


class Renewable(Protocol):
    """An object that has to be renewed after a fork."""

    def renew_after_fork(self) -> None:
        """Replace locks and abandon connections.

        Don't close the connections: the parent uses them.
        """


class ForkSafeLock:
    """A lock that is free again in a forked child.

    A child has none of its parent's other threads, so a lock that one of them held would never be released. What the
    lock guards has to be usable if a fork happens at any point.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        renew_in_children(self)

    def renew_after_fork(self) -> None:
        """Replace the lock by one that is free."""
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._lock.release()


_living: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_in_children(thing: Renewable) -> None:
    """Call ``thing.renew_after_fork()`` in each forked child.

    As long as the object exists; it is not kept alive.
    """
    _living.add(thing)


def _renew_all() -> None:
    for thing in list(_living):
        thing.renew_after_fork()


os.register_at_fork(after_in_child=_renew_all)
