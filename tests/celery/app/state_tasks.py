"""Tasks that keep more than their results, for the app of the tests."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery, Task

from flowstore import current
from tests.celery.adapters import note

STEPS = 4


def register(app: Celery, folder: Path) -> None:
    """Give an app all tasks; the folder is where they leave traces."""

    @app.task(name="stepwise_retried", bind=True, autoretry_for=(ValueError,), max_retries=STEPS, default_retry_delay=0)
    def stepwise_retried(self: Task) -> Any:
        """Do one step in each attempt."""
        checkpoints = current().checkpoints
        for step in range(STEPS):
            if str(step) not in checkpoints:
                note(folder / f"steps of {self.request.id}", str(step))
                checkpoints[str(step)] = current().attempt
                raise ValueError(f"enough for attempt {current().attempt}")
        return dict(checkpoints.items())

    @app.task(name="stepwise_killed", acks_late=True, reject_on_worker_lost=True)
    def stepwise_killed(name: str) -> Any:
        """Hang after the second step, the first time."""
        checkpoints = current().checkpoints
        for step in range(STEPS):
            if str(step) not in checkpoints:
                note(folder / f"steps of {name}", str(step))
                checkpoints[str(step)] = os.getpid()
                if step == 1:
                    (folder / f"hanging {name}").write_text(str(os.getpid()))
                    time.sleep(3600)
        return dict(checkpoints.items())

    @app.task(name="count")
    def count(times: int, *_: Any) -> int:
        """Count in the run, and in the flow, together with many others."""
        here = current()
        of_flow = here.store.variables(here.flow_name)
        for _time in range(times):
            here.variables.update("count", lambda old: old + 1, default=0)
            of_flow.update("count", lambda old: old + 1, default=0)
        here.variables.update("pids", lambda old: sorted({*old, os.getpid()}), default=[])
        return os.getpid()

    @app.task(name="count_carelessly")
    def count_carelessly(times: int) -> None:
        for _time in range(times):
            current().variables["count"] = current().variables.get("count", 0) + 1

    @app.task(name="plain_of_anything")
    def plain_of_anything(*_: Any) -> int:
        return 1

    @app.task(name="elect")
    def elect() -> Any:
        return current().variables.get_or_set("leader", current().task_id)

    @app.task(name="load")
    def load(reference: Any) -> Any:
        assert isinstance(reference, dict)
        return current().store.load(reference)

    @app.task(name="remark")
    def remark(word: str) -> None:
        current().record_history(word, {"attempt": current().attempt})
