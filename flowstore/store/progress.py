"""Which flow runs are in progress: a cleanup keeps their records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from flowstore.config import StorageEntry
from flowstore.errors import CorruptError
from flowstore.record import ERROR, RESULT, RUN, Query, Record
from flowstore.record.damage import report_damage
from flowstore.store.operations import Operations
from flowstore.store.plan import Plan
from flowstore.store.run_reader import RunReader
from flowstore.store.task_run import ENDED_BADLY

_MAX_KNOWN: Final = 100_000


class RunsInProgress:
    """Find out which runs are in progress, once per run, a batch at a time.

    Args:
        entries: the storages to search.
        stalled_after: seconds without a new record after which an unfinished run counts as lost.
    """

    def __init__(
        self, entries: Sequence[StorageEntry], operations: Operations, reader: RunReader, stalled_after: float
    ) -> None:
        self._entries = entries
        self._operations = operations
        self._reader = reader
        self._stalled_after = stalled_after
        self._known: dict[tuple[str, float], bool] = {}

    def has(self, record: Record, age: float) -> bool:
        """Return whether a record belongs to a run in progress.

        Args:
            age: a run that stored something within that many seconds is in progress.
        """
        if record.run_id is None:
            return False
        if (record.run_id, age) not in self._known:
            self.check((record,), age)
        return self._known[record.run_id, age]

    def check(self, records: Iterable[Record], age: float) -> None:
        """Find out for the runs of some records, in few statements.

        ``has`` answers for them without asking a storage.
        """
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        run_ids = {one.run_id for one in records if one.run_id is not None and (one.run_id, age) not in self._known}
        active = self._active(run_ids, age)
        waiting = set() if age >= self._stalled_after else self._active(run_ids - active, self._stalled_after)
        for run_id in run_ids:
            in_progress = run_id in active or (run_id in waiting and self._is_unfinished(run_id))
            self._known[run_id, age] = in_progress

    def _active(self, run_ids: set[str], age: float) -> set[str]:
        """Return the runs that stored something within ``age`` seconds."""
        active: set[str] = set()
        for entry in self._entries:
            active |= self._active_in(entry, run_ids - active, age)
        return active

    def _active_in(self, entry: StorageEntry, run_ids: set[str], age: float) -> set[str]:
        return self._operations.read(entry, lambda storage: storage.runs_since(run_ids, age)) if run_ids else set()

    def _is_unfinished(self, run_id: str) -> bool:
        """Return whether a run has a plan, but neither result nor final error."""
        try:
            plan = self._plan(run_id)
        except CorruptError as exc:
            report_damage(exc)
            return True  # it may be unfinished: keep its records until it counts as lost
        if plan is None:
            return False
        wanted = {task_id for _, task_id in plan.finals()}
        # Expired records count too.
        found = self._ids(Query((RESULT,), run_id=run_id, task_ids=tuple(wanted), live_at=0.0))
        if found >= wanted:
            return False
        failed = self._ids(Query((ERROR,), run_id=run_id, states=ENDED_BADLY, live_at=0.0))
        return not failed & set(plan.members)

    def _plan(self, run_id: str) -> Plan | None:
        query = Query((RUN,), run_id=run_id, task_id=run_id)
        for entry in self._entries:
            for ref in self._operations.read(entry, lambda storage: list(storage.ids(query))):
                return self._reader.plan(ref.key.flow_name, run_id)
        return None

    def _ids(self, query: Query) -> set[str]:
        found: set[str] = set()
        for entry in self._entries:
            refs = self._operations.read(entry, lambda storage: list(storage.ids(query)))
            found |= {ref.key.task_id for ref in refs}
        return found
