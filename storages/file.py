"""Records in files."""

from __future__ import annotations

import heapq
import os
import re
import time
from collections.abc import Iterator
from typing import Final

from flowstore.errors import CorruptError, StorageError, UnreachableError
from flowstore.record import Page, Query, Record, Ref
from flowstore.storage import RecordStorage
from flowstore.storages._envelope import Stored, first_line
from flowstore.storages._folder import Folder, Place
from flowstore.storages._record_file import read_record
from flowstore.storages._records import bad_cursor, conflict

_CURSOR: Final = re.compile("([0-9]{1,20})-([0-9a-f]{64})")


class FileStorage(RecordStorage):
    """Keep each record in a file of its own, below one folder.

    A file's first line is JSON and tells what the record is; the payload follows as it is, so that ``head -1`` and
    ``tail -n +2`` show them. Names of files are hashes. A file is replaced as a whole: readers see the old or the new
    record, at any time and without waiting. Any number of threads and processes of one machine may use the folder at
    once.

    What ``store`` has returned for survives the death of the process and, unless ``durable`` is false, a loss of
    power. The folder has to be on a local file system: over NFS and the like, neither locks nor replacing can be
    relied on. Listing the records of a run reads those of that run, any other listing those of its kinds, for every
    page again: for many thousands of records, a database is faster.

    Args:
        path: the folder; created if it does not exist, the one around it is not. A relative path starts at the folder
            that is current now.
        durable: wait for the disk at each change.
    """

    def __init__(self, path: str, durable: bool = True) -> None:
        self._root = os.path.abspath(path)
        self._folder = Folder(self._root, durable)
        self._connected = False

    def connect(self) -> None:
        """Look at the folder; create it, or what is missing in it.

        Raises:
            UnreachableError: the folder can't be created, read or written.
            CorruptError: it is damaged, or was written by a newer version.
            StorageError: it holds something else, which is left alone.
        """
        try:
            self._folder.prepare()
        except OSError as exc:
            raise self._unreachable(exc) from exc
        self._connected = True

    def disconnect(self) -> None:
        self._connected = False

    def is_connected(self) -> bool:
        return self._connected

    def _get(self, ref: Ref, payload: bool) -> Record | None:
        stored = self._read(Place.of(ref), payload)
        return stored.record if stored else None

    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        place = Place.of(record.ref)
        with self._folder.lock(place) as shard:
            old = self._read(place, False)
            live = None if old is None or old.record.has_expired(now) else old
            self._check(record.ref, place, live, if_revision)
            revision, created = (old.record.revision + 1, old.created) if old else (1, time.time_ns())
            self._folder.replace(place, shard, first_line(record, revision, created), record.payload)
            run_id, old_run_id = record.run_id, old.record.run_id if old else None
            if run_id is not None:
                self._folder.point(run_id, place)
            if old_run_id is not None and old_run_id != run_id:
                self._folder.unpoint(old_run_id, place)
        return revision

    def _delete(self, ref: Ref, if_revision: int | None) -> bool:
        place = Place.of(ref)
        if not self._folder.holds(place):
            return False
        with self._folder.lock(place) as shard:
            try:
                old = self._read(place, False)
            except CorruptError:
                if if_revision is not None:
                    raise
                # Deleting is the way to get rid of a damaged record; whatever points to it finds nothing then.
                return self._folder.remove(place, shard)
            if old is None:
                return False
            self._check(ref, place, old, if_revision)
            if old.record.run_id is not None:
                self._folder.unpoint(old.record.run_id, place)
            return self._folder.remove(place, shard)

    def _check(self, ref: Ref, place: Place, standing: Stored | None, if_revision: int | None) -> None:
        if if_revision is not None and if_revision != (standing.record.revision if standing else 0):
            current = self._read(place, True) if standing else None
            raise conflict(ref, current.record if current else None, if_revision)

    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        choose = heapq.nlargest if query.descending else heapq.nsmallest
        # One more than asked for tells whether there is a next page. No two have the same place.
        found = choose(limit + 1, self._selected(query, _position(cursor)))
        records = []
        for _, place, headers_only in found[:limit]:
            stored = self._read(place, True) if payload else headers_only
            # Somebody may have deleted or replaced it since.
            if stored is not None and query.matches(stored.record):
                records.append(stored.record)
        if len(found) <= limit:
            return Page(records)
        created, address = found[limit - 1][0]
        return Page(records, f"{created}-{address}")

    def _count(self, query: Query) -> int:
        return sum(1 for _ in self._selected(query, None))

    def _selected(self, query: Query, after: tuple[int, str] | None) -> Iterator[tuple[tuple[int, str], Place, Stored]]:
        for place in self._folder.places(query):
            stored = self._read(place, False)
            if stored is None or not query.matches(stored.record):
                continue
            position = stored.position
            if after is None or (position < after if query.descending else position > after):
                yield position, place, stored

    def _read(self, place: Place, payload: bool) -> Stored | None:
        path = self._folder.path(place)
        stored = read_record(path, payload)
        if stored is not None and Place.of(stored.record.ref) != place:
            raise CorruptError(f"the file {path} holds another record: {stored.record.ref}")
        return stored

    def _translate(self, exc: Exception) -> StorageError | None:
        return self._unreachable(exc) if isinstance(exc, OSError) else None

    def _unreachable(self, exc: OSError) -> UnreachableError:
        where = exc.filename if isinstance(exc.filename, str) and exc.filename.startswith("/") else self._root
        return UnreachableError(f"can't use {where}: {exc.strerror}")


def _position(cursor: str | None) -> tuple[int, str] | None:
    if cursor is None:
        return None
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise bad_cursor(cursor)
    return int(found[1]), found[2]
