"""Listing and purging the records of a bucket."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from flowstore.errors import CorruptError
from flowstore.record import Damaged, Page, Query, Record
from flowstore.storages.shared.names import Location

from .index import read_leaf
from .objects import read

if TYPE_CHECKING:
    from .connection import Connection

_SMALLEST: Final = 16
_BATCH: Final = 1000
_DAY: Final = 86_400


def scan(connection: Connection, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
    """Return a page of records; see ``RecordStorage._scan``."""
    if cursor is not None:
        read_leaf(cursor)
    # By place: what was deleted may have left a marker that leads to a damaged record too.
    damaged: dict[Location, Damaged] = {}

    def created(place: Location) -> int | None:
        try:
            one = read(connection, place, False)
        except CorruptError as exc:
            damaged[place] = _damaged(connection, place, exc)
            return None
        return one.stored.created if one and one.record else None

    leaves = connection.index.find(query, cursor, created)
    found: list[tuple[str, Record]] = []
    stale: list[str] = []
    # One more than the page holds shows whether there is a next page.
    while len(found) <= limit:
        batch = list(islice(leaves, max(limit + 1 - len(found), _SMALLEST)))
        if not batch:
            break
        listed = connection.each(lambda one: _listed(connection, one[0], payload), batch)
        for (leaf, marker), (is_stale, record) in zip(batch, listed, strict=True):
            if isinstance(record, Damaged):
                damaged[read_leaf(leaf)[1]] = record
            elif record is not None and query.matches(record):
                found.append((leaf, record))
            if is_stale and marker is not None:
                stale.append(marker)
    if query.expired_at is not None and stale:
        # A listing of expired records is part of a cleanup.
        connection.bucket.delete_many(stale)
    following = found[limit - 1][0] if len(found) > limit else None
    return Page([record for _, record in found[:limit]], following, list(damaged.values()))


def purge(connection: Connection) -> int:
    """Delete all records and markers; return how many records."""
    deleted = 0
    keys = connection.index.everything()
    while batch := list(islice(keys, _BATCH)):
        connection.bucket.delete_many([key for key, _ in batch])
        deleted += sum(counts for _, counts in batch)
    return deleted


def _listed(connection: Connection, leaf: str, payload: bool) -> tuple[bool, Record | Damaged | None]:
    """Return whether a leaf is stale, and its record otherwise."""
    created, place = read_leaf(leaf)
    try:
        found = read(connection, place, payload)
    except CorruptError as exc:
        return False, _damaged(connection, place, exc)
    if found is not None and found.record is not None and found.stored.created == created:
        return False, found.record
    # A young one may belong to a record that is being written right now.
    return connection.clock.now() - created / 1e9 > _DAY, None


def _damaged(connection: Connection, place: Location, error: CorruptError) -> Damaged:
    # Its markers find nothing when it is deleted.
    return Damaged(error, place.plain_kind, lambda: connection.bucket.delete(connection.index.record(place)))
