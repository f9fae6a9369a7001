"""Reading, writing and deleting the objects of records."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from flowstore.errors import CorruptError, UnsupportedError
from flowstore.record import Record, Ref
from flowstore.storages.shared.envelope import Stored, damaged, first_line, read_envelope
from flowstore.storages.shared.headers import conflict, kept_changing
from flowstore.storages.shared.names import Location

if TYPE_CHECKING:
    from .connection import Connection

_TRIES: Final = 200
_DELETED: Final = 0
"""The revision in the object of a deleted record, which stands there until the object is deleted too."""

Each = Callable[[Callable[[str], None], list[str]], Iterable[None]]


@dataclass(frozen=True, slots=True)
class _Found:
    """A record as it was read, and the ETag of its object."""

    stored: Stored
    etag: str

    @property
    def record(self) -> Record | None:
        """The record; None if it is deleted."""
        return self.stored.record if self.stored.record.revision != _DELETED else None


def read(connection: Connection, place: Location, payload: bool) -> _Found | None:
    """Read the object in a place; return None if missing.

    Raises:
        CorruptError: the object is not a whole record, or another one's.
    """
    key = connection.index.record(place)
    body = connection.bucket.get(key, payload)
    if body is None:
        return None
    where = f"the object {key} in {connection.bucket.where}"
    stored = read_envelope(body.data, body.total, payload, where)
    if Location.of(stored.record.ref) != place:
        raise damaged(where, f"it holds another record: {stored.record.ref}")
    return _Found(stored, body.etag)


def read_record(connection: Connection, place: Location, payload: bool) -> Record | None:
    """Read the record in a place; return None if missing or deleted."""
    found = read(connection, place, payload)
    return found.record if found else None


def put(connection: Connection, record: Record, if_revision: int | None, now: float, each: Each) -> int:
    """Write a record; see ``RecordStorage._put``.

    Args:
        each: writes the markers, by ``map`` one after the other.
    """
    bucket, index = connection.bucket, connection.index
    if if_revision is not None:
        _require_conditions(connection)
    place = Location.of(record.ref)
    created = connection.clock.stamp()
    data = first_line(record, record.revision, created) + record.payload
    # Other writers may rely on other markers, even where this writer has written them too.
    own = index.markers(Stored(record, created))
    is_optimistic = not if_revision and connection.conditions.put
    if is_optimistic:
        # Most records are new: for them, nothing has to be read.
        list(each(index.mark, own))
        if _write(connection, place, record, data, None):
            return record.revision
    for _ in _tries():
        found = read(connection, place, False)
        old = found.record if found else None
        if if_revision is not None:
            live = None if old is None or old.has_expired(now) else old
            if if_revision != (live.revision if live else 0):
                bucket.delete_many(own if is_optimistic else [])
                raise conflict(record.ref, read_record(connection, place, True) if live else None, if_revision)
        if found is None or old is None:
            stored, revision = Stored(record, created), record.revision
            existing = own if is_optimistic else []
        else:
            stored, revision = Stored(record, found.stored.created), old.revision + 1
            existing = index.markers(found.stored)
        needed = index.markers(stored)
        list(each(index.mark, [marker for marker in needed if marker not in existing]))
        data = first_line(record, revision, stored.created) + record.payload
        if _write(connection, place, record, data, found.etag if found else None):
            bucket.delete_many([marker for marker in own if is_optimistic and marker not in needed])
            return revision
    raise kept_changing(bucket.where, _TRIES)


def _write(connection: Connection, place: Location, record: Record, data: bytes, etag: str | None) -> str | None:
    """Write an object over a known ETag; return the new one, None if refused."""
    # Two lines of JSON, or a line of JSON and any bytes.
    content_type = "application/x-ndjson" if record.is_json else "application/octet-stream"
    key = connection.index.record(place)
    if not connection.conditions.put:
        return connection.bucket.put(key, data, content_type=content_type)
    return connection.bucket.put(key, data, content_type=content_type, if_match=etag, if_absent=etag is None)


def delete(connection: Connection, ref: Ref, if_revision: int | None) -> bool:
    """Delete a record; see ``RecordStorage._delete``."""
    if if_revision is not None:
        _require_conditions(connection)
    place = Location.of(ref)
    for _ in _tries():
        try:
            found = read(connection, place, False)
        except CorruptError:
            if if_revision is not None:
                raise
            # Deleting is the way to get rid of a damaged record; its markers find nothing then.
            return connection.bucket.delete(connection.index.record(place))
        if found is None or found.record is None:
            return False
        if if_revision is not None and if_revision != found.record.revision:
            raise conflict(ref, read_record(connection, place, True), if_revision)
        if _remove(connection, place, found):
            return True
    raise kept_changing(connection.bucket.where, _TRIES)


def delete_seen(connection: Connection, record: Record) -> bool:
    """Delete a record that is still at its revision; return whether it was."""
    place = Location.of(record.ref)
    for _ in _tries():
        found = read(connection, place, False)
        if found is None or found.record is None or found.record.revision != record.revision:
            return False
        if _remove(connection, place, found):
            return True
    raise kept_changing(connection.bucket.where, _TRIES)


def keys_of(connection: Connection, place: Location) -> tuple[str, list[str]] | None:
    """Return the keys of a record and of its markers; None if missing."""
    key = connection.index.record(place)
    try:
        found = read(connection, place, False)
    except CorruptError:
        return key, []  # its markers find nothing then
    return None if found is None or found.record is None else (key, connection.index.markers(found.stored))


def _remove(connection: Connection, place: Location, found: _Found) -> bool:
    """Delete a record's object and markers; return False if it has changed."""
    bucket, key = connection.bucket, connection.index.record(place)
    if not connection.conditions.put:
        bucket.delete(key)
    else:
        # Two that delete an object under the same condition both succeed in some stores. Only one can write.
        data = first_line(Record(found.stored.record.ref, b""), _DELETED, found.stored.created)
        etag = bucket.put(key, data, content_type="application/x-ndjson", if_match=found.etag)
        if etag is None:
            return False
        if connection.conditions.delete:
            bucket.delete(key, etag)
    bucket.delete_many(connection.index.markers(found.stored))
    return True


def _require_conditions(connection: Connection) -> None:
    if not connection.conditions.put:
        raise UnsupportedError(
            f"{connection.bucket.where} does not keep to conditions (If-Match, If-None-Match): "
            "if_revision can't be used"
        )


def _tries() -> Iterator[int]:
    """Count tries, with a short, growing, random pause between them."""
    for number in range(_TRIES):
        if number:
            time.sleep(random.uniform(0, min(0.1, 0.002 * number)))
        yield number
