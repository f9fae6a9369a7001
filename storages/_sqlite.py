"""Connections to a SQLite database, its creation, and its errors."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import quote

from sqlalchemy import create_engine
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool, StaticPool
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random

from flowstore.errors import CorruptError, StorageError, UnreachableError, UnsupportedError
from flowstore.storages._sql_schema import APPLICATION_ID, SCHEMA_VERSION, Statements, meta, metadata
from flowstore.storages._sqlite_look import TABLES, VERSION, check_version, holds_ours, look

_OLDEST = (3, 35, 0)
_CHECKPOINT_PAGES = 4000

# Of parent processes: closing a connection that was inherited over a fork can damage the parent's.
_abandoned: list[Database] = []


def open_database(path: str | None, *, echo: bool, synchronous: str, timeout: float) -> Database:
    """Open a database, creating what is missing; see ``SqlStorage.connect``."""
    if sqlite3.sqlite_version_info < _OLDEST:
        raise UnsupportedError(f"SQLite {sqlite3.sqlite_version} is too old: {'.'.join(map(str, _OLDEST))} is needed")
    kind = MemoryDatabase if path is None else Database
    try:
        is_ours = path is not None and look(path)
        database = kind(path, echo=echo, synchronous=synchronous, timeout=timeout)
        try:
            database.prepare(is_ours)
        except BaseException:
            database.close()
            raise
    except (DBAPIError, sqlite3.Error, OSError) as exc:
        error = translate(exc, path)
        if error is None:
            raise
        raise error from exc
    return database


class _Connection(sqlite3.Connection):
    """A connection that another thread may close: between two statements, not in the middle of one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Reentrant, because a signal's handler may use the storage too.
        self.turn = threading.RLock()


class Database:
    """The connections of one process to one database file: one for each thread, taken from SQLAlchemy's pool.

    A thread's connection goes back to the pool when the thread ends.
    """

    _pool: ClassVar[dict[str, Any]] = {"poolclass": QueuePool, "pool_size": 0}

    def __init__(self, path: str | None, *, echo: bool, synchronous: str, timeout: float) -> None:
        self.pid = os.getpid()
        self.sql = Statements()
        self._path = path
        self._echo = echo
        self._synchronous = synchronous
        self._timeout = timeout
        self._mode = "rwc"
        self._local = threading.local()
        self._guard = threading.Lock()
        self._taken: set[_Connection] = set()
        self._closed = False
        self._engine = create_engine(
            URL.create("sqlite", database=path),
            creator=self._open,
            echo=echo,
            hide_parameters=True,
            pool_reset_on_return=None,
            **self._pool,
        )

    def _open(self) -> _Connection:
        connection = self._connect()
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        # Pages that many stores change, those of the indexes, are copied into the file less often: 15 % faster stores.
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        return connection

    def _connect(self) -> _Connection:
        return sqlite3.connect(
            f"file:{quote(self._path or '')}?mode={self._mode}",
            uri=True,
            timeout=self._timeout,
            isolation_level=None,
            check_same_thread=False,
            factory=_Connection,
        )

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement, committed when this returns, and return its rows."""
        if self._echo:
            self._engine.logger.info(sql)
        try:
            connection: _Connection = self._local.connection
        except AttributeError:
            connection = self._take()
        with connection.turn:
            # All rows: the statement is not finished, and a change not committed, before the last one is read.
            return connection.execute(sql, parameters).fetchall()

    def _take(self) -> _Connection:
        checked_out = self._engine.raw_connection()
        connection: Any = checked_out.driver_connection
        with self._guard:
            if self._closed:
                connection.close()
                raise UnreachableError("the storage was disconnected meanwhile")
            self._taken.add(connection)
        # The first of the two goes back to the pool when the thread's end drops it.
        self._local.checked_out, self._local.connection = checked_out, connection
        return connection  # type: ignore[no-any-return]

    def prepare(self, is_ours: bool) -> None:
        """Create what is missing, and check the version."""
        with self._engine.begin() as connection:
            if not is_ours:
                self._create(connection)
            check_version(connection.exec_driver_sql(VERSION).scalar(), self._path)
        self._to_wal()
        # From now on a missing file is an error, not a reason to create an empty one.
        self._mode = "rw"

    def _create(self, connection: Connection) -> None:
        # In the rollback journal's mode, so that the tables are in the file itself, where a look finds them.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        if holds_ours(connection.exec_driver_sql(TABLES).scalars(), self._path):
            return  # another process was faster
        metadata.create_all(connection, checkfirst=False)
        connection.execute(meta.insert().values(name="schema", value=str(SCHEMA_VERSION)))
        if connection.exec_driver_sql("PRAGMA application_id").scalar() == 0:
            connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")

    def _to_wal(self) -> None:
        # At this switch, SQLite does not wait by itself for the others to let go of the file.
        switch = Retrying(
            retry=retry_if_exception(_is_busy),
            stop=stop_after_delay(self._timeout),
            wait=wait_random(0, 0.05),
            reraise=True,
        )
        [(mode,)] = switch(self.execute, "PRAGMA journal_mode = WAL")
        if mode != "wal":
            raise UnsupportedError(f"{self._path} can't be switched to WAL mode; it stays in the mode {mode!r}")

    def close(self) -> None:
        """Close the connections of all threads, each when its statement is done; leave a parent process's alone."""
        if self.pid != os.getpid():
            self.abandon()
            return
        with self._guard:
            self._closed = True
        for connection in self._taken:
            with connection.turn:
                connection.close()
        # What no thread has taken is in the pool.
        self._engine.dispose()

    def abandon(self) -> None:
        """Keep the connections of a parent process from being closed here, which could damage the parent's."""
        _abandoned.append(self)


class MemoryDatabase(Database):
    """A database in memory: one connection, which the threads of the process use in turns."""

    _pool: ClassVar[dict[str, Any]] = {"poolclass": StaticPool}

    def _connect(self) -> _Connection:
        self._shared = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, factory=_Connection)
        self._taken.add(self._shared)
        return self._shared

    def _take(self) -> _Connection:
        return self._shared

    def _to_wal(self) -> None:
        pass  # there is no file


_UNREACHABLE = {
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


def translate(exc: Exception, path: str | None) -> StorageError | None:
    """Return the flowstore error that an exception of the driver means, or ``None`` for one that is a bug."""
    if isinstance(exc, DBAPIError):
        return translate(exc.orig, path) if isinstance(exc.orig, Exception) else None
    if isinstance(exc, OSError):
        return UnreachableError(f"can't open {path}: {exc.strerror}")
    if isinstance(exc, OverflowError):
        return StorageError("the value is larger than SQLite can keep")
    if not isinstance(exc, sqlite3.Error):
        return None
    name = path or "the database in memory"
    code = _code(exc)
    if code in _UNREACHABLE:
        return UnreachableError(f"{name} {_UNREACHABLE[code]} ({exc})")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return CorruptError(f"{name} is damaged, or is no SQLite database ({exc})")
    if code == sqlite3.SQLITE_TOOBIG:
        return StorageError("the value is larger than SQLite can keep")
    # The driver itself raises these two, without a code.
    if isinstance(exc, sqlite3.ProgrammingError) and "closed" in str(exc):
        return UnreachableError("the storage was disconnected meanwhile")
    if isinstance(exc, sqlite3.OperationalError) and "decode" in str(exc):
        return CorruptError(f"{name} holds text that is not UTF-8 ({exc})")
    return None


def _code(exc: BaseException) -> int | None:
    """Return SQLite's primary result code."""
    extended = getattr(exc, "sqlite_errorcode", None)
    return None if extended is None else extended & 0xFF


def _is_busy(exc: BaseException) -> bool:
    return _code(exc) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
