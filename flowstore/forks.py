"""Renew what a forked child must not share with its parent."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Renewable(Protocol):
    """Something that a fork must not leave as it is."""

    def renew_after_fork(self) -> None:
        """Replace locks and let go of connections, without closing them: they are the parent's."""


_living: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_in_children(thing: Renewable) -> None:
    """Call ``thing.renew_after_fork()`` in each child that this process forks, as long as the thing lives."""
    _living.add(thing)


def _renew_all() -> None:
    for thing in list(_living):
        thing.renew_after_fork()


os.register_at_fork(after_in_child=_renew_all)
