"""Which storage a task of a flow has, under which name, and by which policies."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowstore.config import Configuration, StorageEntry, TaskEntry
from flowstore.errors import UnknownStorageError

_ROUTES = 1000
_INTERNAL = frozenset({"celery.chord_unlock", "celery.backend_cleanup"})


@dataclass(frozen=True, slots=True)
class Route:
    """The configuration's answer for one task.

    Attributes:
        storage: the storage's entry.
        task_name: the name under which the task is stored: its own, or its ``storage_task_name``.
        readonly: whether nothing may be written.
        output_schema: the JSON Schema that results have to satisfy, or ``None``.
    """

    storage: StorageEntry
    task_name: str
    readonly: bool = False
    output_schema: Mapping[str, Any] | None = None


class Router:
    """Answer from a configuration, without any I/O. Immutable, hence safe in threads."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._aliases: dict[str, TaskEntry] = {}
        # Asked for each task that runs.
        self._routes = functools.lru_cache(_ROUTES)(self._route)
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
        return self._routes(flow_name, task_name)

    def _route(self, flow_name: str, task_name: str) -> Route | None:
        entry = self._entry(task_name)
        if entry is None and task_name in _INTERNAL:
            return None
        storage = self._storage(flow_name, entry)
        if storage is None:
            return None
        if entry is None:
            return Route(storage, task_name)
        return Route(storage, entry.storage_task_name or entry.name, entry.storage_readonly, entry.output_schema)

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

    def _storage(self, flow_name: str, entry: TaskEntry | None) -> StorageEntry | None:
        if entry is not None and entry.has_storage_key:
            name = entry.storage
        else:
            flow = self._configuration.flows.get(flow_name)
            name = (flow and flow.storage) or self._configuration.default_storage
        return None if name is None else self._configuration.storages[name]
