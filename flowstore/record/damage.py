"""Reporting records that can't be read.

Listings and cleanups skip them. Each is logged as a warning, unless a handler is set with ``on_damage``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from flowstore.errors import CorruptError

log = logging.getLogger(__name__)

DamageHandler = Callable[[CorruptError], None]


def _warn(error: CorruptError) -> None:
    log.warning("skipped a damaged record: %s", error)


_handler: ContextVar[DamageHandler] = ContextVar("flowstore_damage", default=_warn)


def report_damage(error: CorruptError) -> None:
    """Report a record that is skipped because it can't be read."""
    damage_handler()(error)


def damage_handler() -> DamageHandler:
    """Return the function that is called here for each damaged record."""
    return _handler.get()


@contextmanager
def on_damage(handler: DamageHandler) -> Iterator[None]:
    """Call a function for damaged records instead of logging them.

    Applies to what is listed inside the block, in this thread.

    Args:
        handler: called once with a ``CorruptError`` for each record that is skipped.
    """
    reported: set[str] = set()

    def once(error: CorruptError) -> None:
        if str(error) not in reported:
            reported.add(str(error))
            handler(error)

    token = _handler.set(once)
    try:
        yield
    finally:
        _handler.reset(token)


@contextmanager
def damage_reported_once() -> Iterator[None]:
    """Report each damaged record once, even if the block reads it again."""
    with on_damage(damage_handler()):
        yield
