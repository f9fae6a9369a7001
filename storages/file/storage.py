"""Records in files."""

from __future__ import annotations

import heapq
import os
import re
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar, Final

from flowstore.errors import CorruptError, StorageError, UnreachableError
from flowstore.record import Damaged, Page, Query, Record, Ref
from flowstore.record.matching import dump_cursor, load_cursor
from flowstore.storage import Content, Guarantees, NativeBlobs, QueriesFields, RecordStorage, Source
from flowstore.storages.shared.envelope import Stored, first_line
from flowstore.storages.shared.headers import bad_cursor, conflict, without_payload
from flowstore.storages.shared.names import Location

from .blobs import BlobFiles
from .folder import Folder
from .record_file import read_record

_CURSOR: Final = re.compile("([0-9]{1,20})-([0-9a-f]{64})")

Position = tuple[Any, Any]
"""The position of a record in a listing, in the order of the query."""


class FileStorage(RecordStorage, QueriesFields, NativeBlobs):
    """Keep each record in a separate file, below one folder.

    A file's first line is JSON and describes the record; the payload follows unchanged, so that ``head -1`` and
    ``tail -n +2`` show them. Names of files are hashes. A file is replaced as a whole: readers see the old or the new
    record, at any time and without waiting. Any number of threads and processes of one machine may use the folder at
    once.

    What ``store`` has returned for survives the death of the process and, unless ``durable`` is false, a loss of
    power. The folder has to be on a local file system: over NFS and the like, neither locks nor replacing can be
    relied on. Blobs are separate files below ``blobs/``, which hold nothing but their bytes.

    Listing the records of a run reads those of that run, any other listing those of its kinds, for every page again:
    for many thousands of records, a database is faster.

    Args:
        path: the folder; created if it does not exist, the one around it is not. A relative path starts at the folder
            that is current now. A symbolic link is followed once, now.
        durable: wait for the disk at each change.
        timeout: seconds that a writer waits for others who write to the same part of the folder.
    """

    guarantees: ClassVar[tuple[Guarantees, ...]] = (
        Guarantees(
            database="files",
            shared_by="processes",
            process_ends="everything",
            server_crashes="no server",
            power_fails="everything; with `durable: false` the last changes may be lost",
            one_winner="yes, on a local file system",
            clock="the machine's",
            largest_record="as the memory and the file system allow",
        ),
    )
    blob_threshold: int | None = None
    sorts: ClassVar[bool] = True
    skips: ClassVar[bool] = True

    def __init__(self, path: str, durable: bool = True, timeout: float = 30.0) -> None:
        if not timeout > 0:
            raise ValueError(f"timeout must be a number of seconds above 0, not {timeout!r}")
        self._root = os.path.realpath(path)
        self._folder = Folder(self._root, durable, timeout)
        self._blobs = BlobFiles(self._root, self._folder, durable)
        self._connected = False

    def describe(self) -> str:
        return f"files in {self._root}"

    @classmethod
    def mistakes_in(cls, arguments: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], str]]:
        if not arguments.get("timeout", 1) > 0:
            yield ("timeout",), f"must be a number of seconds above 0, not {arguments['timeout']!r}"

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
        stored = self._read(Location.of(ref), payload, ref)
        return stored.record if stored else None

    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        place = Location.of(record.ref)
        with self._folder.lock(place) as shard:
            old = self._read(place, False, record.ref)
            live = None if old is None or old.record.has_expired(now) else old
            self._check(record.ref, place, live, if_revision)
            revision, created = (old.record.revision + 1, old.created) if old else (record.revision, time.time_ns())
            run_id, old_run_id = record.run_id, old.record.run_id if old else None
            # A writer that is killed in between leaves a stale pointer, never a record without one.
            if run_id is not None:
                self._folder.point(run_id, place)
            try:
                self._folder.replace(place, shard, first_line(record, revision, created), record.payload)
            except BaseException:
                if run_id is not None and not self._folder.holds(place):
                    with suppress(OSError):  # the first error is the one to raise
                        self._folder.unpoint(run_id, place)
                raise
            if old_run_id is not None and old_run_id != run_id:
                self._folder.unpoint(old_run_id, place)
        return revision

    def _delete(self, ref: Ref, if_revision: int | None) -> bool:
        place = Location.of(ref)
        if not self._folder.holds(place):
            self._check_folder()
            return False
        with self._folder.lock(place) as shard:
            try:
                old = self._read(place, False)
            except CorruptError:
                if if_revision is not None:
                    raise
                # Deleting is the way to get rid of a damaged record; its pointer becomes stale.
                return self._folder.remove(place, shard)
            if old is None:
                return False
            self._check(ref, place, old, if_revision)
            deleted = self._folder.remove(place, shard)
            if old.record.run_id is not None:
                self._folder.unpoint(old.record.run_id, place)
            return deleted

    def _check(self, ref: Ref, place: Location, standing: Stored | None, if_revision: int | None) -> None:
        if if_revision is not None and if_revision != (standing.record.revision if standing else 0):
            current = self._read(place, True) if standing else None
            raise conflict(ref, current.record if current else None, if_revision)

    def _purge(self) -> int:
        return self._folder.purge()

    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        if query.expired_at is not None and cursor is None:
            # A listing of expired records is part of a cleanup.
            self._folder.sweep_runs()
        choose = heapq.nlargest if query.descending else heapq.nsmallest
        # One more than the page holds shows whether there is a next page. Positions are unique.
        damaged: list[Damaged] = []
        selected = self._selected(query, _position(query, cursor), damaged)
        found = choose(query.skip + limit + 1, selected)[query.skip :]
        records = []
        for _, place, headers_only in found[:limit]:
            try:
                stored = self._read(place, True) if payload else headers_only
            except CorruptError as exc:
                damaged.append(self._damaged(place, exc))
                continue
            # It may have been deleted or replaced since.
            if stored is not None and (not payload or query.matches(stored.record)):
                records.append(stored.record)
        if len(found) <= limit:
            return Page(records, None, damaged)
        last = found[limit - 1][0]
        return Page(records, dump_cursor(last) if query.order == "task_id" else f"{last[0]}-{last[1]}", damaged)

    def _count(self, query: Query) -> int:
        return sum(1 for _ in self._selected(query, None, []))

    def _selected(
        self, query: Query, after: Position | None, damaged: list[Damaged]
    ) -> Iterator[tuple[Position, Location, Stored]]:
        self._check_folder()
        for place in self._folder.places(query):
            try:
                stored = self._read(place, bool(query.where))
            except CorruptError as exc:
                damaged.append(self._damaged(place, exc))
                continue
            if stored is None or not query.matches(stored.record):
                continue
            if query.where:
                # A page of them is held in memory at once.
                stored = Stored(without_payload(stored.record), stored.created)
            position: Position = stored.record.ref.sort_key if query.order == "task_id" else stored.position
            if after is None or (position < after if query.descending else position > after):
                yield position, place, stored

    def _damaged(self, place: Location, error: CorruptError) -> Damaged:
        return Damaged(error, place.plain_kind, partial(self._remove, place))

    def _remove(self, place: Location) -> bool:
        """Delete a damaged record; its pointer becomes stale."""
        with self._folder.lock(place) as shard:
            return self._folder.remove(place, shard)

    def _write_content(self, ref: Ref, generation: str, source: Source) -> int:
        self._blobs.write(Location.of(ref), generation, source)
        return 1

    def _read_content(self, ref: Ref, generation: str, pieces: int) -> Generator[bytes, None, None]:
        return self._blobs.read(Location.of(ref), generation)

    def _delete_content(self, ref: Ref, generation: str, pieces: int) -> None:
        self._blobs.remove(Location.of(ref), generation)

    def _contents(self) -> Iterator[Content]:
        for place, generation, written_at in self._blobs.all():
            delete = partial(self._blobs.remove, place, generation)
            yield Content(generation, written_at, partial(self._head, place), delete)

    def _head(self, place: Location) -> Record | None:
        stored = self._read(place, False)
        return stored.record if stored else None

    def _read(self, place: Location, payload: bool, expected: Ref | None = None) -> Stored | None:
        path = self._folder.path(place)
        stored = read_record(path, payload, expected)
        if stored is None:
            self._check_folder()
        elif stored.record.ref is not expected and Location.of(stored.record.ref) != place:
            raise CorruptError(f"the file {path} holds another record: {stored.record.ref}")
        return stored

    def _check_folder(self) -> None:
        """Raise UnreachableError if the folder is not the one that was connected."""
        try:
            self._folder.check()
        except UnreachableError:
            self._connected = False
            raise

    def _translate(self, exc: Exception) -> StorageError | None:
        return self._unreachable(exc) if isinstance(exc, OSError) else None

    def _unreachable(self, exc: OSError) -> UnreachableError:
        where = exc.filename if isinstance(exc.filename, str) and exc.filename.startswith("/") else self._root
        return UnreachableError(f"can't use {where}: {exc.strerror}")


def _position(query: Query, cursor: str | None) -> Position | None:
    if cursor is None:
        return None
    if query.order == "task_id":
        return load_cursor(cursor)
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise bad_cursor(cursor)
    return int(found[1]), found[2]
