"""The records of flow runs: written when one is started, read to find what ran."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from flowstore.config import StorageEntry
from flowstore.errors import NotFoundError, StorageError
from flowstore.record import ERROR, HISTORY, RESULT, RUN, Key, Query, Record, Ref
from flowstore.record.failure import RemoteTaskError
from flowstore.record.querying import check_limit
from flowstore.storage import RecordStorage
from flowstore.store.flow import FlowRun
from flowstore.store.lookup import Lookup
from flowstore.store.operations import Operations
from flowstore.store.plan import Plan
from flowstore.store.routing import Router
from flowstore.store.taskrun import ENDED_BADLY, TaskRun

_CHILD = "child"
"""Name of the record that stands for a run under the run that started it."""


class Runs:
    """Find flow runs and what ran in them. Safe in threads."""

    def __init__(self, router: Router, operations: Operations) -> None:
        self._router = router
        self._operations = operations
        self._lookup = Lookup(operations)

    def begin(self, flow_name: str, run_id: str, parent_run_id: str | None = None, plan: Plan | None = None) -> FlowRun:
        """Note down that a run starts, and where its result will be found: in one write.

        Raises:
            UnknownStorageError: the configuration gives the flow no storage.
            StorageError: it can't be stored; the flow should not be started then.
        """
        entry = self._router.required_flow_storage(flow_name)
        run = FlowRun(self, run_id, flow_name, started_at=time.time(), parent_run_id=parent_run_id)
        ref, facts = _run_ref(flow_name, run_id), _facts(run)
        if parent_run_id is None:
            self._operations.put_value(entry, ref, None if plan is None else plan.to_dict(), facts)
            return run
        encode = self._operations.pipeline(entry).encode
        child = Ref(RUN, ref.key, _CHILD)
        records: list[Record] = []

        def put(storage: RecordStorage) -> None:
            if not records:  # once, also when the write is tried again: their tokens tell that it is the same write
                stored_at = {"stored_at": storage.now()}
                records.append(encode(ref, None if plan is None else plan.to_dict(), stored_at | facts))
                records.append(encode(child, None, stored_at | facts | {"run_id": parent_run_id}))
            storage.put_many(records)

        self._operations.write(entry, put)
        return run

    def note_plan(self, run: FlowRun, plan: Plan) -> None:
        """Note down where the result of a run will be found, over what was noted before."""
        entry = self._router.required_flow_storage(run.flow_name)
        self._operations.put_value(entry, _run_ref(run.flow_name, run.id), plan.to_dict(), _facts(run))

    def forget(self, run: FlowRun) -> None:
        """Remove the record of a run that could not be started."""
        storage = self._operations.records(self._router.required_flow_storage(run.flow_name))
        storage.delete_task(_run_key(run.flow_name, run.id))

    def list(self, flow_name: str, limit: int | None) -> list[FlowRun]:
        """Return the runs of a flow, the latest first."""
        check_limit(limit)
        entry = self._router.required_flow_storage(flow_name)
        query = Query(kinds=(RUN,), flow_name=flow_name, descending=True)
        listed = self._operations.listed(entry, query, payload=False)
        found = (self._run(record) for record in listed if not record.ref.name)
        return list(islice(found, limit))

    def find(self, run_id: str) -> FlowRun:
        """Return a run by its id.

        Raises:
            NotFoundError: no storage in use holds anything of it.
            StorageError: it is not found, and one of them can't be read.
        """
        failures: dict[str, StorageError] = {}
        own = Query((RUN,), task_id=run_id, run_id=run_id)
        for _, record in self._records(self._router.run_storages(), own, failures):
            if not record.ref.name:
                return self._run(record)
        for _, record in self.run_records(run_id, None, failures):
            if record.kind != HISTORY:  # which goes on telling of runs that are deleted
                return FlowRun(self, run_id, record.key.flow_name)
        for failure in failures.values():
            raise failure
        raise NotFoundError(f"nothing is stored of a run {run_id!r}")

    def run_records(
        self, run_id: str, kinds: tuple[str, ...] | None, failures: dict[str, StorageError] | None = None
    ) -> Iterator[tuple[str, Record]]:
        """Iterate over the records of a run in all storages in use, without payloads, each with its storage's name.

        Args:
            failures: takes the errors of storages that can't be read, by their names; without it, they are raised.
        """
        return self._records(self._router.used_storages(), Query(kinds=kinds, run_id=run_id), failures)

    def ends(self, flow_name: str, run_id: str, task_ids: Sequence[str]) -> Iterator[tuple[str, Record]]:
        """Iterate over results and errors of tasks of a run by their ids, also of those that have expired."""
        query = Query((RESULT, ERROR), flow_name, run_id=run_id, task_ids=tuple(task_ids), live_at=0.0)
        return self._records(self._router.used_storages(), query)

    def failures(self, flow_name: str, run_id: str) -> Iterator[tuple[str, Record]]:
        """Iterate over the errors that ended tasks of a run."""
        query = Query((ERROR,), flow_name, run_id=run_id, states=ENDED_BADLY, live_at=0.0)
        return self._records(self._router.used_storages(), query)

    def _records(
        self, entries: Iterable[StorageEntry], query: Query, failures: dict[str, StorageError] | None = None
    ) -> Iterator[tuple[str, Record]]:
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
        """Return what the run's start noted down, if it was started with ``FlowStore.start``."""
        ref = _run_ref(flow_name, run_id)
        entry = self._router.required_flow_storage(flow_name)
        try:
            record = self._operations.read(entry, lambda storage: storage.get(ref.key, ref.kind, ref.name))
            data = self._operations.pipeline(entry).decode(record)
        except NotFoundError:
            return None
        return None if data is None else Plan.from_dict(data)

    def stores(self, flow_name: str, task_name: str) -> bool:
        """Tell whether results of that task are stored."""
        return self._router.route(flow_name, task_name) is not None

    def results(
        self, flow_name: str, run_id: str, started_at: float | None, tasks: Sequence[tuple[str, str]]
    ) -> dict[tuple[str, str], Any]:
        """Return the results of tasks that ran in a run, by name and id, as far as they are stored.

        Raises:
            NotFoundError: a later run has taken the place of one of them, by the same task id.
        """
        found: dict[tuple[str, str], Any] = {}
        for entry, some in self._by_storage(flow_name, tasks):
            if not entry.keeps_records:
                found |= self._foreign(flow_name, some)
                continue
            decode = self._operations.pipeline(entry).decode
            records = self._lookup.records(entry, list(some), run_id)
            for ref, task in some.items():
                record = records.get(ref.address)
                if record is None:
                    continue
                if record.run_id == run_id:
                    found[task] = decode(record)
                else:
                    _refuse_later(record, run_id, started_at)
        return found

    def _by_storage(
        self, flow_name: str, tasks: Sequence[tuple[str, str]]
    ) -> Iterable[tuple[StorageEntry, dict[Ref, tuple[str, str]]]]:
        groups: dict[str, tuple[StorageEntry, dict[Ref, tuple[str, str]]]] = {}
        for task in tasks:
            route = self._router.required(flow_name, task[0])
            ref = Ref(RESULT, Key(flow_name, route.task_name, task[1]))
            groups.setdefault(route.storage.name, (route.storage, {}))[1][ref] = task
        return groups.values()

    def _foreign(self, flow_name: str, tasks: Mapping[Ref, tuple[str, str]]) -> dict[tuple[str, str], Any]:
        """Return results from a storage that keeps no records, which can't tell in which run they came about."""
        found: dict[tuple[str, str], Any] = {}
        for ref, task in tasks.items():
            with suppress(NotFoundError):
                found[task] = self._operations.retrieve(self._router.required(flow_name, task[0]), ref.key)
        return found

    def result_of(self, task: TaskRun) -> Any:
        """Return the result of a task that ran, from the storage in which it was found."""
        entry = self._router.declared(task.storage)
        record = self._operations.read(entry, lambda storage: storage.get(task.key))
        return self._operations.pipeline(entry).decode(record)

    def error_of(self, task: TaskRun) -> RemoteTaskError:
        """Return the error of a task that ran, from the storage in which it was found."""
        entry = self._router.declared(task.storage)
        record = self._operations.read(entry, lambda storage: storage.get(task.key, ERROR))
        return self._operations.pipeline(entry).decode_error(record)

    def _run(self, record: Record) -> FlowRun:
        headers = record.headers
        return FlowRun(
            self,
            record.key.task_id,
            record.key.flow_name,
            started_at=headers.get("started_at"),
            parent_run_id=headers.get("parent_run_id"),
        )


def _facts(run: FlowRun) -> dict[str, Any]:
    facts: dict[str, Any] = {"run_id": run.id, "started_at": run.started_at}
    return facts if run.parent_run_id is None else {**facts, "parent_run_id": run.parent_run_id}


def _refuse_later(record: Record, run_id: str, started_at: float | None) -> None:
    """Refuse a result that another run has put in the place of this one's, and not before this one began."""
    published_at = record.headers.get("published_at")
    if started_at is not None and published_at is not None and published_at > started_at:
        raise NotFoundError(
            f"the result of run {run_id!r} was replaced: run {record.run_id!r} began later, with the same task id "
            f"for {record.key}"
        )


def _run_key(flow_name: str, run_id: str) -> Key:
    return Key(flow_name, "", run_id)


def _run_ref(flow_name: str, run_id: str) -> Ref:
    return Ref(RUN, _run_key(flow_name, run_id))
