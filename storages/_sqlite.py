"""Connections to a SQLite database, its creation, and its errors."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, TypeVar
from urllib.parse import quote

from sqlalchemy.pool import Pool

from flowstore.errors import StorageError, UnreachableError, UnsupportedError
from flowstore.storages._sql_database import Database, Link, Outcome, Parameters
from flowstore.storages._sql_schema import SET_VERSION, VERSION, check_version, creation
from flowstore.storages._sql_statements import Statements
from flowstore.storages._sql_target import Settings, Target
from flowstore.storages._sqlite_errors import is_busy, translate
from flowstore.storages._sqlite_look import TABLES, holds_ours, look
from flowstore.storages._sqlite_statements import FUNCTIONS, SqliteStatements

T = TypeVar("T")

APPLICATION_ID: Final = 0x666C7731
"""Marks a database file as flowstore's: "flw1" in its header."""

_OLDEST: Final = (3, 35, 0)
_CHECKPOINT_PAGES: Final = 4000
_SHORTEST_PAUSE: Final = 0.00005
_LONGEST_PAUSE: Final = 0.005


class SqliteLink(Link):
    """A connection to a SQLite database."""

    def __init__(self, connection: sqlite3.Connection, timeout: float) -> None:
        super().__init__()
        self.connection = connection
        self._timeout = timeout

    def run(self, sql: str, parameters: Parameters = ()) -> Outcome:
        try:
            cursor = self.connection.execute(sql, parameters)
        except sqlite3.OperationalError as exc:
            if not is_busy(exc):
                raise
            cursor = self._when_free(sql, parameters)
        # All rows: the statement is not finished, and a change not committed, before the last one is read.
        return Outcome(cursor.fetchall(), cursor.rowcount, None)

    def put_many(self, sql: Statements, rows: Sequence[Parameters]) -> list[int]:
        self.run("BEGIN IMMEDIATE")
        execute = self.connection.execute
        # Commits; at an exception, rolls back.
        with self.connection:
            return [execute(sql.upsert, (_microseconds(), *row)).fetchall()[0][0] for row in rows]

    def run_each(self, sql: str, rows: Sequence[Parameters]) -> list[Outcome]:
        self.run("BEGIN IMMEDIATE")
        with self.connection:
            cursors = ((cursor, cursor.fetchall()) for cursor in (self.connection.execute(sql, row) for row in rows))
            return [Outcome(found, cursor.rowcount, None) for cursor, found in cursors]

    def _when_free(self, sql: str, parameters: Parameters) -> sqlite3.Cursor:
        """Run a statement again until no other writer holds the lock; the timeout's last refusal is raised.

        SQLite's own waiting begins with a millisecond, in which several short transactions have room: for two worker
        processes that store small results it costs a fifth of their speed.
        """
        pause, deadline = _SHORTEST_PAUSE, time.monotonic() + self._timeout
        while True:
            # Different for each: those who wait must not meet again and again.
            time.sleep(random.uniform(0.5, 1) * pause)
            try:
                return self.connection.execute(sql, parameters)
            except sqlite3.OperationalError as exc:
                if not is_busy(exc) or time.monotonic() > deadline:
                    raise
            pause = min(1.25 * pause, _LONGEST_PAUSE)

    def _close(self) -> None:
        self.connection.close()


class SqliteDatabase(Database):
    """The connections of one process to one database file."""

    locks_rows = False  # but the whole file
    # Any number of connections, all kept.
    pool: ClassVar[dict[str, Any]] = {"pool_size": 0}

    def __init__(self, target: Target, settings: Settings) -> None:
        super().__init__(target, settings)
        self.sql = SqliteStatements(self.key)
        self._mode = "rwc"
        # Reentrant, because a signal's handler may use the storage too.
        self._writing = threading.RLock()

    def _connect(self) -> Link:
        connection = sqlite3.connect(
            ":memory:" if self.target.path is None else f"file:{quote(self.target.path)}?mode={self._mode}",
            uri=self.target.path is not None,
            timeout=0,  # the link waits, see there
            isolation_level=None,
            check_same_thread=False,
        )
        link = SqliteLink(connection, self.settings.timeout)
        link.run(f"PRAGMA synchronous = {self.settings.synchronous}")
        # Pages that many stores change, those of the indexes, are copied into the file less often: 15 % faster stores.
        link.run(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        return link

    def upsert(self, row: Parameters) -> int:
        return super().upsert((_microseconds(), *row))

    def insertion(self, row: Parameters, now: float) -> Parameters:
        return (_microseconds(), *row, now)

    def _open(self) -> Any:
        link = super()._open()
        for name, function in FUNCTIONS.items():
            link.connection.create_function(name, 2, function, deterministic=True)
        return link

    def _work(self, link: Link, work: Callable[[Link], T], changes: bool) -> T:
        if not changes:
            return super()._work(link, work, changes)
        # In turns: SQLite itself would have all but one writer sleep, longer each time, while the file is free again.
        if not self._writing.acquire(timeout=min(self.settings.timeout, threading.TIMEOUT_MAX)):
            raise UnreachableError(f"{self.target} is locked by another writer for longer than the timeout")
        try:
            return super()._work(link, work, changes)
        finally:
            self._writing.release()

    def prepare(self, is_ours: bool) -> None:
        """Create what is missing, and check the version."""
        link = self._hold()
        if not is_ours:
            self._create(link)
        version = link.run(VERSION).rows
        check_version(version[0][0] if version else None, self.target)
        self._to_wal(link)
        # From now on a missing file is an error, not a reason to create an empty one.
        self._mode = "rw"

    def _create(self, link: Link) -> None:
        # In the rollback journal's mode, so that the tables are in the file itself, where a look finds them.
        link.run("BEGIN IMMEDIATE")
        try:
            # Else another process was faster.
            if not holds_ours([name for (name,) in link.run(TABLES).rows], self.target.path):
                for statement in (*creation(self.sql.dialect), SET_VERSION):
                    link.run(statement)
                if link.run("PRAGMA application_id").rows == [(0,)]:
                    link.run(f"PRAGMA application_id = {APPLICATION_ID}")
        except BaseException:
            link.run("ROLLBACK")
            raise
        link.run("COMMIT")

    def _to_wal(self, link: Link) -> None:
        [(mode,)] = link.run("PRAGMA journal_mode = WAL").rows
        if mode != "wal":
            raise UnsupportedError(f"{self.target} can't be switched to WAL mode; it stays in the mode {mode!r}")

    def lock_schema(self, link: Link) -> None:
        link.run("BEGIN IMMEDIATE")

    def now(self) -> float:
        # All who use a file are on one machine: its clock is theirs.
        return time.clock_gettime(time.CLOCK_REALTIME)

    def translate(self, exc: BaseException) -> StorageError | None:
        return translate(exc, self.target)


class MemoryDatabase(SqliteDatabase):
    """A database in memory: one connection, which the threads of the process use in turns."""

    def _make_pool(self) -> Pool:
        pool = super()._make_pool()
        self._fairy = pool.connect()
        return pool

    def _held(self) -> Link:
        return self._fairy.dbapi_connection  # type: ignore[return-value]

    def _hold(self) -> Link:
        return self._held()

    def _to_wal(self, link: Link) -> None:
        pass  # there is no file


def to_migrate(target: Target, settings: Settings) -> SqliteDatabase | None:
    """Return a database whose tables may be of any version, and without a connection; ``None`` if there is no file."""
    if target.path is None or not os.path.exists(target.path):
        return None
    database = SqliteDatabase(target, settings)
    database._mode = "rw"
    return database


def open_database(target: Target, settings: Settings) -> SqliteDatabase:
    """Open a database, creating what is missing; see ``SqlStorage.connect``."""
    if sqlite3.sqlite_version_info < _OLDEST:
        raise UnsupportedError(f"SQLite {sqlite3.sqlite_version} is too old: {'.'.join(map(str, _OLDEST))} is needed")
    kind = MemoryDatabase if target.path is None else SqliteDatabase
    try:
        is_ours = target.path is not None and look(target.path)
        database = kind(target, settings)
        try:
            database.prepare(is_ours)
        except BaseException:
            database.close()
            raise
    except (sqlite3.Error, OSError) as exc:
        error = translate(exc, target)
        if error is None:
            raise
        raise error from exc
    return database


def _microseconds() -> int:
    return time.time_ns() // 1000
