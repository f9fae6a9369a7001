"""The tasks that ran in a flow run, built from its records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from flowstore.record import ERROR, RESULT, Key, Record
from flowstore.store.plan import Member

SUCCESS: Final = "SUCCESS"
FAILURE: Final = "FAILURE"
RETRY: Final = "RETRY"
REVOKED: Final = "REVOKED"

_Headers = tuple[Mapping[str, "list[TaskRun]"], Mapping[str, "list[TaskRun]"]]

ENDED_BADLY: Final = (FAILURE, REVOKED)
"""States of tasks that ended without a result."""


@dataclass(frozen=True, slots=True)
class TaskRun:
    """A task that ran in a flow run.

    Attributes:
        key: the key under which it is stored.
        state: ``SUCCESS``, ``FAILURE``, ``REVOKED``, or ``RETRY`` while only failed attempts are known.
        attempt: the number of the last known execution, counted from 1.
        published_at, started_at, finished_at: seconds since the epoch, by the clocks of the machines involved.
        parents: the tasks whose results it received; for a chord's body all tasks of the header.
        size: the size of the stored payload, in bytes.
        storage: the configured name of the storage.
        error: type and message of the error, if it failed.
        failed_attempts: the numbers of the retried attempts whose errors are stored.
        body_of: if it ran in the body of a chord, the header's group, when its message carries that id.
        headers: the headers of the record.
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
    body_of: str | None = None
    headers: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        return self.key.task_name

    @property
    def id(self) -> str:
        return self.key.task_id

    @property
    def group_id(self) -> str | None:
        """The id of the group that this task is a member of, or None.

        The group id of a chord's header, which its body carries too, does not count.
        """
        group_id = self.headers.get("group_id") if "group_index" in self.headers else None
        return None if group_id in (self.headers.get("joins"), self.body_of) else group_id


def tasks_of(
    records: Iterable[tuple[str, Record]], canvas: Callable[[], Mapping[str, tuple[Member, ...]]] = dict
) -> list[TaskRun]:
    """Return the tasks of a run, from its records and their storages' names.

    The records may come without payloads.

    Args:
        canvas: returns the direct predecessors of tasks. It is called if the records don't show all parents.
    """
    by_key: dict[Key, list[tuple[str, Record]]] = {}
    for storage, record in records:
        by_key.setdefault(record.key, []).append((storage, record))
    tasks = _in_bodies([_task(key, found) for key, found in by_key.items()])
    header = _headers(tasks)
    joined = {task.key: _members(task.id, task.headers["joins"], header) for task in tasks if "joins" in task.headers}
    if not all(joined.values()):
        known = canvas()
        by_id = {task.id: task.key for task in tasks}
        for key, parents in joined.items():
            joined[key] = parents or [by_id[one.id] for one in known.get(key.task_id, ()) if one.id in by_id]
    tasks = [replace(task, parents=tuple(joined[task.key])) if joined.get(task.key) else task for task in tasks]
    return sorted(tasks, key=lambda task: (task.started_at or task.finished_at or 0.0, task.key))


def chord_members(body_id: str, joins: str, tasks: Sequence[TaskRun]) -> list[Key]:
    """Return the tasks of a chord's header that ran, in the chord's order.

    Args:
        body_id: the id of a first task of the body.
        joins: the id of the header's group.
    """
    return _members(body_id, joins, _headers(tasks))


def _task(key: Key, found: Sequence[tuple[str, Record]]) -> TaskRun:
    storage, record = _decisive(found)
    headers = record.headers
    return TaskRun(
        key=key,
        state=_state(record),
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


def _state(record: Record) -> str:
    state: str = record.headers.get("state") or (SUCCESS if record.kind == RESULT else FAILURE)
    return state


def _decisive(found: Sequence[tuple[str, Record]]) -> tuple[str, Record]:
    """Return the record that decides the state of a task.

    A result comes first, then the final error, then the error of the last attempt. But an error of the same execution
    that stored the result replaces it: the next task could not be sent, or a time limit was reached in between.
    """
    success = next((record for _, record in found if record.kind == RESULT), None)

    def rank(item: tuple[str, Record]) -> tuple[int, int]:
        record = item[1]
        weight = 2 if record is success else 1 if not record.ref.name else 0
        if weight == 1 and success is not None and _takes_back(record, success):
            weight = 3
        return weight, record.headers.get("attempt", 0)

    return max(found, key=rank)


def _takes_back(error: Record, success: Record) -> bool:
    """Return whether an error ended the execution that stored a result.

    The error of a lost process names only the attempt, since its start is unknown.
    """
    one, other = error.headers, success.headers
    if one.get("attempt", 1) != other.get("attempt", 1):
        return False
    if (begun := one.get("started_at")) is not None and begun != other.get("started_at"):
        return False
    ended, stored = one.get("finished_at"), other.get("finished_at")
    return ended is not None and stored is not None and ended >= stored


def _in_bodies(tasks: list[TaskRun]) -> list[TaskRun]:
    """Set ``body_of`` of tasks at the end of a chain in a chord's body."""
    by_key = {task.key: task for task in tasks}
    known: dict[tuple[Key, str], bool] = {}

    def follows(task: TaskRun, group_id: str) -> bool:
        line: list[Key] = []
        found = False
        while (task.key, group_id) not in known and task.key not in line:
            line.append(task.key)
            if task.headers.get("joins") == group_id:
                found = True
                break
            if len(task.parents) != 1 or task.parents[0] not in by_key:
                break
            task = by_key[task.parents[0]]
        else:
            found = known.get((task.key, group_id), False)
        known.update(((key, group_id), found) for key in line)
        return found

    joined = {task.headers["joins"] for task in tasks if "joins" in task.headers}
    return [
        replace(task, body_of=task.group_id)
        if (group_id := task.group_id) is not None and group_id in joined and task.parents and follows(task, group_id)
        else task
        for task in tasks
    ]


def _headers(tasks: Sequence[TaskRun]) -> _Headers:
    """Return the members of each group, by group id and by body id."""
    by_group: dict[str, list[TaskRun]] = {}
    by_body: dict[str, list[TaskRun]] = {}
    for task in sorted(tasks, key=lambda task: task.headers.get("group_index") or 0):
        if (group_id := task.group_id) is not None:
            by_group.setdefault(group_id, []).append(task)
        if (body_id := task.headers.get("chord_id")) is not None:
            by_body.setdefault(body_id, []).append(task)
    return by_group, by_body


def _members(body_id: str, joins: str, headers: _Headers) -> list[Key]:
    by_group, by_body = headers
    found = by_group.get(joins) or by_body.get(body_id, [])
    return [task.key for task in found if task.id != body_id]
