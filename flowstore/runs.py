"""The records of flow runs: written when one is started, read to find what ran."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

from flowstore import loading
from flowstore.errors import NotFoundError
from flowstore.failure import RemoteTaskError
from flowstore.flow import FlowRun, Plan
from flowstore.operations import Operations
from flowstore.querying import check_limit
from flowstore.record import HISTORY, RUN, Key, Query, Record, Ref
from flowstore.routing import Router
from flowstore.storage import RecordStorage

_CHILD = "child"
"""Name of the record that stands for a run under the run that started it."""


class Runs:
    """Find flow runs and what ran in them. Safe in threads."""

    def __init__(self, router: Router, operations: Operations) -> None:
        self._router = router
        self._operations = operations

    def begin(self, flow_name: str, run_id: str, parent_run_id: str | None = None) -> FlowRun:
        """Note down that a run starts.

        Raises:
            UnknownStorageError: the configuration gives the flow no storage.
            StorageError: it can't be stored; the flow should not be started then.
        """
        entry = self._router.required_flow_storage(flow_name)
        started_at = time.time()
        facts: dict[str, Any] = {"run_id": run_id, "started_at": started_at}
        if parent_run_id is not None:
            facts["parent_run_id"] = parent_run_id
            child = Ref(RUN, _run_key(flow_name, run_id), _CHILD)
            self._operations.put_value(entry, child, None, {**facts, "run_id": parent_run_id})
        self._operations.put_value(entry, _run_ref(flow_name, run_id), None, facts)
        return FlowRun(self, run_id, flow_name, started_at=started_at, parent_run_id=parent_run_id)

    def note_plan(self, run: FlowRun, plan: Plan) -> None:
        """Note down where the result of a run will be found."""
        facts = {"run_id": run.id, "started_at": run.started_at}
        if run.parent_run_id is not None:
            facts["parent_run_id"] = run.parent_run_id
        entry = self._router.required_flow_storage(run.flow_name)
        self._operations.put_value(entry, _run_ref(run.flow_name, run.id), plan.to_dict(), facts)

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
        """
        any_record = None
        for _, record in self.run_records(run_id, None):
            if record.kind == RUN and not record.ref.name:
                return self._run(record)
            if record.kind != HISTORY:  # which goes on telling of runs that are deleted
                any_record = any_record or record
        if any_record is None:
            raise NotFoundError(f"nothing is stored of a run {run_id!r}")
        return FlowRun(self, run_id, any_record.key.flow_name)

    def run_records(self, run_id: str, kinds: tuple[str, ...] | None) -> Iterator[tuple[str, Record]]:
        """Iterate over the records of a run in all storages in use, without payloads, each with its storage's name."""
        query = Query(kinds=kinds, run_id=run_id)
        for entry in self._router.used_storages():
            if issubclass(loading.adapter_class(entry), RecordStorage):
                for record in self._operations.listed(entry, query, payload=False):
                    yield entry.name, record

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

    def retrieve(self, flow_name: str, task_name: str, task_id: str) -> Any:
        route = self._router.required(flow_name, task_name)
        return self._operations.retrieve(route, Key(flow_name, route.task_name, task_id))

    def retrieve_error(self, flow_name: str, task_name: str, task_id: str) -> RemoteTaskError:
        route = self._router.required(flow_name, task_name)
        return self._operations.retrieve_error(route, Key(flow_name, route.task_name, task_id))

    def _run(self, record: Record) -> FlowRun:
        headers = record.headers
        return FlowRun(
            self,
            record.key.task_id,
            record.key.flow_name,
            started_at=headers.get("started_at"),
            parent_run_id=headers.get("parent_run_id"),
        )


def _run_key(flow_name: str, run_id: str) -> Key:
    return Key(flow_name, "", run_id)


def _run_ref(flow_name: str, run_id: str) -> Ref:
    return Ref(RUN, _run_key(flow_name, run_id))
