"""Records in a MongoDB collection."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Final

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
from flowstore.storages.shared.headers import conflict, kept_changing
from flowstore.storages.shared.mistakes import ChecksArguments

from . import listing, writing
from .documents import (
    HEAD,
    WHOLE,
    MongoDocument,
    address_of,
    expired,
    fields_of,
    identity_of,
    live,
    read_document,
    update_of,
)
from .options import Options

if TYPE_CHECKING:
    from .connection import Connection

_LARGEST: Final = 15 << 20
"""Bytes of a payload that fit into a document beside headers and names."""

_BATCH: Final = 1000
_CONTENTS: Final = 500
_TRIES: Final = 100


class MongoStorage(
    ChecksArguments, ConnectedStorage["Connection"], RecordStorage, Batches, QueriesFields, NativeBlobs, ServerExpiry
):
    """Keep each record in a separate document, in a collection of MongoDB.

    A payload that is JSON is the document's ``value``, which MongoDB's tools can query, if MongoDB returns exactly the
    same bytes: up to 64 KiB, integers within 64 bits, keys that are not empty and have no dot,
    no NUL and no dollar in front, not more than 50 levels. Any other is its ``payload``, as bytes. Its ``_id`` is
    a hash of the record's kind, key and name, which have fields too.

    Each change is one atomic step on one document. With the write concern ``majority`` and ``journal``, which are the
    defaults, what was stored survives the death of any minority of the servers and a loss of power.
    Reads come from the primary. A document takes up to 16 MiB less 64 KiB, with headers and key. Payloads over 4 MiB,
    and blobs, are in GridFS, in ``<collection_name>_blobs``; the generation that a record names is the file's ``_id``.
    Any number of threads and processes may use a collection at once; a forked process makes a new client.

    Indexes are created in the collection when connecting, if they are missing. One of them lets the server delete
    records a day after they have expired, even without a cleanup; compatible servers may not support that. Other
    documents are left alone.

    Args:
        db_name: the database.
        collection_name: the collection.
        host, port: the server; ``host`` may be a list of ``host:port``, the members of a replica set.
        uri: ``mongodb://`` or ``mongodb+srv://`` with any of the driver's options, instead of host and port.
        username, password: may be omitted if the URI has them, or the server needs none.
        auth_source: the database in which the user is defined.
        replica_set: the name of the replica set.
        tls: encrypt the connection.
        tls_ca_file: the path of a file with the certificates to trust.
        write_concern: how many servers must confirm a change; a number or ``majority``.
        journal: wait until a change is in the server's journal.
        connect_timeout: seconds to wait for a server that can be used, and for a connection to it.
        read_timeout: seconds to wait for an answer.
        max_pool_size: the most connections of a process.

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
        self._options = Options(
            db_name=db_name,
            collection_name=collection_name,
            host=host,
            port=port,
            uri=uri,
            username=username,
            password=password,
            auth_source=auth_source,
            replica_set=replica_set,
            tls=tls,
            tls_ca_file=tls_ca_file,
            write_concern=write_concern,
            journal=journal,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            max_pool_size=max_pool_size,
        )
        self._options.check()

    def describe(self) -> str:
        return self._options.describe()

    def preload(self) -> None:
        from . import connection  # noqa: F401

    def _open(self) -> Connection:
        from .connection import Connection

        return Connection(self._options)

    def _prepare(self, connection: Connection) -> None:
        connection.prepare()

    def now(self) -> float:
        return self._connection().clock.now()

    # Records

    def _get(self, ref: Ref, payload: bool) -> Record | None:
        connection = self._connection()
        with connection.calling():
            document = connection.collection.find_one({"_id": address_of(ref)}, WHOLE if payload else HEAD)
        return None if document is None else read_document(document, payload)

    def _get_many(self, refs: Sequence[Ref]) -> list[Record | None]:
        connection = self._connection()
        addresses = [address_of(ref) for ref in refs]
        found: dict[str, Record] = {}
        for batch in _batches(list(dict.fromkeys(addresses))):
            with connection.calling():
                for document in connection.collection.find({"_id": {"$in": batch}}, WHOLE):
                    found[document["_id"]] = read_document(document, True)
        return [found.get(address) for address in addresses]

    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        connection = self._connection()
        address, fields = address_of(record.ref), fields_of(record)
        identity = identity_of(record.ref, connection.clock.stamp())
        condition: MongoDocument = {}
        if if_revision is not None:
            condition = {"revision": if_revision, **live(now)} if if_revision else expired(now)
        for _ in range(_TRIES):
            # Most records are new, and inserting is the cheapest way to write one.
            if not if_revision and connection.insert(
                {"_id": address, "revision": record.revision, **identity, **fields}
            ):
                return record.revision
            revision = connection.update({"_id": address, **condition}, update_of(fields))
            if revision is not None:
                return revision
            if if_revision is None:
                continue  # deleted meanwhile
            current = self._get(record.ref, True)
            standing = None if current is None or current.has_expired(now) else current
            # Otherwise the record has changed since, and the condition may hold now.
            if if_revision != (standing.revision if standing else 0):
                raise conflict(record.ref, standing, if_revision)
        raise kept_changing(connection.where, _TRIES)

    def _put_many(self, records: Sequence[Record], now: float) -> list[int]:
        connection = self._connection()
        put = partial(self._put, if_revision=None, now=now)
        return [revision for batch in _batches(records) for revision in writing.put_batch(connection, batch, put)]

    def _add_many(self, records: Sequence[Record], now: float) -> list[bool]:
        connection = self._connection()
        add = partial(self._add, now=now)
        return [added for batch in _batches(records) for added in writing.add_batch(connection, batch, now, add)]

    def _delete(self, ref: Ref, if_revision: int | None) -> bool:
        connection = self._connection()
        condition: MongoDocument = {"_id": address_of(ref)}
        if if_revision is not None:
            condition["revision"] = if_revision
        for _ in range(_TRIES):
            with connection.calling(mutates=True):
                if connection.collection.delete_one(condition).deleted_count:
                    return True
            current = None if if_revision is None else self._get(ref, True)
            if if_revision is None or current is None:
                return False
            # Otherwise it has come to that revision since.
            if current.revision != if_revision:
                raise conflict(ref, current, if_revision)
        raise kept_changing(connection.where, _TRIES)

    def _delete_many(self, refs: Sequence[Ref]) -> int:
        connection = self._connection()
        deleted = 0
        for batch in _batches([address_of(ref) for ref in refs]):
            with connection.calling(mutates=True):
                deleted += connection.collection.delete_many({"_id": {"$in": batch}}).deleted_count
        return deleted

    def _delete_seen(self, records: Sequence[Record]) -> int:
        connection = self._connection()
        seen = [{"_id": address_of(record.ref), "revision": record.revision} for record in records]
        return sum(connection.delete_each(batch) for batch in _batches(seen))

    def _runs_since(self, run_ids: Sequence[str], stored_from: float, now: float) -> set[str]:
        connection = self._connection()
        condition = {"run_id": {"$in": list(run_ids)}, "stored_at": {"$gte": float(stored_from)}, **live(now)}
        with connection.calling():
            return set(connection.collection.distinct("run_id", condition))

    def _purge(self) -> int:
        return listing.purge(self._connection())

    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        return listing.scan(self._connection(), query, cursor, limit, payload)

    def _count(self, query: Query) -> int:
        return listing.count(self._connection(), query)

    # Payloads too large for a document

    def _largest_payload(self) -> int | None:
        return _LARGEST

    def _write_content(self, ref: Ref, generation: str, source: Source) -> int:
        return self._connection().blobs.write(address_of(ref), generation, source)

    def _read_content(self, ref: Ref, generation: str, pieces: int) -> Generator[bytes, None, None]:
        return self._connection().blobs.read(generation, pieces)

    def _delete_content(self, ref: Ref, generation: str, pieces: int) -> None:
        self._connection().blobs.remove(generation)

    def _contents(self) -> Iterator[Content]:
        connection = self._connection()
        found = connection.blobs.all()
        while page := list(islice(found, _CONTENTS)):
            head = listing.heads(connection, [address for _, _, address, _ in page if address is not None])
            for generation, written_at, address, delete in page:
                yield Content(generation, written_at, partial(head, address), delete)


def _batches(items: Sequence[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(items), _BATCH):
        yield list(items[start : start + _BATCH])
