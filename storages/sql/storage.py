"""Records in a SQL database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import methodcaller
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from flowstore.record import PIECE, Page, Query, Record, Ref
from flowstore.storage import PART, Batches, ConnectedStorage, Guarantees, QueriesFields, RecordStorage
from flowstore.storages.shared.headers import conflict, dump_headers, kept_changing
from flowstore.storages.shared.mistakes import ChecksArguments

from .dialects import SchemaOfTarget, database_class, missing_driver
from .rows import batches, content_of, counted, listed, listed_by_expiry, read_row, row_of, rows_of
from .target import Settings, parse

if TYPE_CHECKING:
    from .database import Database

_BATCH: Final = 500
_TRIES: Final = 20


class SqlStorage(ChecksArguments, ConnectedStorage["Database"], RecordStorage, Batches, QueriesFields, SchemaOfTarget):
    """Keep records in SQLite, PostgreSQL, MySQL or MariaDB, in a table that SQL tools can read.

    The tables ``flowstore_records`` and ``flowstore_meta`` are created if both are missing; no other table is ever
    touched. JSON values are text in the column ``value``, everything else is bytes in ``payload``. Any number of
    threads and processes may use a database at once; each thread holds a connection. The time by which records
    expire is the server's. Records that are stored while others list them may or may not be listed.
    ``Query.where`` reads the column ``value`` of each record.

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
    guarantees: ClassVar[tuple[Guarantees, ...]] = (
        Guarantees(
            database="SQLite",
            shared_by="processes",
            process_ends="everything",
            server_crashes="no server",
            power_fails="everything; with `synchronous: NORMAL` the last changes may be lost",
            one_winner="yes, on a local file system",
            clock="the machine's",
            largest_record="1 GB",
        ),
        Guarantees(
            database="PostgreSQL",
            shared_by="machines",
            process_ends="everything",
            server_crashes="everything, unless `synchronous_commit` is off",
            power_fails="everything, unless `synchronous_commit` or `fsync` is off",
            one_winner="yes",
            clock="the server's",
            largest_record="1 GB",
        ),
        Guarantees(
            database="MySQL, MariaDB",
            shared_by="machines",
            process_ends="everything",
            server_crashes="everything, unless `innodb_flush_log_at_trx_commit` is 0",
            power_fails="everything, unless `innodb_flush_log_at_trx_commit` is 0 or 2",
            one_winner="yes",
            clock="the server's",
            largest_record="`max_allowed_packet`, 16 MB by default",
        ),
    )
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
        super().__init__()
        if encoding is not None and encoding.lower() not in ("utf-8", "utf8"):
            raise ValueError(f"encoding must be utf-8, not {encoding!r}: text is always stored as UTF-8")
        if synchronous not in ("FULL", "NORMAL"):
            raise ValueError(f"synchronous must be FULL or NORMAL, not {synchronous!r}")
        self._target = parse(connection_string)
        is_file = self._target.dialect == "sqlite"
        # SQLite need not wait at all; for a server, no time would mean no limit.
        if not (timeout >= 0 if is_file else timeout > 0):
            raise ValueError(f"timeout must be a number of seconds, {0 if is_file else 'more than 0'}, not {timeout!r}")
        if not connect_timeout > 0:
            raise ValueError(f"connect_timeout must be a number of seconds, more than 0, not {connect_timeout!r}")
        if pool_limit is not None and pool_limit < 1:
            raise ValueError(f"pool_limit must be at least 1, not {pool_limit!r}")
        self._settings = Settings(echo, synchronous, timeout, connect_timeout, pool_limit, pooler)

    @classmethod
    def mistakes_in(cls, arguments: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], str]]:
        yield from super().mistakes_in(arguments)
        yield from missing_driver(arguments["connection_string"])

    def _open(self) -> Database:
        """Open the database; create the tables if both are missing.

        Raises:
            UnreachableError: the server can't be reached or refuses the user; a SQLite file can't be opened or created,
                or is locked for too long.
            CorruptError: the database is damaged, is not a SQLite database, or was written by a newer version.
            StorageError: the SQLite database belongs to another program, or another program's table has the name of one
                of flowstore's; or the tables are of an older version, which ``upgrade_schema`` changes. Nothing was
                changed.
            ConfigurationError: the driver is not installed.
        """
        database: Database = database_class(self._target).open(self._target, self._settings)
        return database

    def describe(self) -> str:
        return f"SQLite, {self._target}" if self._target.dialect == "sqlite" else str(self._target)

    def preload(self) -> None:
        database_class(self._target)

    def now(self) -> float:
        return self._connection().now()

    def _get(self, ref: Ref, payload: bool) -> Record | None:
        database = self._connection()
        rows = database.rows(database.sql.get if payload else database.sql.get_headers, (ref.address,))
        return read_row(database, rows[0], ref) if rows else None

    def _get_many(self, refs: Sequence[Ref]) -> list[Record | None]:
        database = self._connection()
        wanted = {ref.address: ref for ref in refs}
        found: dict[bytes, Record] = {}
        for batch in batches(list(wanted)):
            for address, *row in database.rows(*database.sql.get_many(batch)):
                found[address] = read_row(database, row, wanted[address])
        return [found.get(ref.address) for ref in refs]

    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        database = self._connection()
        row = row_of(database, record, dump_headers(record))
        if if_revision is None:
            sql, values = database.sql.upsert, database.upsert_values(row)
        elif if_revision == 0:
            sql, values = database.sql.insert, database.insert_values(row, now)
        else:
            sql, values = database.sql.replace, (*content_of(row), record.ref.address, if_revision, now)
        for _ in range(_TRIES):
            outcome = database.execute(methodcaller("run", sql, values), sql, changes=True)
            revision = database.revision(outcome, row) if not if_revision else outcome.changed and if_revision + 1
            if revision:
                return revision
            current = self._get(record.ref, True)
            live = None if current is None or current.has_expired(now) else current
            # Otherwise the record has changed since the statement, so that the condition may hold now.
            if if_revision != (live.revision if live else 0):
                raise conflict(record.ref, live, if_revision or 0)
        # A server whose reads lag behind its writes, as a replica's with a balancer in front, shows the former record.
        raise kept_changing(record.ref, _TRIES)

    def _put_many(self, records: Sequence[Record], now: float) -> list[int]:
        database = self._connection()
        rows = rows_of(database, records)
        revisions = database.put_many(rows) if rows else []
        of = {row[0]: revision for row, revision in zip(rows, revisions, strict=True)}
        return [of[record.ref.address] for record in records]

    def _add_many(self, records: Sequence[Record], now: float) -> list[bool]:
        database = self._connection()
        rows = rows_of(database, records)
        added = database.insert_many(rows, now) if rows else []
        of = {row[0]: is_added for row, is_added in zip(rows, added, strict=True)}
        return [of[record.ref.address] for record in records]

    def _delete(self, ref: Ref, if_revision: int | None) -> bool:
        database = self._connection()
        if if_revision is None:
            return bool(database.change(database.sql.delete, (ref.address,)))
        while not database.change(database.sql.delete_revision, (ref.address, if_revision)):
            current = self._get(ref, True)
            if current is None:
                return False
            # Otherwise it has come to that revision since the statement.
            if current.revision != if_revision:
                raise conflict(ref, current, if_revision)
        return True

    def _delete_many(self, refs: Sequence[Ref]) -> int:
        database = self._connection()
        addresses = sorted({ref.address for ref in refs})
        return sum(database.change(*database.sql.delete_many(batch)) for batch in batches(addresses))

    def _delete_seen(self, records: Sequence[Record]) -> int:
        database = self._connection()
        seen = sorted({(record.ref.address, record.revision) for record in records})
        return sum(database.change(*database.sql.delete_seen(batch)) for batch in batches(seen))

    def _runs_since(self, run_ids: Sequence[str], stored_from: float, now: float) -> set[str]:
        database = self._connection()
        keys = [database.key(run_id) for run_id in dict.fromkeys(run_ids)]
        return {
            database.text(found)
            for batch in batches(keys)
            for (found,) in database.rows(*database.sql.runs_since(batch, stored_from, now))
        }

    def _purge(self) -> int:
        database = self._connection()
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
        return listed(self._connection(), query, cursor, limit, payload)

    def _scan_doomed(self, query: Query, cursor: str | None, limit: int) -> Page:
        if query.expired_at is None or query.skip or query.order == "task_id":
            return self._scan(query, cursor, limit, False)
        return listed_by_expiry(self._connection(), query, cursor, limit)

    def _count(self, query: Query) -> int:
        return counted(self._connection(), query)

    def _largest_payload(self) -> int | None:
        return self._connection().largest

    def _piece_size(self) -> int:
        return min(PART, self._connection().largest)
