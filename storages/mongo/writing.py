"""Writing many records in a few commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from flowstore.record import Record

from .documents import REVISION, MongoDocument, address_of, expired, fields_of, identity_of, update_of

if TYPE_CHECKING:
    from .connection import Connection

_ROUNDS: Final = 5


class _Write:
    """A record of a batch, and the revision that it gets."""

    def __init__(self, record: Record, created: int) -> None:
        self.record = record
        self.address = address_of(record.ref)
        self.fields = fields_of(record)
        self.identity = identity_of(record.ref, created)
        self.revision = record.revision

    @property
    def document(self) -> dict[str, Any]:
        return {"_id": self.address, "revision": self.record.revision, **self.identity, **self.fields}


def put_batch(connection: Connection, records: Sequence[Record], put: Callable[[Record], int]) -> list[int]:
    """Write a batch of records and return their revisions.

    New ones take one command, replacing takes two more.

    Args:
        put: writes a single record, for those that others keep changing meanwhile.
    """
    batch = [_Write(record, connection.clock.stamp()) for record in records]
    pending = _existing(connection, batch)
    for _ in range(_ROUNDS):
        if not pending:
            break
        pending = _replace(connection, pending)
    for write in pending:
        write.revision = put(write.record)
    return [write.revision for write in batch]


def add_batch(
    connection: Connection, records: Sequence[Record], now: float, add: Callable[[Record], bool]
) -> list[bool]:
    """Insert records that don't exist yet; return a flag per record.

    Args:
        add: inserts a single record, for those that exist but have expired.
    """
    batch = [_Write(record, connection.clock.stamp()) for record in records]
    existing = _existing(connection, batch)
    if not existing:
        return [True] * len(batch)
    condition = {"_id": {"$in": [write.address for write in existing]}, **expired(now)}
    with connection.calling():
        free = {document["_id"] for document in connection.collection.find(condition, {"_id": True})}
    refused = {write.address for write in existing if write.address not in free or not add(write.record)}
    return [write.address not in refused for write in batch]


def _existing(connection: Connection, batch: Sequence[_Write]) -> list[_Write]:
    """Insert a batch; return what exists already."""
    return [batch[index] for index in connection.insert_many([write.document for write in batch])]


def _replace(connection: Connection, batch: Sequence[_Write]) -> list[_Write]:
    """Replace the records that no other writer changes; return the rest."""
    with connection.calling():
        answer = connection.collection.find({"_id": {"$in": [write.address for write in batch]}}, REVISION)
        known = {document["_id"]: int(document["revision"]) for document in answer}
    found = [write for write in batch if write.address in known]
    missing = [write for write in batch if write.address not in known]
    if not found:
        return missing
    for write in found:
        write.revision = known[write.address] + 1
    # Where the revision has changed by now, the filter finds nothing and inserting fails, for each record by itself.
    failed, inserted = connection.upsert_many([_change(write) for write in found])
    for index in inserted:
        _renumber(connection, found[index])
    return [found[index] for index in failed] + missing


def _change(write: _Write) -> tuple[MongoDocument, MongoDocument]:
    condition = {"_id": write.address, "revision": write.revision - 1}
    return condition, {**update_of(write.fields), "$setOnInsert": write.identity}


def _renumber(connection: Connection, write: _Write) -> None:
    """Give a new revision to a record that was deleted in the meantime."""
    here = {"_id": write.address, "revision": write.revision, "position": write.identity["position"]}
    with connection.calling(mutates=True):
        changed = connection.collection.update_one(here, {"$set": {"revision": write.record.revision}})
    if changed.matched_count:
        write.revision = write.record.revision
