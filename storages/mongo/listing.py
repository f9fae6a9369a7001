"""Listing, counting and purging the records of a collection."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Final

from flowstore.errors import CorruptError
from flowstore.record import PIECE, Damaged, Page, Query, Record
from flowstore.record.matching import dump_cursor

from .documents import ANY_RECORD, HEAD, WHOLE, MongoDocument, filter_of, order_of, read_document

if TYPE_CHECKING:
    from .connection import Connection

_BATCH: Final = 1000


def scan(connection: Connection, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
    """Return a page of records; see ``RecordStorage._scan``."""
    damaged: list[Damaged] = []
    # One more than the page holds shows whether there is a next page.
    with connection.calling(), closing(_documents(connection, query, cursor, payload, limit + 1, damaged)) as found:
        documents = list(found)
    records = [one for document in documents[:limit] if (one := _read(document, payload, damaged)) is not None]
    if len(documents) <= limit:
        return Page(records, None, damaged)
    last = documents[limit - 1]
    if query.order != "task_id":
        return Page(records, last["position"], damaged)
    return Page(records, dump_cursor((str(last.get("task_id")), bytes.fromhex(last["_id"]))), damaged)


def count(connection: Connection, query: Query) -> int:
    """Count the selected records, on the server unless values have to be read."""
    with connection.calling():
        if not query.where:
            return connection.collection.count_documents(filter_of(query, None))
        with connection.collection.find(filter_of(query, None), WHOLE) as found:
            return sum(1 for _ in _having_fields(found, query, []))


def purge(connection: Connection) -> int:
    """Delete all records; return how many, without pieces."""
    deleted, last = 0, ""
    while True:
        with connection.calling():
            page = connection.collection.find({"$and": [ANY_RECORD, {"_id": {"$gt": last}}]}, {"kind": True})
            found = list(page.sort("_id", 1).limit(_BATCH))
        if not found:
            return deleted
        last = found[-1]["_id"]
        for of_pieces in (False, True):
            ids = [document["_id"] for document in found if (document["kind"] == PIECE) == of_pieces]
            with connection.calling(mutates=True):
                count = connection.collection.delete_many({"_id": {"$in": ids}}).deleted_count
            deleted += 0 if of_pieces else count


def heads(connection: Connection, addresses: Sequence[str]) -> Callable[[str | None], Record | None]:
    """Read records without payloads; return a function by address."""
    with connection.calling():
        found = {one["_id"]: one for one in connection.collection.find({"_id": {"$in": addresses}}, HEAD)}
    return lambda address: read_document(found[address], False) if address in found else None


def _documents(
    connection: Connection, query: Query, cursor: str | None, payload: bool, limit: int, damaged: list[Damaged]
) -> Generator[MongoDocument, None, None]:
    fields = WHOLE if payload or query.where else HEAD
    with connection.collection.find(filter_of(query, cursor), fields).sort(order_of(query)) as found:
        if query.order == "task_id":
            # By no index: what has to be sorted may be more than the server sorts in memory.
            found.allow_disk_use(True)
        if query.where:
            yield from islice(_having_fields(found, query, damaged), query.skip, query.skip + limit)
        else:
            yield from found.skip(query.skip).limit(limit)


def _having_fields(found: Iterable[MongoDocument], query: Query, damaged: list[Damaged]) -> Iterator[MongoDocument]:
    """Leave out documents whose values don't match ``query.where``."""
    for document in found:
        record = _read(document, True, damaged)
        if record is not None and query.matches(record):
            yield document


def _read(document: MongoDocument, payload: bool, damaged: list[Damaged]) -> Record | None:
    """Read a listed record; if it can't be read, add it to ``damaged``."""
    try:
        return read_document(document, payload)
    except CorruptError as exc:
        damaged.append(Damaged(exc))
        return None
