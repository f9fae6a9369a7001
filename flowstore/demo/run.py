"""Run the survey from its configuration to its last task."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flowstore.demo.app import CONFIGURATION, FLOW, canvas, create_app
from flowstore.demo.process import READY, DemoError, worker
from flowstore.demo.sources import Selection
from flowstore.demo.tasks import PUBLISH
from flowstore.flow import FAILURE, RETRY, FlowRun, TaskRun
from flowstore.store import FlowStore

_STALLED_SECONDS = 60.0
_PAUSE = 0.2
_TEMPORARY = ("messages", "processed", "control", "celery-results", READY)

_CONFIGURATION = """\
# What the demo stored; see it with: flowstore -c flowstore.yaml ls
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
class Progress:
    """How far the run is."""

    finished: int
    failed: int
    total: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run that has ended, and the store that it can be read from."""

    store: FlowStore
    run: FlowRun
    tasks: list[TaskRun]
    seconds: float


def write_configuration(folder: Path) -> Path:
    """Write the demo's flowstore.yaml into a folder."""
    path = folder / CONFIGURATION
    text = _CONFIGURATION.format(
        database=_quoted(f"sqlite:///{folder / 'results.db'}"), summaries=_quoted(str(folder / "summaries"))
    )
    path.write_text(text, encoding="utf-8")
    return path


def run_survey(folder: Path, selection: Selection, report: Callable[[Progress], None]) -> Outcome:
    """Survey the selected files with a worker, and wait for the end.

    Args:
        folder: holds the configuration, and everything that is stored.
        report: called now and then.

    Raises:
        DemoError: the worker doesn't work, or a task failed that should not.
    """
    # They would take the place of the broker and the result backend that the demo has set up.
    for name in [name for name in os.environ if name.startswith("CELERY_")]:
        del os.environ[name]
    total = len(selection.sound) + len(selection.broken) + 3
    app, store = create_app(folder)
    with worker(folder) as process:
        began = time.monotonic()
        run = store.start(FLOW, canvas(app, selection))
        last_change, finished = began, -1
        while True:
            tasks = run.tasks()
            done = [task for task in tasks if task.state != RETRY]
            if len(done) != finished:
                finished, last_change = len(done), time.monotonic()
            failed = [task for task in done if task.state == FAILURE]
            report(Progress(finished, len(failed), total))
            if finished >= total:
                break
            if process.poll() is not None:
                raise DemoError(f"the worker ended with status {process.returncode}")
            if len(failed) > len(selection.broken):
                raise DemoError(f"a task failed: {failed[-1].name}: {failed[-1].error}")
            if time.monotonic() - last_change > _STALLED_SECONDS:
                raise DemoError(f"nothing happened for {_STALLED_SECONDS:.0f} seconds")
            time.sleep(_PAUSE)
        seconds = time.monotonic() - began
    if not any(task.name == PUBLISH for task in done):
        raise DemoError("the survey did not come to its end")
    app.close()
    for name in _TEMPORARY:
        _remove(folder / name)
    return Outcome(store, run, tasks, seconds)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _quoted(text: str) -> str:
    """Quote a text for YAML, and for the variables in it."""
    text = text.replace("$", "$$").replace("{", "{{").replace("}", "}}")
    return "'" + text.replace("'", "''") + "'"
