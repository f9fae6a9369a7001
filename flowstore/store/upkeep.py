"""Deleting what has expired or is old, whole runs, and whole storages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from flowstore.config import StorageEntry
from flowstore.duration import Duration, seconds
from flowstore.errors import ReadonlyError
from flowstore.record import RUN, Query, Record
from flowstore.record.damage import damage_reported_once
from flowstore.storage import RecordStorage
from flowstore.store.base import StoreBase
from flowstore.store.progress import RunsInProgress

STALLED_AFTER: Final = 7 * 86_400.0
"""Seconds without a new record after which an unfinished run counts as lost."""


class UpkeepMixin(StoreBase):
    """Delete more than the records of one task."""

    def cleanup(
        self,
        older_than: Duration | None = None,
        storage: str | None = None,
        *,
        kinds: Iterable[str] | None = None,
        stalled_after: Duration = STALLED_AFTER,
    ) -> int:
        """Delete what has expired and, if asked to, what is old.

        Works in bounded batches. It may be interrupted and repeated, and may run in several processes at once.

        Expired records are always deleted, since they can't be read any more. Old records are kept if they carry the id
        of a run in progress. A run is in progress

        - as long as the newest of its records, in all storages in use, is younger than ``older_than``; and
        - if it was started with ``start``: until its result, or the error that ended it, is stored, but at most
          ``stalled_after`` after its newest record.

        So all records of a run are deleted together, counted from the newest. Records of tasks with
        ``storage_readonly`` are kept.

        Args:
            older_than: also delete what was stored longer ago than this: seconds, a ``timedelta``, or a text such as
                ``"30d"``. Variables, configuration and history are kept, unless ``kinds`` names them.
            storage: the configured name of one storage; ``None`` for all storages in use that keep records.
            kinds: delete only these kinds.
            stalled_after: how long an unfinished run may store nothing before it counts as lost.

        Returns:
            The number of deleted records.

        Raises:
            UnknownStorageError: the storage is not declared.
            UnsupportedError: the storage keeps no records.
            StorageError: a storage failed. Some records may be deleted.
        """
        age = None if older_than is None else seconds(older_than)
        only = None if kinds is None else tuple(kinds)
        with damage_reported_once():
            return self._cleanup(age, storage, only, seconds(stalled_after))

    def delete_run(self, run_id: str) -> int:
        """Delete a run in all storages in use; return the number of records.

        Deletes its results, errors, checkpoints, variables, blobs, claims and the record of the run itself. Keeps the
        history, and everything that carries the id of another run, also of runs that this one has started.

        Raises:
            ReadonlyError: it has records of a task with ``storage_readonly``. Nothing was deleted.
            StorageError: a storage failed. Some records may be deleted; the same call again deletes the rest.
        """
        entries = self._record_entries()
        for entry in entries:
            for name in self._router.readonly_tasks():
                self._refuse_readonly_run(entry, Query(run_id=run_id, task_name=name))
        deleted = 0
        for entry in entries:
            try:
                deleted += self._operations.write(entry, lambda storage: storage.delete_run(run_id))
            finally:
                self._outcomes.caches.clear(entry.name)
        return deleted

    def clear(self, storage: str) -> int:
        """Delete what tasks stored in a storage; return the number of records.

        Keeps variables, configuration, history, and kinds that are registered to survive this.

        Raises:
            UnknownStorageError: the storage is not declared.
            UnsupportedError: it has ``allow_clear: false`` or keeps no records. Nothing was deleted.
        """
        return self._empty(storage, lambda records: records.clear())

    def purge(self, storage: str, kind: str | None = None) -> int:
        """Delete all records in a storage; return their number.

        Keeps what other programs have in the same database, bucket or folder. Nothing should be stored meanwhile.

        Args:
            kind: delete only records of this kind.

        Raises:
            UnknownStorageError: the storage is not declared.
            UnsupportedError: it has ``allow_clear: false`` or keeps no records. Nothing was deleted.
        """
        return self._empty(storage, lambda records: records.purge(kind))

    def _cleanup(
        self, age: float | None, storage: str | None, kinds: tuple[str, ...] | None, stalled_after: float
    ) -> int:
        in_use = self._record_entries()
        progress = RunsInProgress(in_use, self._operations, self._run_reader, stalled_after)
        entries = in_use if storage is None else [self._router.get_entry(storage)]
        deleted = 0
        if kinds is None or RUN in kinds:
            # First: whether a run has ended can be seen from results that have expired.
            for entry in entries:
                deleted += self._operations.once(entry, lambda records: self._clean_runs(records, progress))
        for entry in entries:
            try:
                deleted += self._operations.once(entry, lambda records: self._clean(records, age, kinds, progress))
            finally:
                self._outcomes.caches.clear(entry.name)
        return deleted

    def _clean(
        self, storage: RecordStorage, age: float | None, kinds: tuple[str, ...] | None, progress: RunsInProgress
    ) -> int:
        now, readonly = storage._time(), self._router.readonly_tasks()

        def keep(record: Record) -> bool:
            if record.key.task_name in readonly:
                return True
            return age is not None and not record.has_expired(now) and progress.has(record, age)

        def look(records: Sequence[Record]) -> None:
            if age is not None:
                progress.check((one for one in records if not one.has_expired(now)), age)

        return storage.cleanup(age, kinds=kinds, keep=keep, look=look)

    def _clean_runs(self, storage: RecordStorage, progress: RunsInProgress) -> int:
        """Delete run records whose other records have all expired."""
        shortest = self._router.shortest_expiry()
        if shortest is None:
            return 0

        def keep(record: Record) -> bool:
            age = self._router.flow_expires_in(record.key.flow_name)
            return age is None or progress.has(record, age)

        def look(records: Sequence[Record]) -> None:
            ages = {one.key.flow_name: self._router.flow_expires_in(one.key.flow_name) for one in records}
            for age in {age for age in ages.values() if age is not None}:
                progress.check((one for one in records if ages[one.key.flow_name] == age), age)

        return storage.cleanup(shortest, kinds=(RUN,), keep=keep, look=look)

    def _refuse_readonly_run(self, entry: StorageEntry, query: Query) -> None:
        if self._operations.read(entry, lambda storage: storage.count(query)):
            raise ReadonlyError(
                f"run {query.run_id!r} has records of task {query.task_name!r}, which has storage_readonly: "
                "nothing was deleted"
            )

    def _empty(self, storage: str, operation: Callable[[RecordStorage], int]) -> int:
        entry = self._router.get_entry(storage)
        try:
            return self._operations.once(entry, operation)
        finally:
            self._outcomes.caches.clear(entry.name)

    def _record_entries(self) -> list[StorageEntry]:
        return [entry for entry in self._router.used_storages() if entry.keeps_records]
