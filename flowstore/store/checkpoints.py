"""The checkpoints of a task: what it needs to go on where an earlier execution of it ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowstore.record import CHECKPOINT, Key, Query
from flowstore.store.documents import Documents
from flowstore.store.operations import Operations
from flowstore.store.routing import Route


class Checkpoints(Documents):
    """Values that a task keeps by name while it runs; a retried or redelivered execution finds them again."""

    def __init__(self, operations: Operations, route: Route, key: Key, run_id: str | None) -> None:
        super().__init__(operations, route, CHECKPOINT, key, run_id=run_id)

    def _facts(self) -> Mapping[str, Any]:
        if self._run_id is None:
            self._run_id = self._recorded_run()
        return super()._facts()

    def _recorded_run(self) -> str | None:
        """Return the run that the task's other records name: what is deleted with the run must bear its id."""
        key = self._key
        query = Query(flow_name=key.flow_name, task_name=key.task_name, task_id=key.task_id)
        records = self._operations.listed(self._entry, query, payload=False)
        return next((record.run_id for record in records if record.run_id is not None), None)
