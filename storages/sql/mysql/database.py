"""Connections to MySQL and MariaDB through pymysql, and the creation of the tables there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

import pymysql
from pymysql.constants import ER

from flowstore.errors import CorruptError, FlowstoreError, StorageError, UnreachableError
from flowstore.storages.shared.clock import ServerClock, elapsed

from ..link import Link, Parameters, StatementOutcome
from ..rows import REVISION_AT
from ..schema import SCHEMA_VERSION, VERSION, check_version, creation, meta, records
from ..server import (
    CLOCK_RESOLUTION,
    ServerDatabase,
    ServerLink,
    server_patience,
)
from ..statements import Statements
from ..target import Settings, Target
from .errors import READ_ONLY, translate
from .statements import SORTED, MysqlStatements

_SESSION: Final = (
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    (
        "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00',"
        f" innodb_lock_wait_timeout = {{seconds}}, max_sort_length = {SORTED}"
    ),
)
_FACTS: Final = "SELECT UNIX_TIMESTAMP(SYSDATE(6)), @@max_allowed_packet"
_TABLES: Final = (
    "SELECT table_name FROM information_schema.tables"
    f" WHERE table_schema = DATABASE() AND table_name IN ('{meta.name}', '{records.name}')"
)

_LOCK: Final = "CONCAT('flowstore ', MD5(DATABASE()))"
_CREATING: Final = "creating"
_START: Final = (
    f"INSERT INTO {meta.name} (name, value) VALUES ('schema', '{_CREATING}') ON DUPLICATE KEY UPDATE value = value"
)
_FINISH: Final = f"UPDATE {meta.name} SET value = '{SCHEMA_VERSION}' WHERE name = 'schema'"
_EXISTS: Final = (ER.TABLE_EXISTS_ERROR, ER.DUP_KEYNAME)

_STATEMENT_SIZE: Final = 1_000_000
_BATCH: Final = 1000
_ADDRESS: Final = 200
"""Bytes that an address may take in a statement; generous, because lists of addresses are padded."""


class MysqlLink(ServerLink):
    """A connection to MySQL or MariaDB."""

    def __init__(self, connection: pymysql.Connection[Any], descriptor: int) -> None:
        super().__init__(descriptor)
        self.connection = connection
        self.largest = 0
        self._cursor = connection.cursor()

    def run(self, sql: str, parameters: Parameters = ()) -> StatementOutcome:
        cursor = self._cursor
        if parameters:
            sql = cursor.mogrify(sql, parameters)
            self._check_size(sql)
        cursor.execute(sql)
        return StatementOutcome(cursor.fetchall(), cursor.rowcount, cursor.lastrowid)

    def put_many(self, sql: Statements, rows: Sequence[Parameters]) -> list[int]:
        for row in rows:
            # What may be too large when escaped is measured exactly, all of it before anything is sent.
            size = len(sql.upsert) + sum(len(value) for value in row if isinstance(value, str | bytes))
            if 4 * size >= self.largest:
                self._check_size(self._cursor.mogrify(sql.upsert, row))
        self._cursor.max_stmt_length = min(_STATEMENT_SIZE, self.largest // 2)
        addresses = [row[0] for row in rows]
        self.connection.begin()
        try:
            self._cursor.executemany(sql.upsert, rows)
            revisions: dict[bytes, int] = {}
            size = max(1, min(_BATCH, self.largest // _ADDRESS))
            for start in range(0, len(addresses), size):
                revisions.update(self.run(*sql.revisions(addresses[start : start + size])).rows)
            self.connection.commit()
        except (pymysql.MySQLError, StorageError):
            if self.connection.open:
                self.connection.rollback()
            raise
        return [revisions[address] for address in addresses]

    def run_each(self, sql: str, rows: Sequence[Parameters]) -> list[StatementOutcome]:
        # One by one: for a statement with many rows, MySQL does not report which of them it has written.
        self.connection.begin()
        try:
            outcomes = [self.run(sql, row) for row in rows]
            self.connection.commit()
        except (pymysql.MySQLError, StorageError):
            if self.connection.open:
                self.connection.rollback()
            raise
        return outcomes

    def _check_size(self, statement: str) -> None:
        if 4 * len(statement) < self.largest:
            return
        size = len(statement.encode(errors="surrogateescape")) + 1
        if size >= self.largest:
            raise StorageError(
                f"the record takes {size} bytes in a statement; the server's max_allowed_packet is {self.largest}"
            )

    def _close(self) -> None:
        if self.connection.open:
            self.connection.close()


class MysqlDatabase(ServerDatabase):
    """The connections of one process to a MySQL or MariaDB database."""

    def __init__(self, target: Target, settings: Settings) -> None:
        super().__init__(target, settings)
        self.sql: MysqlStatements = MysqlStatements(self.key)

    def _connect(self) -> MysqlLink:
        target, settings = self.target, self.settings
        options: dict[str, Any] = dict(target.options)
        for name in ("ssl_verify_cert", "ssl_verify_identity"):
            if name in options:
                options[name] = options[name].lower() in ("1", "true", "yes", "on")
        began = time.monotonic()
        # It limits the driver's reading too, until the session is set up.
        first = max(1, round(settings.connect_timeout))
        connection = pymysql.connect(
            host=target.host or "localhost",
            port=target.port,
            user=target.user,
            # As bytes: the driver writes text in latin-1, and servers read UTF-8.
            password=(target.password or "").encode(),
            database=target.database,
            charset="utf8mb4",
            autocommit=True,
            connect_timeout=first,
            read_timeout=first,
            write_timeout=first,
            program_name="flowstore",
            **options,
        )
        # The driver has no public attribute for it.
        link = MysqlLink(connection, connection._sock.fileno())  # type: ignore[attr-defined]
        try:
            _set_timeout(connection, max(0.1, settings.connect_timeout - (time.monotonic() - began)))
            # The server gives up first and reports it; then the statement has certainly not been executed.
            patience = server_patience(settings.timeout)
            waits = max(1, int(patience))
            for statement in _SESSION:
                link.run(statement.format(seconds=waits))
            if "MariaDB" in connection.get_server_info():  # type: ignore[no-untyped-call]
                link.run(f"SET SESSION max_statement_time = {patience}")
                waits = 0
            asked = elapsed()
            [(server, link.largest)] = link.run(_FACTS).rows
            self._clock = ServerClock(float(server), CLOCK_RESOLUTION, asked)
            # Escaped bytes may take twice the space.
            self.largest = max(1, min(type(self).largest, link.largest // 4))
        except BaseException:
            link.close()
            raise
        # MySQL itself waits for locks for whole seconds.
        _set_timeout(connection, max(settings.timeout, waits + 0.5))
        return link

    def _prepare(self, link: MysqlLink) -> None:
        if not self._is_complete(link):
            self._lock(link, "another process is still creating the tables")
            try:
                # Otherwise another process was faster.
                if not self._is_complete(link):
                    self._create(link)
            finally:
                self.unlock_schema(link)
        check_version(self._version(link), self.target)

    def lock_schema(self, link: MysqlLink) -> None:
        self._lock(link, "another process is still changing the tables")
        link.connection.autocommit(False)

    def unlock_schema(self, link: MysqlLink) -> None:
        link.run(f"DO RELEASE_LOCK({_LOCK})")

    def _lock(self, link: MysqlLink, why: str) -> None:
        seconds = max(1, int(server_patience(self.settings.timeout)))
        if link.run(f"SELECT GET_LOCK({_LOCK}, {seconds})").rows != ((1,),):
            raise UnreachableError(f"{self.target}: {why}")

    def _is_complete(self, link: MysqlLink) -> bool:
        """Return whether flowstore's tables exist; refuse others of their names.

        MySQL has no transactions for tables. Until all are created, the version says so.
        """
        tables = link.run(_TABLES).rows
        if (meta.name,) in tables:
            version = self._version(link)
            if version == _CREATING or (version is None and len(tables) == 1):
                return False
        return self._holds_ours(tables)

    def _version(self, link: MysqlLink) -> str | None:
        rows = link.run(VERSION).rows
        return rows[0][0] if rows else None

    def _create(self, link: MysqlLink) -> None:
        first, *others = creation(self.sql.dialect)
        for statement in (first, _START, *others, _FINISH):
            try:
                link.run(statement)
            except pymysql.MySQLError as exc:
                if exc.args[0] not in _EXISTS:  # created by a process that ended before it was done
                    raise

    def key(self, text: str) -> bytes:
        return text.encode()

    def text(self, kept: Any) -> str:
        try:
            return kept.decode()  # type: ignore[no-any-return]
        except UnicodeDecodeError as exc:
            raise CorruptError(f"{self.target} holds a name that is not UTF-8: {kept!r}") from exc

    def insert_values(self, row: Parameters, now: float) -> Parameters:
        return (*row, *[now] * self.sql.now_in_insert)

    def revision(self, outcome: StatementOutcome, row: Parameters) -> int | None:
        # MySQL counts 0 for nothing changed, 1 for a row added, 2 for a row changed.
        return (None, row[REVISION_AT], outcome.last_id)[outcome.changed]

    def translate(self, exc: BaseException) -> FlowstoreError | None:
        return translate(exc, self.target)

    def is_lost(self, link: Link, exc: BaseException) -> bool:
        # After any other interruption the answer may still arrive, and would be taken for the next statement's.
        is_open = link.connection.open  # type: ignore[attr-defined]
        return not isinstance(exc, pymysql.MySQLError | StorageError) or not is_open

    def is_read_only(self, exc: BaseException) -> bool:
        return isinstance(exc, pymysql.MySQLError) and exc.args[0] in READ_ONLY


def _set_timeout(connection: pymysql.Connection[Any], seconds: float) -> None:
    """Set how long the driver waits for each part of an answer; its public interface takes that only at connecting."""
    connection._read_timeout = connection._write_timeout = seconds  # type: ignore[attr-defined]
