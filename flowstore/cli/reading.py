"""Reading records for listings, a page at a time, from one storage or several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowstore.record import Query, Record
    from flowstore.store import FlowStore
    from flowstore.store.flow import FlowRun, TaskRun
    from flowstore.store.plan import Plan

_PAGE = 200
_SHORTEST = 4  # characters of an abbreviated run id
_SEARCHED = 10_000  # runs, the latest first, among which one is looked for by the beginning of its id


@dataclass(slots=True)
class Listing:
    """Records of several storages, one storage after the other.

    Attributes:
        limit: how many records at most.
        cursor: where to begin, as an earlier listing's ``next_cursor`` said.
        payload: whether their values are read too.
        page: how many records are read at a time.
        next_cursor: known when all records have been taken; ``None`` where nothing follows.
        failures: the errors of storages that could not be read, by their names.
    """

    store: FlowStore
    storages: list[str]
    query: Query
    limit: int
    cursor: str | None = None
    payload: bool = False
    page: int = _PAGE
    next_cursor: str | None = None
    failures: dict[str, Exception] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[str, Record]]:
        from flowstore.errors import StorageError, UnsupportedError

        names, cursor = self._remaining()
        left = self.limit
        for name in names:
            while left:
                try:
                    page = self._scan(name, cursor, min(left, self.page))
                except UnsupportedError:
                    if len(self.storages) == 1:
                        raise
                    break  # it can't list anything: only records are listed
                except StorageError as exc:
                    self.failures[name] = exc
                    break
                for record in page.records:
                    yield name, record
                left -= len(page.records)
                cursor = page.cursor
                if cursor is None:
                    break
            if not left:
                self.next_cursor = self._following(name, cursor)
                return
            cursor = None

    def _scan(self, name: str, cursor: str | None, limit: int) -> Any:
        from flowstore.store.operations import as_records

        storage = as_records(self.store.storage(name))
        return storage.scan(self.query, limit=limit, cursor=cursor, payload=self.payload)

    def _remaining(self) -> tuple[list[str], str | None]:
        from flowstore.errors import NotFoundError

        if self.cursor is None:
            return self.storages, None
        name, _, cursor = self.cursor.partition(":")
        if name not in self.storages:
            raise NotFoundError(f"the cursor {self.cursor!r} does not belong to this listing")
        return self.storages[self.storages.index(name) :], cursor or None

    def _following(self, name: str, cursor: str | None) -> str | None:
        if cursor is not None:
            return f"{name}:{cursor}"
        later = self.storages[self.storages.index(name) + 1 :]
        return f"{later[0]}:" if later else None


def storages_of_runs(store: FlowStore, flow_name: str | None = None) -> list[str]:
    """Return the names of the storages that know of flow runs: of one flow, or of all.

    Raises:
        UnknownStorageError: the flow has no storage.
    """
    if flow_name is not None:
        # A run's own record belongs to no task.
        return [store.router.required(flow_name, "").storage.name]
    return [entry.name for entry in store.router.run_storages()]


def storages_in_use(store: FlowStore) -> list[str]:
    """Return the names of the storages that some task or flow is given."""
    return [entry.name for entry in store.router.used_storages()]


def find_run(store: FlowStore, text: str) -> FlowRun:
    """Return a run by its id, or by the beginning of its id where only one of the latest begins so.

    Raises:
        NotFoundError: there is none, or there are several.
    """
    from flowstore.errors import NotFoundError
    from flowstore.record import RUN, Query

    try:
        return store.run(text)
    except NotFoundError:
        if len(text) < _SHORTEST:
            raise
        listing = Listing(store, storages_of_runs(store), Query(kinds=(RUN,), descending=True), _SEARCHED)
        ids = {record.key.task_id for _, record in listing if record.key.task_id.startswith(text)}
        if not ids:
            raise
    if len(ids) > 1:
        listed = ", ".join(islice(sorted(ids), 5))
        raise NotFoundError(f"{len(ids)} runs have ids that begin with {text!r}: {listed}")
    return store.run(ids.pop())


def read_run(store: FlowStore, run: FlowRun) -> tuple[list[TaskRun], Plan | None, dict[str, Exception]]:
    """Return what ran in a run and what was planned, as far as it can be read, and the errors of the other storages."""
    from flowstore.errors import StorageError
    from flowstore.record import ERROR, RESULT
    from flowstore.store.flow import tasks_of

    failures: dict[str, StorageError] = {}
    plan = None
    try:
        plan = store.flow_runs.plan(run.flow_name, run.id)
    except StorageError as exc:
        failures[storages_of_runs(store, run.flow_name)[0]] = exc
    records = store.flow_runs.run_records(run.id, (RESULT, ERROR), failures)
    tasks = tasks_of(records, lambda: {} if plan is None else plan.parents())
    return tasks, plan, dict(failures)


def task_row(task: TaskRun) -> dict[str, Any]:
    """Return the facts of a task as plain data."""
    from flowstore.cli.text import moment

    return {
        "flow": task.key.flow_name,
        "task": task.name,
        "id": task.id,
        "state": task.state,
        "attempt": task.attempt,
        "failed_attempts": list(task.failed_attempts),
        "storage": task.storage,
        "size": task.size,
        "published_at": moment(task.published_at),
        "started_at": moment(task.started_at),
        "finished_at": moment(task.finished_at),
        "parents": [[parent.task_name, parent.task_id] for parent in task.parents],
        "worker": task.worker,
        "error": task.error,
    }
