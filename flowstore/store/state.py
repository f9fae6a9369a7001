"""Named values that change: checkpoints, variables and settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowstore.errors import InvalidKeyError
from flowstore.record import CHECKPOINT, VARIABLE, Key, Query
from flowstore.store.base import StoreBase
from flowstore.store.documents import Documents
from flowstore.store.operations import Operations
from flowstore.store.routing import Route


class Checkpoints(Documents):
    """Values that a task keeps by name while it runs.

    An execution after a retry or a redelivery finds them again.
    """

    def __init__(self, operations: Operations, route: Route, key: Key, run_id: str | None) -> None:
        super().__init__(operations, route, CHECKPOINT, key, run_id=run_id)

    def _facts(self) -> Mapping[str, Any]:
        if self._run_id is None:
            self._run_id = self._recorded_run()
        return super()._facts()

    def _recorded_run(self) -> str | None:
        """Return the run id in the task's other records.

        The checkpoints need it, to be deleted with the run.
        """
        key = self._key
        query = Query(flow_name=key.flow_name, task_name=key.task_name, task_id=key.task_id)
        records = self._operations.listed(self._entry, query, payload=False)
        return next((record.run_id for record in records if record.run_id is not None), None)


class StateMixin(StoreBase):
    """Return mappings of named values that stay in a storage."""

    def checkpoints(self, flow_name: str, task_name: str, task_id: str, *, run_id: str | None = None) -> Checkpoints:
        """Return the checkpoints of a task: values by name, in its storage.

        Every execution of the task finds them.

        Args:
            run_id: the run that they are deleted with; ``None`` for the one in the task's other records.

        Raises:
            UnknownStorageError: the task has no storage.
        """
        route, key = self._routed(flow_name, task_name, task_id)
        return Checkpoints(self._operations, route, key, run_id)

    def variables(self, flow_name: str, *, run_id: str | None = None) -> Documents:
        """Return variables: values by name that the tasks of a flow share.

        They are in the storage of the flow.

        Args:
            run_id: the run whose tasks share them, and with which they are deleted; ``None`` for variables that all
                runs of the flow share.

        Raises:
            UnknownStorageError: the flow has no storage.
        """
        if run_id == "":
            raise InvalidKeyError("run_id must not be empty: omit it for the variables that all runs share")
        # Variables of the flow are kept for ever, those of one run as long as its results.
        expires_in = None if run_id is None else self._router.flow_expires_in(flow_name)
        route = Route(self._router.get_flow_storage(flow_name), "", expires_in=expires_in)
        return Documents(self._operations, route, VARIABLE, Key(flow_name, "", run_id or ""), run_id=run_id)

    def documents(self, kind: str, storage: str | None = None) -> Documents:
        """Return values by name that belong to no flow.

        Args:
            kind: their kind, such as ``configuration``.
            storage: the configured name of their storage; ``None`` for the default storage.

        Raises:
            UnknownStorageError: the storage is not declared, or no default is.
        """
        return Documents(self._operations, Route(self._router.get_entry(storage), ""), kind, Key("", "", ""))
