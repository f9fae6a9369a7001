"""Wait for what a flow run results in: its last tasks' results, or the error of a task that it can't do without.

A look costs the same however many tasks the run has: it asks for some of the results that are missing, and for errors.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final, Protocol

from flowstore.errors import NotFoundError, UnsupportedError
from flowstore.record import Record
from flowstore.record.failure import RemoteTaskError
from flowstore.store.patience import limited
from flowstore.store.plan import Plan
from flowstore.store.taskrun import ENDED_BADLY, SUCCESS, TaskRun, tasks_of

_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 0.5
_SHARE: Final = 10  # a look that takes long is followed by a pause of so many times that
_AT_ONCE: Final = 500  # results that are asked for in one batch
_FEW: Final = 50  # tasks that are looked for one by one

LastTask = tuple[str, str]


class Waited(Protocol):
    """Where waiting looks."""

    def stores(self, flow_name: str, task_name: str) -> bool:
        """Return whether results of that task are stored."""

    def results(
        self, flow_name: str, run_id: str, started_at: float | None, tasks: Sequence[LastTask]
    ) -> dict[LastTask, Any]:
        """Return the results of tasks that ran in a run, by name and id, as far as they are stored.

        Raises:
            NotFoundError: a later run has taken the place of one of them, by the same task id.
        """

    def ends(self, flow_name: str, run_id: str, task_ids: Sequence[str]) -> Iterator[tuple[str, Record]]:
        """Iterate over the records of tasks of a run by their ids, also of expired ones, without payloads."""

    def failures(self, flow_name: str, run_id: str) -> Iterator[tuple[str, Record]]:
        """Iterate over the errors that ended tasks of a run, without payloads, each with its storage's name."""

    def result_of(self, task: TaskRun) -> Any:
        """Return the result of a task that ran.

        Raises:
            NotFoundError: it is gone, or has expired.
        """

    def error_of(self, task: TaskRun) -> RemoteTaskError:
        """Return the error of a task that ran, from the storage in which it was found."""


class Waiting:
    """One wait for a run's result."""

    def __init__(
        self, source: Waited, flow_name: str, run_id: str, started_at: float | None, plan: Plan, shown: str
    ) -> None:
        self._source = source
        self._flow_name = flow_name
        self._run_id = run_id
        self._started_at = started_at
        self._plan = plan
        self._finals = plan.finals()
        self._members = frozenset(plan.members)
        self._shown = shown
        self._found: dict[LastTask, Any] = {}
        for task_name, _ in self._finals:
            if not source.stores(flow_name, task_name):
                raise UnsupportedError(f"the result of {shown} is not stored: its task {task_name!r} has no storage")

    def result(self, timeout: float | None, deadline: float | None) -> Any:
        """Return what the run results in; see ``FlowRun.get``.

        Args:
            timeout, deadline: seconds, as the caller gave them; when they are over, on the monotonic clock.
        """
        pause = _FIRST_PAUSE
        while True:
            begun = time.monotonic()
            with limited(deadline):
                is_done = self._is_done()
            if is_done:
                return self._plan.assembled(self._found)
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                raise TimeoutError(f"{self._shown} gave no result within {timeout} s")
            rest = max(pause, _SHARE * (now - begun))
            time.sleep(rest if deadline is None else max(0.0, min(rest, deadline - now)))
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _is_done(self) -> bool:
        """Look once.

        Raises:
            RemoteTaskError: a task without which there is no result has failed.
        """
        is_done = self._collect()
        needed = frozenset(task_id for _, task_id in self._finals) if is_done else self._members
        self._raise_failure(needed)
        return is_done

    def _collect(self) -> bool:
        """Take the results that have come, some at once; return whether none is missing."""
        while missing := [final for final in self._finals if final not in self._found]:
            some = missing[:_AT_ONCE]
            self._found |= self._source.results(self._flow_name, self._run_id, self._started_at, some)
            absent = [final for final in some if final not in self._found]
            if absent and not self._take_replacements(absent[:_FEW]):
                return False
        return True

    def _take_replacements(self, absent: Sequence[LastTask]) -> bool:
        """Take the results of tasks that took the place of final ones; return whether all of these had one.

        Celery's ``Task.replace`` gives another task the replaced one's id; its result is stored under its own name.
        """
        wanted = {task_id: (name, task_id) for name, task_id in absent}
        for task in tasks_of(self._source.ends(self._flow_name, self._run_id, list(wanted))):
            if task.state == SUCCESS and task.id in wanted:
                self._found[wanted[task.id]] = self._source.result_of(task)
        return all(final in self._found for final in absent)

    def _raise_failure(self, needed: frozenset[str]) -> None:
        failed = (record.key.task_id for _, record in self._source.failures(self._flow_name, self._run_id))
        wanted = (task_id for task_id in failed if task_id in needed)
        while some := list(dict.fromkeys(islice(wanted, _FEW))):
            for task in tasks_of(self._source.ends(self._flow_name, self._run_id, some)):
                if task.state in ENDED_BADLY and task.id in needed:
                    try:
                        error = self._source.error_of(task)
                    except NotFoundError:
                        continue
                    raise error
