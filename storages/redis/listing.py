"""Listing, counting and purging records, by the indexes of all shards."""

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

from .connection import Connection
from .layout import COMMON, SHARDS, Command, Layout, load_ref, read_record, shard_of

log = logging.getLogger(__name__)

_CURSOR: Final = re.compile("([0-9]{1,17})-([0-9]{1,2})")
_PIECE: Final = PIECE.encode()
_SMALLEST, _LARGEST = 16, 500
_FILTERED: Final = 100
_MOST_TASKS: Final = 64


_SPECIAL: Final = re.compile(rb"([\\*?\[\]^])")


class _Entry(NamedTuple):
    """A record's position in the listing; compared by number, then by shard."""

    number: int
    shard: int
    address: bytes
    source: bytes


@dataclass(slots=True)
class _Stream:
    """The rest of one index."""

    shard: int
    index: bytes
    position: bytes
    entries: deque[_Entry] = field(default_factory=deque)
    ended: bool = False


class Scan:
    """One query on the records of one prefix."""

    def __init__(self, connection: Connection, layout: Layout, query: Query) -> None:
        self._connection = connection
        self._layout = layout
        self._query = query
        self._damaged: list[Damaged] = []

    def page(self, cursor: str | None, limit: int, payload: bool) -> Page:
        """Return a page, as ``RecordStorage._scan`` does."""
        after = None if cursor is None else _position(cursor)
        # If the indexes select exactly, payloads are read at once; otherwise headers are checked first.
        at_once = payload and self._is_covered()
        found: list[Record] = []
        last: _Entry | None = None
        batch = limit + 1 if self._is_covered() else max(_FILTERED, limit + 1)
        for entries in _batches(self._entries(after, limit + 1), batch):
            for entry, record in self._records(entries, payload, at_once):
                if len(found) == limit and last is not None:
                    return Page(found, f"{last.number}-{last.shard}", self._damaged)
                found.append(record)
                last = entry
        return Page(found, None, self._damaged)

    def count(self) -> int | None:
        """Return the number of records, or None if the indexes don't show it."""
        query = self._query
        if not self._is_covered() or query.live_at is None:
            return None
        sources = self._sources()
        shards = sorted({shard for shard, _ in sources})
        if any(self._expired(shards, query.live_at)):
            return None
        counts: list[int] = self._ask([(shard, (b"ZCARD", index)) for shard, index in sources])
        return sum(counts)

    def _is_covered(self) -> bool:
        """Return whether the indexes select everything but expiry."""
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
        found, stale = [], []
        for entry, fields in zip(entries, self._fields(entries, payload), strict=True):
            try:
                if isinstance(fields, CorruptError):
                    raise fields
                record = read_record(fields, None, payload)
            except CorruptError as exc:
                self._damaged.append(Damaged(exc))
                continue
            if record is None or fields[3] != b"%d" % entry.number:
                stale.append(entry)
            elif self._query.matches(record):
                found.append((entry, record))
        if stale:
            self._forget(stale)
        return found

    def _fields(self, entries: Sequence[_Entry], payload: bool) -> list[Any]:
        """Return the fields of records; for a key that is not a hash, the error."""
        commands = [(entry.shard, self._layout.get(entry.shard, entry.address, payload)) for entry in entries]
        try:
            return self._ask(commands)
        except CorruptError as exc:
            if len(entries) == 1:
                return [exc]
        return [fields for entry in entries for fields in self._fields([entry], payload)]

    def _forget(self, entries: Sequence[_Entry]) -> None:
        """Remove index entries whose record was deleted or evicted."""
        commands = [
            (entry.shard, self._layout.forget(entry.shard, entry.source, entry.address, entry.number))
            for entry in entries
        ]
        try:
            self._ask(commands, mutates=True)
        except ResponseError as exc:
            # A user who may only read still gets the listing, which ignores them.
            log.debug("can't remove %d stale index entries: %s", len(entries), exc)

    def _sources(self) -> list[tuple[int, bytes]]:
        """Return indexes that hold each selected record exactly once."""
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
            # The errors of a flow may be few and the results of a run many, or the other way round.
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
        """Return the number of expired records of each shard."""
        until = repr(at).encode()
        return self._ask([(shard, (b"ZCOUNT", self._layout.expiry(shard), b"-inf", until)) for shard in shards])

    def _entries(self, after: tuple[int, int] | None, limit: int) -> Iterator[_Entry]:
        """Yield the entries of all indexes in the order of the listing."""
        descending = self._query.descending
        streams = [_Stream(shard, index, self._start(shard, after)) for shard, index in self._sources()]
        chunk = min(_LARGEST, max(_SMALLEST, 2 * limit // max(1, len(streams))))
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
        """Return where to begin in an index, as the bound of a range of numbers."""
        if after is None:
            return b"+inf" if self._query.descending else b"-inf"
        number, of_shard = after
        # Two shards of a cluster may have given the same number; then the shard decides.
        is_after = shard < of_shard if self._query.descending else shard > of_shard
        return b"%d" % number if is_after else b"(%d" % number

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
        return self._connection.call_many([(base(shard), command) for shard, command in commands], mutates=mutates)


def purge(connection: Connection, layout: Layout) -> int:
    """Delete all keys of a prefix; return the number of records.

    Goes through all keys of each server in batches, since no index leads to stale entries.
    """
    deleted = 0
    # The braces around the number of the shard are not special characters.
    prefix = layout.base(0).rpartition(b"{")[0]
    pattern = _SPECIAL.sub(rb"\\\1", prefix) + b"{*}:*"
    bases = {layout.base(shard) for shard in range(SHARDS)}
    for keys in connection.keys(pattern):
        based = ((key[: key.find(b"}:", len(prefix)) + 2], key) for key in dict.fromkeys(keys))
        deleted += _delete(connection, [(base, key) for base, key in based if base in bases])
    return deleted


def _delete(connection: Connection, keys: list[tuple[bytes, bytes]]) -> int:
    records = [(base, key) for base, key in keys if key.startswith(base + b"record:")]
    refs = connection.call_many([(base, (b"HGET", key, b"ref")) for base, key in records])
    counts: list[int] = connection.call_many([(base, (b"UNLINK", key)) for base, key in keys], mutates=True)
    by_key = dict(zip((key for _, key in keys), counts, strict=True))
    return sum(by_key[key] for (_, key), ref in zip(records, refs, strict=True) if not _is_piece(ref))


def _is_piece(ref: bytes | None) -> bool:
    try:
        return ref is not None and load_ref(ref).kind == PIECE
    except CorruptError:
        return False


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
