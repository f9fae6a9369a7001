"""Read, write and delete the records in a collection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from pymongo import ASCENDING, DESCENDING, ReturnDocument, UpdateOne
from pymongo.errors import BulkWriteError, DocumentTooLarge, DuplicateKeyError, PyMongoError

from flowstore.errors import UnreachableError
from flowstore.record import Page, Query, Record, Ref
from flowstore.storages._mongo_client import Connection, Settings, translate
from flowstore.storages._mongo_documents import (
    HEAD,
    WHOLE,
    address_of,
    expired,
    fields_of,
    filter_of,
    identity_of,
    live,
    read_document,
    update_of,
)
from flowstore.storages._records import conflict

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
        self.revision = 1

    @property
    def document(self) -> dict[str, Any]:
        return {"_id": self.address, "revision": 1, **self.identity, **self.fields}


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
        self.pid = connection.pid
        self._connection = connection
        self._collection = connection.collection
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
            if not if_revision and self._insert(address, fields, identity):
                return 1
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

    def _insert(self, address: str, fields: Mapping[str, Any], identity: Mapping[str, Any]) -> bool:
        try:
            with self._calling(mutates=True):
                self._collection.insert_one({"_id": address, "revision": 1, **identity, **fields})
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
        failed = self._attempt(there, lambda: self._collection.bulk_write(changes, ordered=False)) if there else []
        return failed + [write for write in batch if write.address not in known]

    def _attempt(self, batch: Sequence[_Write], write: Callable[[], object]) -> list[_Write]:
        """Write a batch; return what was not written because it was there already."""
        try:
            with self._calling(mutates=True):
                write()
        except BulkWriteError as exc:
            return [batch[error["index"]] for error in exc.details["writeErrors"]]
        return []

    def delete(self, ref: Ref, if_revision: int | None) -> bool:
        """Delete a record in one atomic step; see ``RecordStorage._delete``."""
        condition: dict[str, Any] = {"_id": address_of(ref)}
        if if_revision is not None:
            condition["revision"] = if_revision
        with self._calling(mutates=True):
            if self._collection.delete_one(condition).deleted_count:
                return True
        current = None if if_revision is None else self.get(ref, True)
        if if_revision is None or current is None:
            return False
        raise conflict(ref, current, if_revision)

    def delete_many(self, refs: Sequence[Ref]) -> int:
        """Delete several records, a thousand at a time."""
        deleted = 0
        for batch in _batches([address_of(ref) for ref in refs]):
            with self._calling(mutates=True):
                deleted += self._collection.delete_many({"_id": {"$in": batch}}).deleted_count
        return deleted

    def scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        """Return a page of records; see ``RecordStorage._scan``."""
        direction = DESCENDING if query.descending else ASCENDING
        with self._calling(mutates=False):
            # One more than asked for tells whether there is a next page.
            documents = list(
                self._collection.find(filter_of(query, cursor), WHOLE if payload else HEAD)
                .sort("position", direction)
                .limit(limit + 1)
            )
        following = documents[limit - 1]["position"] if len(documents) > limit else None
        return Page([read_document(document, payload) for document in documents[:limit]], following)

    def count(self, query: Query) -> int:
        """Count the records that a query selects, on the server."""
        with self._calling(mutates=False):
            return self._collection.count_documents(filter_of(query, None))

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


def _batches(items: Sequence[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(items), _BATCH):
        yield list(items[start : start + _BATCH])
