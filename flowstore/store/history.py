"""The history: what happened, entry by entry, never changed afterwards."""

from __future__ import annotations

import datetime as dt
import heapq
import itertools
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from flowstore.config import StorageEntry
from flowstore.errors import CorruptError
from flowstore.record import HISTORY, Key, Query, Record, Ref
from flowstore.record.damage import tell
from flowstore.storage import RecordStorage
from flowstore.store.operations import Operations, made_once
from flowstore.store.routing import Router


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """Something that happened.

    Attributes:
        event: what; flowstore's own are named as Celery's events are: ``task-succeeded``, ``task-failed``,
            ``task-retried``, ``task-revoked``.
        flow_name, run_id, task_name, task_id: whom it concerns; empty, or ``None`` for the run, where it is not said.
        at: when, in seconds since the epoch, by the storage's clock.
        sequence: how many entries the process that wrote it had written: tells those of one moment apart.
        data: anything that can be stored.
    """

    event: str
    flow_name: str
    run_id: str | None
    task_name: str
    task_id: str
    at: float
    sequence: int
    data: Any = None


class History:
    """Write and read the history that is kept in the storages of the flows. Safe in threads and processes."""

    def __init__(self, router: Router, operations: Operations) -> None:
        self._router = router
        self._operations = operations
        self._sequence = itertools.count(1)

    def wants(self, flow_name: str, is_error: bool) -> bool:
        """Tell whether the configuration asks for an entry when a task of that flow ends, well or badly."""
        policy = self._router.history(flow_name)
        return policy == "all" or (policy == "errors" and is_error)

    def record(self, event: str, key: Key, run_id: str | None, data: object, *, retry: bool = True) -> HistoryEntry:
        """Append an entry about a task or, with an empty task name and id, about a flow."""
        entry, sequence = self._router.required_flow_storage(key.flow_name), next(self._sequence)
        facts = {"event": event, "sequence": sequence} | ({} if run_id is None else {"run_id": run_id})
        encode = self._operations.pipeline(entry).encode

        @made_once  # also when the write is tried again
        def record(storage: RecordStorage) -> Record:
            at = storage._time()
            # Ordered by time and sequence; the random end keeps the entries of different processes apart.
            name = f"{int(at * 1e6):016}-{sequence:08}-{os.urandom(4).hex()}"
            return encode(Ref(HISTORY, key, name), data, {**facts, "stored_at": at})

        def append(storage: RecordStorage) -> Record:
            return storage.put(record(storage), if_revision=0)

        return _entry(self._operations.write(entry, append, retry), data)

    def entries(
        self,
        query: Query,
        events: Collection[str] | None = None,
    ) -> Iterator[HistoryEntry]:
        """Iterate over the entries that a query selects, of all storages that may keep such."""
        streams = [self._stream(storage, query, events) for storage in self._storages(query.flow_name)]
        if len(streams) == 1:
            return streams[0]
        return heapq.merge(*streams, key=lambda entry: (entry.at, entry.sequence), reverse=query.descending)

    def _storages(self, flow_name: str | None) -> list[StorageEntry]:
        if flow_name is not None:
            return [self._router.required_flow_storage(flow_name)]
        return [entry for entry in self._router.run_storages() if entry.keeps_records]

    def _stream(self, entry: StorageEntry, query: Query, events: Collection[str] | None) -> Iterator[HistoryEntry]:
        decode = self._operations.pipeline(entry).decode
        for record in self._operations.listed(entry, query):
            if events is None or record.headers.get("event") in events:
                try:
                    found = _entry(record, decode(record))
                except CorruptError as exc:
                    exc.ref = record.ref
                    tell(exc)
                else:
                    yield found


def seconds(moment: dt.datetime | float | None) -> float | None:
    """Return a moment as seconds since the epoch.

    Raises:
        ValueError: it is a datetime without a time zone, which means another moment on each machine.
    """
    if not isinstance(moment, dt.datetime):
        return moment
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone: write datetime(…, tzinfo=timezone.utc), or .astimezone()")
    return moment.timestamp()


def _entry(record: Record, data: Any) -> HistoryEntry:
    headers, key = record.headers, record.key
    if "event" not in headers or "sequence" not in headers:
        raise CorruptError(f"{record.ref} is no entry of a history: it does not say which event, or its number")
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
