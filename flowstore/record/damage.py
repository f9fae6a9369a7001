"""Telling of records that can't be read, where listings and cleanups pass over them.

Each is a line in the log, a warning, unless somebody listens: the command line does, and any program may.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from flowstore.errors import CorruptError

log = logging.getLogger(__name__)

Report = Callable[[CorruptError], None]


def _warn(error: CorruptError) -> None:
    log.warning("passed over a damaged record: %s", error)


_report: ContextVar[Report] = ContextVar("flowstore_damage", default=_warn)


def tell(error: CorruptError) -> None:
    """Tell of a record that is passed over, because it can't be read."""
    listener()(error)


def listener() -> Report:
    """Return what is called here for each damaged record."""
    return _report.get()


@contextmanager
def damage_to(report: Report) -> Iterator[None]:
    """Let what is listed inside, in this thread, tell of damaged records by calling a function, and not in the log.

    Args:
        report: called with a ``CorruptError`` for each record that was passed over, once.
    """
    told: set[str] = set()

    def once(error: CorruptError) -> None:
        if str(error) not in told:
            told.add(str(error))
            report(error)

    token = _report.set(once)
    try:
        yield
    finally:
        _report.reset(token)


@contextmanager
def damage_told_once() -> Iterator[None]:
    """Let what goes over the same records several times inside tell of each damaged one once."""
    with damage_to(listener()):
        yield
