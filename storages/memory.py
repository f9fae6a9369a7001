"""Records in the memory of the process."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from flowstore.errors import CorruptError
from flowstore.forks import ForkSafeLock
from flowstore.record import PIECE, Damaged, Page, Query, Record, Ref
from flowstore.storage import Guarantees, QueriesFields, RecordStorage
from flowstore.storages.shared.headers import conflict, cursor_number, dump_headers, load_headers, without_payload


@dataclass(frozen=True, slots=True)
class _Entry:
    number: int
    ref: Ref
    headers: bytes
    payload: bytes
    revision: int
    run_id: str | None
    expires_at: float | None

    def has_expired(self, now: float) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def record(self, payload: bool = True) -> Record:
        headers = load_headers(self.headers, self.ref)
        return Record(self.ref, self.payload if payload else b"", headers, self.revision)


class MemoryStorage(RecordStorage, QueriesFields):
    """Keep records in the memory of this process, for development and tests.

    They are lost when the process ends. Each process has its own records: neither other workers nor the client that
    started the flow see them. A forked child starts with a copy of its parent's. ``disconnect`` loses nothing. Results
    are retrieved as copies, and values are encoded as for a database: what a database can't store is refused here too.
    """

    guarantees: ClassVar[tuple[Guarantees, ...]] = (
        Guarantees(
            database="memory",
            shared_by="threads",
            process_ends="nothing",
            server_crashes="no server",
            power_fails="nothing",
            one_winner="yes",
            clock="the machine's",
            largest_record="as the memory allows",
        ),
    )
    blob_threshold: int | None = None

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._entries: dict[bytes, _Entry] = {}
        self._last = 0
        self._connected = False

    def describe(self) -> str:
        return "the memory of this process"

    def connect(self) -> None:
        self._connected = True

    def disconnect(self) -> None:
        self._connected = False

    def is_connected(self) -> bool:
        return self._connected

    def _get(self, ref: Ref, payload: bool) -> Record | None:
        entry = self._entries.get(ref.address)
        return entry.record(payload) if entry else None

    def _put(self, record: Record, if_revision: int | None, now: float) -> int:
        headers, payload, address = dump_headers(record), bytes(record.payload), record.ref.address
        with self._lock:
            old = self._entries.get(address)
            live = None if old is None or old.has_expired(now) else old
            if if_revision is not None and if_revision != (live.revision if live else 0):
                raise conflict(record.ref, live.record() if live else None, if_revision)
            if old is None:
                # Replacing keeps the place in the dictionary: it stays sorted by number.
                self._last += 1
            number, revision = (old.number, old.revision + 1) if old else (self._last, record.revision)
            self._entries[address] = _Entry(
                number, record.ref, headers, payload, revision, record.run_id, record.expires_at
            )
        return revision

    def _delete(self, ref: Ref, if_revision: int | None) -> bool:
        with self._lock:
            old = self._entries.get(ref.address)
            if old is None:
                return False
            if if_revision is not None and if_revision != old.revision:
                raise conflict(ref, old.record(), if_revision)
            del self._entries[ref.address]
        return True

    def _delete_seen(self, records: Sequence[Record]) -> int:
        with self._lock:
            entries = self._entries
            seen = [one.ref.address for one in records if _is_at(entries.get(one.ref.address), one.revision)]
            for address in dict.fromkeys(seen):
                del entries[address]
        return len(seen)

    def _runs_since(self, run_ids: Sequence[str], stored_from: float, now: float) -> set[str]:
        selected = set(run_ids)
        entries = (entry for entry in self._all() if not entry.has_expired(now))
        return {
            record.run_id
            for record in (entry.record(False) for entry in entries)
            if record.run_id in selected and record.stored_at >= stored_from
        }

    def _purge(self) -> int:
        with self._lock:
            count = sum(entry.ref.kind != PIECE for entry in self._entries.values())
            self._entries.clear()
        return count

    def _scan(self, query: Query, cursor: str | None, limit: int, payload: bool) -> Page:
        entries = self._all()
        if cursor is not None:
            number = cursor_number(cursor)
            if query.descending:
                entries = entries[: bisect_left(entries, number, key=_by_number)]
            else:
                entries = entries[bisect_right(entries, number, key=_by_number) :]
        found: list[Record] = []
        damaged: list[Damaged] = []
        last = 0
        for entry in reversed(entries) if query.descending else entries:
            try:
                record = entry.record(payload or bool(query.where))
            except CorruptError as exc:
                if query.run_id in (None, entry.run_id):
                    damaged.append(Damaged(exc))
                continue
            if query.matches(record):
                if len(found) == limit:
                    return Page(found, str(last), damaged)
                found.append(record if payload else without_payload(record))
                last = entry.number
        return Page(found, None, damaged)

    def _count(self, query: Query) -> int:
        return sum(self._selects(query, entry) for entry in self._all())

    def _selects(self, query: Query, entry: _Entry) -> bool:
        try:
            return query.matches(entry.record(bool(query.where)))
        except CorruptError:
            return False

    def _all(self) -> list[_Entry]:
        with self._lock:
            return list(self._entries.values())


def _is_at(entry: _Entry | None, revision: int) -> bool:
    return entry is not None and entry.revision == revision


def _by_number(entry: _Entry) -> int:
    return entry.number
