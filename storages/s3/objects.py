"""Read, write and delete the records in a bucket."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Final, TypeVar

from flowstore.errors import ConflictError, CorruptError, StorageError, UnreachableError, UnsupportedError
from flowstore.record import Damaged, Page, Query, Record, Ref
from flowstore.storages.shared.clock import ServerClock, elapsed
from flowstore.storages.shared.envelope import Stored, damaged, first_line, read_envelope
from flowstore.storages.shared.headers import conflict
from flowstore.storages.shared.names import Place

from .blobs import BlobObjects
from .bucket import Bucket, Settings
from .conditions import Conditions, conditions_of
from .index import Index, read_leaf

_THREADS: Final = 16
_TRIES: Final = 200
_LEAST: Final = 16
_MANY: Final = 1000
_DAY: Final = 86_400
_ABSENT: Final = 0
"""The revision in the object of a deleted record, which stands there until the object is deleted too."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class _Found:
    stored: Stored
    etag: str

    @property
    def record(self) -> Record | None:
        return self.stored.record if self.stored.record.revision != _ABSENT else None


def open_records(settings: Settings, prefix: str) -> Records:
    """Connect to a bucket; see ``S3Storage.connect``."""
    bucket = Bucket(settings)
    try:
        clock = _look(bucket, prefix)
        if clock is None and settings.create_bucket:
            bucket.create()
            clock = _look(bucket, prefix)
        if clock is None:
            raise StorageError(f"{settings.where} does not exist; create it, or set create_bucket")
        if settings.versioned and not bucket.is_versioned():
            raise StorageError(f"{settings.where} is not versioned, as the configuration expects")
        return Records(bucket, prefix, clock, conditions_of(bucket, prefix))
    except BaseException:
        bucket.close()
        raise


def _look(bucket: Bucket, prefix: str) -> ServerClock | None:
    """Return the clock of a bucket's server, or ``None`` if there is no such bucket."""
    asked = elapsed()
    date = bucket.look(prefix)
    if date is None:
        return None
    # The header has no fractions of a second.
    return ServerClock(parsedate_to_datetime(date).timestamp() if date else None, 1.0, asked)


class Records:
    """The records below a prefix of a bucket, for one process."""

    def __init__(self, bucket: Bucket, prefix: str, clock: ServerClock, conditions: Conditions) -> None:
        self.clock = clock
        self._bucket = bucket
        self._index = Index(bucket, prefix)
        self.blobs = BlobObjects(bucket, prefix)
        self._conditions = conditions
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="flowstore-s3")

    def close(self) -> None:
        """Close the connections."""
        self._pool.shutdown(wait=False)
        self._bucket.close()

    def get(self, ref: Ref, payload: bool) -> Record | None:
        """Read a record."""
        return self._read_record(Place.of(ref), payload)

    def head(self, place: Place) -> Record | None:
        """Read the head of the record in a place."""
        return self._read_record(place, False)

    def get_many(self, refs: Sequence[Ref]) -> list[Record | None]:
        """Read several records at once."""
        places = list(dict.fromkeys(map(Place.of, refs)))
        found = dict(zip(places, self._each(lambda place: self._read_record(place, True), places), strict=True))
        return [found[Place.of(ref)] for ref in refs]

    def put(self, record: Record, if_revision: int | None, now: float) -> int:
        """Write a record; see ``RecordStorage._put``."""
        return self._put(record, if_revision, now, self._each)

    def put_many(self, records: Sequence[Record], now: float) -> list[int]:
        """Write several records at once."""
        return list(self._each(lambda record: self._put(record, None, now, map), records))

    def add_many(self, records: Sequence[Record], now: float) -> list[bool]:
        """Write several records at once, each where there is none."""

        def adds(record: Record) -> bool:
            try:
                self._put(record, 0, now, map)
            except ConflictError:
                return False
            return True

        return list(self._each(adds, records))

    def _put(
        self,
        record: Record,
        if_revision: int | None,
        now: float,
        each: Callable[[Callable[[str], None], list[str]], Iterable[None]],
    ) -> int:
        if if_revision is not None and not self._conditions.put:
            raise UnsupportedError(
                f"{self._bucket.where} does not keep to conditions (If-Match, If-None-Match): if_revision can't be used"
            )
        place = Place.of(record.ref)
        created = self.clock.stamp()
        data = first_line(record, record.revision, created) + record.payload
        # Other writers may rely on other markers, even where this writer has written them too.
        own = self._index.markers(Stored(record, created))
        is_optimistic = not if_revision and self._conditions.put
        if is_optimistic:
            # Most records are new: for them, nothing has to be read.
            list(each(self._mark, own))
            if self._write(place, record, data, None):
                return record.revision
        for _ in _tries(self._bucket.where):
            found = self._read(place, False)
            old = found.record if found else None
            if if_revision is not None:
                live = None if old is None or old.has_expired(now) else old
                if if_revision != (live.revision if live else 0):
                    self._bucket.delete_many(own if is_optimistic else [])
                    raise conflict(record.ref, self._read_record(place, True) if live else None, if_revision)
            if found is None or old is None:
                stored, revision = Stored(record, created), record.revision
                standing = own if is_optimistic else []
            else:
                stored, revision = Stored(record, found.stored.created), old.revision + 1
                standing = self._index.markers(found.stored)
            needed = self._index.markers(stored)
            list(each(self._mark, [marker for marker in needed if marker not in standing]))
            data = first_line(record, revision, stored.created) + record.payload
            if self._write(place, record, data, found.etag if found else None):
                self._bucket.delete_many([marker for marker in own if is_optimistic and marker not in needed])
                return revision
        raise AssertionError("the last try returns or raises")

    def _mark(self, marker: str) -> None:
        self._bucket.put(marker, b"", content_type="text/plain")

    def _write(self, place: Place, record: Record, data: bytes, etag: str | None) -> str | None:
        # Two lines of JSON, or whatever the payload is behind the first.
        content_type = "application/x-ndjson" if record.is_json else "application/octet-stream"
        key = self._index.record(place)
        if not self._conditions.put:
            return self._bucket.put(key, data, content_type=content_type)
        return self._bucket.put(key, data, content_type=content_type, if_match=etag, if_absent=etag is None)

    def delete(self, ref: Ref, if_revision: int | None) -> bool:
        """Delete a record; see ``RecordStorage._delete``."""
        if if_revision is not None and not self._conditions.put:
            raise UnsupportedError(f"{self._bucket.where} does not keep to conditions: if_revision can't be used")
        place = Place.of(ref)
        for _ in _tries(self._bucket.where):
            try:
                found = self._read(place, False)
            except CorruptError:
                if if_revision is not None:
                    raise
                # Deleting is the way to get rid of a damaged record; its markers find nothing then.
                return self._bucket.delete(self._index.record(place))
            if found is None or found.record is None:
                return False
            if if_revision is not None and if_revision != found.record.revision:
                raise conflict(ref, self._read_record(place, True), if_revision)
            if self._remove(place, found):
                self._bucket.delete_many(self._index.markers(found.stored))
                return True
        raise AssertionError("the last try returns or raises")

    def _remove(self, place: Place, found: _Found) -> bool:
        """Delete the object of a record unless somebody has changed it; tell whether it was this call that did it."""
        key = self._index.record(place)
        if not self._conditions.put:
            return self._bucket.delete(key)
        # Of two that delete an object under the same condition, stores tell both that they did. Only one can write.
        nothing = Record(found.stored.record.ref, b"")
        data = first_line(nothing, _ABSENT, found.stored.created)
        etag = self._bucket.put(key, data, content_type="application/x-ndjson", if_match=found.etag)
        if etag is None:
            return False
        if self._conditions.delete:
            self._bucket.delete(key, etag)
        return True

    def delete_many(self, refs: Sequence[Ref]) -> int:
        """Delete several records at once, in a few requests after they have been looked at."""
        places = list(dict.fromkeys(map(Place.of, refs)))
        found = [one for one in self._each(self._deletable, places) if one is not None]
        self._bucket.delete_many([key for key, _ in found])
        self._bucket.delete_many([marker for _, markers in found for marker in markers])
        return len(found)

    def delete_seen(self, records: Sequence[Record]) -> int:
        """Delete several records at once, each only at its revision."""
        return sum(self._each(self._delete_at, records))

    def _delete_at(self, record: Record) -> bool:
        place = Place.of(record.ref)
        for _ in _tries(self._bucket.where):
            found = self._read(place, False)
            if found is None or found.record is None or found.record.revision != record.revision:
                return False
            if self._remove(place, found):
                self._bucket.delete_many(self._index.markers(found.stored))
                return True
        raise AssertionError("the last try returns or raises")

    def _deletable(self, place: Place) -> tuple[str, list[str]] | None:
        """Return the keys of a record's object and of its markers; ``None`` if there is no record."""
        key = self._index.record(place)
        try:
            found = self._read(place, False)
        except CorruptError:
            return key, []  # its markers find nothing then
        return None if found is None or found.record is None else (key, self._index.markers(found.stored))

    def purge(self) -> int:
        """Delete all objects of records, damaged ones too, and all markers; return how many records, without pieces."""
        deleted = 0
        keys = self._index.everything()
        while batch := list(islice(keys, _MANY)):
            self._bucket.delete_many([key for key, _ in batch])
            deleted += sum(counts for _, counts in batch)
        return deleted

    def scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        """Return a page of records; see ``RecordStorage._scan``."""
        if cursor is not None:
            read_leaf(cursor)
        # By place: what has been deleted may have left a marker that leads to a damaged one too.
        damaged: dict[Place, Damaged] = {}

        def created(place: Place) -> int | None:
            try:
                return self._created(place)
            except CorruptError as exc:
                damaged[place] = self._damaged(place, exc)
                return None

        leaves = self._index.find(query, cursor, created)
        found: list[tuple[str, Record]] = []
        dead: list[str] = []
        # One more than asked for tells whether there is a next page.
        while len(found) <= limit:
            batch = list(islice(leaves, max(limit + 1 - len(found), _LEAST)))
            if not batch:
                break
            records = self._each(lambda one: self._listed(one[0], query, payload), batch)
            for (leaf, marker), (is_dead, record) in zip(batch, records, strict=True):
                if isinstance(record, Damaged):
                    damaged[read_leaf(leaf)[1]] = record
                elif record is not None and query.matches(record):
                    found.append((leaf, record))
                if is_dead and marker is not None:
                    dead.append(marker)
        if query.expired_at is not None and dead:
            # Whoever looks for what has expired is cleaning up.
            self._bucket.delete_many(dead)
        following = found[limit - 1][0] if len(found) > limit else None
        return Page([record for _, record in found[:limit]], following, list(damaged.values()))

    def _listed(self, leaf: str, query: Query, payload: bool) -> tuple[bool, Record | Damaged | None]:
        """Return whether a leaf is left over from something deleted, and its record if it is not."""
        created, place = read_leaf(leaf)
        try:
            found = self._read(place, payload)
        except CorruptError as exc:
            return False, self._damaged(place, exc)
        if found is not None and found.record is not None and found.stored.created == created:
            return False, found.record
        # A young one may belong to a record that is being written right now.
        return self.clock.now() - created / 1e9 > _DAY, None

    def _damaged(self, place: Place, error: CorruptError) -> Damaged:
        # Its markers find nothing when it is deleted.
        return Damaged(error, place.plain_kind, lambda: self._bucket.delete(self._index.record(place)))

    def _created(self, place: Place) -> int | None:
        found = self._read(place, False)
        return found.stored.created if found and found.record else None

    def _read_record(self, place: Place, payload: bool) -> Record | None:
        found = self._read(place, payload)
        return found.record if found else None

    def _read(self, place: Place, payload: bool) -> _Found | None:
        key = self._index.record(place)
        body = self._bucket.get(key, payload)
        if body is None:
            return None
        where = f"the object {key} in {self._bucket.where}"
        stored = read_envelope(body.data, body.total, payload, where)
        if Place.of(stored.record.ref) != place:
            raise damaged(where, f"it holds another record: {stored.record.ref}")
        return _Found(stored, body.etag)

    def _each(self, work: Callable[[T], R], items: Sequence[T]) -> Iterable[R]:
        """Do something with each item, several at a time."""
        if len(items) < 2:
            return map(work, items)
        try:
            return self._pool.map(work, items)
        except RuntimeError as exc:
            raise UnreachableError(f"{self._bucket.where} was disconnected while it was being used") from exc


def _tries(where: str) -> Iterator[int]:
    """Count tries to write what others write too, with a short, growing, uneven wait between them."""
    for number in range(_TRIES):
        if number:
            time.sleep(random.uniform(0, min(0.1, 0.002 * number)))
        yield number
    raise UnreachableError(f"{where}: others kept writing the same record, {_TRIES} times")
