"""Connections to a SQLite database, its creation, and its errors."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from typing import Any, ClassVar, Final
from urllib.parse import quote

from sqlalchemy import ColumnElement, literal_column
from sqlalchemy.dialects.sqlite import dialect, insert
from sqlalchemy.pool import Pool
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from flowstore.errors import CorruptError, StorageError, UnreachableError, UnsupportedError
from flowstore.storages._sql_database import Database, Link, Outcome, Parameters
from flowstore.storages._sql_schema import SET_VERSION, VERSION, check_version, creation
from flowstore.storages._sql_statements import OnConflict, Shape, Statements
from flowstore.storages._sql_target import Settings, Target
from flowstore.storages._sqlite_look import TABLES, holds_ours, look

APPLICATION_ID: Final = 0x666C7731
"""Marks a database file as flowstore's: "flw1" in its header."""

_OLDEST: Final = (3, 35, 0)
_CHECKPOINT_PAGES: Final = 4000


class SqliteStatements(OnConflict):
    """SQLite's statements."""

    dialect = dialect()
    insertion = insert

    def _order(self, shape: Shape) -> ColumnElement[int]:
        # Few have expired: without the plus, SQLite would look at all in the order of their ids, not at those by index.
        return literal_column("+flowstore_records.id") if "expired_at" in shape.times else super()._order(shape)


class SqliteLink(Link):
    """A connection to a SQLite database."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__()
        self.connection = connection

    def run(self, sql: str, parameters: Parameters = ()) -> Outcome:
        cursor = self.connection.execute(sql, parameters)
        # All rows: the statement is not finished, and a change not committed, before the last one is read.
        return Outcome(cursor.fetchall(), cursor.rowcount, None)

    def put_many(self, sql: Statements, rows: Sequence[Parameters]) -> list[int]:
        execute = self.connection.execute
        execute("BEGIN IMMEDIATE")
        # Commits; at an exception, rolls back.
        with self.connection:
            return [execute(sql.upsert, row).fetchall()[0][0] for row in rows]

    def _close(self) -> None:
        self.connection.close()


class SqliteDatabase(Database):
    """The connections of one process to one database file."""

    # Any number of connections, all kept.
    pool: ClassVar[dict[str, Any]] = {"pool_size": 0}

    def __init__(self, target: Target, settings: Settings) -> None:
        super().__init__(target, settings)
        self.sql = SqliteStatements(self.key)
        self._mode = "rwc"

    def _connect(self) -> Link:
        connection = sqlite3.connect(
            ":memory:" if self.target.path is None else f"file:{quote(self.target.path)}?mode={self._mode}",
            uri=self.target.path is not None,
            timeout=self.settings.timeout,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.execute(f"PRAGMA synchronous = {self.settings.synchronous}")
        # Pages that many stores change, those of the indexes, are copied into the file less often: 15 % faster stores.
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        return SqliteLink(connection)

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
        # At this switch, SQLite does not wait by itself for the others to let go of the file.
        switch = Retrying(
            retry=retry_if_exception(_is_busy),
            stop=stop_after_delay(self.settings.timeout),
            wait=wait_random(0, 0.05),
            reraise=True,
        )
        [(mode,)] = switch(link.run, "PRAGMA journal_mode = WAL").rows
        if mode != "wal":
            raise UnsupportedError(f"{self.target} can't be switched to WAL mode; it stays in the mode {mode!r}")

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


_UNREACHABLE: Final = {
    sqlite3.SQLITE_BUSY: "is locked by another writer for longer than the timeout",
    sqlite3.SQLITE_LOCKED: "is locked by another writer",
    sqlite3.SQLITE_CANTOPEN: "can't be opened",
    sqlite3.SQLITE_READONLY: "can't be written",
    sqlite3.SQLITE_PERM: "may not be used by this user",
    sqlite3.SQLITE_AUTH: "may not be used by this user",
    sqlite3.SQLITE_FULL: "can't grow: the disk is full",
    sqlite3.SQLITE_IOERR: "can't be read or written",
    sqlite3.SQLITE_PROTOCOL: "can't be locked",
    sqlite3.SQLITE_NOMEM: "does not fit into memory",
}


def translate(exc: BaseException, name: object) -> StorageError | None:
    """Return the flowstore error that an exception of the driver means, or ``None`` for one that is a bug."""
    if isinstance(exc, OSError):
        return UnreachableError(f"can't open {name}: {exc.strerror}")
    if isinstance(exc, OverflowError):
        return StorageError("the value is larger than SQLite can keep")
    if not isinstance(exc, sqlite3.Error):
        return None
    code = _code(exc)
    if code in _UNREACHABLE:
        return UnreachableError(f"{name} {_UNREACHABLE[code]} ({exc})")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return CorruptError(f"{name} is damaged, or is no SQLite database ({exc})")
    if code == sqlite3.SQLITE_TOOBIG:
        return StorageError("the value is larger than SQLite can keep")
    if "too many SQL variables" in str(exc):
        return StorageError(f"the query names more values than SQLite takes ({exc})")
    # The driver itself raises this one, without a code.
    if isinstance(exc, sqlite3.OperationalError) and "decode" in str(exc):
        return CorruptError(f"{name} holds text that is not UTF-8 ({exc})")
    return None


def _code(exc: BaseException) -> int | None:
    """Return SQLite's primary result code."""
    extended = getattr(exc, "sqlite_errorcode", None)
    return None if extended is None else extended & 0xFF


def _is_busy(exc: BaseException) -> bool:
    return _code(exc) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
