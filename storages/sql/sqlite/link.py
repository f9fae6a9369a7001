"""A connection to a SQLite database, which an interrupt leaves as it was."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from ..link import Link, Parameters, StatementOutcome
from ..statements import Statements
from .errors import is_busy, is_no_text
from .files import Files
from .statements import FUNCTIONS

T = TypeVar("T")

_SHORTEST_PAUSE: Final = 0.00005
_LONGEST_PAUSE: Final = 0.005


class SqliteLink(Link):
    """A connection to a SQLite database.

    An exception that a signal raises may come anywhere. It leaves neither a transaction open nor a statement
    unfinished, either of which would keep what comes next from being committed.
    """

    opened: tuple[int, int] | None = None
    """The identity of the database file that it opened."""

    files: Files | None = None
    """The files that must stay the same, once they are known."""

    def __init__(self, connection: sqlite3.Connection, timeout: float) -> None:
        super().__init__()
        self.connection = connection
        self._timeout = timeout
        self._raised: list[BaseException] = []
        for name, function in FUNCTIONS.items():
            connection.create_function(name, 2, _noting(function, self._raised), deterministic=True)

    def run(self, sql: str, parameters: Parameters = ()) -> StatementOutcome:
        cursor = self.connection.cursor()
        try:
            try:
                cursor.execute(sql, parameters)
            except sqlite3.OperationalError as exc:
                if not is_busy(exc):
                    raise
                self._when_free(cursor, sql, parameters)
            # All rows: the statement is not finished, and a change not committed, before the last one is read.
            try:
                return StatementOutcome(cursor.fetchall(), cursor.rowcount, None)
            except sqlite3.OperationalError as exc:
                if not is_no_text(exc):
                    raise
            return StatementOutcome(self._read_any(cursor, sql, parameters), cursor.rowcount, None)
        except BaseException:
            # Now, because the exception's traceback may be kept.
            cursor.close()
            if self._raised:
                raise self._raised.pop() from None
            raise

    def put_many(self, sql: Statements, rows: Sequence[Parameters]) -> list[int]:
        return self._together(lambda: [self.run(sql.upsert, row).rows[0][0] for row in rows])

    def run_each(self, sql: str, rows: Sequence[Parameters]) -> list[StatementOutcome]:
        return self._together(lambda: [self.run(sql, row) for row in rows])

    def before(self, changes: bool) -> None:
        if self.connection.in_transaction:
            self.settle()
        if not changes and self.files is not None and not self.files.are_there():
            self.files.refuse(after_writing=False)

    def after(self, changes: bool) -> None:
        # After the write: nothing may be acknowledged that is in files which are gone.
        if changes and self.files is not None and not self.files.are_all_there():
            self.files.refuse(after_writing=True)

    def settle(self) -> None:
        """Roll back what an interrupt left uncommitted."""
        if self.connection.in_transaction:
            self.connection.rollback()

    def _together(self, work: Callable[[], T]) -> T:
        """Run statements in one transaction."""
        try:
            self.run("BEGIN IMMEDIATE")
            found = work()
            self.run("COMMIT")
            return found
        finally:
            # Not in another Python function: an interrupt could come as it begins.
            if self.connection.in_transaction:
                self.connection.rollback()

    def _read_any(self, cursor: sqlite3.Cursor, sql: str, parameters: Parameters) -> list[Any]:
        """Read rows with text that is not UTF-8; the mistake is reported for its record alone."""
        self.connection.text_factory = _any_text
        try:
            return cursor.execute(sql, parameters).fetchall()
        finally:
            self.connection.text_factory = str

    def _when_free(self, cursor: sqlite3.Cursor, sql: str, parameters: Parameters) -> None:
        """Run a statement again until no other writer holds the lock, or the timeout is over.

        SQLite's own waiting begins with a millisecond, in which several short transactions have room: for two worker
        processes that store small results it costs a fifth of their speed.
        """
        pause, deadline = _SHORTEST_PAUSE, time.monotonic() + self._timeout
        while True:
            # Random: writers that wait must not collide again and again.
            time.sleep(random.uniform(0.5, 1) * pause)
            try:
                cursor.execute(sql, parameters)
                return
            except sqlite3.OperationalError as exc:
                if not is_busy(exc) or time.monotonic() > deadline:
                    raise
            pause = min(1.25 * pause, _LONGEST_PAUSE)

    def _close(self) -> None:
        self.connection.close()


def _any_text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def microseconds() -> int:
    """Return the time, which new rows' ids start at."""
    return time.time_ns() // 1000


def _noting(function: Callable[[Any, Any], bool], raised: list[BaseException]) -> Callable[[Any, Any], bool]:
    """Record what a function raises, such as an interrupt: SQLite only reports that it raised."""

    def call(one: Any, other: Any) -> bool:
        try:
            return function(one, other)
        except BaseException as exc:
            raised.append(exc)
            raise

    return call
