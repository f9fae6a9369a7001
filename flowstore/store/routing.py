"""Which storage a task of a flow has, under which name, and by which policies."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowstore.config import Configuration, HistoryPolicy, StorageEntry, TaskEntry
from flowstore.errors import UnknownStorageError

_KNOWN = 1024
"""For how many tasks the route is kept: finding it takes as long as the rest that is done above a storage."""

_INTERNAL = frozenset({"celery.chord_unlock", "celery.backend_cleanup"})


@dataclass(frozen=True, slots=True)
class Route:
    """The configuration's answer for one task.

    Attributes:
        storage: the storage's entry.
        task_name: the name under which the task is stored: its own, or its ``storage_task_name``.
        readonly: whether nothing may be written.
        output_schema: the JSON Schema that results have to satisfy, or ``None``.
        expires_in: how many seconds its results and errors are kept; ``None`` for ever.
    """

    storage: StorageEntry
    task_name: str
    readonly: bool = False
    output_schema: Mapping[str, Any] | None = None
    expires_in: float | None = None


class Router:
    """Answer from a configuration, without any I/O. Immutable, hence safe in threads."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._known = functools.lru_cache(maxsize=_KNOWN)(self._find)
        self._aliases: dict[str, TaskEntry] = {}
        for entry in configuration.tasks.values():
            if entry.storage_task_name is not None:
                self._aliases.setdefault(entry.storage_task_name, entry)

    def route(self, flow_name: str, task_name: str) -> Route | None:
        """Return the route of a task, or ``None`` if it is not stored.

        A task's own storage comes first, then its flow's, then the default one. The tasks by which Celery itself waits
        and cleans up are stored only where the configuration names them.

        Args:
            task_name: the Celery task's name, or its ``storage_task_name``.
        """
        return self._known(flow_name, task_name)

    def _find(self, flow_name: str, task_name: str) -> Route | None:
        entry = self._entry(task_name)
        if entry is None and task_name in _INTERNAL:
            return None
        storage = self._storage(flow_name, entry)
        if storage is None:
            return None
        expires_in = self._expires(flow_name, entry, storage)
        if entry is None:
            return Route(storage, task_name, expires_in=expires_in)
        stored_as = entry.storage_task_name or entry.name
        return Route(storage, stored_as, entry.storage_readonly, entry.output_schema, expires_in)

    def required(self, flow_name: str, task_name: str) -> Route:
        """Return the route of a task.

        Raises:
            UnknownStorageError: it is not stored.
        """
        route = self.route(flow_name, task_name)
        if route is None:
            raise UnknownStorageError(
                f"task {task_name!r} of flow {flow_name!r} has no storage: name one under tasks, under flows, "
                "or as default_storage under global"
            )
        return route

    def stored_name(self, task_name: str) -> str:
        """Return the name under which a task is stored."""
        entry = self._entry(task_name)
        return task_name if entry is None else entry.storage_task_name or entry.name

    def flow_storage(self, flow_name: str) -> StorageEntry | None:
        """Return the storage that keeps the records of a flow's runs."""
        return self._storage(flow_name, None)

    def required_flow_storage(self, flow_name: str) -> StorageEntry:
        """Return the storage that keeps what belongs to a flow as a whole: its runs, variables and history.

        Raises:
            UnknownStorageError: the flow has none.
        """
        entry = self.flow_storage(flow_name)
        if entry is None:
            raise UnknownStorageError(f"flow {flow_name!r} has no storage: name one under flows, or a default_storage")
        return entry

    def history(self, flow_name: str) -> HistoryPolicy:
        """Return which ends of a flow's tasks are noted down: the flow's own word comes before its storage's."""
        flow = self._configuration.flows.get(flow_name)
        if flow is not None and flow.history is not None:
            return flow.history
        entry = self.flow_storage(flow_name)
        return "none" if entry is None else entry.history

    def declared(self, name: str | None = None) -> StorageEntry:
        """Return a storage by its name; without one, the default storage.

        Raises:
            UnknownStorageError: it is not declared, or there is no default.
        """
        storages = self._configuration.storages
        if name is None:
            name = self._configuration.default_storage
            if name is None:
                raise UnknownStorageError("there is no default_storage: name a storage, or declare one under global")
        if name not in storages:
            raise UnknownStorageError(f"no storage named {name!r}; declared are: {', '.join(storages) or 'none'}")
        return storages[name]

    def flow_expires_in(self, flow_name: str) -> float | None:
        """Return how many seconds what a flow's tasks store is kept, unless a task says otherwise."""
        storage = self.flow_storage(flow_name)
        return None if storage is None else self._expires(flow_name, None, storage)

    def shortest_expiry(self) -> float | None:
        """Return the least number of seconds that anything is kept; ``None`` if all is kept for ever."""
        configuration = self._configuration
        spans = [
            *(storage.expires for storage in configuration.storages.values()),
            *(flow.expires for flow in configuration.flows.values()),
        ]
        return min((span for span in spans if span is not None), default=None)

    def run_storages(self) -> list[StorageEntry]:
        """Return the storages that keep records of runs, in the order of their declaration."""
        configuration = self._configuration
        names = {configuration.default_storage, *(flow.storage for flow in configuration.flows.values())}
        return [entry for name, entry in configuration.storages.items() if name in names]

    def used_storages(self) -> list[StorageEntry]:
        """Return the storages that some task or flow is given, in the order of their declaration."""
        configuration = self._configuration
        named = {task.storage for task in configuration.tasks.values()}
        kept = self.run_storages()
        return [entry for entry in configuration.storages.values() if entry.name in named or entry in kept]

    def _entry(self, task_name: str) -> TaskEntry | None:
        return self._configuration.tasks.get(task_name) or self._aliases.get(task_name)

    def _expires(self, flow_name: str, entry: TaskEntry | None, storage: StorageEntry) -> float | None:
        """Return the expiry that is said nearest to a task: by its own entry, its flow's or its storage's."""
        if entry is not None and entry.has_expires_key:
            return entry.expires
        flow = self._configuration.flows.get(flow_name)
        return flow.expires if flow is not None and flow.has_expires_key else storage.expires

    def _storage(self, flow_name: str, entry: TaskEntry | None) -> StorageEntry | None:
        if entry is not None and entry.has_storage_key:
            name = entry.storage
        else:
            flow = self._configuration.flows.get(flow_name)
            name = (flow and flow.storage) or self._configuration.default_storage
        return None if name is None else self._configuration.storages[name]
