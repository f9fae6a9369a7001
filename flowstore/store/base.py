"""What all chapters of ``FlowStore`` share: storages and routes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from flowstore.config import Configuration
from flowstore.duration import Duration, seconds
from flowstore.record import Key
from flowstore.store.operations import Operations
from flowstore.store.outcomes import Outcomes
from flowstore.store.registry import Registry
from flowstore.store.routing import Route, Router
from flowstore.store.run_reader import RunReader


class Omitted:
    """A sentinel for an omitted argument. Its repr is its meaning."""

    def __init__(self, meaning: str) -> None:
        self._meaning = meaning

    def __repr__(self) -> str:
        return f"<{self._meaning}>"


RAISE: Final[Any] = Omitted("raise")
"""No default value was given: what is missing is an error."""

CONFIGURED: Final[Any] = Omitted("configured")
"""No setting was given: the configuration decides."""


class StoreBase:
    """The base of the chapters of ``FlowStore``, which are mixins.

    The underscored attributes are internal to flowstore. Its ``celery`` and ``cli`` packages use them too.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._router = Router(configuration)
        self._registry = Registry(configuration)
        self._operations = Operations(self._registry)
        self._outcomes = Outcomes(configuration, self._operations)
        self._run_reader = RunReader(self._router, self._operations, self._outcomes)

    def _routed(
        self, flow_name: str, task_name: str, task_id: str, expires_in: Duration | None = CONFIGURED
    ) -> tuple[Route, Key]:
        """Return the route of a task, and the key under which it is stored.

        Raises:
            UnknownStorageError: the task has no storage.
        """
        route = self._router.get_route(flow_name, task_name)
        if expires_in is not CONFIGURED:
            route = replace(route, expires_in=None if expires_in is None else seconds(expires_in))
        return route, Key(flow_name, route.task_name, task_id)
