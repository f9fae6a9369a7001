"""Records in a SQL database."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from flowstore.errors import StorageError, UnreachableError
from flowstore.forks import ForkSafeLock
from flowstore.record import PIECE, Damaged, Page, Query, Record, Ref
from flowstore.record.querying import dump_place, load_place
from flowstore.storage import PART, Batches, Guarantees, QueriesFields, RecordStorage
from flowstore.storages.shared import guarantees as _guarantees
from flowstore.storages.shared.headers import conflict, cursor_number
from flowstore.storages.shared.mistakes import mistakes_of
from flowstore.storages.sql.drivers import missing_driver
from flowstore.storages.sql.product import SchemaOfTarget, product
from flowstore.storages.sql.reading import counted, found_in, selected
from flowstore.storages.sql.rows import batches, content_of, dump_moment, load_moment, read_row, row_of, rows_of
from flowstore.storages.sql.target import Settings, parse

if TYPE_CHECKING:
    from flowstore.storages.sql.database import Database

_BATCH: Final = 500
_TRIES: Final = 20


class SqlStorage(RecordStorage, Batches, QueriesFields, SchemaOfTarget):
    """Keep records in SQLite, PostgreSQL, MySQL or MariaDB, in a table that SQL tools can read.

    The tables ``flowstore_records`` and ``flowstore_meta`` are created where both are missing; no other table is ever
    touched. JSON values are text in the column ``value``, everything else is bytes in ``payload``. Any number of
    threads and processes may use a database at once; each thread holds a connection. The time by which records
    expire is the server's. Records that are stored while others list them may or may not be listed.
    ``Query.where`` looks into the column ``value``, record by record.

    Values over 4 MiB, and blobs, are kept in pieces: in rows of the kind ``piece``, of up to 1 MiB each.

    **SQLite**: readers and the writer don't wait for each other (WAL mode). With ``synchronous: FULL``, what ``store``
    has returned for survives the death of the process and a loss of power; with ``NORMAL``, stores cost a fraction,
    and a loss of power may take the last ones, but damages nothing. The file has to be on a local disk: SQLite can't
    lock files reliably over a network. A new file has the mode 0600. A file that is deleted or replaced while it is in
    use is an error, not an acknowledgement.

    **PostgreSQL** (12 or newer): what was stored survives what the server's ``synchronous_commit`` and its replicas
    survive; by default a crash and a loss of power. NUL, which PostgreSQL's text can't hold, is in the columns of
    names U+0001 twice, and U+0001 itself is U+0001 and U+0002.

    **MySQL and MariaDB** (InnoDB): what was stored survives what ``innodb_flush_log_at_trx_commit`` and the replicas
    survive; by default a crash and a loss of power. A record whose headers don't fit into ``max_allowed_packet`` is
    refused before it is sent. Names are bytes in UTF-8: ``CONVERT(flow_name USING utf8mb4)`` shows them.
    Listings by task id go by the first 3,072 bytes of the ids. ``Query.where`` can't name a key that begins with "-",
    and finds nothing in JSON that is nested more deeply than the server's functions follow: 32 levels in MariaDB, 100
    in MySQL.

    Args:
        connection_string: ``sqlite:///relative/path.db``, ``sqlite:////absolute/path.db``, or ``sqlite://`` for a
            database in memory that the threads of this process share and that ``disconnect`` deletes. A relative path
            starts at the folder that is current now. The file is created if it does not exist, its folder is not.
            ``postgresql://user:password@host:port/database`` (also ``postgres://``), with libpq's options after a
            ``?`` and several hosts separated by commas; ``mysql://user:password@host:port/database`` (also
            ``mariadb://``), with ``unix_socket``, ``ssl_ca``, ``ssl_cert``, ``ssl_key``, ``ssl_verify_cert`` and
            ``ssl_verify_identity`` after it. The database exists.
        echo: log each statement, without its values.
        encoding: ``utf-8`` or nothing; text is always stored as UTF-8.
        synchronous: ``FULL`` or ``NORMAL``, for SQLite alone.
        timeout: seconds that a call may wait, for another writer or for the server's answer, before it fails with
            ``UnreachableError``. A server is told to give up a little sooner; one that says nothing is waited for no
            longer either.
        connect_timeout: seconds that connecting to a server may take, for each host; PostgreSQL's driver takes 2 for
            less.
        pool_limit: the most connections that this process opens to a server. Threads then take one for each call and
            wait for a free one for up to ``timeout``; without it, each thread holds one, which is faster.
        pooler: there is a pooler, such as PgBouncer, before PostgreSQL. It is noticed by itself, as a rule; then
            nothing is kept in the server's session, neither prepared statements nor settings.

    Raises:
        ConfigurationError: the connection string can't be used.
        ValueError: another argument is not one of the values above.
    """

    requires: ClassVar[tuple[str, ...]] = ("sqlalchemy",)
    guarantees: ClassVar[tuple[Guarantees, ...]] = _guarantees.SQL
    sorts: ClassVar[bool] = True
    skips: ClassVar[bool] = True

    def __init__(
        self,
        connection_string: str,
        echo: bool = False,
        encoding: str | None = None,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        timeout: float = 30.0,
        connect_timeout: float = 10.0,
        pool_limit: int | None = None,
        pooler: bool = False,
    ) -> None:
        if encoding is not None and encoding.lower() not in ("utf-8", "utf8"):
            raise ValueError(f"encoding must be utf-8, not {encoding!r}: text is always stored as UTF-8")
        if synchronous not in ("FULL", "NORMAL"):
            raise ValueError(f"synchronous must be FULL or NORMAL, not {synchronous!r}")
        self._target = parse(connection_string)
        is_file = self._target.product == "sqlite"
        # SQLite need not wait at all; for a server, no time would mean no limit.
        if not (timeout >= 0 if is_file else timeout > 0):
            raise ValueError(f"timeout must be a number of seconds, {0 if is_file else 'more than 0'}, not {timeout!r}")
        if not connect_timeout > 0:
            raise ValueError(f"connect_timeout must be a number of seconds, more than 0, not {connect_timeout!r}")
        if pool_limit is not None and pool_limit < 1:
            raise ValueError(f"pool_limit must be at least 1, not {pool_limit!r}")
        self._settings = Settings(echo, synchronous, timeout, connect_timeout, pool_limit, pooler)
        self._database: Database | None = None
        self._connecting = ForkSafeLock()

    @classmethod
    def mistakes_in(cls, arguments: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], str]]:
        yield from mistakes_of(cls, arguments)
        yield from missing_driver(arguments["connection_string"])

    def connect(self) -> None:
        """Open the database; create the tables where there are none.

        Does nothing while connected.

        Raises:
            UnreachableError: the server can't be reached or refuses the user; a SQLite file can't be opened or created,
                or is locked for too long.
            CorruptError: the database is damaged, is no SQLite database, or was written by a newer version.
            StorageError: the SQLite database belongs to something else, or another program's table has the name of one
                of flowstore's; or the tables are of an older version, which ``upgrade_schema`` changes. In these cases
                everything is left as it is.
            ConfigurationError: the driver is not installed.
        """
        with self._connecting:
            if not self.is_connected():
                if self._database is not None:
                    self._database.abandon()
                self._database = product(self._target).open_database(self._target, self._settings)

    def describe(self) -> str:
        return f"SQLite, {self._target}" if self._target.product == "sqlite" else str(self._target)

    def preload(self) -> None:
        product(self._target)

    def disconnect(self) -> None:
        """Close all connections of this process, whichever thread they belong to."""
        with self._connecting:
            database, self._database = self._database, None
            if database is not None:
                database.close()

    def is_connected(self) -> bool:
        return self._database is not None and self._database.pid == os.getpid()

    def now(self) -> float:
        return self._connected().now()

    def _get(self, ref: Ref, payload: bool) -> Record | None:
        database = self._connected()
        rows = database.rows(database.sql.get if payload else database.sql.get_headers, (ref.address,))
        return read_row(database, rows[0], ref) if rows else None

    def _get_many(self, refs: Sequence[Ref]) -> list[Record | None]:
        database = self._connected()
        wanted = {ref.address: ref for ref in refs}
        found: dict[bytes, Record] = {}
        for batch in batches(list(wanted)):
            for address, *row in database.rows(*database.sql.get_many(batch)):
                found[address] = read_row(database, row, wanted[address])
        return [found.get(ref.address) for ref in refs]

    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        database = self._connected()
        row = row_of(database, record)
        for _ in range(_TRIES):
            if if_revision:
                content = content_of(row)
                if database.change(database.sql.replace, (*content, record.ref.address, if_revision, now)):
                    return if_revision + 1
            else:
                revision = database.upsert(row) if if_revision is None else database.insert(row, now)
                if revision is not None:
                    return revision
            current = self._get(record.ref, True)
            live = None if current is None or current.has_expired(now) else current
            # Otherwise the record has changed between the two looks at it, so that the condition may hold now.
            if if_revision != (live.revision if live else 0):
                raise conflict(record.ref, live, if_revision or 0)
        # A server whose reads lag behind its writes, as a replica's behind a balancer, shows the former record.
        raise UnreachableError(f"{record.ref}: others keep writing it, or reads lag behind writes ({_TRIES} tries)")

    def _put_many(self, records: Sequence[Record], now: float) -> list[int]:
        database = self._connected()
        rows = rows_of(database, records)
        revisions = database.put_many(rows) if rows else []
        of = {row[0]: revision for row, revision in zip(rows, revisions, strict=True)}
        return [of[record.ref.address] for record in records]

    def _add_many(self, records: Sequence[Record], now: float) -> list[bool]:
        database = self._connected()
        rows = rows_of(database, records)
        added = database.insert_many(rows, now) if rows else []
        of = {row[0]: is_added for row, is_added in zip(rows, added, strict=True)}
        return [of[record.ref.address] for record in records]

    def _delete(self, ref: Ref, if_revision: int | None) -> bool:
        database = self._connected()
        if if_revision is None:
            return bool(database.change(database.sql.delete, (ref.address,)))
        while not database.change(database.sql.delete_revision, (ref.address, if_revision)):
            current = self._get(ref, True)
            if current is None:
                return False
            # Otherwise it has come to that revision between the two looks at it.
            if current.revision != if_revision:
                raise conflict(ref, current, if_revision)
        return True

    def _delete_many(self, refs: Sequence[Ref]) -> int:
        database = self._connected()
        addresses = sorted({ref.address for ref in refs})
        return sum(database.change(*database.sql.delete_many(batch)) for batch in batches(addresses))

    def _delete_seen(self, records: Sequence[Record]) -> int:
        database = self._connected()
        seen = sorted({(record.ref.address, record.revision) for record in records})
        return sum(database.change(*database.sql.delete_seen(batch)) for batch in batches(seen))

    def _runs_since(self, run_ids: Sequence[str], stored_from: float, now: float) -> set[str]:
        database = self._connected()
        keys = [database.key(run_id) for run_id in dict.fromkeys(run_ids)]
        return {
            database.text(found)
            for batch in batches(keys)
            for (found,) in database.rows(*database.sql.runs_since(batch, stored_from, now))
        }

    def _purge(self) -> int:
        database = self._connected()
        piece, deleted, last = database.key(PIECE), 0, 0
        while rows := database.rows(*database.sql.addresses(last, _BATCH)):
            last = rows[-1][0]
            pieces = sorted(address for _, address, kind in rows if kind == piece)
            others = sorted(address for _, address, kind in rows if kind != piece)
            if pieces:
                database.change(*database.sql.delete_many(pieces))
            if others:
                deleted += database.change(*database.sql.delete_many(others))
        return deleted

    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        database = self._connected()
        read = load_place if query.order == "task_id" else cursor_number
        after = None if cursor is None else read(cursor)
        if _selects_nothing(query):
            return Page([])
        found, has_more = selected(database, query, after, limit, payload)
        here = [row.what for row in found]
        if not has_more:
            return _page(here, None)
        last = found[-1]
        return _page(here, dump_place(last.place) if query.order == "task_id" else str(last.number))

    def _scan_doomed(self, query: Query, cursor: str | None, limit: int) -> Page:
        if query.expired_at is None or query.skip or query.order == "task_id" or _selects_nothing(query):
            return self._scan(query, cursor, limit, False)
        database = self._connected()
        after = None if cursor is None else load_moment(cursor)
        rows = database.rows(*database.sql.expired(query, after, limit))
        last = dump_moment(*rows[-1][:2]) if len(rows) == limit else None
        return _page([found_in(database, row[1], row[2:]).what for row in rows], last)

    def _count(self, query: Query) -> int:
        database = self._connected()
        return 0 if _selects_nothing(query) else counted(database, query)

    def _largest_payload(self) -> int | None:
        return self._connected().largest

    def _piece_size(self) -> int:
        return min(PART, self._connected().largest)

    def _connected(self) -> Database:
        database = self._database
        if database is None:
            raise StorageError("the storage is not connected: call connect() first")
        if database.pid == os.getpid():
            return database
        self.connect()
        return self._connected()


def _page(found: Sequence[Record | Damaged], cursor: str | None) -> Page:
    records = [one for one in found if isinstance(one, Record)]
    return Page(records, cursor, [one for one in found if isinstance(one, Damaged)])


def _selects_nothing(query: Query) -> bool:
    return () in (query.kinds, query.task_ids, query.states)
