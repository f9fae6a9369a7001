"""What is kept and how it is found: records as people read them, indexes, round trips, order and time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flowstore.encoding import pipeline
from flowstore.record import ERROR, RESULT, Key, Query, Ref
from tests.servers import redis as servers
from tests.servers.proxy import proxy
from tests.storages.redis.redis_kit import check_indexes, connected, fresh_prefix
from tests.storages.storage_kit import record

pytest_plugins = ("tests.storages.redis.redis_fixtures",)


def test_people_can_read_a_record(server: servers.Server) -> None:
    prefix = fresh_prefix()
    storage = connected(port=server.port, prefix=prefix)
    storage.store("flow", "täsk", "1", {"price": 42})
    with server.client() as client:
        [key] = client.keys(f"{prefix}:*:record:*")
        fields = client.hgetall(key)
    assert key.decode().endswith(f":record:{Ref(RESULT, Key('flow', 'täsk', '1')).address.hex()}")
    assert fields[b"ref"] == '["result","flow","täsk","1",""]'.encode()
    revision = storage.get(Key("flow", "täsk", "1")).revision
    assert (fields[b"payload"], fields[b"revision"]) == (b'{"price":42}', str(revision).encode())
    storage.disconnect()


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (Query(run_id="r"), "run:r"),
        (Query(run_id="r", task_ids=("1",)), "task:1"),
        (Query(flow_name="f", task_name="t", task_id="1"), "task:1"),
        (Query(kinds=("run",), flow_name="f"), "flow:3:run:f"),
        (Query(kinds=("error",), descending=True), "kind:error"),
        (Query(flow_name="f"), "flow:6:result:f"),
    ],
)
def test_selects_by_index(server: servers.Server, query: Query, index: str) -> None:
    storage = connected(port=server.port, prefix=fresh_prefix())
    with server.client(decode_responses=True) as client:
        client.config_resetstat()
        with client.monitor() as monitor:
            storage.scan(query)
            client.echo("done")
            seen = []
            for said in monitor.listen():
                if said["command"].startswith("ECHO"):
                    break
                seen.append(said["command"])
    assert any(f"}}:{index} " in command for command in seen), seen
    assert not any(command.startswith(("KEYS", "SCAN")) for command in seen), seen
    storage.disconnect()


def test_the_errors_of_a_run_are_found_by_the_shorter_index(server: servers.Server) -> None:
    storage = connected(port=server.port, prefix=fresh_prefix())
    for number in range(20):
        storage.put(record(Key("f", "t", str(number)), "x", run_id="long"))
        storage.put(pipeline.encode(Ref(ERROR, Key("f", "t", f"e{number}")), {}, {"run_id": "short"}))
    storage.put(pipeline.encode(Ref(ERROR, Key("f", "t", "long")), {}, {"run_id": "long", "state": "FAILURE"}))
    storage.put(pipeline.encode(Ref(ERROR, Key("g", "t", "other")), {}, {"run_id": "long", "state": "FAILURE"}))
    query = Query((ERROR,), "f", run_id="long", states=("FAILURE",))
    assert [found.key.task_id for found in storage.records(query)] == ["long"]
    assert len(list(storage.records(Query((ERROR,), "f", run_id="short")))) == 20
    assert {found.key.task_id for found in storage.records(Query(run_id="long", task_ids=("3", "long", "e1")))} == {
        "3",
        "long",
    }
    storage.disconnect()


def test_a_call_is_one_round_trip(server: servers.Server) -> None:
    refs = [Ref(RESULT, Key("f", "t", str(number))) for number in range(300)]
    records = [record(ref.key, "x") for ref in refs]
    with proxy(server.port) as middle:
        storage = connected(host="127.0.0.1", port=middle.port, prefix=fresh_prefix())
        storage.store("f", "t", "1", 1)
        storage.delete(refs[1].key)  # now the server knows the scripts
        middle.patience = 0.2
        for call in (
            lambda: storage.store("f", "t", "1", 1),
            lambda: storage.put(record(refs[2].key, "x"), if_revision=0),
            lambda: storage.get(refs[1].key),
            lambda: storage.get(refs[1].key, payload=False),
            lambda: storage.get_many(refs),
            lambda: storage.put_many(records),
        ):
            before = middle.round_trips
            call()
            assert middle.round_trips == before + 1
        # Deleting takes one more: to look for what is kept apart.
        deletes: list[Callable[[], object]] = [
            lambda: storage.delete(refs[1].key),
            lambda: storage.delete_many(refs),
        ]
        for delete in deletes:
            before = middle.round_trips
            delete()
            assert middle.round_trips == before + 2
        storage.disconnect()


def test_a_listing_of_many_pages_is_in_order(server: servers.Server) -> None:
    storage = connected(port=server.port, prefix=fresh_prefix())
    keys = [Key("f", "t", str(number)) for number in range(3000)]
    storage.put_many([record(key, "x", run_id="r", state="A" if int(key.task_id) % 10 else "B") for key in keys])
    for query in (Query(), Query(run_id="r"), Query(flow_name="f"), Query(kinds=(RESULT,), flow_name="f")):
        assert storage.count(query) == 3000
        assert [one.key for one in storage.records(query, payload=False)] == keys
    found, cursor = [], None
    while True:
        page = storage.scan(Query(states=("B",), descending=True), limit=7, cursor=cursor)
        found += page.records
        cursor = page.cursor
        if cursor is None:
            break
    assert [one.key for one in found] == [key for key in reversed(keys) if int(key.task_id) % 10 == 0]
    assert all(pipeline.decode(one) == "x" for one in found)
    tasks = tuple(str(number) for number in range(0, 3000, 100))
    assert [one.key.task_id for one in storage.records(Query(task_ids=tasks))] == list(tasks)
    storage.disconnect()


def test_counts_and_lists_what_has_expired(server: servers.Server) -> None:
    storage = connected(port=server.port, prefix=fresh_prefix())
    now = storage.now()
    for number in range(60):
        expires_at = {0: now - 10, 1: now + 3600, 2: None}[number % 3]
        facts: dict[str, Any] = {} if expires_at is None else {"expires_at": expires_at}
        storage.put(record(Key("f", "t", str(number)), number, run_id="r", **facts))
    for query in (Query(), Query(run_id="r"), Query(kinds=(RESULT,), flow_name="f")):
        assert storage.count(query) == 40
    expired = [one.ref for one in storage.records(Query(expired_at=now))]
    assert [ref.key.task_id for ref in expired] == [str(number) for number in range(0, 60, 3)]
    assert storage.delete_many(expired) == 20
    assert storage.scan(Query(expired_at=now)).records == []
    assert storage.count(Query()) == 40
    with server.client() as client:
        assert check_indexes(client, storage._options.prefix) == 40
        assert all(client.ttl(key) == -1 for key in client.keys(f"{storage._options.prefix}:*"))
    storage.disconnect()


def test_the_order_survives_a_server_s_clock_that_was_put_back(server: servers.Server) -> None:
    storage = connected(port=server.port, prefix=fresh_prefix())
    keys = [Key("f", "t", str(number)) for number in range(50)]
    with server.client() as client:
        for key in keys[:25]:
            storage.put(record(key, "x"))
        # As if what is there had been stored when the clock was decades ahead of what it is now.
        client.set(f"{storage._options.prefix}:{{0}}:number", 4_000_000_000_000_000)
        for key in keys[25:]:
            storage.put(record(key, "x"))
        numbers = [
            number
            for index in client.scan_iter(f"{storage._options.prefix}:*:kind:*")
            for _, number in client.zrange(index, 0, -1, withscores=True)
        ]
    assert sum(number > 4_000_000_000_000_000 for number in numbers) == 25
    assert [one.key for one in storage.records(Query())] == keys
    storage.disconnect()


def test_time_is_the_server_s(server: servers.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = connected(port=server.port, prefix=fresh_prefix())
    monkeypatch.setattr("time.time", lambda: 0.0)  # a client whose clock is wrong
    with server.client() as client:
        seconds, microseconds = client.time()
    assert abs(storage.now() - (seconds + microseconds / 1e6)) < 5
    storage.disconnect()
