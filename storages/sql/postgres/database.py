"""Connections to PostgreSQL through psycopg, and the creation of the tables there."""

from __future__ import annotations

import time
from typing import Any, Final

import psycopg

from flowstore.errors import ConfigurationError, FlowstoreError, StorageError
from flowstore.record import Record
from flowstore.storages.shared.clock import ServerClock, elapsed

from ..link import Link
from ..schema import SET_VERSION, VERSION, check_version, creation, meta, records
from ..server import CLOCK_RESOLUTION, ServerDatabase, server_patience
from ..target import Settings, Target
from .errors import READ_ONLY, refused, translate
from .link import Connection, PostgresLink
from .statements import CHECKS_JSON, PostgresStatements, escape, unescape

_LARGEST: Final = 1_000_000_000
_LOCK: Final = 0x666C6F7773746F72

# Returns the time and whether the session has that number; if so, sets its limits.
_FIRST: Final = (
    "SELECT extract(epoch FROM clock_timestamp())::float8, CASE WHEN pg_backend_pid() = %s THEN"
    " set_config('statement_timeout', %s, false) IS NOT NULL"
    " AND set_config('default_transaction_isolation', 'read committed', false) IS NOT NULL ELSE false END"
)
# Not to_regclass(), which may remember within a transaction that a table was missing at its beginning.
_TABLES: Final = (
    f"SELECT relname FROM pg_class WHERE relname IN ('{meta.name}', '{records.name}') AND pg_table_is_visible(oid)"
)
_HAS_LZ4: Final = "SELECT 1 FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)"

# The compression that PostgreSQL takes by itself costs more than all the rest of storing a large value.
_STORED: Final = "ALTER TABLE {} ALTER COLUMN {} SET {}"


class PostgresDatabase(ServerDatabase):
    """The connections of one process to a PostgreSQL database."""

    def __init__(self, target: Target, settings: Settings) -> None:
        super().__init__(target, settings)
        self.sql: PostgresStatements = PostgresStatements(self.key)

    def _connect(self) -> PostgresLink:
        settings, target = self.settings, self.target
        began = time.monotonic()
        try:
            connection = Connection.connect(autocommit=True, prepare_threshold=None, **self._parameters())
        except psycopg.Error as exc:
            raise refused(exc, target) from exc
        link = PostgresLink(connection)
        try:
            # Setting up the session has to fit into the rest of ``connect_timeout``.
            connection.patience = max(0.1, settings.connect_timeout - (time.monotonic() - began))
            self._set_up(link)
        except BaseException:
            link.close()
            raise
        connection.patience = settings.timeout
        return link

    def _parameters(self) -> dict[str, Any]:
        settings, target = self.settings, self.target
        known = {
            "host": target.host,
            "port": target.ports or target.port,
            "user": target.user,
            "password": target.password,
            "dbname": target.database,
            "client_encoding": "UTF8",
            "connect_timeout": max(1, round(settings.connect_timeout)),
            "application_name": "flowstore",
            "tcp_user_timeout": max(1, round(settings.timeout * 1000)),
        }
        # The connection string takes precedence.
        return {name: value for name, value in known.items() if value not in (None, "")} | dict(target.options)

    def _set_up(self, link: PostgresLink) -> None:
        """Detect a pooler; set the session's limits, or have each transaction set them.

        A pooler gives each transaction another session of the server. It is detected by the session's number, which is
        not the server's own.
        """
        connection, target, settings = link.connection, self.target, self.settings
        encoding = connection.info.parameter_status("server_encoding")
        if encoding not in (None, "UTF8"):
            raise ConfigurationError(
                f"{target} has the encoding {encoding}, which can't store every text: create it with ENCODING 'UTF8'"
            )
        self.sql.checks_json = connection.info.server_version >= CHECKS_JSON
        # The server gives up first and reports it; then the statement has certainly not been executed.
        milliseconds = max(1, round(server_patience(settings.timeout) * 1000))
        session = 0 if settings.pooler else connection.info.backend_pid
        asked = elapsed()
        [(server, is_direct)] = link.run(_FIRST, (session, str(milliseconds))).rows
        self._clock = ServerClock(server, CLOCK_RESOLUTION, asked)
        if is_direct:
            # A statement is prepared at its second use.
            connection.prepare_threshold = 1
            return
        if "options" in target.options:
            raise ConfigurationError(
                f"{target} has a pooler in front, which does not pass on 'options' of the connection string:"
                " write it as a setting of the user or of the database (ALTER ROLE … SET search_path = …)"
            )
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        link.limit = f"SET LOCAL statement_timeout = {milliseconds}"

    def _prepare(self, link: PostgresLink) -> None:
        if not self._holds_ours(link.run(_TABLES).rows):
            with link.transaction():
                # Released at the end of the transaction.
                link.run(f"SELECT pg_advisory_xact_lock({_LOCK})")
                # Otherwise another process was faster.
                if not self._holds_ours(link.run(_TABLES).rows):
                    self._create(link)
        version = link.run(VERSION).rows
        check_version(version[0][0] if version else None, self.target)

    def lock_schema(self, link: PostgresLink) -> None:
        link.connection.autocommit = False
        link.connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")

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
            return None, record.payload  # not JSON, which has no NUL
        return super().columns(record)

    def translate(self, exc: BaseException) -> FlowstoreError | None:
        return translate(exc, self.target)

    def is_lost(self, link: Link, exc: BaseException) -> bool:
        # After any other interruption the answer may still arrive.
        return not isinstance(exc, psycopg.Error | StorageError) or link.connection.closed  # type: ignore[attr-defined]

    def is_read_only(self, exc: BaseException) -> bool:
        return isinstance(exc, psycopg.Error) and exc.sqlstate == READ_ONLY
