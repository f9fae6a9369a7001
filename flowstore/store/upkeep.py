"""Deleting what is old, or belongs to one run, in all storages, and keeping what runs in progress need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from flowstore.config import Configuration, StorageEntry
from flowstore.duration import Duration, seconds
from flowstore.errors import CorruptError, ReadonlyError
from flowstore.record import ERROR, RESULT, RUN, Query, Record
from flowstore.record.damage import damage_told_once, tell
from flowstore.storage import RecordStorage
from flowstore.store.operations import Operations
from flowstore.store.plan import Plan
from flowstore.store.routing import Router
from flowstore.store.runs import Runs
from flowstore.store.taskrun import ENDED_BADLY

STALLED_AFTER: Final = 7 * 86_400.0
"""After how many seconds without a new record an unfinished run counts as lost."""

_RUNS_KNOWN: Final = 100_000


class Upkeep:
    """Clean up, and delete runs and whole storages. Safe in threads; may run in several processes at once."""

    def __init__(self, configuration: Configuration, router: Router, operations: Operations, runs: Runs) -> None:
        self._router = router
        self._operations = operations
        self._runs = runs
        writable = {
            task.storage_task_name or task.name for task in configuration.tasks.values() if not task.storage_readonly
        }
        self._readonly = {
            task.storage_task_name or task.name for task in configuration.tasks.values() if task.storage_readonly
        } - writable

    def cleanup(
        self,
        older_than: Duration | None,
        storage: str | None,
        kinds: Iterable[str] | None,
        stalled_after: Duration,
    ) -> int:
        """Delete what nobody needs any more; see ``FlowStore.cleanup``."""
        with damage_told_once():
            return self._cleanup(older_than, storage, kinds, stalled_after)

    def _cleanup(
        self,
        older_than: Duration | None,
        storage: str | None,
        kinds: Iterable[str] | None,
        stalled_after: Duration,
    ) -> int:
        age = None if older_than is None else seconds(older_than)
        wanted = None if kinds is None else tuple(kinds)
        progress = _Progress(self._entries(), self._operations, self._runs, seconds(stalled_after))
        entries = self._entries() if storage is None else [self._router.declared(storage)]
        deleted = 0
        if wanted is None or RUN in wanted:
            # First, because that a run has ended is told by results that may have expired.
            for entry in entries:
                deleted += self._operations.once(entry, lambda records: self._clean_runs(records, progress))
        for entry in entries:
            try:
                deleted += self._operations.once(entry, lambda records: self._clean(records, age, wanted, progress))
            finally:
                self._operations.caches.clear(entry.name)
        return deleted

    def _clean(
        self, storage: RecordStorage, age: float | None, kinds: tuple[str, ...] | None, progress: _Progress
    ) -> int:
        now = storage._time()

        def keep(record: Record) -> bool:
            if record.key.task_name in self._readonly:
                return True
            return age is not None and not record.has_expired(now) and progress.needs(record, age)

        def look(records: Sequence[Record]) -> None:
            if age is not None:
                progress.look((one for one in records if not one.has_expired(now)), age)

        return storage.cleanup(age, kinds=kinds, keep=keep, look=look)

    def _clean_runs(self, storage: RecordStorage, progress: _Progress) -> int:
        """Delete the own records of runs of which everything else has expired."""
        shortest = self._router.shortest_expiry()
        if shortest is None:
            return 0

        def keep(record: Record) -> bool:
            age = self._router.flow_expires_in(record.key.flow_name)
            return age is None or progress.needs(record, age)

        def look(records: Sequence[Record]) -> None:
            ages = {one.key.flow_name: self._router.flow_expires_in(one.key.flow_name) for one in records}
            for age in {age for age in ages.values() if age is not None}:
                progress.look((one for one in records if ages[one.key.flow_name] == age), age)

        return storage.cleanup(shortest, kinds=(RUN,), keep=keep, look=look)

    def delete_run(self, run_id: str) -> int:
        """Delete a run; see ``FlowStore.delete_run``."""
        entries = self._entries()
        for entry in entries:
            for name in self._readonly:
                self._refuse_if_any(entry, Query(run_id=run_id, task_name=name))
        deleted = 0
        for entry in entries:
            try:
                deleted += self._operations.write(entry, lambda storage: storage.delete_run(run_id))
            finally:
                self._operations.caches.clear(entry.name)
        return deleted

    def _refuse_if_any(self, entry: StorageEntry, query: Query) -> None:
        if self._operations.read(entry, lambda storage: storage.count(query)):
            raise ReadonlyError(
                f"the run {query.run_id!r} has records of task {query.task_name!r}, which has storage_readonly: "
                "nothing was deleted"
            )

    def clear(self, storage: str) -> int:
        """Clear a storage; see ``FlowStore.clear``."""
        return self._empty(storage, lambda records: records.clear())

    def purge(self, storage: str, kind: str | None) -> int:
        """Purge a storage; see ``FlowStore.purge``."""
        return self._empty(storage, lambda records: records.purge(kind))

    def _empty(self, storage: str, operation: Callable[[RecordStorage], int]) -> int:
        entry = self._router.declared(storage)
        try:
            return self._operations.once(entry, operation)
        finally:
            self._operations.caches.clear(entry.name)

    def _entries(self) -> list[StorageEntry]:
        used = self._router.used_storages()
        return [entry for entry in used if entry.keeps_records]


class _Progress:
    """Which runs are in progress, found out once for each during a cleanup, those of a batch together."""

    def __init__(self, entries: list[StorageEntry], operations: Operations, runs: Runs, stalled_after: float) -> None:
        self._entries = entries
        self._operations = operations
        self._runs = runs
        self._stalled_after = stalled_after
        self._known: dict[tuple[str, float], bool] = {}

    def needs(self, record: Record, age: float) -> bool:
        """Tell whether a record belongs to a run in progress, none of whose records may be deleted at that age."""
        if record.run_id is None:
            return False
        if (record.run_id, age) not in self._known:
            self.look((record,), age)
        return self._known[record.run_id, age]

    def look(self, records: Iterable[Record], age: float) -> None:
        """Find out which runs of some records are in progress: in few statements, however many there are."""
        if len(self._known) >= _RUNS_KNOWN:
            self._known.clear()
        run_ids = {one.run_id for one in records if one.run_id is not None and (one.run_id, age) not in self._known}
        active = self._active(run_ids, age)
        waiting = set() if age >= self._stalled_after else self._active(run_ids - active, self._stalled_after)
        for run_id in run_ids:
            in_progress = run_id in active or (run_id in waiting and self._is_unfinished(run_id))
            self._known[run_id, age] = in_progress

    def _active(self, run_ids: set[str], age: float) -> set[str]:
        """Return the runs of which anything was stored within that many seconds."""
        active: set[str] = set()
        for entry in self._entries:
            active |= self._active_in(entry, run_ids - active, age)
        return active

    def _active_in(self, entry: StorageEntry, run_ids: set[str], age: float) -> set[str]:
        return self._operations.read(entry, lambda storage: storage.runs_since(run_ids, age)) if run_ids else set()

    def _is_unfinished(self, run_id: str) -> bool:
        """Tell whether a run was started with a plan whose result, or an error that ends it, is not stored yet."""
        try:
            plan = self._plan(run_id)
        except CorruptError as exc:
            tell(exc)
            return True  # it may be: what can't be known is kept, as long as the run is not lost
        if plan is None:
            return False
        wanted = {task_id for _, task_id in plan.finals()}
        # What has expired was there, too.
        found = self._ids(Query((RESULT,), run_id=run_id, task_ids=tuple(wanted), live_at=0.0))
        if found >= wanted:
            return False
        failed = self._ids(Query((ERROR,), run_id=run_id, states=ENDED_BADLY, live_at=0.0))
        return not failed & set(plan.members)

    def _plan(self, run_id: str) -> Plan | None:
        query = Query((RUN,), run_id=run_id, task_id=run_id)
        for entry in self._entries:
            for ref in self._operations.read(entry, lambda storage: list(storage.ids(query))):
                return self._runs.plan(ref.key.flow_name, run_id)
        return None

    def _ids(self, query: Query) -> set[str]:
        found: set[str] = set()
        for entry in self._entries:
            refs = self._operations.read(entry, lambda storage: list(storage.ids(query)))
            found |= {ref.key.task_id for ref in refs}
        return found
