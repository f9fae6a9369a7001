"""Read, write and delete the records in a collection."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import islice
from typing import Any, Final

from pymongo import ASCENDING, DeleteOne, ReturnDocument, UpdateOne
from pymongo.errors import BulkWriteError, DocumentTooLarge, DuplicateKeyError, PyMongoError

from flowstore.errors import ConflictError, CorruptError, UnreachableError
from flowstore.record import PIECE, Damaged, Page, Query, Record, Ref
from flowstore.record.querying import dump_place
from flowstore.storages.shared.headers import conflict

from .client import Connection, Settings, translate
from .documents import (
    ANY_RECORD,
    HEAD,
    WHOLE,
    Document,
    address_of,
    expired,
    fields_of,
    filter_of,
    identity_of,
    live,
    order_of,
    read_document,
    update_of,
)
from .gridfs import BlobFiles

_BATCH: Final = 1000
_TRIES: Final = 100
_ROUNDS: Final = 5
_EXISTS: Final = 11000
_REVISION: Final = {"revision": True}


class _Write:
    """One record of a batch that is being written."""

    def __init__(self, record: Record, created: int) -> None:
        self.record = record
        self.address = address_of(record.ref)
        self.fields = fields_of(record)
        self.identity = identity_of(record.ref, created)
        self.revision = record.revision

    @property
    def document(self) -> dict[str, Any]:
        return {"_id": self.address, "revision": self.record.revision, **self.identity, **self.fields}


def open_records(settings: Settings) -> Records:
    """Connect to a collection; see ``MongoStorage.connect``."""
    connection = Connection(settings)
    try:
        return Records(connection)
    except BaseException:
        connection.close()
        raise


class Records:
    """The records of a collection, for one process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._collection = connection.collection
        self.blobs = BlobFiles(
            connection.collection, lambda mutates: self._calling(mutates=mutates), lambda: self.clock.now()
        )
        with self._calling(mutates=False):
            self.clock = connection.prepare()

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()

    def get(self, ref: Ref, payload: bool) -> Record | None:
        """Read a record."""
        with self._calling(mutates=False):
            document = self._collection.find_one({"_id": address_of(ref)}, WHOLE if payload else HEAD)
        return None if document is None else read_document(document, payload)

    def heads(self, addresses: Sequence[str]) -> Callable[[str | None], Record | None]:
        """Read the heads of the records with some addresses; return a function that gives each, if it can be read."""
        with self._calling(mutates=False):
            found = {document["_id"]: document for document in self._collection.find({"_id": {"$in": addresses}}, HEAD)}
        return lambda address: read_document(found[address], False) if address in found else None

    def runs_since(self, run_ids: Sequence[str], stored_from: float, now: float) -> set[str]:
        """Return which of some runs have something stored since a time."""
        condition = {"run_id": {"$in": list(run_ids)}, "stored_at": {"$gte": float(stored_from)}, **live(now)}
        with self._calling(mutates=False):
            return set(self._collection.distinct("run_id", condition))

    def get_many(self, refs: Sequence[Ref]) -> list[Record | None]:
        """Read several records, a thousand at a time."""
        addresses = [address_of(ref) for ref in refs]
        found: dict[str, Record] = {}
        for batch in _batches(list(dict.fromkeys(addresses))):
            with self._calling(mutates=False):
                for document in self._collection.find({"_id": {"$in": batch}}, WHOLE):
                    found[document["_id"]] = read_document(document, True)
        return [found.get(address) for address in addresses]

    def put(self, record: Record, if_revision: int | None, now: float) -> int:
        """Write a record in one atomic step; see ``RecordStorage._put``."""
        address, fields = address_of(record.ref), fields_of(record)
        identity = identity_of(record.ref, self.clock.stamp())
        for _ in range(_TRIES):
            # Most records are new, and inserting is the cheapest way to write one.
            if not if_revision and self._insert({"_id": address, "revision": record.revision, **identity, **fields}):
                return record.revision
            if if_revision is None:
                condition = {}
            elif if_revision == 0:
                condition = expired(now)
            else:
                condition = {"revision": if_revision, **live(now)}
            revision = self._update({"_id": address, **condition}, fields)
            if revision is not None:
                return revision
            if if_revision is None:
                continue  # deleted meanwhile
            current = self.get(record.ref, True)
            standing = None if current is None or current.has_expired(now) else current
            # Otherwise the record has changed between the two looks at it, so that the condition may hold now.
            if if_revision != (standing.revision if standing else 0):
                raise conflict(record.ref, standing, if_revision)
        raise UnreachableError(f"{self._connection.where}: others kept writing the same record, {_TRIES} times")

    def _update(self, condition: Mapping[str, Any], fields: Mapping[str, Any]) -> int | None:
        with self._calling(mutates=True):
            document = self._collection.find_one_and_update(
                condition, update_of(fields), _REVISION, return_document=ReturnDocument.AFTER
            )
        return None if document is None else int(document["revision"])

    def _insert(self, document: dict[str, Any]) -> bool:
        try:
            with self._calling(mutates=True):
                self._collection.insert_one(document)
        except DuplicateKeyError:
            return False
        return True

    def put_many(self, records: Sequence[Record], now: float) -> list[int]:
        """Write several records: a thousand new ones in one command, replacing them takes two more."""
        return [revision for batch in _batches(records) for revision in self._put_batch(batch, now)]

    def _put_batch(self, records: Sequence[Record], now: float) -> list[int]:
        batch = [_Write(record, self.clock.stamp()) for record in records]
        pending = self._attempt(
            batch, lambda: self._collection.insert_many([write.document for write in batch], ordered=False)
        )
        for _ in range(_ROUNDS):
            if not pending:
                break
            pending = self._replace(pending)
        for write in pending:
            write.revision = self.put(write.record, None, now)
        return [write.revision for write in batch]

    def add_many(self, records: Sequence[Record], now: float) -> list[bool]:
        """Write several records where there are none: a thousand in one command, what has expired one by one."""
        return [added for batch in _batches(records) for added in self._add_batch(batch, now)]

    def _add_batch(self, records: Sequence[Record], now: float) -> list[bool]:
        batch = [_Write(record, self.clock.stamp()) for record in records]
        there = self._attempt(
            batch, lambda: self._collection.insert_many([write.document for write in batch], ordered=False)
        )
        with self._calling(mutates=False):
            condition = {"_id": {"$in": [write.address for write in there]}, **expired(now)}
            free = {document["_id"] for document in self._collection.find(condition, {"_id": True})} if there else set()
        standing = {write.address for write in there if write.address not in free or not self._adds(write.record, now)}
        return [write.address not in standing for write in batch]

    def _adds(self, record: Record, now: float) -> bool:
        try:
            self.put(record, 0, now)
        except ConflictError:
            return False
        return True

    def _replace(self, batch: Sequence[_Write]) -> list[_Write]:
        """Replace the records that nobody else changes meanwhile; return the others."""
        with self._calling(mutates=False):
            answer = self._collection.find({"_id": {"$in": [write.address for write in batch]}}, _REVISION)
            known = {document["_id"]: int(document["revision"]) for document in answer}
        there = [write for write in batch if write.address in known]
        for write in there:
            write.revision = known[write.address] + 1
        # Where the revision is another one by now, inserting fails, and that is told for each record by itself.
        changes = [
            UpdateOne(
                {"_id": write.address, "revision": write.revision - 1},
                {**update_of(write.fields), "$setOnInsert": write.identity},
                upsert=True,
            )
            for write in there
        ]
        upserted: list[Mapping[str, Any]] = []
        failed: list[_Write] = []
        if there:
            write_all = partial(self._collection.bulk_write, changes, ordered=False)
            failed = self._attempt(there, lambda: upserted.extend(write_all().bulk_api_result["upserted"]), upserted)
        for one in upserted:
            self._renumber(there[one["index"]])
        return failed + [write for write in batch if write.address not in known]

    def _renumber(self, write: _Write) -> None:
        """Give a record that was deleted while it was to be replaced, and so is new, a revision of its own."""
        here = {"_id": write.address, "revision": write.revision, "position": write.identity["position"]}
        with self._calling(mutates=True):
            if self._collection.update_one(here, {"$set": {"revision": write.record.revision}}).matched_count:
                write.revision = write.record.revision

    def _attempt(
        self, batch: Sequence[_Write], write: Callable[[], object], upserted: list[Mapping[str, Any]] | None = None
    ) -> list[_Write]:
        """Write a batch; return what was not written because it was there already, and add what was upserted."""
        try:
            with self._calling(mutates=True):
                write()
        except BulkWriteError as exc:
            if upserted is not None:
                upserted += exc.details["upserted"]
            return [batch[error["index"]] for error in exc.details["writeErrors"]]
        return []

    def delete(self, ref: Ref, if_revision: int | None) -> bool:
        """Delete a record in one atomic step; see ``RecordStorage._delete``."""
        condition: dict[str, Any] = {"_id": address_of(ref)}
        if if_revision is not None:
            condition["revision"] = if_revision
        for _ in range(_TRIES):
            with self._calling(mutates=True):
                if self._collection.delete_one(condition).deleted_count:
                    return True
            current = None if if_revision is None else self.get(ref, True)
            if if_revision is None or current is None:
                return False
            # Otherwise it has come to that revision between the two looks at it.
            if current.revision != if_revision:
                raise conflict(ref, current, if_revision)
        raise UnreachableError(f"{self._connection.where}: others kept writing the same record, {_TRIES} times")

    def delete_many(self, refs: Sequence[Ref]) -> int:
        """Delete several records, a thousand at a time."""
        deleted = 0
        for batch in _batches([address_of(ref) for ref in refs]):
            with self._calling(mutates=True):
                deleted += self._collection.delete_many({"_id": {"$in": batch}}).deleted_count
        return deleted

    def delete_seen(self, records: Sequence[Record]) -> int:
        """Delete several records, each only at its revision, a thousand at a time."""
        deleted = 0
        for batch in _batches(records):
            each = [DeleteOne({"_id": address_of(one.ref), "revision": one.revision}) for one in batch]
            with self._calling(mutates=True):
                deleted += self._collection.bulk_write(each, ordered=False).deleted_count
        return deleted

    def purge(self) -> int:
        """Delete all records, a thousand at a time; documents of other shapes stay."""
        deleted, last = 0, ""
        while True:
            with self._calling(mutates=False):
                found = list(
                    self._collection.find({"$and": [ANY_RECORD, {"_id": {"$gt": last}}]}, {"kind": True})
                    .sort("_id", ASCENDING)
                    .limit(_BATCH)
                )
            if not found:
                return deleted
            last = found[-1]["_id"]
            for of_pieces in (False, True):
                ids = [document["_id"] for document in found if (document["kind"] == PIECE) == of_pieces]
                with self._calling(mutates=True):
                    count = self._collection.delete_many({"_id": {"$in": ids}}).deleted_count
                deleted += 0 if of_pieces else count

    def scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        """Return a page of records; see ``RecordStorage._scan``."""
        # One more than asked for tells whether there is a next page.
        damaged: list[Damaged] = []
        with (
            self._calling(mutates=False),
            closing(self._documents(query, cursor, payload, limit + 1, damaged)) as found,
        ):
            documents = list(found)
        records = [one for document in documents[:limit] if (one := _read(document, payload, damaged)) is not None]
        if len(documents) <= limit:
            return Page(records, None, damaged)
        last = documents[limit - 1]
        if query.order != "task_id":
            return Page(records, last["position"], damaged)
        return Page(records, dump_place((str(last.get("task_id")), bytes.fromhex(last["_id"]))), damaged)

    def _documents(
        self, query: Query, cursor: str | None, payload: bool, limit: int, damaged: list[Damaged]
    ) -> Generator[Document, None, None]:
        whole = payload or query.where
        with self._collection.find(filter_of(query, cursor), WHOLE if whole else HEAD).sort(order_of(query)) as found:
            if query.order == "task_id":
                # By no index: what has to be sorted may be more than the server sorts in memory.
                found.allow_disk_use(True)
            if query.where:
                yield from islice(_having_fields(found, query, damaged), query.skip, query.skip + limit)
            else:
                yield from found.skip(query.skip).limit(limit)

    def count(self, query: Query) -> int:
        """Count the records that a query selects, on the server."""
        with self._calling(mutates=False):
            if not query.where:
                return self._collection.count_documents(filter_of(query, None))
            with self._collection.find(filter_of(query, None), WHOLE) as found:
                return sum(1 for _ in _having_fields(found, query, []))

    @contextmanager
    def _calling(self, *, mutates: bool) -> Iterator[None]:
        try:
            yield
        except DuplicateKeyError:
            raise
        except BulkWriteError as exc:
            codes = {error.get("code") for error in exc.details.get("writeErrors", ())}
            if codes == {_EXISTS} and not exc.details.get("writeConcernErrors"):
                raise
            self._raise(exc, mutates)
        except (PyMongoError, DocumentTooLarge) as exc:
            self._raise(exc, mutates)

    def _raise(self, exc: Exception, mutates: bool) -> None:
        error = translate(exc, self._connection.where, mutates)
        raise exc if error is None else error from exc


def _having_fields(found: Iterable[Document], query: Query, damaged: list[Damaged]) -> Iterator[Document]:
    """Leave out the documents whose values have not what is asked for: the filter lets more pass."""
    for document in found:
        record = _read(document, True, damaged)
        if record is not None and query.matches(record):
            yield document


def _read(document: Document, payload: bool, damaged: list[Damaged]) -> Record | None:
    """Read a record of a listing, or note what is wrong with it."""
    try:
        return read_document(document, payload)
    except CorruptError as exc:
        damaged.append(Damaged(exc))
        return None


def _batches(items: Sequence[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(items), _BATCH):
        yield list(items[start : start + _BATCH])
