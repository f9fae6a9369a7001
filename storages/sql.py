"""Records in a SQL database."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

from flowstore.errors import ConfigurationError, CorruptError, StorageError
from flowstore.forks import ForkSafeLock
from flowstore.record import Key, Page, Query, Record, Ref
from flowstore.storage import RecordStorage
from flowstore.storages._records import conflict, cursor_number, dump_headers, load_headers

if TYPE_CHECKING:
    from flowstore.storages._sqlite import Database

_BATCH = 500


class SqlStorage(RecordStorage):
    """Keep records in a SQLite database, in a table that SQL tools can read.

    Any number of threads and processes of one machine may use a database file at once. It is in WAL mode: readers and
    the writer don't wait for each other. With ``synchronous: FULL``, what ``store`` has returned for survives the
    death of the process and a loss of power; with ``NORMAL``, stores cost a fraction, and a loss of power may take the
    last ones, but damages nothing. The file has to be on a local disk: SQLite can't lock files reliably over a
    network.

    Args:
        connection_string: ``sqlite:///relative/path.db``, ``sqlite:////absolute/path.db``, or ``sqlite://`` for a
            database in memory that the threads of this process share and that ``disconnect`` deletes. A relative path
            starts at the folder that is current now. The file is created if it does not exist, its folder is not.
        echo: log each statement, without its values.
        encoding: ``utf-8`` or nothing; text is always stored as UTF-8.
        synchronous: ``FULL`` or ``NORMAL``.
        timeout: seconds to wait for another writer before a call fails with ``UnreachableError``.

    Raises:
        ConfigurationError: the connection string is not one of SQLite's.
        ValueError: another argument is not one of the values above.
    """

    requires: ClassVar[tuple[str, ...]] = ("sqlalchemy",)

    def __init__(
        self,
        connection_string: str,
        echo: bool = False,
        encoding: str | None = None,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        timeout: float = 30.0,
    ) -> None:
        if encoding is not None and encoding.lower() not in ("utf-8", "utf8"):
            raise ValueError(f"encoding must be utf-8, not {encoding!r}: text is always stored as UTF-8")
        if synchronous not in ("FULL", "NORMAL"):
            raise ValueError(f"synchronous must be FULL or NORMAL, not {synchronous!r}")
        if not timeout >= 0:
            raise ValueError(f"timeout must be a number of seconds, 0 or more, not {timeout!r}")
        self._path = _path(connection_string)
        self._echo = echo
        self._synchronous = synchronous
        self._timeout = timeout
        self._database: Database | None = None
        self._connecting = ForkSafeLock()

    def connect(self) -> None:
        """Open the database; create it, or the tables in an empty one.

        Does nothing while connected.

        Raises:
            UnreachableError: the file can't be opened or created, or is locked for too long.
            CorruptError: the file is damaged, is no SQLite database, or was written by a newer version.
            StorageError: the database belongs to something else. In these cases the file is left as it is.
        """
        from flowstore.storages._sqlite import open_database

        with self._connecting:
            if not self.is_connected():
                if self._database is not None:
                    self._database.abandon()
                self._database = open_database(
                    self._path, echo=self._echo, synchronous=self._synchronous, timeout=self._timeout
                )

    def disconnect(self) -> None:
        """Close all connections of this process, whichever thread they belong to."""
        with self._connecting:
            database, self._database = self._database, None
            if database is not None:
                database.close()

    def is_connected(self) -> bool:
        return self._database is not None and self._database.pid == os.getpid()

    def _get(self, ref: Ref, payload: bool) -> Record | None:
        database = self._connected()
        sql = database.sql.get if payload else database.sql.get_headers
        rows = database.execute(sql, (ref.address,))
        return _record(rows[0], ref) if rows else None

    def _get_many(self, refs: Sequence[Ref]) -> list[Record | None]:
        database = self._connected()
        wanted = {ref.address: ref for ref in refs}
        addresses = list(wanted)
        found: dict[bytes, Record] = {}
        for start in range(0, len(addresses), _BATCH):
            batch = addresses[start : start + _BATCH]
            sql, count = database.sql.get_many(len(batch))
            batch += batch[-1:] * (count - len(batch))
            for address, *row in database.execute(sql, batch):
                found[address] = _record(row, wanted[address])
        return [found.get(ref.address) for ref in refs]

    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        ref, key = record.ref, record.ref.key
        database = self._connected()
        headers = dump_headers(record).decode()
        text, blob = _columns(record)
        stored_at = record.headers.get("stored_at")
        if if_revision:
            rows = database.execute(
                database.sql.replace,
                (record.run_id, stored_at, headers, text, blob, ref.address, if_revision),
            )
        else:
            rows = database.execute(
                database.sql.insert if if_revision == 0 else database.sql.upsert,
                (
                    ref.address,
                    ref.kind,
                    key.flow_name,
                    key.task_name,
                    key.task_id,
                    ref.name,
                    record.run_id,
                    stored_at,
                    headers,
                    text,
                    blob,
                ),
            )
        if rows:
            return int(rows[0][0])
        self._conflict(ref, if_revision or 0)

    def _delete(self, ref: Ref, if_revision: int | None) -> bool:
        database = self._connected()
        if if_revision is None:
            return bool(database.execute(database.sql.delete, (ref.address,)))
        if database.execute(database.sql.delete_revision, (ref.address, if_revision)):
            return True
        if self._get(ref, False) is None:
            return False
        self._conflict(ref, if_revision)

    def _conflict(self, ref: Ref, if_revision: int) -> NoReturn:
        raise conflict(ref, self._get(ref, True), if_revision)

    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        database = self._connected()
        kinds = query.kinds
        if kinds is not None and not kinds:
            return Page([])
        fields = {
            name: value
            for name in ("flow_name", "task_name", "task_id", "run_id")
            if (value := getattr(query, name)) is not None
        }
        sql = database.sql.scan(len(kinds or ()), tuple(fields), query.descending, cursor is not None, payload)
        after = () if cursor is None else (cursor_number(cursor),)
        # One row more than asked for tells whether there is a next page.
        rows = database.execute(sql, (*(kinds or ()), *fields.values(), *after, limit + 1))
        following = str(rows[limit - 1][0]) if len(rows) > limit else None
        return Page([_record(row[1:], None) for row in rows[:limit]], following)

    def _translate(self, exc: Exception) -> StorageError | None:
        from flowstore.storages._sqlite import translate

        return translate(exc, self._path)

    def _connected(self) -> Database:
        database = self._database
        if database is None:
            raise StorageError("the storage is not connected: call connect() first")
        if database.pid == os.getpid():
            return database
        self.connect()
        return self._connected()


def _path(connection_string: str) -> str | None:
    """Return the path of a database file, or ``None`` for a database in memory."""
    scheme, found, rest = connection_string.partition("://")
    # The rest of the string may hold a password: it stays out of the messages.
    if not found or scheme.partition("+")[0] != "sqlite" or scheme not in ("sqlite", "sqlite+pysqlite"):
        what = f"{scheme!r} is not supported" if found else "no scheme://"
        raise ConfigurationError(
            f"connection_string: {what}; this version of SqlStorage supports SQLite: sqlite:///path/to/file.db"
        )
    if "?" in rest:
        raise ConfigurationError(
            "connection_string: options after '?' are not supported; use the arguments timeout and synchronous"
        )
    if rest in ("", "/", "/:memory:"):
        return None
    if not rest.startswith("/"):
        raise ConfigurationError(
            f"connection_string: a path needs three slashes, and a fourth if it is absolute: sqlite:///{rest}"
        )
    return os.path.abspath(rest[1:])


def _columns(record: Record) -> tuple[str | None, bytes | None]:
    """Return the payload as text or as bytes, for the columns ``value`` and ``payload``."""
    if record.is_json:
        try:
            return record.payload.decode(), None
        except UnicodeDecodeError:
            pass  # whatever it is, it has to come back as it was given
    return None, record.payload


def _record(row: Sequence[Any], ref: Ref | None) -> Record:
    kind, flow_name, task_name, task_id, name, revision, headers, *payload = row
    if ref is None or (kind, flow_name, task_name, task_id, name) != (
        ref.kind,
        ref.key.flow_name,
        ref.key.task_name,
        ref.key.task_id,
        ref.name,
    ):
        # A row under somebody else's address keeps its own reference, which the caller's check refuses.
        ref = Ref(kind, Key(flow_name, task_name, task_id), name)
    if payload and payload[0] is None:
        raise CorruptError(f"the row of {ref} has neither a value nor a payload")
    return Record(ref, payload[0] if payload else b"", load_headers(headers, ref), revision)
