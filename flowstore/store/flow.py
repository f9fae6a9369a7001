"""Flow runs: what ran, how it went, and the result in the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Protocol

from flowstore.errors import UnsupportedError
from flowstore.record import ERROR, RESULT, Record
from flowstore.store.patience import limited
from flowstore.store.plan import Member, Plan
from flowstore.store.taskrun import FAILURE, RETRY, REVOKED, SUCCESS, TaskRun, tasks_of
from flowstore.store.waiting import Waited, Waiting

__all__ = ["FAILURE", "RETRY", "REVOKED", "SUCCESS", "FlowRun", "Plan", "RunSource", "TaskRun", "tasks_of"]


class RunSource(Waited, Protocol):
    """What a flow run reads from; ``FlowStore`` is one."""

    def run_records(self, run_id: str, kinds: tuple[str, ...]) -> Iterator[tuple[str, Record]]:
        """Iterate over the records of a run, without payloads, each with its storage's name."""

    def plan(self, flow_name: str, run_id: str) -> Plan | None:
        """Return what the run's start noted down, if it was started with ``FlowStore.start``."""


class FlowRun:
    """One execution of a flow. Holds no connection; may be used from several threads."""

    def __init__(
        self,
        source: RunSource,
        run_id: str,
        flow_name: str,
        *,
        started_at: float | None = None,
        parent_run_id: str | None = None,
    ) -> None:
        self._source = source
        self.id = run_id
        self.flow_name = flow_name
        self.started_at = started_at
        self.parent_run_id = parent_run_id

    def __repr__(self) -> str:
        return f"<FlowRun {self.flow_name!r} {self.id}>"

    def tasks(self) -> list[TaskRun]:
        """Return the tasks that ran so far and have a storage, in the order in which they started.

        Raises:
            StorageError: one of the storages can't be read.
        """
        return tasks_of(self._source.run_records(self.id, (RESULT, ERROR)), self._parents)

    def get(self, timeout: float | None = None) -> Any:
        """Wait for the run's result and return it: the last task's, or a list for a group.

        Args:
            timeout: seconds; ``None`` waits as long as it takes. No storage that can't be reached is asked again after
                that time.

        Raises:
            RemoteTaskError: a task of the canvas failed; shows its stored error.
            TimeoutError: the time is up; the run goes on.
            NotFoundError: the result has expired, or a later run has replaced it, by a task of the same id.
            UnsupportedError: the result is not stored, because the last task has no storage, or because the run was
                not started with ``FlowStore.start``.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with limited(deadline):
            plan = self._source.plan(self.flow_name, self.id)
        if plan is None:
            raise UnsupportedError(
                f"what {self!r} results in is not known: it was not started with FlowStore.start, "
                "or its record has been deleted since"
            )
        return Waiting(self._source, self.flow_name, self.id, self.started_at, plan, repr(self)).result(
            timeout, deadline
        )

    def _parents(self) -> dict[str, tuple[Member, ...]]:
        plan = self._source.plan(self.flow_name, self.id)
        return {} if plan is None else plan.parents()
