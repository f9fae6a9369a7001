"""Connections to PostgreSQL through psycopg, and the creation of the tables there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import psycopg

from flowstore.errors import StorageError
from flowstore.record import Record
from flowstore.storages._postgres_errors import READ_ONLY, translate
from flowstore.storages._postgres_statements import CHECKS_JSON, PostgresStatements, escape, unescape
from flowstore.storages._server_clock import ServerClock, elapsed
from flowstore.storages._sql_database import Link, Outcome, Parameters
from flowstore.storages._sql_schema import SET_VERSION, VERSION, check_version, creation, meta, records
from flowstore.storages._sql_server import CLOCK_RESOLUTION, MIGRATION_TIMEOUT, ServerDatabase, ServerLink
from flowstore.storages._sql_statements import Statements
from flowstore.storages._sql_target import Settings, Target

_LARGEST: Final = 1_000_000_000
_LOCK: Final = 0x666C6F7773746F72

_CLOCK: Final = "SELECT extract(epoch FROM clock_timestamp())::float8"
# Not by to_regclass(), which may remember within a transaction that a table was missing when it began.
_TABLES: Final = (
    f"SELECT relname FROM pg_class WHERE relname IN ('{meta.name}', '{records.name}') AND pg_table_is_visible(oid)"
)
_HAS_LZ4: Final = "SELECT 1 FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)"

# The compression that PostgreSQL takes by itself costs more than all the rest of storing a large value.
_STORED: Final = "ALTER TABLE {} ALTER COLUMN {} SET {}"


class PostgresLink(ServerLink):
    """A connection to PostgreSQL."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        super().__init__(connection.fileno())
        self.connection = connection
        self._cursor = connection.cursor(binary=True)

    def run(self, sql: str, parameters: Parameters = ()) -> Outcome:
        cursor = self._cursor.execute(sql, parameters)
        # Not by the cursor's description, which takes a third of the call to make.
        result = cursor.pgresult
        return Outcome(cursor.fetchall() if result is not None and result.nfields else (), cursor.rowcount, None)

    def put_many(self, sql: Statements, rows: Sequence[Parameters]) -> list[int]:
        with self.connection.transaction():
            self._cursor.executemany(sql.upsert, rows, returning=True)
            return [revision for result in self._cursor.results() for (revision,) in result]

    def run_each(self, sql: str, rows: Sequence[Parameters]) -> list[Outcome]:
        with self.connection.transaction():
            self._cursor.executemany(sql, rows, returning=True)
            return [Outcome(result.fetchall(), result.rowcount, None) for result in self._cursor.results()]

    def _has_ended(self) -> bool:
        try:
            # It may be a notice, or a setting that was changed.
            while self._poll(0):
                self.connection.pgconn.consume_input()
        except psycopg.Error:
            return True
        return self.connection.closed

    def _close(self) -> None:
        self.connection.close()


class PostgresDatabase(ServerDatabase):
    """The connections of one process to a PostgreSQL database."""

    def __init__(self, target: Target, settings: Settings) -> None:
        super().__init__(target, settings)
        self.sql: PostgresStatements = PostgresStatements(self.key)

    def _connect(self) -> PostgresLink:
        settings, target = self.settings, self.target
        milliseconds = max(1, round(settings.timeout * 1000))
        options = dict(target.options)
        session = f"-c statement_timeout={milliseconds} -c default_transaction_isolation=read\\ committed"
        known = {
            "host": target.host,
            "port": target.port,
            "user": target.user,
            "password": target.password,
            "dbname": target.database,
            "client_encoding": "UTF8",
            "connect_timeout": max(1, round(settings.connect_timeout)),
            "application_name": "flowstore",
            "tcp_user_timeout": milliseconds,
        }
        parameters: dict[str, Any] = {name: value for name, value in known.items() if value not in (None, "")}
        # What a connection string says holds, the timeouts of this storage excepted.
        parameters |= {**options, "options": f"{session} {options.get('options', '')}"}
        # Prepared when a statement comes for the second time.
        connection = psycopg.connect(autocommit=True, prepare_threshold=1, **parameters)
        self.sql.checks_json = connection.info.server_version >= CHECKS_JSON
        link = PostgresLink(connection)
        try:
            asked = elapsed()
            [(server, *_)] = link.run(_CLOCK).rows
            self._clock = ServerClock(server, CLOCK_RESOLUTION, asked)
        except BaseException:
            link.close()
            raise
        return link

    def _prepare(self, link: PostgresLink) -> None:
        if not self._holds_ours(link.run(_TABLES).rows):
            with link.connection.transaction():
                # Let go of at the end of the transaction.
                link.run(f"SELECT pg_advisory_xact_lock({_LOCK})")
                # Else another process was faster.
                if not self._holds_ours(link.run(_TABLES).rows):
                    self._create(link)
        version = link.run(VERSION).rows
        check_version(version[0][0] if version else None, self.target)

    def lock_schema(self, link: PostgresLink) -> None:
        link.connection.autocommit = False
        link.run(f"SELECT pg_advisory_xact_lock({_LOCK})")

    def _create(self, link: PostgresLink) -> None:
        how = "COMPRESSION lz4" if link.run(_HAS_LZ4).rows else "STORAGE EXTERNAL"
        stored = [_STORED.format(records.name, column, how) for column in ("value", "payload")]
        for statement in (*creation(self.sql.dialect), *stored, SET_VERSION):
            link.run(statement)

    def key(self, text: str) -> str:
        return escape(text)

    def text(self, kept: Any) -> str:
        return unescape(kept)

    def columns(self, record: Record) -> tuple[str | None, bytes | None]:
        if len(record.payload) > _LARGEST:
            raise StorageError(f"{record.ref} has {len(record.payload)} bytes; PostgreSQL keeps up to {_LARGEST}")
        if b"\0" in record.payload:
            return None, record.payload  # no JSON: that has no NUL
        return super().columns(record)

    def translate(self, exc: BaseException) -> StorageError | None:
        return translate(exc, self.target)

    def is_lost(self, link: Link, exc: BaseException) -> bool:
        # Whatever else interrupted a call, the answer to it may still come.
        return not isinstance(exc, psycopg.Error | StorageError) or link.connection.closed  # type: ignore[attr-defined]

    def is_read_only(self, exc: BaseException) -> bool:
        return isinstance(exc, psycopg.Error) and exc.sqlstate == READ_ONLY


def to_migrate(target: Target, settings: Settings) -> PostgresDatabase:
    """Return a database whose tables may be of any version, and without a connection."""
    return PostgresDatabase(target, replace(settings, timeout=MIGRATION_TIMEOUT))


def open_database(target: Target, settings: Settings) -> PostgresDatabase:
    """Connect to a database, creating the tables where there are none; see ``SqlStorage.connect``."""
    database = PostgresDatabase(target, settings)
    database.prepare()
    return database
