"""Reading what flow runs stored, in all storages in use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from flowstore.config import StorageEntry
from flowstore.errors import NotFoundError, StorageError
from flowstore.record import ERROR, RESULT, RUN, Key, Query, Record, Ref
from flowstore.record.failure import RemoteTaskError
from flowstore.store.operations import Operations
from flowstore.store.outcomes import Outcomes
from flowstore.store.plan import Plan
from flowstore.store.routing import Router
from flowstore.store.task_run import ENDED_BADLY, TaskRun

LastTask = tuple[str, str]
"""Name and id of a task whose result is part of a run's result."""


class RunReader:
    """Read the records of flow runs. Thread-safe.

    Records come without payloads, each with the name of its storage.
    """

    def __init__(self, router: Router, operations: Operations, outcomes: Outcomes) -> None:
        self._router = router
        self._operations = operations
        self._outcomes = outcomes

    def records(
        self, run_id: str, kinds: tuple[str, ...] | None = None, failures: dict[str, StorageError] | None = None
    ) -> Iterator[tuple[str, Record]]:
        """Iterate over the records of a run.

        Args:
            kinds: only records of these kinds.
            failures: collects the errors of storages that can't be read, by name. Without it they are raised.
        """
        return self.select(self._router.used_storages(), Query(kinds=kinds, run_id=run_id), failures)

    def ends(self, flow_name: str, run_id: str, task_ids: Sequence[str]) -> Iterator[tuple[str, Record]]:
        """Iterate over the results and errors of some tasks, expired ones too."""
        query = Query((RESULT, ERROR), flow_name, run_id=run_id, task_ids=tuple(task_ids), live_at=0.0)
        return self.select(self._router.used_storages(), query)

    def failures(self, flow_name: str, run_id: str) -> Iterator[tuple[str, Record]]:
        """Iterate over the errors that ended tasks, expired ones too."""
        query = Query((ERROR,), flow_name, run_id=run_id, states=ENDED_BADLY, live_at=0.0)
        return self.select(self._router.used_storages(), query)

    def select(
        self, entries: Iterable[StorageEntry], query: Query, failures: dict[str, StorageError] | None = None
    ) -> Iterator[tuple[str, Record]]:
        """Iterate over the records that a query selects in some storages.

        Storages without records are skipped. See ``records`` for ``failures``.
        """
        for entry in entries:
            if not entry.keeps_records:
                continue
            try:
                for record in self._operations.listed(entry, query, payload=False):
                    yield entry.name, record
            except StorageError as exc:
                if failures is None:
                    raise
                failures[entry.name] = exc

    def plan(self, flow_name: str, run_id: str) -> Plan | None:
        """Return the plan of a run.

        Returns None if it was not started with ``FlowStore.start``.
        """
        ref = run_ref(flow_name, run_id)
        entry = self._router.get_flow_storage(flow_name)
        try:
            record = self._operations.read(entry, lambda storage: storage.get(ref.key, ref.kind, ref.name))
            data = self._operations.pipeline(entry).decode(record)
        except NotFoundError:
            return None
        return None if data is None else Plan.from_dict(data)

    def is_stored(self, flow_name: str, task_name: str) -> bool:
        """Return whether results of a task are stored."""
        return self._router.find_route(flow_name, task_name) is not None

    def results(
        self, flow_name: str, run_id: str, started_at: float | None, tasks: Sequence[LastTask]
    ) -> dict[LastTask, Any]:
        """Return the results of some tasks of a run that are stored.

        Raises:
            NotFoundError: a later run has replaced one of them, using the same task id.
        """
        found: dict[LastTask, Any] = {}
        for entry, group in self._by_storage(flow_name, tasks):
            if not entry.keeps_records:
                found |= self._plain_results(flow_name, group)
                continue
            decode = self._operations.pipeline(entry).decode
            records = self._records_of_run(entry, list(group), run_id)
            for ref, task in group.items():
                record = records.get(ref.address)
                if record is None:
                    continue
                if record.run_id == run_id:
                    found[task] = decode(record)
                else:
                    _refuse_later(record, run_id, started_at)
        return found

    def result_of(self, task: TaskRun) -> Any:
        """Return the result of a task.

        Raises:
            NotFoundError: it has been deleted or has expired.
        """
        entry = self._router.get_entry(task.storage)
        record = self._operations.read(entry, lambda storage: storage.get(task.key))
        return self._operations.pipeline(entry).decode(record)

    def error_of(self, task: TaskRun) -> RemoteTaskError:
        """Return the error that ended a task.

        Raises:
            NotFoundError: it has been deleted or has expired.
        """
        entry = self._router.get_entry(task.storage)
        record = self._operations.read(entry, lambda storage: storage.get(task.key, ERROR))
        return self._operations.pipeline(entry).decode_error(record)

    def _records_of_run(self, entry: StorageEntry, refs: Sequence[Ref], run_id: str) -> dict[bytes, Record]:
        def read(missing: Sequence[Ref]) -> list[Record | None]:
            return self._operations.read(entry, lambda storage: storage.get_many(missing))

        return self._outcomes.caches.get_many(entry.name, refs, read, run_id)

    def _by_storage(
        self, flow_name: str, tasks: Sequence[LastTask]
    ) -> Iterable[tuple[StorageEntry, dict[Ref, LastTask]]]:
        groups: dict[str, tuple[StorageEntry, dict[Ref, LastTask]]] = {}
        for task in tasks:
            route = self._router.get_route(flow_name, task[0])
            ref = Ref(RESULT, Key(flow_name, route.task_name, task[1]))
            groups.setdefault(route.storage.name, (route.storage, {}))[1][ref] = task
        return groups.values()

    def _plain_results(self, flow_name: str, tasks: Mapping[Ref, LastTask]) -> dict[LastTask, Any]:
        """Return results from a storage that keeps no records, for any run."""
        found: dict[LastTask, Any] = {}
        for ref, task in tasks.items():
            with suppress(NotFoundError):
                found[task] = self._outcomes.retrieve(self._router.get_route(flow_name, task[0]), ref.key)
        return found


def run_ref(flow_name: str, run_id: str) -> Ref:
    """Return the reference of the record that stands for a run."""
    return Ref(RUN, Key(flow_name, "", run_id))


def _refuse_later(record: Record, run_id: str, started_at: float | None) -> None:
    """Raise NotFoundError if a later run has replaced a result."""
    published_at = record.headers.get("published_at")
    if started_at is not None and published_at is not None and published_at > started_at:
        raise NotFoundError(
            f"the result of run {run_id!r} was replaced: run {record.run_id!r} began later, with the same task id "
            f"for {record.key}"
        )
