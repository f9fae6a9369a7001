"""The running task: flow, run, key, storage, and results of parents.

The parents of a task are the tasks whose results Celery passed to it: the previous task of a chain, or all header tasks
for the body of a chord. In eager mode Celery doesn't say, so all finished tasks of the run count.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from flowstore.errors import NotFoundError, OutsideTaskError
from flowstore.record import ERROR, RESULT, RUN, Key
from flowstore.record.failure import RemoteTaskError
from flowstore.storage import DataStorage, Readable
from flowstore.store.task_run import SUCCESS, chord_members, tasks_of

if TYPE_CHECKING:
    from flowstore.store import FlowStore
    from flowstore.store.documents import Documents
    from flowstore.store.history import HistoryEntry
    from flowstore.store.state import Checkpoints

_MISSING: Final = object()

_running: ContextVar[TaskContext | None] = ContextVar("flowstore_running_task", default=None)


def current() -> TaskContext:
    """Return the task that this thread is running.

    Raises:
        OutsideTaskError: no task is running, or its app has no FlowStore attached.
    """
    context = running()
    if context is None:
        raise OutsideTaskError("no task of an app with an attached FlowStore is running here")
    return context


def running() -> TaskContext | None:
    """Return the task that this thread is running, or None."""
    return _running.get()


def enter(context: TaskContext) -> Token[TaskContext | None]:
    """Set what ``current`` returns, until ``leave`` is called.

    Returns the token that ``leave`` needs.
    """
    return _running.set(context)


def leave(before: Token[TaskContext | None]) -> None:
    """Restore what ``current`` returned before ``enter``."""
    _running.reset(before)


@dataclass(frozen=True, slots=True)
class TaskContext:
    """One execution of a task. Valid while the task runs.

    Attributes:
        store: the FlowStore that is attached to the app.
        flow_name, run_id: the flow and its run. A task that was sent outside any flow is a flow by itself, with the
            task's name.
        task_name: the name of the Celery task.
        task_id: the id of the task.
        attempt: the number of this execution, counted from 1.
        started_at: seconds since the epoch, or ``None`` if unknown.
        parent: Celery name and id of the task that sent this one, if any.
        joins: for the first task of a chord's body, the id of the header's group.
        published_at: when its message was sent, in seconds since the epoch, or ``None`` if unknown.
        request: the request that Celery passed.
    """

    store: FlowStore
    flow_name: str
    run_id: str
    task_name: str
    task_id: str
    attempt: int
    started_at: float | None
    parent: tuple[str, str] | None = None
    joins: str | None = None
    published_at: float | None = None
    request: Any = field(default=None, repr=False, compare=False)

    @property
    def key(self) -> Key:
        """The key under which this task is stored."""
        return Key(self.flow_name, self.store._router.stored_name(self.task_name), self.task_id)

    @property
    def storage(self) -> DataStorage:
        """The storage of this task: the adapter itself, connected.

        Raises:
            UnknownStorageError: the task has no storage.
        """
        return self.store.task_storage(self.flow_name, self.task_name)

    @property
    def checkpoints(self) -> Checkpoints:
        """Values that this task keeps by name.

        An execution after a retry or a redelivery finds them again.

        Raises:
            UnknownStorageError: the task has no storage.
        """
        return self.store.checkpoints(self.flow_name, self.task_name, self.task_id, run_id=self.run_id)

    @property
    def variables(self) -> Documents:
        """Values that the tasks of this run share by name.

        Raises:
            UnknownStorageError: the flow has no storage.
        """
        return self.store.variables(self.flow_name, run_id=self.run_id)

    def store_blob(self, name: str, file: Readable) -> int:
        """Store a file of any size beside the result; return its size.

        See ``FlowStore.store_blob``.
        """
        return self.store.store_blob(self.flow_name, self.task_name, self.task_id, name, file, run_id=self.run_id)

    def retrieve_blob(self, name: str, parent: Key | None = None) -> BinaryIO:
        """Return a blob of this task, or of a parent, as a file.

        See ``FlowStore.retrieve_blob``.

        Args:
            parent: one of ``parents``.
        """
        key = parent or self.key
        return self.store.retrieve_blob(key.flow_name, key.task_name, key.task_id, name)

    def record_history(self, event: str, data: object = None) -> HistoryEntry:
        """Append an entry about this task to the history.

        See ``FlowStore.record_history``.
        """
        return self.store.record_history(
            event, self.flow_name, run_id=self.run_id, task_name=self.task_name, task_id=self.task_id, data=data
        )

    def parents(self) -> list[Key]:
        """Return the keys of the parents that are stored.

        Those of a chord's header come in the order of the chord.
        """
        if self.joins is None and self.parent is not None:
            return [Key(self.flow_name, self.store._router.stored_name(self.parent[0]), self.parent[1])]
        eager = self.request is not None and self.request.is_eager
        if self.joins is None and not eager:
            return []
        reader = self.store._run_reader
        tasks = tasks_of(reader.records(self.run_id, (RESULT, ERROR)))
        if eager:
            return [task.key for task in tasks if task.id != self.task_id]
        if header := chord_members(self.task_id, self.joins or "", tasks):
            return header
        # From the plan: messages of Celery's first protocol don't name the group of a task.
        plan = reader.plan(self.flow_name, self.run_id)
        members = () if plan is None else plan.parents().get(self.task_id, ())
        by_id = {task.id: task.key for task in tasks}
        return [by_id[member.id] for member in members if member.id in by_id]

    def parent_results(self) -> dict[str, list[Any]]:
        """Return the results of all parents that succeeded, by task name."""
        results: dict[str, list[Any]] = {}
        for key, value in self._results(self.parents()):
            results.setdefault(key.task_name, []).append(value)
        return results

    def parent_task_results(self, task_name: str) -> list[Any]:
        """Return the results of the parents of this name that succeeded."""
        name = self.store._router.stored_name(task_name)
        keys = [key for key in self.parents() if key.task_name == name]
        return [value for _, value in self._results(keys)]

    def parent_task_result(self, task_name: str, index: int = -1) -> Any:
        """Return the result of a parent.

        Args:
            task_name: its Celery name, or its ``storage_task_name``.
            index: which of several parents with that name.

        Raises:
            NotFoundError: no parent of that name has a stored result.
        """
        return _pick(self.parent_task_results(task_name), index, f"no parent {task_name!r} of {self.key} has a result")

    def parent_task_exceptions(self, task_name: str) -> list[RemoteTaskError]:
        """Return the errors of the parents of this name that failed."""
        name = self.store._router.stored_name(task_name)
        keys = [key for key in self.parents() if key.task_name == name]
        return [error for error in self.store._retrieve_errors(keys) if error is not None]

    def parent_task_exception(self, task_name: str, index: int = -1) -> RemoteTaskError:
        """Return the error of a parent.

        Args:
            task_name, index: as in ``parent_task_result``.

        Raises:
            NotFoundError: no parent of that name has a stored error.
        """
        errors = self.parent_task_exceptions(task_name)
        error: RemoteTaskError = _pick(errors, index, f"no parent {task_name!r} of {self.key} has an error")
        return error

    def parent_flow_result(self, flow_name: str, task_name: str, index: int = -1) -> Any:
        """Return the result of a task in a flow that this run started.

        Args:
            index: which of the results in all runs of that flow that this run started, in the order of their start.

        Raises:
            NotFoundError: no such task has a stored result.
        """
        name = self.store._router.stored_name(task_name)
        keys = [
            task.key
            for run_id in self._child_runs(flow_name)
            for task in self.store.run(run_id).tasks()
            if task.name == name and task.state == SUCCESS
        ]
        results = [value for _, value in self._results(keys)]
        message = f"run {self.run_id} has started no flow {flow_name!r} in which {task_name!r} has a result"
        return _pick(results, index, message)

    def _results(self, keys: Sequence[Key]) -> list[tuple[Key, Any]]:
        """Return the keys that have a stored result, each with it."""
        values = self.store.retrieve_many(keys, default=_MISSING)
        return [(key, value) for key, value in zip(keys, values, strict=True) if value is not _MISSING]

    def _child_runs(self, flow_name: str) -> list[str]:
        found = [record for _, record in self.store._run_reader.records(self.run_id, (RUN,)) if record.ref.name]
        found.sort(key=lambda record: record.headers.get("started_at", 0))
        return [record.key.task_id for record in found if record.key.flow_name == flow_name]


def _pick(found: list[Any], index: int, message: str) -> Any:
    try:
        return found[index]
    except IndexError:
        raise NotFoundError(message if not found else f"{message} at index {index}; there are {len(found)}") from None
