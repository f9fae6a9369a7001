"""Adapters of records, each with one mistake that adapters really have."""

from __future__ import annotations

import dataclasses
import json
import math
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

from flowstore.errors import ConflictError, StorageError
from flowstore.record import CLAIM, HISTORY, Key, Page, Query, Record, Ref
from tests.testing.wire import Link, WireStorage


class ConnectsInConstructor(WireStorage):
    def __init__(self, port: int, place: str, password: str = "") -> None:
        super().__init__(port, place, password)
        self._call("now")


class ShowsPassword(WireStorage):
    def __repr__(self) -> str:
        return f"ShowsPassword({self._port}, {self._password!r})"


class LeaksConnections(WireStorage):
    def _close(self, link: Link) -> None:
        LEAKED.append(link)


LEAKED: list[Link] = []


class StaleCache(WireStorage):
    def __init__(self, port: int, place: str, password: str = "") -> None:
        super().__init__(port, place, password)
        self._seen: dict[Ref, Record | None] = {}

    def _get(self, ref: Ref, payload: bool) -> Record | None:
        if ref not in self._seen:
            self._seen[ref] = super()._get(ref, True)
        return self._seen[ref]

    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        self._seen.pop(record.ref, None)
        return super()._put(record, if_revision, now)


class NormalizedPayload(WireStorage):
    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        try:
            payload = json.dumps(json.loads(record.payload), ensure_ascii=False, separators=(",", ":")).encode()
        except ValueError:
            payload = record.payload
        return super()._put(dataclasses.replace(record, payload=payload), if_revision, now)


class OnlyKnownHeaders(WireStorage):
    KNOWN = frozenset(
        (
            "format",
            "serializer",
            "content_type",
            "size",
            "digest",
            "token",
            "stored_at",
            "expires_at",
            "run_id",
            "state",
        )
    )

    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        known = {name: value for name, value in record.headers.items() if name in self.KNOWN}
        return super()._put(dataclasses.replace(record, headers=known), if_revision, now)


class RevisionReset(WireStorage):
    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        if if_revision is None:
            self._delete(record.ref, None)
        return super()._put(record, if_revision, now)


class TwoWinners(WireStorage):
    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        old = self._get(record.ref, True)
        live = None if old is None or old.has_expired(now) else old
        if if_revision is not None and if_revision != (live.revision if live else 0):
            raise ConflictError("it is there", live)
        return super()._put(record, None, now)


class ConflictWithoutCurrent(WireStorage):
    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        try:
            return super()._put(record, if_revision, now)
        except ConflictError as exc:
            raise ConflictError(str(exc)) from exc


class DeletesInAnyCase(WireStorage):
    def _delete(self, ref: Ref, if_revision: int | None) -> bool:
        return super()._delete(ref, None)


class LockHeldAfterError(WireStorage):
    def __init__(self, port: int, place: str, password: str = "") -> None:
        super().__init__(port, place, password)
        self._lock = threading.RLock()

    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        self._lock.acquire()
        revision = super()._put(record, if_revision, now)
        self._lock.release()
        return revision


class LosesLastOfBatch(WireStorage):
    def _put_many(self, records: Sequence[Record], now: float) -> list[int]:
        stored = super()._put_many(records[:1000], now)
        return stored + [1] * (len(records) - len(stored))


class BatchOutOfOrder(WireStorage):
    def _get_many(self, refs: Sequence[Ref]) -> list[Record | None]:
        found = [self._get(ref, True) for ref in dict.fromkeys(refs)]
        return [*found, *[None] * (len(refs) - len(found))]


class LocksBatchInAnyOrder(WireStorage):
    LOCKS: dict[Ref, threading.Lock] = {}  # noqa: RUF012

    def _put_many(self, records: Sequence[Record], now: float) -> list[int]:
        locks = [self.LOCKS.setdefault(record.ref, threading.Lock()) for record in records]
        for lock in locks:
            lock.acquire()
            time.sleep(0)
        try:
            return super()._put_many(records, now)
        finally:
            for lock in locks:
                lock.release()


class DescendingIgnored(WireStorage):
    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        return super()._scan(dataclasses.replace(query, descending=False), cursor, limit, payload)


class StatesIgnored(WireStorage):
    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        return super()._scan(dataclasses.replace(query, states=None), cursor, limit, payload)


class LimitBeforeFilter(WireStorage):
    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        page = super()._scan(Query(descending=query.descending), cursor, limit, payload)
        return Page([record for record in page.records if query.matches(record)], page.cursor)


class CursorCounts(WireStorage):
    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        if cursor is not None and (not cursor.isdecimal() or len(cursor) > 9):
            raise StorageError("not a cursor")
        start = int(cursor or 0)
        found = super()._scan(query, None, 1_000_000, payload).records
        return Page(found[start : start + limit], str(start + limit) if start + limit < len(found) else None)


class CursorRepeats(WireStorage):
    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        page = super()._scan(query, cursor, limit, payload)
        return Page(page.records, cursor if page.cursor and cursor else page.cursor)


class LeaksErrorOfCursor(WireStorage):
    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        return super()._scan(query, None if cursor is None else str(int(cursor)), limit, payload)


class CountsEverything(WireStorage):
    def _count(self, query: Query) -> int:
        return super()._count(Query(live_at=query.live_at, expired_at=query.expired_at))


class ListsExpired(WireStorage):
    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        return super()._scan(dataclasses.replace(query, live_at=None), cursor, limit, payload)


class ExpiredBlocks(WireStorage):
    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        return super()._put(record, if_revision, 0.0)


class ExpiresInWholeSeconds(WireStorage):
    def _put_many(self, records: Sequence[Record], now: float) -> list[int]:
        return super()._put_many([self._rounded(record) for record in records], now)

    def _rounded(self, record: Record) -> Record:
        at = record.expires_at
        headers = {**record.headers, "expires_at": None if at is None else float(int(at) + 1)}
        return dataclasses.replace(record, headers=headers)


class ExpiredIsNotFound(WireStorage):
    def _get(self, ref: Ref, payload: bool) -> Record | None:
        found = super()._get(ref, payload)
        return None if found is None or found.has_expired(self.now()) else found


class ExpiredIsReturned(WireStorage):
    """Hides the time from the base class."""

    def _get(self, ref: Ref, payload: bool) -> Record | None:
        found = super()._get(ref, payload)
        return found and dataclasses.replace(
            found, headers={name: value for name, value in found.headers.items() if name != "expires_at"}
        )


class ClientsClock(WireStorage):
    def now(self) -> float:
        return time.time()


class TwoClaimWinners(WireStorage):
    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        if record.kind == CLAIM and if_revision is not None and self._get(record.ref, False) is None:
            return super()._put(record, None, now)
        return super()._put(record, if_revision, now)


class FillsPlaceTwice(WireStorage):
    def get_or_store(self, key: Key, default: Any, **options: Any) -> Any:
        try:
            return self.retrieve(key.flow_name, key.task_name, key.task_id)
        except LookupError:
            self.store(key.flow_name, key.task_name, key.task_id, default)
            return default


class AddingReplaces(WireStorage):
    def _add_many(self, records: Sequence[Record], now: float) -> list[bool]:
        return [revision > 0 for revision in self._put_many(records, now)]


class CleansUpTheBoundary(WireStorage):
    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        if query.stored_before is not None:
            query = dataclasses.replace(query, stored_before=math.nextafter(query.stored_before, math.inf))
        return super()._scan(query, cursor, limit, payload)


class CleansUpOneBatch(WireStorage):
    def cleanup(self, *arguments: Any, batch: int = 500, **options: Any) -> int:
        page = self._scan(Query(stored_before=self.now() - 3600), None, batch, False)
        return self.delete_many([record.ref for record in page.records])


class PurgesTheLivingOnly(WireStorage):
    def _purge(self) -> int:
        return self.delete_many(list(self.ids(Query())))


class PurgesItsNeighbours(WireStorage):
    def _purge(self) -> int:
        beside = WireStorage(self._port, f"{self._place} beside")
        WireStorage._purge(beside)
        beside.disconnect()
        return super()._purge()


class ForgetsWhatIsBesideARun(WireStorage):
    def delete_run(self, run_id: str, *, batch: int = 500) -> int:
        refs = self.ids(Query(run_id=run_id, live_at=0.0))
        return self.delete_many([ref for ref in refs if ref.kind != HISTORY])


class DeletesOtherRuns(WireStorage):
    def delete_run(self, run_id: str, *, batch: int = 500) -> int:
        return self.delete_tasks(ref.key for ref in list(self.ids(Query(run_id=run_id, live_at=0.0))))


class CutsLargePayloads(WireStorage):
    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        return super()._put(dataclasses.replace(record, payload=record.payload[:65_535]), if_revision, now)


class ScrambledBothWays(WireStorage):
    def _dumped(self, record: Record) -> Any:
        return super()._dumped(dataclasses.replace(record, payload=record.payload[::-1]))

    def _loaded(self, told: Any) -> Record | None:
        found = super()._loaded(told)
        return found and dataclasses.replace(found, payload=found.payload[::-1])


class OneConnectionForAll(WireStorage):
    def _call(self, operation: str, *arguments: Any) -> Any:
        if threading.get_ident() not in self._links and self._links:
            self._links[threading.get_ident()] = next(iter(self._links.values()))
        return super()._call(operation, *arguments)

    def disconnect(self) -> None:
        links = set(self._links.values())
        self._links.clear()
        for link in links:
            self._close(link)
        super().disconnect()


class ForkSharedConnection(WireStorage):
    def _leave_to_parent(self) -> None:
        """Go on with the parent's connections."""


class LeaksDriverError(WireStorage):
    def _broken(self, thread: int, operation: str) -> Any:
        super()._broken(thread, operation)
        return DriverError("broken pipe")

    def _open(self) -> Link:
        try:
            return super()._open()
        except StorageError:
            raise DriverError("no route") from None


class DriverError(Exception):
    """What a driver raises."""


class OutageIsMiss(WireStorage):
    def _get(self, ref: Ref, payload: bool) -> Record | None:
        try:
            return super()._get(ref, payload)
        except StorageError:
            return None


class KeepsDeadConnection(WireStorage):
    def _broken(self, thread: int, operation: str) -> Any:
        dead = self._links[thread]
        error = super()._broken(thread, operation)
        self._links[thread] = dead
        return error

    def _open(self) -> Link:
        with socket.create_connection(("127.0.0.1", self._port)) as connection:
            return connection.makefile("rwb")

    def _translate(self, exc: Exception) -> StorageError | None:
        return StorageError(str(exc)) if isinstance(exc, ValueError | OSError) else None
