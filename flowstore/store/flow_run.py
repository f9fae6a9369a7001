"""A flow run: the tasks that ran, and the result to wait for."""

from __future__ import annotations

import time
from typing import Any

from flowstore.errors import UnsupportedError
from flowstore.record import ERROR, RESULT
from flowstore.store.patience import limited
from flowstore.store.plan import Member
from flowstore.store.run_reader import RunReader
from flowstore.store.task_run import TaskRun, tasks_of
from flowstore.store.waiting import Waiting


class FlowRun:
    """One execution of a flow. Holds no connection. Thread-safe.

    Attributes:
        id: the id of the run.
        flow_name: the name of the flow.
        started_at: when it started, in seconds since the epoch, or ``None`` if unknown.
        parent_run_id: the id of the run that started it, if any.
    """

    def __init__(
        self,
        reader: RunReader,
        run_id: str,
        flow_name: str,
        *,
        started_at: float | None = None,
        parent_run_id: str | None = None,
    ) -> None:
        self._reader = reader
        self.id = run_id
        self.flow_name = flow_name
        self.started_at = started_at
        self.parent_run_id = parent_run_id

    def __repr__(self) -> str:
        return f"<FlowRun {self.flow_name!r} {self.id}>"

    def tasks(self) -> list[TaskRun]:
        """Return the tasks that ran so far, in the order in which they started.

        Tasks without a storage are missing.

        Raises:
            StorageError: one of the storages can't be read.
        """
        return tasks_of(self._reader.records(self.id, (RESULT, ERROR)), self._parents)

    def get(self, timeout: float | None = None) -> Any:
        """Wait for the result of the run and return it.

        It is the result of the last task, or a list for a group.

        Args:
            timeout: seconds; ``None`` waits for ever. An unreachable storage is not tried again after that time.

        Raises:
            RemoteTaskError: a task of the canvas failed. Shows the stored error.
            TimeoutError: the timeout is over. The run goes on.
            NotFoundError: the result has expired, or a later run has replaced it, using the same task id.
            UnsupportedError: the result is not stored: the last task has no storage, or the run was not started with
                ``FlowStore.start``.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with limited(deadline):
            plan = self._reader.plan(self.flow_name, self.id)
        if plan is None:
            raise UnsupportedError(
                f"the result of {self!r} is unknown: it was not started with FlowStore.start, "
                "or its record has been deleted"
            )
        return Waiting(self._reader, self.flow_name, self.id, self.started_at, plan, repr(self)).result(
            timeout, deadline
        )

    def _parents(self) -> dict[str, tuple[Member, ...]]:
        plan = self._reader.plan(self.flow_name, self.id)
        return {} if plan is None else plan.parents()
