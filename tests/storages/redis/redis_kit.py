"""What the tests of ``RedisStorage`` share."""

from __future__ import annotations

import uuid
from collections import defaultdict
from contextlib import AbstractContextManager
from typing import Any

import orjson

from flowstore.storages import RedisStorage
from tests.servers import met
from tests.servers import redis as servers
from tests.servers.proxy import Proxy
from tests.storages.storage_kit import connected_to


def need_program() -> None:
    """Skip where no server can be started."""
    if servers.PROGRAM is None:
        met.skip("RedisStorage", servers.MISSING)


def fresh_prefix() -> str:
    """Return a prefix of a test's own; ``records`` in it lets the races vary it."""
    return f"records-{uuid.uuid4().hex}"


def at(server: servers.Server | Proxy, **configuration: Any) -> RedisStorage:
    """Return a storage at an empty place, not connected yet."""
    configuration = {"prefix": fresh_prefix(), **configuration}
    return RedisStorage("127.0.0.1", server.port, **configuration)


def opened(server: servers.Server | Proxy, **configuration: Any) -> AbstractContextManager[RedisStorage]:
    """Connect a storage at an empty place."""
    return connected_to(at(server, **configuration))


def connected(**configuration: Any) -> RedisStorage:
    """Return a connected storage, made of nothing but what is given."""
    storage = RedisStorage(**configuration)
    storage.connect()
    return storage


def check_indexes(client: Any, prefix: str) -> int:
    """Check that the indexes say what the records say, no more and no less; return the number of records."""
    indexes: dict[bytes, dict[bytes, float]] = {}
    kinds: dict[bytes, set[bytes]] = {}
    expected: dict[bytes, dict[bytes, float]] = defaultdict(dict)
    expected_kinds: dict[bytes, set[bytes]] = defaultdict(set)
    count = 0
    for key in client.scan_iter(match=f"{prefix}:*", count=1000):
        base, _, rest = key.partition(b"}:")
        base += b"}:"
        if rest == b"number":
            continue
        if rest == b"kinds":
            kinds[key] = client.smembers(key)
        elif rest.startswith(b"record:"):
            count += 1
            fields = client.hgetall(key)
            kind, flow_name, _, task_id, _ = (part.encode() for part in orjson.loads(fields[b"ref"]))
            address, number = rest.removeprefix(b"record:"), float(fields[b"number"])
            headers = orjson.loads(fields[b"headers"])
            if kind not in (b"result", b"error"):
                expected_kinds[base + b"kinds"].add(kind)
            expected[base + b"kind:" + kind][address] = number
            expected[base + b"flow:%d:%b:%b" % (len(kind), kind, flow_name)][address] = number
            expected[base + b"task:" + task_id][address] = number
            if headers.get("run_id") is not None:
                expected[base + b"run:" + headers["run_id"].encode()][address] = number
            if headers.get("expires_at") is not None:
                expected[base + b"expiry"][address] = headers["expires_at"]
        else:
            indexes[key] = dict(client.zrange(key, 0, -1, withscores=True))
    assert indexes == expected
    assert kinds == expected_kinds
    return count
