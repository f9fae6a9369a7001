"""Read records and runs from one storage or several, a page at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from flowstore.cli.status import end_with_failures, say
from flowstore.cli.text import moment, printable

if TYPE_CHECKING:
    from flowstore.record import Query, Record
    from flowstore.storage import RecordStorage
    from flowstore.store import FlowStore
    from flowstore.store.flow_run import FlowRun
    from flowstore.store.plan import Plan
    from flowstore.store.task_run import TaskRun

_PAGE: Final = 200
_SHORTEST: Final = 4  # characters of an abbreviated run id
_SEARCHED: Final = 10_000  # latest runs that are searched for an abbreviated id


@dataclass(slots=True)
class Listing:
    """An iterable of (storage name, record), one storage after the other.

    Attributes:
        limit: the maximum number of records.
        cursor: the ``next_cursor`` of an earlier listing, to continue from.
        payload: whether to read payloads.
        page: how many records to read at a time.
        next_cursor: where to continue; set at the end of the iteration, ``None`` if nothing follows.
        failures: the errors of storages that could not be read, by name.
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
                    break  # the adapter can't list
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
        return records_of(self.store, name).scan(self.query, limit=limit, cursor=cursor, payload=self.payload)

    def _remaining(self) -> tuple[list[str], str | None]:
        from flowstore.errors import NotFoundError

        if self.cursor is None:
            return self.storages, None
        name, _, cursor = self.cursor.partition(":")
        if name not in self.storages:
            raise NotFoundError(f"cursor {self.cursor!r} does not belong to this listing")
        return self.storages[self.storages.index(name) :], cursor or None

    def _following(self, name: str, cursor: str | None) -> str | None:
        if cursor is not None:
            return f"{name}:{cursor}"
        later = self.storages[self.storages.index(name) + 1 :]
        return f"{later[0]}:" if later else None


def finish(listing: Listing) -> None:
    """Print how to continue a listing; end the command on failures."""
    if listing.next_cursor is not None:
        say(f"there may be more: continue with --cursor '{printable(listing.next_cursor)}'")
    end_with_failures(listing.failures, len(listing.storages))


def records_of(store: FlowStore, name: str) -> RecordStorage:
    """Return a storage that keeps records, connected.

    Raises:
        UnknownStorageError: no storage has this name.
        UnsupportedError: the storage keeps no records.
    """
    from flowstore.store.operations import as_records

    return as_records(store.storage(name))


def storages_of_runs(store: FlowStore, flow_name: str | None = None) -> list[str]:
    """Return the names of the storages with the runs of one flow, or of all.

    Raises:
        UnknownStorageError: the flow has no storage.
    """
    if flow_name is not None:
        # A run's own record belongs to no task.
        return [store._router.get_route(flow_name, "").storage.name]
    return [entry.name for entry in store._router.run_storages()]


def storages_in_use(store: FlowStore) -> list[str]:
    """Return the names of the storages that some task or flow uses."""
    return [entry.name for entry in store._router.used_storages()]


def find_run(store: FlowStore, text: str) -> FlowRun:
    """Return a run by its id, or by the first characters of its id.

    Raises:
        NotFoundError: no run matches, or several of the latest do.
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
        raise NotFoundError(f"{len(ids)} runs have ids that begin with {text!r}: {listed}; give more characters")
    return store.run(ids.pop())


def read_run(store: FlowStore, run: FlowRun) -> tuple[list[TaskRun], Plan | None, dict[str, Exception]]:
    """Return the tasks of a run, its plan, and the errors by storage."""
    from flowstore.errors import StorageError
    from flowstore.record import ERROR, RESULT
    from flowstore.store.task_run import tasks_of

    failures: dict[str, StorageError] = {}
    plan = None
    try:
        plan = store._run_reader.plan(run.flow_name, run.id)
    except StorageError as exc:
        failures[storages_of_runs(store, run.flow_name)[0]] = exc
    records = store._run_reader.records(run.id, (RESULT, ERROR), failures)
    tasks = tasks_of(records, lambda: {} if plan is None else plan.parents())
    return tasks, plan, dict(failures)


def task_row(task: TaskRun) -> dict[str, Any]:
    """Return a task as a row for output."""
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
