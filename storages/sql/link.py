"""A connection to a database, and what is run on it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from operator import methodcaller
from typing import Any, NamedTuple

from .statements import Statements

Parameters = Sequence[Any]


class StatementOutcome(NamedTuple):
    """What a statement returned: its rows, how many rows it changed, and the id that it made."""

    rows: Sequence[tuple[Any, ...]]
    changed: int
    last_id: int | None


class Link(ABC):
    """A connection that another thread may close: between two statements, not in the middle of one."""

    closed: bool = False
    busy: bool = False
    """Whether a statement is running. A signal handler that comes meanwhile needs another connection."""

    def __init__(self) -> None:
        # Reentrant, because a signal handler may use the storage too.
        self.lock = threading.RLock()

    def before(self, changes: bool) -> None:  # noqa: B027 - only SQLite has something to check
        """Prepare for a call; raise if the database can't be used."""

    def after(self, changes: bool) -> None:  # noqa: B027
        """Raise if what the call did may not be relied on."""

    @abstractmethod
    def run(self, sql: str, parameters: Parameters = ()) -> StatementOutcome:
        """Run one statement, committed when this returns."""

    @abstractmethod
    def put_many(self, sql: Statements, rows: Sequence[Parameters]) -> list[int]:
        """Run the statement ``upsert`` for each row, all in one transaction; return the revisions."""

    @abstractmethod
    def run_each(self, sql: str, rows: Sequence[Parameters]) -> list[StatementOutcome]:
        """Run one statement for each row, all in one transaction."""

    def close(self) -> None:
        """Close the connection, once."""
        if not self.closed:
            self.closed = True
            self._close()

    @abstractmethod
    def _close(self) -> None: ...


def statement(sql: str, parameters: Parameters = ()) -> Callable[[Link], StatementOutcome]:
    """Return what runs one statement on a connection."""
    return methodcaller("run", sql, parameters)
