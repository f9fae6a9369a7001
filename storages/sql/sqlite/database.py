"""Connections to a SQLite database, and the creation of its tables."""

from __future__ import annotations

import os
import sqlite3
import time
from typing import Any, ClassVar, Final, TypeVar
from urllib.parse import quote

from sqlalchemy.pool import Pool

from flowstore.errors import StorageError, UnreachableError, UnsupportedError

from ..database import Database
from ..link import Link, Parameters
from ..schema import SET_VERSION, VERSION, check_version, creation
from ..target import Settings, Target
from .errors import translate
from .files import Files, identity, make_private
from .inspection import TABLES, check_tables, holds_records
from .link import SqliteLink, microseconds
from .statements import SqliteStatements
from .writers import WriterQueue

T = TypeVar("T")

APPLICATION_ID: Final = 0x666C7731
"""Marks a database file as flowstore's: "flw1" in its header."""

_OLDEST: Final = (3, 35, 0)
_CHECKPOINT_PAGES: Final = 4000


class SqliteDatabase(Database):
    """The connections of one process to one database file."""

    escapes = False
    locks_rows = False  # but the whole file
    # Any number of connections, all kept.
    pool: ClassVar[dict[str, Any]] = {"pool_size": 0}

    def __init__(self, target: Target, settings: Settings) -> None:
        super().__init__(target, settings)
        self.sql = SqliteStatements(self.key)
        self._mode = "rwc"
        self._file: tuple[int, int] | None = None
        self.writers = WriterQueue(target, settings.timeout)

    @classmethod
    def open(cls, target: Target, settings: Settings) -> SqliteDatabase:
        """Open a database; create what is missing. See ``SqlStorage.connect``."""
        if sqlite3.sqlite_version_info < _OLDEST:
            raise UnsupportedError(
                f"SQLite {sqlite3.sqlite_version} is too old: {'.'.join(map(str, _OLDEST))} is required"
            )
        kind = MemoryDatabase if target.path is None else SqliteDatabase
        try:
            is_ours = target.path is not None and holds_records(target.path)
            if target.path is not None and not is_ours:
                make_private(target.path)
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

    @classmethod
    def to_migrate(cls, target: Target, settings: Settings) -> SqliteDatabase | None:
        """Return an unconnected database, whose tables may be of any version; None if the file is missing."""
        if target.path is None or not os.path.exists(target.path):
            return None
        database = SqliteDatabase(target, settings)
        database._mode = "rw"
        return database

    def _connect(self) -> Link:
        path = self.target.path
        before = None if path is None else identity(path)
        connection = sqlite3.connect(
            ":memory:" if path is None else f"file:{quote(path)}?mode={self._mode}",
            uri=path is not None,
            timeout=0,  # the link waits itself
            isolation_level=None,
            check_same_thread=False,
        )
        link = SqliteLink(connection, self.settings.timeout)
        try:
            link.run(f"PRAGMA synchronous = {self.settings.synchronous}")
            # Pages that many stores change, those of the indexes, are copied into the file less often: stores are
            # 15 % faster.
            link.run(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            if path is not None:
                link.opened = before or identity(path)
                if self._file is not None:
                    if link.opened != self._file:
                        self._adopt(link, path)
                    self._note_files(link, path)
        except BaseException:
            link.close()
            raise
        return link

    def _adopt(self, link: SqliteLink, path: str) -> None:
        """Go on with a file that has replaced the former one, if it holds flowstore's tables."""
        if not holds_records(path):
            raise UnreachableError(f"{path} was replaced by an empty file")
        self._to_wal(link)

    def _note_files(self, link: SqliteLink, path: str) -> None:
        """Remember which files a connection uses; from its first reading on, there are all of them."""
        link.run(VERSION)
        files = Files(path)
        if files.main is None or files.main != link.opened:
            raise UnreachableError(f"{path} was deleted or replaced while it was being opened")
        link.files, self._file = files, files.main

    def upsert_values(self, row: Parameters) -> Parameters:
        return (microseconds(), *row)

    def insert_values(self, row: Parameters, now: float) -> Parameters:
        return (microseconds(), *row, now)

    def is_lost(self, link: Link, exc: BaseException) -> bool:
        return isinstance(exc, StorageError)  # its files are no longer those of the database

    def prepare(self, is_ours: bool) -> None:
        """Create what is missing, and check the version."""
        link: SqliteLink = self._hold()  # type: ignore[assignment]
        if not is_ours:
            self._create(link)
        version = link.run(VERSION).rows
        check_version(version[0][0] if version else None, self.target)
        self._to_wal(link)
        # From now on a missing file is an error, not a reason to create an empty one.
        self._mode = "rw"
        if self.target.path is not None:
            self._note_files(link, self.target.path)

    def _create(self, link: SqliteLink) -> None:
        # In rollback journal mode, so that the tables are in the file itself, where ``holds_records`` finds them.
        try:
            link.run("BEGIN IMMEDIATE")
            # Otherwise another process was faster.
            if not check_tables([name for (name,) in link.run(TABLES).rows], self.target.path):
                for statement in (*creation(self.sql.dialect), SET_VERSION):
                    link.run(statement)
                if link.run("PRAGMA application_id").rows == [(0,)]:
                    link.run(f"PRAGMA application_id = {APPLICATION_ID}")
            link.run("COMMIT")
        finally:
            link.settle()

    def _to_wal(self, link: Link) -> None:
        [(mode,)] = link.run("PRAGMA journal_mode = WAL").rows
        if mode != "wal":
            raise UnsupportedError(f"{self.target} can't be switched to WAL mode; it stays in the mode {mode!r}")

    def lock_schema(self, link: Link) -> None:
        link.run("BEGIN IMMEDIATE")

    def now(self) -> float:
        # All users of a file are on one machine and share its clock.
        return time.clock_gettime(time.CLOCK_REALTIME)

    def translate(self, exc: BaseException) -> StorageError | None:
        return translate(exc, self.target)


class MemoryDatabase(SqliteDatabase):
    """A database in memory: one connection, which the threads of the process share."""

    def _make_pool(self) -> Pool:
        pool = super()._make_pool()
        self._fairy = pool.connect()
        return pool

    def _borrow(self) -> tuple[Link, Any]:
        return self._hold(), None

    def _hold(self) -> Link:
        return self._fairy.dbapi_connection  # type: ignore[return-value]

    def _to_wal(self, link: Link) -> None:
        pass  # there is no file
