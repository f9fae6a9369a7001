"""Records in a MongoDB collection."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Final

from flowstore.errors import ConfigurationError
from flowstore.record import Page, Query, Record, Ref
from flowstore.storage import (
    Batches,
    ConnectedStorage,
    Content,
    Guarantees,
    NativeBlobs,
    QueriesFields,
    RecordStorage,
    ServerExpiry,
    Source,
)
from flowstore.storages.shared.mistakes import mistakes_of

if TYPE_CHECKING:
    from .collection import Records

_LARGEST: Final = 15 << 20
"""Bytes of a payload that fit into a document beside headers and names."""

_CONTENTS: Final = 500


class MongoStorage(ConnectedStorage["Records"], RecordStorage, Batches, QueriesFields, NativeBlobs, ServerExpiry):
    """Keep each record in a document of its own, in a collection of MongoDB.

    A payload that is JSON is the document's ``value``, which MongoDB's own tools can query, if MongoDB can hold it so
    that the same bytes come out again: up to 64 KiB, integers within 64 bits, keys that are not empty and have no dot,
    no NUL and no dollar in front, not more than 50 levels. Any other is its ``payload``, as bytes. Its ``_id`` is
    a hash of the record's kind, key and name, which stand in fields of their own.

    Each change is one atomic step of one document. With the write concern ``majority`` and ``journal``, which are the
    defaults, what ``store`` has returned for survives the death of any minority of the servers and a loss of power.
    Reads come from the primary. A document takes up to 16 MiB less 64 KiB, with headers and key. Payloads over 4 MiB,
    and blobs, are in GridFS, in ``<collection_name>_blobs``; the generation that a record names is the file's ``_id``.
    Any number of threads and processes may use a collection at once; a fork is met with a new client.

    Indexes are created in the collection when connecting, if they are missing. One of them lets the server delete
    records a day after they have expired, even if nobody cleans up; compatible servers may not have that. Documents
    that are no records are left alone.

    Args:
        db_name: the database.
        collection_name: the collection.
        host, port: the server; ``host`` may be a list of ``host:port``, the members of a replica set.
        uri: ``mongodb://`` or ``mongodb+srv://`` with any of the driver's options, instead of host and port.
        username, password: may be left out where the URI holds them, or where none are needed.
        auth_source: the database that knows the user.
        replica_set: the name of the replica set.
        tls: encrypt the connection.
        tls_ca_file: the path of a file with the certificates to trust.
        write_concern: how many servers have to have a change before it counts; a number or ``majority``.
        journal: wait until a change is in the server's journal.
        connect_timeout: seconds to wait for a server that takes the call, and for a connection to it.
        read_timeout: seconds to wait for an answer.
        max_pool_size: connections of a process at most.

    Raises:
        ConfigurationError: an argument is missing, or contradicts another one.
    """

    requires: ClassVar[tuple[str, ...]] = ("pymongo",)
    extra: ClassVar[str | None] = "mongo"
    guarantees: ClassVar[tuple[Guarantees, ...]] = (
        Guarantees(
            database="MongoDB",
            shared_by="machines",
            process_ends="everything",
            server_crashes="everything with `journal: true`, the default",
            power_fails="everything with `write_concern: majority` and `journal: true`, the defaults",
            one_winner="yes",
            clock="the server's",
            largest_record="16 MiB less 64 KiB, with its headers and key",
        ),
    )
    sorts: ClassVar[bool] = True
    skips: ClassVar[bool] = True

    def __init__(
        self,
        db_name: str,
        collection_name: str,
        host: str | list[str] | None = None,
        port: int | None = None,
        uri: str | None = None,
        username: str | None = None,
        password: str | None = None,
        auth_source: str | None = None,
        replica_set: str | None = None,
        tls: bool | None = None,
        tls_ca_file: str | None = None,
        write_concern: int | str = "majority",
        journal: bool = True,
        connect_timeout: float = 10.0,
        read_timeout: float = 60.0,
        max_pool_size: int = 100,
    ) -> None:
        super().__init__()
        if uri is not None and (host is not None or port is not None):
            raise ConfigurationError("uri: give either the URI, or host and port")
        if uri is not None and not uri.startswith(("mongodb://", "mongodb+srv://")):
            raise ConfigurationError("uri: must begin with mongodb:// or mongodb+srv://")
        if "://" in str(host):
            raise ConfigurationError("host: this is a URI; give it as uri")
        for what, name in (("db_name", db_name), ("collection_name", collection_name)):
            if not name or "\0" in name or "$" in name:
                raise ConfigurationError(f"{what}: {name!r} can't be a name in MongoDB")
        if password is not None and username is None:
            raise ConfigurationError("password: there is no username")
        if write_concern == 0:
            raise ConfigurationError("write_concern: 0 would not notice a lost write")
        for what, seconds in (("connect_timeout", connect_timeout), ("read_timeout", read_timeout)):
            if not seconds > 0:
                raise ConfigurationError(f"{what} must be a number of seconds above 0, not {seconds!r}")
        options = {
            "username": username,
            "password": password,
            "authSource": auth_source,
            "replicaSet": replica_set,
            "tls": tls,
            "tlsCAFile": tls_ca_file,
            "serverSelectionTimeoutMS": int(connect_timeout * 1000),
            "connectTimeoutMS": int(connect_timeout * 1000),
            "socketTimeoutMS": int(read_timeout * 1000),
            "waitQueueTimeoutMS": int(connect_timeout * 1000),
            "maxPoolSize": max_pool_size,
        }
        self._configuration: dict[str, Any] = {
            "hosts": uri if uri is not None else host if host is not None else "localhost",
            "port": port,
            "db_name": db_name,
            "collection_name": collection_name,
            "w": write_concern,
            "journal": journal,
            "options": {name: value for name, value in options.items() if value is not None},
        }

    @classmethod
    def mistakes_in(cls, arguments: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], str]]:
        return mistakes_of(cls, arguments)

    def describe(self) -> str:
        given = self._configuration
        hosts = given["hosts"] if isinstance(given["hosts"], str) else ", ".join(given["hosts"])
        # A URI may hold a password.
        hosts = hosts.rpartition("://")[2].rpartition("@")[2].partition("/")[0].partition("?")[0]
        port = "" if given["port"] is None else f":{given['port']}"
        return f"MongoDB at {hosts}{port}, collection {given['db_name']}.{given['collection_name']}"

    def preload(self) -> None:
        from . import collection as _mongo_records  # noqa: F401

    def _open(self) -> Records:
        """Connect, and create the indexes that the collection does not have.

        Raises:
            UnreachableError: no server can be reached.
            UnsupportedError: the server is FerretDB 1, whose changes are not atomic.
            StorageError: the server does not know the user, or what it may do is not enough.
            ConfigurationError: the URI or an option can't be used.
        """
        from .client import Settings
        from .collection import open_records

        return open_records(Settings(**self._configuration))

    def now(self) -> float:
        return self._connection().clock.now()

    def _get(self, ref: Ref, payload: bool) -> Record | None:
        return self._connection().get(ref, payload)

    def _get_many(self, refs: Sequence[Ref]) -> list[Record | None]:
        return self._connection().get_many(refs)

    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        return self._connection().put(record, if_revision, now)

    def _put_many(self, records: Sequence[Record], now: float) -> list[int]:
        return self._connection().put_many(records, now)

    def _add_many(self, records: Sequence[Record], now: float) -> list[bool]:
        return self._connection().add_many(records, now)

    def _delete(self, ref: Ref, if_revision: int | None) -> bool:
        return self._connection().delete(ref, if_revision)

    def _delete_many(self, refs: Sequence[Ref]) -> int:
        return self._connection().delete_many(refs)

    def _delete_seen(self, records: Sequence[Record]) -> int:
        return self._connection().delete_seen(records)

    def _runs_since(self, run_ids: Sequence[str], stored_from: float, now: float) -> set[str]:
        return self._connection().runs_since(run_ids, stored_from, now)

    def _purge(self) -> int:
        return self._connection().purge()

    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        return self._connection().scan(query, cursor, limit, payload)

    def _count(self, query: Query) -> int:
        return self._connection().count(query)

    def _largest_payload(self) -> int | None:
        return _LARGEST

    def _write_content(self, ref: Ref, generation: str, source: Source) -> int:
        return self._connection().blobs.write(ref.address.hex(), generation, source)

    def _read_content(self, ref: Ref, generation: str, pieces: int) -> Generator[bytes, None, None]:
        return self._connection().blobs.read(generation, pieces)

    def _delete_content(self, ref: Ref, generation: str, pieces: int) -> None:
        self._connection().blobs.remove(generation)

    def _contents(self) -> Iterator[Content]:
        records = self._connection()
        found = records.blobs.all()
        while some := list(islice(found, _CONTENTS)):
            heads = records.heads([address for _, _, address, _ in some if address is not None])
            for generation, written_at, address, delete in some:
                yield Content(generation, written_at, partial(heads, address), delete)
