"""Flow runs: what ran, how it went, and the result in the end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from flowstore.errors import ExpiredError, NotFoundError, UnsupportedError
from flowstore.failure import RemoteTaskError
from flowstore.patience import limited
from flowstore.record import ERROR, RESULT, Key, Record

SUCCESS, FAILURE, RETRY, REVOKED = "SUCCESS", "FAILURE", "RETRY", "REVOKED"

_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5


class RunSource(Protocol):
    """What a flow run reads from; ``FlowStore`` is one."""

    def run_records(self, run_id: str, kinds: tuple[str, ...]) -> Iterator[tuple[str, Record]]:
        """Iterate over the records of a run, without payloads, each with its storage's name."""

    def plan(self, flow_name: str, run_id: str) -> Plan | None:
        """Return what the run's start noted down, if it was started with ``FlowStore.start``."""

    def stores(self, flow_name: str, task_name: str) -> bool:
        """Tell whether results of that task are stored."""

    def retrieve(self, flow_name: str, task_name: str, task_id: str) -> Any: ...

    def retrieve_error(self, flow_name: str, task_name: str, task_id: str) -> RemoteTaskError: ...


@dataclass(frozen=True, slots=True)
class TaskRun:
    """A task that ran in a flow run.

    Attributes:
        key: flow name, task name as stored, and task id.
        state: ``SUCCESS``, ``FAILURE``, ``REVOKED``, or ``RETRY`` while only failed attempts are known.
        attempt: the last execution that is known, counted from 1.
        published_at, started_at, finished_at: seconds since the epoch, by the clocks of the machines that did it.
        parents: the tasks whose results it was given; for a chord's body all tasks of the header.
        size: of the stored payload, in bytes.
        storage: the storage's configured name.
        error: type and message of the error, if it failed.
        failed_attempts: the numbers of the attempts whose errors are stored apart.
        headers: all facts in the record.
    """

    key: Key
    state: str
    attempt: int
    storage: str
    size: int
    published_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    parents: tuple[Key, ...] = ()
    worker: str | None = None
    error: str | None = None
    failed_attempts: tuple[int, ...] = ()
    headers: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        return self.key.task_name

    @property
    def id(self) -> str:
        return self.key.task_id

    def feeds(self, joins: str | None, body_id: str) -> bool:
        """Tell whether this is a task of the header of the chord with that header group or that body."""
        return self.headers.get("chord_id") == body_id or (self.group_id is not None and self.group_id == joins)

    @property
    def group_id(self) -> str | None:
        """The group that this task is a member of.

        A chord's body carries its header's group id too: a task without an index, a group with one for each member.
        """
        group_id = self.headers.get("group_id") if "group_index" in self.headers else None
        return None if group_id == self.headers.get("joins") else group_id


@dataclass(frozen=True, slots=True)
class Plan:
    """Where a flow run's result will be found.

    Attributes:
        result: ``[task name, task id]`` of the last task, or ``{"group": [...]}`` of such.
        members: the ids of all tasks of the canvas: if one of them fails, there will be no result.
    """

    result: Any
    members: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"result": self.result, "members": list(self.members)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        return cls(data["result"], tuple(data["members"]))


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
        return tasks_of(self._source.run_records(self.id, (RESULT, ERROR)))

    def get(self, timeout: float | None = None) -> Any:
        """Wait for the run's result and return it: the last task's, or a list for a group.

        Args:
            timeout: seconds; ``None`` waits as long as it takes. No storage that can't be reached is asked again after
                that time.

        Raises:
            RemoteTaskError: a task of the canvas failed; shows its stored error.
            TimeoutError: the time is up; the run goes on.
            UnsupportedError: the result is not stored, because the last task has no storage, or because the run was
                not started with ``FlowStore.start``.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with limited(deadline):
            plan = self._source.plan(self.flow_name, self.id)
        if plan is None:
            raise UnsupportedError(f"what {self!r} results in is not known: it was not started with FlowStore.start")
        finals = list(_leaves(plan.result))
        for task_name, _ in finals:
            if not self._source.stores(self.flow_name, task_name):
                raise UnsupportedError(f"the result of {self!r} is not stored: its task {task_name!r} has no storage")
        found: dict[tuple[str, str], Any] = {}
        pause = _FIRST_PAUSE
        while True:
            with limited(deadline):
                self._collect(finals, found)
                if len(found) < len(set(finals)):
                    self._look_around(plan.members, finals, found)
            if len(found) == len(set(finals)):
                return _assembled(plan.result, found)
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"{self!r} gave no result within {timeout} s")
            time.sleep(pause if deadline is None else max(0.0, min(pause, deadline - time.monotonic())))
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _collect(self, finals: Sequence[tuple[str, str]], found: dict[tuple[str, str], Any]) -> None:
        for task_name, task_id in finals:
            if (task_name, task_id) not in found:
                try:
                    found[task_name, task_id] = self._source.retrieve(self.flow_name, task_name, task_id)
                except ExpiredError:
                    raise  # it was there, and won't come
                except NotFoundError:
                    return

    def _look_around(
        self, members: Sequence[str], finals: Sequence[tuple[str, str]], found: dict[tuple[str, str], Any]
    ) -> None:
        """Raise the error of a task that failed; find the results of tasks that took the place of final ones.

        Celery's ``Task.replace`` gives another task the replaced one's id; its result is stored under its own name.
        """
        wanted = set(members)
        missing = {final[1]: final for final in finals if final not in found}
        for task in self.tasks():
            if task.state in (FAILURE, REVOKED) and task.id in wanted:
                raise self._source.retrieve_error(task.key.flow_name, task.name, task.id)
            if task.state == SUCCESS and task.id in missing:
                found[missing[task.id]] = self._source.retrieve(task.key.flow_name, task.name, task.id)


def tasks_of(records: Iterator[tuple[str, Record]]) -> list[TaskRun]:
    """Put together what ran from the records of a run, given without payloads and with their storages' names."""
    by_key: dict[Key, list[tuple[str, Record]]] = {}
    for storage, record in records:
        by_key.setdefault(record.key, []).append((storage, record))
    tasks = [_task(key, found) for key, found in by_key.items()]
    groups: dict[str, list[TaskRun]] = {}
    for task in tasks:
        if task.group_id is not None:
            groups.setdefault(task.group_id, []).append(task)
    tasks = [_joined(task, groups) for task in tasks]
    return sorted(tasks, key=lambda task: (task.started_at or task.finished_at or 0.0, task.key))


def _task(key: Key, found: list[tuple[str, Record]]) -> TaskRun:
    storage, record = _decisive(found)
    headers = record.headers
    return TaskRun(
        key=key,
        state=headers.get("state", SUCCESS if record.kind == RESULT else FAILURE),
        attempt=headers.get("attempt", 1),
        storage=storage,
        size=headers.get("size", 0),
        published_at=headers.get("published_at"),
        started_at=headers.get("started_at"),
        finished_at=headers.get("finished_at", headers.get("stored_at")),
        parents=tuple(Key(key.flow_name, name, task_id) for name, task_id in headers.get("parents", ())),
        worker=headers.get("worker"),
        error=headers.get("error"),
        failed_attempts=tuple(sorted(r.headers.get("attempt", 0) for _, r in found if r.kind == ERROR and r.ref.name)),
        headers=headers,
    )


def _joined(task: TaskRun, groups: Mapping[str, list[TaskRun]]) -> TaskRun:
    """Give the first task of a chord's body its parents, which are known by their group only."""
    header = groups.get(task.headers.get("joins", ""), [])
    header = sorted(header, key=lambda part: part.headers.get("group_index") or 0)
    return replace(task, parents=tuple(part.key for part in header)) if header else task


def _decisive(found: list[tuple[str, Record]]) -> tuple[str, Record]:
    """Pick the record that tells a task's state: a success wins, then the final error, then the last attempt's."""

    def rank(item: tuple[str, Record]) -> tuple[int, int]:
        record = item[1]
        weight = 2 if record.kind == RESULT else 1 if not record.ref.name else 0
        return weight, record.headers.get("attempt", 0)

    return max(found, key=rank)


def finals_of(plan: Plan) -> set[str]:
    """Return the ids of the tasks whose results a run results in."""
    return {task_id for _, task_id in _leaves(plan.result)}


def _leaves(result: Any) -> Iterator[tuple[str, str]]:
    if isinstance(result, Mapping):
        for part in result["group"]:
            yield from _leaves(part)
    else:
        task_name, task_id = result
        yield task_name, task_id


def _assembled(result: Any, found: Mapping[tuple[str, str], Any]) -> Any:
    if isinstance(result, Mapping):
        return [_assembled(part, found) for part in result["group"]]
    task_name, task_id = result
    return found[task_name, task_id]
