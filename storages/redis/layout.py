"""Keys and scripts of records in Redis.

Every key starts with ``prefix:{shard}:``. The braces make a Redis Cluster keep all keys of one shard on one server,
where a script may change a record together with its indexes. The names are the same without a cluster, so that data can
move.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from math import isfinite
from typing import Any, Final
from zlib import crc32

import orjson

from flowstore.errors import CorruptError, StorageError
from flowstore.record import Key, Record, Ref
from flowstore.storages.shared.headers import corrupt, dump_headers, load_headers

SHARDS: Final = 16
LARGEST: Final = 512 * 1024 * 1024
"""The server refuses a longer string and closes the connection."""

Command = Sequence[bytes]

_NAMES: Final = """
local base, address = string.sub(KEYS[1], 1, -72), string.sub(KEYS[1], -64)
local function indexes(kind, flow, task_id)
  return base .. 'kind:' .. kind, base .. 'flow:' .. #kind .. ':' .. kind .. ':' .. flow, base .. 'task:' .. task_id
end
local common = { ['result'] = true, ['error'] = true }
"""

COMMON: Final = frozenset((b"result", b"error"))
"""The kinds that listings always read; a set holds the others."""

# The record is written last: if an index has the wrong type, the script ends before anything is replaced.
PUT: Final = (
    _NAMES
    + """
local old = redis.call('HMGET', KEYS[1], 'revision', 'number', 'expires_at', 'run')
local revision, number, expires_at, run = old[1], old[2], ARGV[9], ARGV[11]
if ARGV[1] ~= '' then
  local current = revision
  if not revision or (old[3] and tonumber(old[3]) <= tonumber(ARGV[2])) then current = '0' end
  if current ~= ARGV[1] then
    if current == '0' then return {} end
    return redis.call('HMGET', KEYS[1], 'ref', 'headers', 'revision', 'number', 'payload')
  end
end
if not revision then
  local time = redis.call('TIME')
  number = string.format('%.0f', time[1] * 1000000 + time[2])
  local last = redis.call('GETSET', KEYS[2], number)
  if last and tonumber(last) >= tonumber(number) then
    number = string.format('%.0f', tonumber(last) + 1)
    redis.call('SET', KEYS[2], number)
  end
  local of_kind, of_flow, of_task = indexes(ARGV[6], ARGV[7], ARGV[8])
  if not common[ARGV[6]] then redis.call('SADD', base .. 'kinds', ARGV[6]) end
  redis.call('ZADD', of_kind, number, address)
  redis.call('ZADD', of_flow, number, address)
  redis.call('ZADD', of_task, number, address)
end
if run ~= (old[4] or nil) then
  if old[4] then
    redis.call('ZREM', base .. 'run:' .. old[4], address)
    redis.call('HDEL', KEYS[1], 'run')
  end
  if run then
    redis.call('ZADD', KEYS[3], number, address)
    redis.call('HSET', KEYS[1], 'run', run)
  end
end
if expires_at ~= '' then
  redis.call('ZADD', base .. 'expiry', expires_at, address)
  redis.call('HSET', KEYS[1], 'expires_at', expires_at)
elseif old[3] then
  redis.call('ZREM', base .. 'expiry', address)
  redis.call('HDEL', KEYS[1], 'expires_at')
end
revision = revision and tonumber(revision) + 1 or tonumber(ARGV[10])
redis.call(
  'HSET', KEYS[1], 'ref', ARGV[3], 'headers', ARGV[4], 'revision', revision, 'number', number, 'payload', ARGV[5]
)
return revision
"""
).encode()

DELETE: Final = (
    _NAMES
    + """
local old = redis.call('HMGET', KEYS[1], 'revision', 'run')
if not old[1] then
  return 0
end
if ARGV[1] ~= '' and ARGV[1] ~= old[1] then
  return redis.call('HMGET', KEYS[1], 'ref', 'headers', 'revision', 'number', 'payload')
end
local of_kind, of_flow, of_task = indexes(ARGV[2], ARGV[3], ARGV[4])
redis.call('ZREM', of_kind, address)
redis.call('ZREM', of_flow, address)
redis.call('ZREM', of_task, address)
redis.call('ZREM', base .. 'expiry', address)
if old[2] then redis.call('ZREM', base .. 'run:' .. old[2], address) end
redis.call('UNLINK', KEYS[1])
if not common[ARGV[2]] and redis.call('EXISTS', of_kind) == 0 then redis.call('SREM', base .. 'kinds', ARGV[2]) end
return 1
"""
).encode()

# A record that another program deleted, or the server evicted, leaves its index entries.
FORGET: Final = b"""
if redis.call('HGET', KEYS[1], 'number') ~= ARGV[1] then
  return redis.call('ZREM', KEYS[2], string.sub(KEYS[1], -64))
end
return 0
"""

SOURCES: Final = {sha1(source, usedforsecurity=False).hexdigest().encode(): source for source in (PUT, DELETE, FORGET)}
_PUT, _DELETE, _FORGET = SOURCES


def shard_of(key: Key) -> int:
    """Return the shard of all records of a key."""
    return crc32(f"{key.flow_name}\0{key.task_name}\0{key.task_id}".encode()) % SHARDS


class Layout:
    """The keys of one prefix, and the commands on them."""

    def __init__(self, prefix: str, *, shared_counter: bool) -> None:
        """Lay out a prefix; ``shared_counter`` is for all shards on one server."""
        self._bases = [f"{prefix}:{{{shard}}}:".encode() for shard in range(SHARDS)]
        self._records = [base + b"record:" for base in self._bases]
        self._counters = [(self._bases[0] if shared_counter else base) + b"number" for base in self._bases]

    def base(self, shard: int) -> bytes:
        """Return what the keys of a shard start with, hash tag included."""
        return self._bases[shard]

    def get(self, shard: int, address: bytes, payload: bool) -> Command:
        fields = (b"ref", b"headers", b"revision", b"number")
        return (b"HMGET", self._records[shard] + address, *fields, *((b"payload",) if payload else ()))

    def put(self, shard: int, record: Record, if_revision: int | None, now: float) -> Command:
        ref, payload = record.ref, bytes(record.payload)
        headers = dump_headers(record)
        if len(payload) > LARGEST or len(headers) > LARGEST:
            raise StorageError(f"{ref} has {len(payload)} bytes; a value in Redis has at most {LARGEST}")
        expires_at, run_id = record.expires_at, record.run_id
        # While a cluster moves a slot, it runs no script some of whose keys have moved: so it can't split an index.
        indexes = () if run_id is None else (self.of_run(shard, run_id),)
        return (
            b"EVALSHA",
            _PUT,
            b"%d" % (2 + len(indexes)),
            self._records[shard] + ref.address.hex().encode(),
            self._counters[shard],
            *indexes,
            b"" if if_revision is None else b"%d" % if_revision,
            repr(now).encode(),
            dump_ref(ref),
            headers,
            payload,
            ref.kind.encode(),
            ref.key.flow_name.encode(),
            ref.key.task_id.encode(),
            b"" if expires_at is None or not isfinite(expires_at) else repr(expires_at).encode(),
            b"%d" % record.revision,
            *(() if run_id is None else (run_id.encode(),)),
        )

    def delete(self, shard: int, ref: Ref, if_revision: int | None) -> Command:
        return (
            b"EVALSHA",
            _DELETE,
            b"1",
            self._records[shard] + ref.address.hex().encode(),
            b"" if if_revision is None else b"%d" % if_revision,
            ref.kind.encode(),
            ref.key.flow_name.encode(),
            ref.key.task_id.encode(),
        )

    def forget(self, shard: int, index: bytes, address: bytes, number: int) -> Command:
        return b"EVALSHA", _FORGET, b"2", self._records[shard] + address, index, b"%d" % number

    # Indexes: sorted sets of addresses by number

    def kinds(self, shard: int) -> bytes:
        return self._bases[shard] + b"kinds"

    def expiry(self, shard: int) -> bytes:
        return self._bases[shard] + b"expiry"

    def of_kind(self, shard: int, kind: bytes, flow_name: str | None) -> bytes:
        if flow_name is None:
            return b"%bkind:%b" % (self._bases[shard], kind)
        return b"%bflow:%d:%b:%b" % (self._bases[shard], len(kind), kind, flow_name.encode())

    def of_task(self, shard: int, task_id: str) -> bytes:
        return b"%btask:%b" % (self._bases[shard], task_id.encode())

    def of_run(self, shard: int, run_id: str) -> bytes:
        return b"%brun:%b" % (self._bases[shard], run_id.encode())


def dump_ref(ref: Ref) -> bytes:
    """Return a reference as readable JSON."""
    key = ref.key
    return orjson.dumps((ref.kind, key.flow_name, key.task_name, key.task_id, ref.name))


def load_ref(text: bytes) -> Ref:
    """Return the reference in a text.

    Raises:
        CorruptError: the text is not one.
    """
    try:
        kind, flow_name, task_name, task_id, name = orjson.loads(text)
        return Ref(kind, Key(flow_name, task_name, task_id), name)
    except (TypeError, ValueError) as exc:
        raise CorruptError(f"a record holds {text[:200]!r}, which is not a reference") from exc


def read_record(fields: Sequence[Any], ref: Ref | None, payload: bool) -> Record | None:
    """Return the record in the fields of ``Layout.get``, None if missing.

    Raises:
        CorruptError: fields are missing or can't be read.
    """
    text, headers, revision = fields[0], fields[1], fields[2]
    if text is None and headers is None and revision is None:
        return None
    if text is None or headers is None or revision is None or (payload and fields[4] is None):
        if ref is None and text is not None:
            ref = load_ref(text)
        raise corrupt(ref, f"the hash of {ref or 'a record'} lacks fields of a record")
    if ref is None or text != dump_ref(ref):
        # A record under another one's address keeps its reference, which the caller's check refuses.
        ref = load_ref(text)
    try:
        number = int(revision)
    except ValueError as exc:
        raise corrupt(ref, f"the revision of {ref} is {revision!r}") from exc
    return Record(ref, fields[4] if payload else b"", load_headers(headers, ref), number)
