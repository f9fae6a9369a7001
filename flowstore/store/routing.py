"""Finding the storage of a task or flow, and the policies for it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flowstore.config import Configuration, StorageEntry, TaskEntry
from flowstore.errors import UnknownStorageError

_MAX_KNOWN: Final = 1024
"""The number of cached routes. Finding one takes as long as all the rest above a storage."""

_INTERNAL: Final = frozenset({"celery.chord_unlock", "celery.backend_cleanup"})
"""Tasks by which Celery itself waits and cleans up."""


@dataclass(frozen=True, slots=True)
class Route:
    """The storage of a task, and the policies it is stored with.

    Attributes:
        storage: the entry of the storage.
        task_name: the name under which the task is stored: its ``storage_task_name``, or else its own name.
        readonly: whether nothing may be written or deleted.
        output_schema: the JSON Schema for results, or ``None``.
        expires_in: seconds until results and errors expire; ``None`` for never.
    """

    storage: StorageEntry
    task_name: str
    readonly: bool = False
    output_schema: Mapping[str, Any] | None = None
    expires_in: float | None = None


class Router:
    """Find routes in a configuration, without I/O. Thread-safe."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._cached_route = functools.lru_cache(maxsize=_MAX_KNOWN)(self._route)
        self._aliases: dict[str, TaskEntry] = {}
        for entry in configuration.tasks.values():
            if entry.storage_task_name is not None:
                self._aliases.setdefault(entry.storage_task_name, entry)

    def find_route(self, flow_name: str, task_name: str) -> Route | None:
        """Return the route of a task, or None if it is not stored.

        The storage of the task comes first, then that of its flow, then the default storage. Tasks of Celery itself
        (``celery.chord_unlock``, ``celery.backend_cleanup``) are stored only if the configuration names them.

        Args:
            task_name: the name of the Celery task, or its ``storage_task_name``.
        """
        return self._cached_route(flow_name, task_name)

    def _route(self, flow_name: str, task_name: str) -> Route | None:
        entry = self._task_entry(task_name)
        if entry is None and task_name in _INTERNAL:
            return None
        storage = self._storage(flow_name, entry)
        if storage is None:
            return None
        expires_in = self._expiry(flow_name, entry, storage)
        if entry is None:
            return Route(storage, task_name, expires_in=expires_in)
        stored_as = entry.storage_task_name or entry.name
        return Route(storage, stored_as, entry.storage_readonly, entry.output_schema, expires_in)

    def get_route(self, flow_name: str, task_name: str) -> Route:
        """Return the route of a task.

        Raises:
            UnknownStorageError: it is not stored.
        """
        route = self.find_route(flow_name, task_name)
        if route is None:
            raise UnknownStorageError(
                f"task {task_name!r} of flow {flow_name!r} has no storage: name one under tasks, under flows, "
                "or as default_storage under global"
            )
        return route

    def stored_name(self, task_name: str) -> str:
        """Return the name under which a task is stored."""
        entry = self._task_entry(task_name)
        return task_name if entry is None else entry.storage_task_name or entry.name

    def find_flow_storage(self, flow_name: str) -> StorageEntry | None:
        """Return the storage of a flow, or None."""
        return self._storage(flow_name, None)

    def get_flow_storage(self, flow_name: str) -> StorageEntry:
        """Return the storage of a flow, for its runs, variables and history.

        Raises:
            UnknownStorageError: the flow has no storage.
        """
        entry = self.find_flow_storage(flow_name)
        if entry is None:
            raise UnknownStorageError(f"flow {flow_name!r} has no storage: name one under flows, or a default_storage")
        return entry

    def keeps_history(self, flow_name: str, is_error: bool) -> bool:
        """Return whether the end of a task goes into the history.

        The policy of the flow comes before that of its storage.

        Args:
            is_error: whether the task failed.
        """
        flow = self._configuration.flows.get(flow_name)
        policy = None if flow is None else flow.history
        if policy is None:
            entry = self.find_flow_storage(flow_name)
            policy = "none" if entry is None else entry.history
        return policy == "all" or (policy == "errors" and is_error)

    def get_entry(self, name: str | None = None) -> StorageEntry:
        """Return the entry of a storage; without a name, of the default storage.

        Raises:
            UnknownStorageError: it is not declared, or no default is.
        """
        storages = self._configuration.storages
        if name is None:
            name = self._configuration.default_storage
            if name is None:
                raise UnknownStorageError("no default_storage is declared: name a storage, or declare one under global")
        if name not in storages:
            raise UnknownStorageError(f"no storage named {name!r}; declared are: {', '.join(storages) or 'none'}")
        return storages[name]

    def flow_expires_in(self, flow_name: str) -> float | None:
        """Return the seconds until results of a flow expire, or None for never.

        A task may have another expiry.
        """
        storage = self.find_flow_storage(flow_name)
        return None if storage is None else self._expiry(flow_name, None, storage)

    def shortest_expiry(self) -> float | None:
        """Return the shortest expiry of all storages and flows, in seconds.

        Returns None if nothing expires.
        """
        configuration = self._configuration
        spans = [
            *(storage.expires for storage in configuration.storages.values()),
            *(flow.expires for flow in configuration.flows.values()),
        ]
        return min((span for span in spans if span is not None), default=None)

    def run_storages(self) -> list[StorageEntry]:
        """Return the storages of runs, in the order of declaration."""
        configuration = self._configuration
        names = {configuration.default_storage, *(flow.storage for flow in configuration.flows.values())}
        return [entry for name, entry in configuration.storages.items() if name in names]

    def used_storages(self) -> list[StorageEntry]:
        """Return the storages of tasks and flows, in the order of declaration."""
        configuration = self._configuration
        named = {task.storage for task in configuration.tasks.values()}
        kept = self.run_storages()
        return [entry for entry in configuration.storages.values() if entry.name in named or entry in kept]

    def readonly_tasks(self) -> frozenset[str]:
        """Return the names under which all that is stored is read-only."""
        readonly: set[str] = set()
        writable: set[str] = set()
        for task in self._configuration.tasks.values():
            (readonly if task.storage_readonly else writable).add(task.storage_task_name or task.name)
        return frozenset(readonly - writable)

    def _task_entry(self, task_name: str) -> TaskEntry | None:
        return self._configuration.tasks.get(task_name) or self._aliases.get(task_name)

    def _expiry(self, flow_name: str, entry: TaskEntry | None, storage: StorageEntry) -> float | None:
        """Return the expiry of a task: its own, its flow's or its storage's."""
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
