"""Run the survey: configuration, worker, progress and outcome."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowstore.demo.app import CONFIGURATION_FILE, FLOW, canvas, create_app
from flowstore.demo.process import READY, DemoError, Worker
from flowstore.demo.sources import Selection
from flowstore.demo.tasks import PUBLISH, SUMMARIZE
from flowstore.store import FlowStore
from flowstore.store.flow_run import FlowRun
from flowstore.store.task_run import FAILURE, RETRY, TaskRun

_STALLED_SECONDS = 60.0
_PAUSE = 0.2
_TEMPORARY = ("messages", "processed", "control", "celery-results", READY)

_CONFIGURATION = """\
# What the demo stored. List it with: flowstore -c flowstore.yaml ls
version: 1
storages:
  - name: Results
    classname: SqlStorage
    configuration:
      connection_string: {database}
  - name: Summaries
    classname: FileStorage
    configuration:
      path: {summaries}
tasks:
  - name: survey.summarize
    storage: Summaries
  - name: survey.publish
    storage: Summaries
global:
  default_storage: Results
"""


@dataclass(frozen=True, slots=True)
class DemoProgress:
    """How many tasks of the run have finished."""

    finished: int
    failed: int
    total: int


@dataclass(frozen=True, slots=True)
class DemoOutcome:
    """A finished run and its store."""

    store: FlowStore
    run: FlowRun
    tasks: list[TaskRun]
    seconds: float

    def examples(self) -> tuple[TaskRun, TaskRun]:
        """Return a task that failed, and one that succeeded after a retry."""
        failed = [task for task in self.tasks if task.state == FAILURE]
        return min(failed, key=lambda task: task.headers.get("group_index", 0)), self._named(PUBLISH)

    def summary(self) -> tuple[TaskRun, dict[str, Any]]:
        """Return the task that added up the results, and its result."""
        task = self._named(SUMMARIZE)
        return task, self.store.retrieve(task.key.flow_name, task.name, task.id)

    def _named(self, name: str) -> TaskRun:
        return next(task for task in self.tasks if task.name == name)


def write_configuration(folder: Path) -> Path:
    """Write the demo's flowstore.yaml into a folder."""
    path = folder / CONFIGURATION_FILE
    text = _CONFIGURATION.format(
        database=_quoted(f"sqlite:///{folder / 'results.db'}"), summaries=_quoted(str(folder / "summaries"))
    )
    path.write_text(text, encoding="utf-8")
    return path


@contextmanager
def run_survey(folder: Path, selection: Selection, report: Callable[[DemoProgress], None]) -> Iterator[DemoOutcome]:
    """Survey files with a worker.

    Yields the outcome while the worker shuts down.

    Args:
        folder: holds the configuration and everything that is stored.
        selection: the files.
        report: called repeatedly with the progress.

    Raises:
        DemoError: the worker failed, or a task failed unexpectedly.
    """
    # These variables would override the demo's broker and result backend.
    for name in [name for name in os.environ if name.startswith("CELERY_")]:
        del os.environ[name]
    app, store = create_app(folder)
    try:
        with Worker(folder) as worker:
            began = time.monotonic()
            run = store.start(FLOW, canvas(app, selection))
            tasks = _wait_for_tasks(run, selection, worker, report)
            seconds = time.monotonic() - began
            worker.stop()
            yield DemoOutcome(store, run, tasks, seconds)
    finally:
        app.close()
        store.close()
    for name in _TEMPORARY:
        _remove(folder / name)


def _wait_for_tasks(
    run: FlowRun, selection: Selection, worker: Worker, report: Callable[[DemoProgress], None]
) -> list[TaskRun]:
    """Wait until all tasks of the run have finished; return them."""
    total = len(selection.sound) + len(selection.broken) + 3
    last_change, finished = time.monotonic(), -1
    while True:
        tasks = run.tasks()
        done = [task for task in tasks if task.state != RETRY]
        failed = [task for task in done if task.state == FAILURE]
        report(DemoProgress(len(done), len(failed), total))
        if len(failed) > len(selection.broken):
            raise DemoError(f"task {failed[-1].name} failed unexpectedly: {failed[-1].error}")
        if len(done) >= total:
            return tasks
        worker.check()
        if len(done) != finished:
            last_change, finished = time.monotonic(), len(done)
        elif time.monotonic() - last_change > _STALLED_SECONDS:
            raise DemoError(f"no task finished for {_STALLED_SECONDS:.0f} seconds")
        time.sleep(_PAUSE)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _quoted(text: str) -> str:
    """Quote a text for YAML, with variables escaped."""
    text = text.replace("$", "$$").replace("{", "{{").replace("}", "}}")
    return "'" + text.replace("'", "''") + "'"
