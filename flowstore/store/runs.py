"""Flow runs: finding them, and recording their start."""

from __future__ import annotations

import time
from itertools import islice
from typing import Any, Final

from flowstore.errors import NotFoundError, StorageError
from flowstore.record import HISTORY, RUN, Query, Record, Ref
from flowstore.record.query import check_limit
from flowstore.storage import RecordStorage
from flowstore.store.base import StoreBase
from flowstore.store.flow_run import FlowRun
from flowstore.store.plan import Plan
from flowstore.store.run_reader import run_ref

_CHILD: Final = "child"
"""Name of the record that stands for a run under the run that started it."""


class RunsMixin(StoreBase):
    """List and find flow runs."""

    def runs(self, flow_name: str, limit: int | None = 100) -> list[FlowRun]:
        """Return the runs of a flow that ``start`` started, the latest first.

        Raises:
            UnknownStorageError: the flow has no storage.
        """
        check_limit(limit)
        entry = self._router.get_flow_storage(flow_name)
        query = Query(kinds=(RUN,), flow_name=flow_name, descending=True)
        listed = self._operations.listed(entry, query, payload=False)
        found = (self._run_of(record) for record in listed if not record.ref.name)
        return list(islice(found, limit))

    def run(self, run_id: str) -> FlowRun:
        """Return a flow run by its id.

        Finds a canvas that was sent without ``start`` too, by the id of its group or of its first task.

        Raises:
            NotFoundError: nothing of the run is stored.
            StorageError: it was not found, and one of the storages can't be read.
        """
        failures: dict[str, StorageError] = {}
        own = Query((RUN,), task_id=run_id, run_id=run_id)
        for _, record in self._run_reader.select(self._router.run_storages(), own, failures):
            if not record.ref.name:
                return self._run_of(record)
        for _, record in self._run_reader.records(run_id, failures=failures):
            if record.kind != HISTORY:  # which stays when a run is deleted
                return FlowRun(self._run_reader, run_id, record.key.flow_name)
        for failure in failures.values():
            raise failure
        raise NotFoundError(f"nothing is stored of a run {run_id!r}")

    def _begin_run(
        self, flow_name: str, run_id: str, parent_run_id: str | None = None, plan: Plan | None = None
    ) -> FlowRun:
        """Store, in one write, that a run begins and what it will run.

        Raises:
            UnknownStorageError: the flow has no storage.
            StorageError: it can't be stored. The flow should not be started then.
        """
        entry = self._router.get_flow_storage(flow_name)
        run = FlowRun(self._run_reader, run_id, flow_name, started_at=time.time(), parent_run_id=parent_run_id)
        ref, facts = run_ref(flow_name, run_id), _facts(run)
        planned = None if plan is None else plan.to_dict()
        if parent_run_id is None:
            self._operations.put_value(entry, ref, planned, facts)
            return run
        encode = self._operations.pipeline(entry).encode
        child = Ref(RUN, ref.key, _CHILD)
        records: list[Record] = []

        def put(storage: RecordStorage) -> None:
            if not records:  # encoded once: in a retry, their tokens show that it is the same write
                stored_at = {"stored_at": storage.now()}
                records.append(encode(ref, planned, stored_at | facts))
                records.append(encode(child, None, stored_at | facts | {"run_id": parent_run_id}))
            storage.put_many(records)

        self._operations.write(entry, put)
        return run

    def _replace_plan(self, run: FlowRun, plan: Plan) -> None:
        """Store another plan for a run."""
        entry = self._router.get_flow_storage(run.flow_name)
        self._operations.put_value(entry, run_ref(run.flow_name, run.id), plan.to_dict(), _facts(run))

    def _forget_run(self, run: FlowRun) -> None:
        """Delete the record of a run that could not be started."""
        storage = self._operations.records(self._router.get_flow_storage(run.flow_name))
        storage.delete_task(run_ref(run.flow_name, run.id).key)

    def _run_of(self, record: Record) -> FlowRun:
        headers = record.headers
        return FlowRun(
            self._run_reader,
            record.key.task_id,
            record.key.flow_name,
            started_at=headers.get("started_at"),
            parent_run_id=headers.get("parent_run_id"),
        )


def _facts(run: FlowRun) -> dict[str, Any]:
    facts: dict[str, Any] = {"run_id": run.id, "started_at": run.started_at}
    return facts if run.parent_run_id is None else {**facts, "parent_run_id": run.parent_run_id}
