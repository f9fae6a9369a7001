"""What databases on a server have in common: clock, pool limit, lost connections."""

from __future__ import annotations

import select
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final, Self, TypeVar

from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import Pool, QueuePool

from flowstore.errors import StorageError, UnreachableError
from flowstore.storages.shared.clock import ServerClock

from .database import Database
from .link import Link
from .schema import meta, records
from .target import Settings, Target, check_files

T = TypeVar("T")

_MIGRATION_TIMEOUT: Final = 86_400.0
"""Seconds: a large table takes its time."""

CLOCK_RESOLUTION: Final = 1e-6
"""Seconds; the resolution of a server's time."""


def server_patience(timeout: float) -> float:
    """Return the timeout for the server: shorter, so that its error arrives before the client gives up."""
    return timeout - min(2.0, timeout / 4)


# Idle connections of threads that have ended.
_KEPT: Final = 5


class ServerLink(Link):
    """A connection to a server.

    An idle connection turns readable only when the server closes it, as a rule. Polling before sending proves that a
    statement was not delivered, so that it may be sent over another connection.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        self._poll = poll.poll

    def is_dead(self) -> bool:
        """Return whether the server has closed the connection, without sending anything."""
        return bool(self._poll(0)) and self._has_ended()

    def _has_ended(self) -> bool:
        """Return whether what the server has sent unasked is the end of the connection."""
        return True


class ServerDatabase(Database):
    """The connections of one process to a database on a server."""

    _clock: ServerClock
    """Set anew with each connection."""

    pool: ClassVar[dict[str, Any]] = {"pool_size": _KEPT, "max_overflow": -1}

    def _make_pool(self) -> Pool:
        if (limit := self.settings.pool_limit) is None:
            return super()._make_pool()
        return QueuePool(
            self._open, reset_on_return=None, pool_size=limit, max_overflow=0, timeout=self.settings.timeout
        )

    @classmethod
    def open(cls, target: Target, settings: Settings) -> Self:
        """Connect to a database; create the tables if they are missing. See ``SqlStorage.connect``."""
        check_files(target.dialect, target.options)
        database = cls(target, settings)
        database.prepare()
        return database

    @classmethod
    def to_migrate(cls, target: Target, settings: Settings) -> Self:
        """Return an unconnected database, whose tables may be of any version."""
        return cls(target, replace(settings, timeout=_MIGRATION_TIMEOUT))

    def now(self) -> float:
        return self._clock.now()

    def _borrow(self) -> tuple[Link, Any]:
        if self.settings.pool_limit is not None:
            borrowed, link = self._take()
            return link, borrowed
        link, borrowed = super()._borrow()
        if borrowed is None and link.is_dead():  # type: ignore[attr-defined]
            self._forget(link)
            link = self._hold()
        return link, borrowed

    def _take(self) -> tuple[Any, Link]:
        while True:
            try:
                fairy, link = super()._take()
            except PoolTimeoutError as exc:
                raise UnreachableError(
                    f"{self.target}: all {self.settings.pool_limit} connections were busy for longer than the timeout"
                ) from exc
            if link.closed or not link.is_dead():  # type: ignore[attr-defined]
                return fairy, link
            link.close()
            fairy.invalidate()

    def prepare(self) -> None:
        """Create the tables if they are missing; check their version."""
        try:
            fairy, link = self._take()
            try:
                self._prepare(link)
            except Exception as exc:
                self._raise(link, exc, False)
            finally:
                fairy.close()
        except BaseException:
            self.close()
            raise

    @abstractmethod
    def _prepare(self, link: Any) -> None:
        """Do so over a connection."""

    def _holds_ours(self, tables: Sequence[tuple[str]]) -> bool:
        """Return whether flowstore's tables exist; refuse one without the other."""
        found = {name for (name,) in tables}
        if len(found) == 1:
            missing = ({meta.name, records.name} - found).pop()
            raise StorageError(
                f"{self.target} has a table {found.pop()} but no {missing}: it is not flowstore's, and was left alone"
            )
        return bool(found)
