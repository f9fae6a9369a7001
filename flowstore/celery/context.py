"""The task that is running: its flow, run and key, its storage, and what its parents left.

The parents of a task are the tasks that Celery gave it the results of: the task before it in a chain, all tasks of
the header for a chord's body. In eager mode Celery does not tell them; there every finished task of the run counts.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from flowstore.errors import NotFoundError, OutsideTaskError
from flowstore.record import ERROR, RESULT, RUN, Key
from flowstore.record.failure import RemoteTaskError
from flowstore.storage import DataStorage, Readable
from flowstore.store.taskrun import SUCCESS, header_of, tasks_of

if TYPE_CHECKING:
    from flowstore.store import FlowStore
    from flowstore.store.checkpoints import Checkpoints
    from flowstore.store.documents import Documents
    from flowstore.store.history import HistoryEntry

_running: ContextVar[TaskContext | None] = ContextVar("flowstore_running_task", default=None)


def current() -> TaskContext:
    """Return the task that this thread is executing.

    Raises:
        OutsideTaskError: none, or none of an app that a FlowStore is attached to.
    """
    context = running()
    if context is None:
        raise OutsideTaskError("no task of an app with an attached FlowStore is running here")
    return context


def running() -> TaskContext | None:
    """Return the task that this thread is executing, or ``None``."""
    return _running.get()


def enter(context: TaskContext) -> Token[TaskContext | None]:
    """Make ``current()`` return this context, until ``leave`` is called with what this returns."""
    return _running.set(context)


def leave(before: Token[TaskContext | None]) -> None:
    """Make ``current()`` return again what it returned before ``enter``."""
    _running.reset(before)


@dataclass(frozen=True, slots=True)
class TaskContext:
    """What a running task can learn about itself. Made for each execution; valid while it lasts.

    Attributes:
        store: the FlowStore that the app is attached to.
        flow_name, run_id: the flow and its run. A task sent outside of a flow is a flow of its own, named after itself.
        task_name: the Celery task's name.
        task_id: its id.
        attempt: the number of this execution, counted from 1.
        started_at: seconds since the epoch, or ``None`` if that is not known here.
        parent: Celery name and id of the task that sent this one, if any.
        joins: for the first task of a chord's body, the id of the group that is the chord's header.
        published_at: when its message was sent, in seconds since the epoch, if that is known.
        request: Celery's request.
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
        return Key(self.flow_name, self.store.stored_name(self.task_name), self.task_id)

    @property
    def storage(self) -> DataStorage:
        """The adapter that stores this task, connected.

        Raises:
            UnknownStorageError: the configuration gives it none.
        """
        return self.store.task_storage(self.flow_name, self.task_name)

    @property
    def checkpoints(self) -> Checkpoints:
        """Values that this task keeps by name; an execution of it after a retry or a redelivery finds them again.

        Raises:
            UnknownStorageError: the configuration gives the task no storage.
        """
        return self.store.checkpoints(self.flow_name, self.task_name, self.task_id, run_id=self.run_id)

    @property
    def variables(self) -> Documents:
        """Values that the tasks of this run share by name.

        Raises:
            UnknownStorageError: the configuration gives the flow no storage.
        """
        return self.store.variables(self.flow_name, run_id=self.run_id)

    def store_blob(self, name: str, file: Readable) -> int:
        """Store a file of any size beside this task's result, and return its size; see ``FlowStore.store_blob``."""
        return self.store.store_blob(self.flow_name, self.task_name, self.task_id, name, file, run_id=self.run_id)

    def retrieve_blob(self, name: str, parent: Key | None = None) -> BinaryIO:
        """Return a blob of this task, or of one of its ``parents``, as a file; see ``FlowStore.retrieve_blob``."""
        key = parent or self.key
        return self.store.retrieve_blob(key.flow_name, key.task_name, key.task_id, name)

    def record_history(self, event: str, data: object = None) -> HistoryEntry:
        """Append an entry about this task to the history; see ``FlowStore.record_history``."""
        return self.store.record_history(
            event, self.flow_name, run_id=self.run_id, task_name=self.task_name, task_id=self.task_id, data=data
        )

    def parents(self) -> list[Key]:
        """Return the keys of the parents that are stored; those of a chord's header in their order in the chord."""
        if self.joins is None and self.parent is not None:
            return [Key(self.flow_name, self.store.stored_name(self.parent[0]), self.parent[1])]
        eager = self.request is not None and self.request.is_eager
        if self.joins is None and not eager:
            return []
        runs = self.store.flow_runs
        tasks = tasks_of(runs.run_records(self.run_id, (RESULT, ERROR)))
        if eager:
            return [task.key for task in tasks if task.id != self.task_id]
        if header := header_of(self.task_id, self.joins or "", tasks):
            return header
        # By what was started: messages of Celery's first protocol don't tell which group a task is a member of.
        plan = runs.plan(self.flow_name, self.run_id)
        members = () if plan is None else plan.parents().get(self.task_id, ())
        by_id = {task.id: task.key for task in tasks}
        return [by_id[member.id] for member in members if member.id in by_id]

    def parent_results(self) -> dict[str, list[Any]]:
        """Return the results of all parents that succeeded, by task name; several of one name in their order."""
        keys = self.parents()
        results: dict[str, list[Any]] = {}
        for key, (found, value) in zip(keys, self.store.flow_batches.retrieve(keys), strict=True):
            if found:
                results.setdefault(key.task_name, []).append(value)
        return results

    def parent_task_results(self, task_name: str) -> list[Any]:
        """Return the results of the parents of that name that succeeded."""
        name = self.store.stored_name(task_name)
        keys = [key for key in self.parents() if key.task_name == name]
        return [value for found, value in self.store.flow_batches.retrieve(keys) if found]

    def parent_task_result(self, task_name: str, index: int = -1) -> Any:
        """Return the result of a parent of that name.

        Args:
            task_name: its Celery name, or its ``storage_task_name``.
            index: which one, where there are several.

        Raises:
            NotFoundError: no such parent has a stored result.
        """
        return _pick(self.parent_task_results(task_name), index, f"no parent {task_name!r} of {self.key} has a result")

    def parent_task_exceptions(self, task_name: str) -> list[RemoteTaskError]:
        """Return the errors of the parents of that name that failed."""
        name = self.store.stored_name(task_name)
        keys = [key for key in self.parents() if key.task_name == name]
        return [error for error in self.store.flow_batches.retrieve_errors(keys) if error is not None]

    def parent_task_exception(self, task_name: str, index: int = -1) -> RemoteTaskError:
        """Return the error of a parent of that name.

        Raises:
            NotFoundError: no such parent has a stored error.
        """
        errors = self.parent_task_exceptions(task_name)
        error: RemoteTaskError = _pick(errors, index, f"no parent {task_name!r} of {self.key} has an error")
        return error

    def parent_flow_result(self, flow_name: str, task_name: str, index: int = -1) -> Any:
        """Return the result of a task in a flow that this run started.

        Args:
            index: which one, over all runs of that flow that tasks of this run started, in the order of starting.

        Raises:
            NotFoundError: there is no such result.
        """
        name = self.store.stored_name(task_name)
        keys = [
            task.key
            for run_id in self._child_runs(flow_name)
            for task in self.store.run(run_id).tasks()
            if task.name == name and task.state == SUCCESS
        ]
        results = [value for found, value in self.store.flow_batches.retrieve(keys) if found]
        message = f"run {self.run_id} has started no flow {flow_name!r} in which {task_name!r} has a result"
        return _pick(results, index, message)

    def _child_runs(self, flow_name: str) -> list[str]:
        found = [record for _, record in self.store.run_records(self.run_id, (RUN,)) if record.ref.name]
        found.sort(key=lambda record: record.headers.get("started_at", 0))
        return [record.key.task_id for record in found if record.key.flow_name == flow_name]


def _pick(found: list[Any], index: int, message: str) -> Any:
    try:
        return found[index]
    except IndexError:
        raise NotFoundError(message if not found else f"{message} at index {index}; there are {len(found)}") from None
