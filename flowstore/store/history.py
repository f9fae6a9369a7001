"""The history: entries about what happened, never changed afterwards."""

from __future__ import annotations

import datetime as dt
import heapq
import itertools
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

from flowstore.config import StorageEntry
from flowstore.errors import CorruptError
from flowstore.record import HISTORY, Key, Query, Record, Ref
from flowstore.record.damage import report_damage
from flowstore.record.query import check_limit
from flowstore.storage import RecordStorage
from flowstore.store.base import StoreBase
from flowstore.store.operations import made_once

_sequence: Final = itertools.count(1)
"""Numbers the entries that this process writes."""


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """Something that happened.

    Attributes:
        event: what happened. flowstore's entries are named like Celery's events: ``task-succeeded``, ``task-failed``,
            ``task-retried``, ``task-revoked``.
        flow_name, run_id, task_name, task_id: what it concerns. Empty where not given, ``None`` for the run.
        at: when it happened, in seconds since the epoch, by the storage's clock.
        sequence: a number that grows with each entry that a process writes. It orders entries of the same moment.
        data: any value that can be stored.
    """

    event: str
    flow_name: str
    run_id: str | None
    task_name: str
    task_id: str
    at: float
    sequence: int
    data: Any = None


class HistoryMixin(StoreBase):
    """Append to the history and read it, in the storages of flows."""

    def record_history(
        self,
        event: str,
        flow_name: str,
        *,
        run_id: str | None = None,
        task_name: str = "",
        task_id: str = "",
        data: object = None,
    ) -> HistoryEntry:
        """Append an entry to the history, in the flow's storage.

        The entry can't be changed afterwards.

        Args:
            event: what happened, in a word.
            data: details: any value that can be stored.

        Raises:
            UnknownStorageError: the flow has no storage.
            SerializationError: the data can't be stored.
            StorageError: the entry could not be stored.
        """
        name = self._router.stored_name(task_name) if task_name else ""
        return self._append_history(event, Key(flow_name, name, task_id), run_id, data)

    def history(
        self,
        flow_name: str | None = None,
        *,
        run_id: str | None = None,
        task_name: str | None = None,
        task_id: str | None = None,
        events: Collection[str] | None = None,
        since: dt.datetime | float | None = None,
        until: dt.datetime | float | None = None,
        descending: bool = False,
        limit: int | None = None,
    ) -> Iterator[HistoryEntry]:
        """Iterate over entries of the history, the oldest first.

        Reads a page at a time. Omitted arguments restrict nothing. The storages select by all of them except
        ``events``, which is applied to what they return.

        Args:
            flow_name: only this flow; ``None`` reads the storages of all flows.
            events: only these events.
            since, until: seconds since the epoch, or datetimes with a time zone. ``since`` is included, ``until`` is
                not.
            descending: the latest first.
            limit: the maximum number of entries.

        Raises:
            UnknownStorageError: the flow has no storage.
            ValueError: a datetime has no time zone, or the limit is negative.
        """
        check_limit(limit)
        query = Query(
            (HISTORY,),
            flow_name,
            None if task_name is None else self._router.stored_name(task_name),
            task_id,
            run_id,
            stored_from=_timestamp(since),
            stored_before=_timestamp(until),
            descending=descending,
        )
        streams = [self._stream_history(entry, query, events) for entry in self._history_storages(flow_name)]
        entries = streams[0] if len(streams) == 1 else heapq.merge(*streams, key=_order, reverse=descending)
        return itertools.islice(entries, limit)

    def _append_history(
        self, event: str, key: Key, run_id: str | None, data: object, *, retry: bool = True
    ) -> HistoryEntry:
        """Append an entry about a task, or about a flow.

        The key of a flow has no task name and id.
        """
        entry, sequence = self._router.get_flow_storage(key.flow_name), next(_sequence)
        facts = {"event": event, "sequence": sequence} | ({} if run_id is None else {"run_id": run_id})
        encode = self._operations.pipeline(entry).encode

        @made_once  # also in a retry
        def record(storage: RecordStorage) -> Record:
            at = storage._time()
            # Ordered by time and sequence. The random end separates the entries of several processes.
            name = f"{int(at * 1e6):016}-{sequence:08}-{os.urandom(4).hex()}"
            return encode(Ref(HISTORY, key, name), data, {**facts, "stored_at": at})

        def append(storage: RecordStorage) -> Record:
            return storage.put(record(storage), if_revision=0)

        return _entry(self._operations.write(entry, append, retry), data)

    def _history_storages(self, flow_name: str | None) -> list[StorageEntry]:
        if flow_name is not None:
            return [self._router.get_flow_storage(flow_name)]
        return [entry for entry in self._router.run_storages() if entry.keeps_records]

    def _stream_history(
        self, entry: StorageEntry, query: Query, events: Collection[str] | None
    ) -> Iterator[HistoryEntry]:
        decode = self._operations.pipeline(entry).decode
        for record in self._operations.listed(entry, query):
            if events is None or record.headers.get("event") in events:
                try:
                    found = _entry(record, decode(record))
                except CorruptError as exc:
                    exc.ref = record.ref
                    report_damage(exc)
                else:
                    yield found


def _timestamp(moment: dt.datetime | float | None) -> float | None:
    """Return a moment in seconds since the epoch.

    Raises:
        ValueError: it is a datetime without a time zone, which is another moment on each machine.
    """
    if not isinstance(moment, dt.datetime):
        return moment
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone: write datetime(…, tzinfo=timezone.utc), or .astimezone()")
    return moment.timestamp()


def _order(entry: HistoryEntry) -> tuple[float, int]:
    return entry.at, entry.sequence


def _entry(record: Record, data: Any) -> HistoryEntry:
    headers, key = record.headers, record.key
    if "event" not in headers or "sequence" not in headers:
        raise CorruptError(f"{record.ref} is not a history entry: its headers lack 'event' or 'sequence'")
    return HistoryEntry(
        event=headers["event"],
        flow_name=key.flow_name,
        run_id=record.run_id,
        task_name=key.task_name,
        task_id=key.task_id,
        at=record.stored_at,
        sequence=headers["sequence"],
        data=data,
    )
