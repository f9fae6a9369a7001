"""Listings: the shards' indexes, merged by the numbers of the records."""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import merge
from typing import Any, Final, NamedTuple

from redis.exceptions import ResponseError

from flowstore.errors import CorruptError
from flowstore.record import PIECE, Damaged, Key, Page, Query, Record
from flowstore.storages.shared.headers import bad_cursor

from .layout import COMMON, SHARDS, Command, Layout, read_record, shard_of
from .link import Link

log = logging.getLogger(__name__)

_CURSOR: Final = re.compile("([0-9]{1,17})-([0-9]{1,2})")
_PIECE: Final = PIECE.encode()
_SMALLEST, _LARGEST = 16, 500
_FILTERED: Final = 100
_MOST_TASKS: Final = 64


class _Entry(NamedTuple):
    """A record's place in the listing; compared by number, then by shard."""

    number: int
    shard: int
    address: bytes
    source: bytes


@dataclass(slots=True)
class _Stream:
    """What is left of one index."""

    shard: int
    index: bytes
    position: bytes
    entries: deque[_Entry] = field(default_factory=deque)
    ended: bool = False


class Scan:
    """One query on the records of one prefix."""

    def __init__(self, link: Link, layout: Layout, query: Query) -> None:
        self._link = link
        self._layout = layout
        self._query = query
        self._damaged: list[Damaged] = []

    def page(self, cursor: str | None, limit: int, payload: bool) -> Page:
        """Return a page, as ``RecordStorage._scan`` does."""
        after = None if cursor is None else _position(cursor)
        # What an index selects by itself is read at once; else the headers are looked at before payloads are read.
        at_once = payload and self._covered()
        found: list[Record] = []
        last: _Entry | None = None
        batch = limit + 1 if self._covered() else max(_FILTERED, limit + 1)
        for entries in _batches(self._entries(after, limit + 1), batch):
            for entry, record in self._records(entries, payload, at_once):
                if len(found) == limit and last is not None:
                    return Page(found, f"{last.number}-{last.shard}", self._damaged)
                found.append(record)
                last = entry
        return Page(found, None, self._damaged)

    def count(self) -> int | None:
        """Return the number of records if the indexes alone tell it."""
        query = self._query
        if not self._covered() or query.live_at is None:
            return None
        sources = self._sources()
        shards = sorted({shard for shard, _ in sources})
        if any(self._expired(shards, query.live_at)):
            return None
        counts: list[int] = self._ask([(shard, (b"ZCARD", index)) for shard, index in sources])
        return sum(counts)

    def _covered(self) -> bool:
        """Tell whether all but expiry is selected by the choice of indexes."""
        query = self._query
        return (
            query.task_name is None
            and query.task_ids is None
            and query.states is None
            and query.stored_from is None
            and query.stored_before is None
            and query.expired_at is None
            and query.pattern is None
            and (query.task_id is None or (query.kinds, query.flow_name, query.run_id) == (None, None, None))
            and (query.run_id is None or (query.kinds, query.flow_name) == (None, None))
        )

    def _records(self, entries: Sequence[_Entry], payload: bool, at_once: bool) -> Iterator[tuple[_Entry, Record]]:
        found = self._read(entries, at_once)
        if payload and not at_once:
            # Read as a whole once more: a record may have been replaced in between.
            found = self._read([entry for entry, _ in found], True)
        yield from found

    def _read(self, entries: Sequence[_Entry], payload: bool) -> list[tuple[_Entry, Record]]:
        found, left_over = [], []
        for entry, fields in zip(entries, self._fields(entries, payload), strict=True):
            try:
                if isinstance(fields, CorruptError):
                    raise fields
                record = read_record(fields, None, payload)
            except CorruptError as exc:
                self._damaged.append(Damaged(exc))
                continue
            if record is None or fields[3] != b"%d" % entry.number:
                left_over.append(entry)
            elif self._query.matches(record):
                found.append((entry, record))
        if left_over:
            self._forget(left_over)
        return found

    def _fields(self, entries: Sequence[_Entry], payload: bool) -> list[Any]:
        """Return the fields of records; in the place of one whose key is something else, that error."""
        commands = [(entry.shard, self._layout.get(entry.shard, entry.address, payload)) for entry in entries]
        try:
            return self._ask(commands)
        except CorruptError as exc:
            if len(entries) == 1:
                return [exc]
        return [fields for entry in entries for fields in self._fields([entry], payload)]

    def _forget(self, entries: Sequence[_Entry]) -> None:
        """Remove entries without a record: it was deleted just now, or by somebody else than flowstore, or evicted."""
        commands = [
            (entry.shard, self._layout.forget(entry.shard, entry.source, entry.address, entry.number))
            for entry in entries
        ]
        try:
            self._ask(commands, mutates=True)
        except ResponseError as exc:
            # A user who may only read still gets the listing, which passes over them.
            log.debug("%d entries of indexes that lead to no record could not be removed: %s", len(entries), exc)

    def _sources(self) -> list[tuple[int, bytes]]:
        """Return the indexes that hold all selected records, each in one of them at most."""
        query, layout = self._query, self._layout
        shards: Sequence[int] = range(SHARDS)
        if query.flow_name is not None and query.task_name is not None and query.task_id is not None:
            shards = (shard_of(Key(query.flow_name, query.task_name, query.task_id)),)
        if query.expired_at is not None:
            expired = self._expired(shards, query.expired_at)
            shards = [shard for shard, count in zip(shards, expired, strict=True) if count]
        if query.task_id is not None:
            return [(shard, layout.of_task(shard, query.task_id)) for shard in shards]
        if query.task_ids is not None and len(query.task_ids) <= _MOST_TASKS:
            task_ids = dict.fromkeys(query.task_ids)
            return [(shard, layout.of_task(shard, task_id)) for shard in shards for task_id in task_ids]
        if query.run_id is not None:
            of_run = [(shard, layout.of_run(shard, query.run_id)) for shard in shards]
            if query.flow_name is None or query.kinds is None:
                return of_run
            # The errors of a flow are few where a run has many results, and the other way round.
            kinds_of_flow = [
                (shard, layout.of_kind(shard, kind.encode(), query.flow_name))
                for shard in shards
                for kind in dict.fromkeys(query.kinds)
            ]
            return min(of_run, kinds_of_flow, key=self._size)
        if query.kinds is not None:
            kinds = [[kind.encode() for kind in dict.fromkeys(query.kinds)]] * len(shards)
        else:
            noted = self._ask([(shard, (b"SMEMBERS", layout.kinds(shard))) for shard in shards])
            kinds = [[*COMMON, *(kind for kind in of_shard if kind != _PIECE)] for of_shard in noted]
        return [
            (shard, layout.of_kind(shard, kind, query.flow_name))
            for shard, of_shard in zip(shards, kinds, strict=True)
            for kind in of_shard
        ]

    def _size(self, sources: Sequence[tuple[int, bytes]]) -> int:
        counts: list[int] = self._ask([(shard, (b"ZCARD", index)) for shard, index in sources])
        return sum(counts)

    def _expired(self, shards: Sequence[int], at: float) -> list[int]:
        """Count the records of each shard that have expired."""
        until = repr(at).encode()
        return self._ask([(shard, (b"ZCOUNT", self._layout.expiry(shard), b"-inf", until)) for shard in shards])

    def _entries(self, after: tuple[int, int] | None, wanted: int) -> Iterator[_Entry]:
        """Yield the entries of all indexes in the order of the listing."""
        descending = self._query.descending
        streams = [_Stream(shard, index, self._start(shard, after)) for shard, index in self._sources()]
        chunk = min(_LARGEST, max(_SMALLEST, 2 * wanted // max(1, len(streams))))
        while True:
            self._refill([stream for stream in streams if not stream.entries and not stream.ended], chunk)
            streams = [stream for stream in streams if stream.entries]
            if not streams:
                return
            by_index = {stream.index: stream for stream in streams}
            for entry in merge(*(tuple(stream.entries) for stream in streams), reverse=descending):
                stream = by_index[entry.source]
                stream.entries.popleft()
                yield entry
                if not stream.entries and not stream.ended:
                    break
            else:
                return

    def _start(self, shard: int, after: tuple[int, int] | None) -> bytes:
        """Return where an index has to be entered, as the bound of a range of numbers."""
        if after is None:
            return b"+inf" if self._query.descending else b"-inf"
        number, of_shard = after
        # Two shards of a cluster may have given the same number; then the shards' numbers decide.
        is_behind = shard < of_shard if self._query.descending else shard > of_shard
        return b"%d" % number if is_behind else b"(%d" % number

    def _refill(self, streams: Sequence[_Stream], chunk: int) -> None:
        ranges: list[tuple[int, Command]] = []
        for stream in streams:
            if self._query.descending:
                head: Command = (b"ZREVRANGEBYSCORE", stream.index, stream.position, b"-inf")
            else:
                head = (b"ZRANGEBYSCORE", stream.index, stream.position, b"+inf")
            ranges.append((stream.shard, (*head, b"WITHSCORES", b"LIMIT", b"0", b"%d" % chunk)))
        for stream, answer in zip(streams, self._ask(ranges), strict=True):
            for address, score in zip(answer[::2], answer[1::2], strict=True):
                stream.entries.append(_Entry(int(float(score)), stream.shard, address, stream.index))
            stream.ended = len(answer) < 2 * chunk
            if stream.entries:
                stream.position = b"(%d" % stream.entries[-1].number

    def _ask(self, commands: Sequence[tuple[int, Command]], *, mutates: bool = False) -> list[Any]:
        base = self._layout.base
        return self._link.call_many([(base(shard), command) for shard, command in commands], mutates=mutates)


def _position(cursor: str) -> tuple[int, int]:
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise bad_cursor(cursor)
    return int(found[1]), int(found[2])


def _batches(entries: Iterator[_Entry], size: int) -> Iterator[list[_Entry]]:
    batch: list[_Entry] = []
    for entry in entries:
        batch.append(entry)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
