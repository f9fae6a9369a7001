"""The app of the trial of restarts, for its client, its worker and its writers."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from celery import Celery, Task

from flowstore import FlowStore

SETTINGS = "RESTARTS_SETTINGS"
"""The variable that names the file of settings, for other processes than the client's."""


def build(settings: Mapping[str, Any], backend: str) -> tuple[Celery, FlowStore]:
    """Make the app and its store."""
    app = Celery("restarts", broker=settings["broker"], backend=backend, set_as_current=False)
    app.conf.update(
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
        worker_hijack_root_logger=False,
    )
    store = FlowStore(settings["configuration"], app=app)

    def returned(task: Task) -> None:
        """Note down that a task has done its work, in a file of its own: whatever is stored, this is known."""
        Path(settings["folder"], "returned", str(task.request.id)).write_text(str(task.name))

    @app.task(name="add", bind=True, shared=False)
    def add(self: Task, x: int) -> int:
        time.sleep(0.05)
        returned(self)
        return x + 1

    @app.task(name="total", bind=True, shared=False)
    def total(self: Task, parts: list[int]) -> int:
        returned(self)
        return sum(parts)

    @app.task(name="flaky", bind=True, max_retries=3, shared=False)
    def flaky(self: Task, x: int) -> int:
        if not self.request.retries:
            raise self.retry(countdown=0.1, exc=ValueError("not yet"))
        returned(self)
        return x + 1

    app.finalize()
    return app, store


def write(store: FlowStore, folder: Path, name: str, counts: bool) -> dict[str, Any]:
    """Store one result after the other until a file appears; tell how many, and what went wrong.

    Args:
        counts: whether they are counted in a variable too.
    """
    stored, longest, errors = 0, 0.0, []
    while not (folder / "stop").exists():
        begun = time.monotonic()
        try:
            store.store("written", name, str(stored), stored)
            if counts:
                store.variables(name).update("count", lambda value: (value or 0) + 1)
        except Exception as exc:
            errors.append(f"{type(exc).__name__}: {exc}")
        else:
            stored += 1
        longest = max(longest, time.monotonic() - begun)
        time.sleep(0.01)
    count = store.variables(name)["count"] if counts and stored else stored
    return {"stored": stored, "longest": longest, "errors": errors, "count": count}


if SETTINGS in os.environ:
    given = json.loads(Path(os.environ[SETTINGS]).read_text())
    app, store = build(given, given["broker"])
    if __name__ == "__main__":
        print(json.dumps(write(store, Path(given["folder"]), sys.argv[1], given["counts"])))
