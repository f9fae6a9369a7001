"""A connection to a SQLite database, which an interrupt leaves as it was."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from ..link import Link, Outcome, Parameters
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
    """Which file it is, of a database in a file."""

    files: Files | None = None
    """The files that are to stay the same, once they are known."""

    def __init__(self, connection: sqlite3.Connection, timeout: float) -> None:
        super().__init__()
        self.connection = connection
        self._timeout = timeout
        self._raised: list[BaseException] = []
        for name, function in FUNCTIONS.items():
            connection.create_function(name, 2, _noting(function, self._raised), deterministic=True)

    def run(self, sql: str, parameters: Parameters = ()) -> Outcome:
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
                return Outcome(cursor.fetchall(), cursor.rowcount, None)
            except sqlite3.OperationalError as exc:
                if not is_no_text(exc):
                    raise
            return Outcome(self._read_any(cursor, sql, parameters), cursor.rowcount, None)
        except BaseException:
            # Now, not when the exception's traceback is gone, which may be kept.
            cursor.close()
            if self._raised:
                raise self._raised.pop() from None
            raise

    def put_many(self, sql: Statements, rows: Sequence[Parameters]) -> list[int]:
        return self._together(lambda: [self.run(sql.upsert, row).rows[0][0] for row in rows])

    def run_each(self, sql: str, rows: Sequence[Parameters]) -> list[Outcome]:
        return self._together(lambda: [self.run(sql, row) for row in rows])

    def before(self, changes: bool) -> None:
        if self.connection.in_transaction:
            self.settle()
        if not changes and self.files is not None and not self.files.are_there():
            self.files.refuse(after_writing=False)

    def after(self, changes: bool) -> None:
        # Not before: nothing may be acknowledged that is in files which had gone by then.
        if changes and self.files is not None and not self.files.are_all_there():
            self.files.refuse(after_writing=True)

    def settle(self) -> None:
        """Roll back what an interrupt has left uncommitted."""
        if self.connection.in_transaction:
            self.connection.rollback()

    def _together(self, work: Callable[[], T]) -> T:
        """Do all in one transaction, or nothing."""
        try:
            self.run("BEGIN IMMEDIATE")
            found = work()
            self.run("COMMIT")
            return found
        finally:
            # Not by another function of Python's: an interrupt could come as that begins.
            if self.connection.in_transaction:
                self.connection.rollback()

    def _read_any(self, cursor: sqlite3.Cursor, sql: str, parameters: Parameters) -> list[Any]:
        """Read rows one of which has text that is not UTF-8: what is wrong in it shows where that record is read."""
        self.connection.text_factory = _any_text
        try:
            return cursor.execute(sql, parameters).fetchall()
        finally:
            self.connection.text_factory = str

    def _when_free(self, cursor: sqlite3.Cursor, sql: str, parameters: Parameters) -> None:
        """Run a statement again until no other writer holds the lock; the timeout's last refusal is raised.

        SQLite's own waiting begins with a millisecond, in which several short transactions have room: for two worker
        processes that store small results it costs a fifth of their speed.
        """
        pause, deadline = _SHORTEST_PAUSE, time.monotonic() + self._timeout
        while True:
            # Different for each: those who wait must not meet again and again.
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
    """Keep what a function raises, an interrupt for example: SQLite itself only tells that it raised."""

    def call(one: Any, other: Any) -> bool:
        try:
            return function(one, other)
        except BaseException as exc:
            raised.append(exc)
            raise

    return call
