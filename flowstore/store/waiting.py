"""Waiting for the result of a flow run, or for its error.

Each poll costs the same for any number of tasks: it reads some of the missing results, and errors.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

from flowstore.errors import NotFoundError, UnsupportedError
from flowstore.store.patience import limited
from flowstore.store.plan import Plan
from flowstore.store.run_reader import LastTask, RunReader
from flowstore.store.task_run import ENDED_BADLY, SUCCESS, tasks_of

_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 0.5
_PAUSE_FACTOR: Final = 10  # a slow poll is followed by a pause of this many times its duration
_BATCH: Final = 500  # results that are read at once
_FEW: Final = 50  # tasks that are searched by id


class Waiting:
    """Wait once for the result of a run.

    Args:
        shown: how the run appears in errors.
    """

    def __init__(
        self, reader: RunReader, flow_name: str, run_id: str, started_at: float | None, plan: Plan, shown: str
    ) -> None:
        self._reader = reader
        self._flow_name = flow_name
        self._run_id = run_id
        self._started_at = started_at
        self._plan = plan
        self._finals = plan.finals()
        self._members = frozenset(plan.members)
        self._shown = shown
        self._found: dict[LastTask, Any] = {}
        for task_name, _ in self._finals:
            if not reader.is_stored(flow_name, task_name):
                raise UnsupportedError(f"the result of {shown} is not stored: its task {task_name!r} has no storage")

    def result(self, timeout: float | None, deadline: float | None) -> Any:
        """Return the result of the run. See ``FlowRun.get``.

        Args:
            timeout: seconds, for the error message.
            deadline: the end of the timeout, on the monotonic clock.
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
                raise TimeoutError(f"{self._shown} has no result after {timeout} s")
            rest = max(pause, _PAUSE_FACTOR * (now - begun))
            time.sleep(rest if deadline is None else max(0.0, min(rest, deadline - now)))
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def _is_done(self) -> bool:
        """Poll once.

        Raises:
            RemoteTaskError: a task that the result depends on has failed.
        """
        is_done = self._collect()
        needed = frozenset(task_id for _, task_id in self._finals) if is_done else self._members
        self._raise_failure(needed)
        return is_done

    def _collect(self) -> bool:
        """Read missing results, a batch at a time; return whether all are here."""
        while missing := [final for final in self._finals if final not in self._found]:
            some = missing[:_BATCH]
            self._found |= self._reader.results(self._flow_name, self._run_id, self._started_at, some)
            absent = [final for final in some if final not in self._found]
            if absent and not self._take_replacements(absent[:_FEW]):
                return False
        return True

    def _take_replacements(self, absent: Sequence[LastTask]) -> bool:
        """Read the results of tasks that replaced last tasks.

        Celery's ``Task.replace`` gives the id of the replaced task to another one, whose result is stored under its own
        name. Returns whether all ``absent`` tasks were replaced.
        """
        wanted = {task_id: (name, task_id) for name, task_id in absent}
        for task in tasks_of(self._reader.ends(self._flow_name, self._run_id, list(wanted))):
            if task.state == SUCCESS and task.id in wanted:
                self._found[wanted[task.id]] = self._reader.result_of(task)
        return all(final in self._found for final in absent)

    def _raise_failure(self, needed: frozenset[str]) -> None:
        failed = (record.key.task_id for _, record in self._reader.failures(self._flow_name, self._run_id))
        wanted = (task_id for task_id in failed if task_id in needed)
        while some := list(dict.fromkeys(islice(wanted, _FEW))):
            for task in tasks_of(self._reader.ends(self._flow_name, self._run_id, some)):
                if task.state in ENDED_BADLY and task.id in needed:
                    try:
                        error = self._reader.error_of(task)
                    except NotFoundError:
                        continue
                    raise error
