"""What a forked child must not share with its parent."""

from __future__ import annotations

import os
import threading
import weakref
from types import TracebackType
from typing import Protocol


class Renewable(Protocol):
    """Something that a fork must not leave as it is."""

    def renew_after_fork(self) -> None:
        """Replace locks and let go of connections, without closing them: they are the parent's."""


class ForkSafeLock:
    """Exclude the other threads of this process.

    A child process has none of its parent's other threads, so nobody in it could release what one of them held: there,
    the lock starts anew. What it guards has to be usable if a fork happens at any point.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        renew_in_children(self)

    def renew_after_fork(self) -> None:
        """Start anew, not held by anybody."""
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._lock.release()


_living: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_in_children(thing: Renewable) -> None:
    """Call ``thing.renew_after_fork()`` in each child that this process forks, as long as the thing lives."""
    _living.add(thing)


def _renew_all() -> None:
    for thing in list(_living):
        thing.renew_after_fork()


os.register_at_fork(after_in_child=_renew_all)
