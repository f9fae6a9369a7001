"""PostgreSQL and MySQL: a server that falls silent while its connections stay open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flowstore.errors import OutcomeUnknownError, UnreachableError
from flowstore.record import Key, Query, Ref
from flowstore.storage import RecordStorage
from tests.servers.proxy import Proxy
from tests.storages.sql.sql_servers import behind
from tests.storages.storage_kit import Recipe, make, opened, record

pytest_plugins = ("tests.storages.sql.sql_fixtures",)

KEY = Key("f", "t", "1")
LONG = 60
"""Seconds; far more than the timeout, far less than for ever."""

READS: dict[str, Callable[[RecordStorage], object]] = {
    "get": lambda storage: storage.get(KEY),
    "get_many": lambda storage: storage.get_many([Ref("result", KEY)]),
    "scan": lambda storage: storage.scan(Query()),
    "where": lambda storage: storage.scan(Query(flow_name="f", where={"a": 1})),
    "count": lambda storage: storage.count(Query()),
}
WRITES: dict[str, Callable[[RecordStorage], object]] = {
    "put": lambda storage: storage.put(record(KEY, 2)),
    "insert": lambda storage: storage.put(record(Key("f", "t", "2"), 2), if_revision=0),
    "replace": lambda storage: storage.put(record(KEY, 2), if_revision=1),
    "put_many": lambda storage: storage.put_many([record(Key("f", "t", str(n)), n) for n in range(3)]),
    "add_many": lambda storage: storage.add_many([record(Key("f", "t", f"new{n}"), n) for n in range(3)]),
    "delete": lambda storage: storage.delete(KEY),
    "delete_many": lambda storage: storage.delete_many([Ref("result", KEY)]),
}


@pytest.fixture
def in_front(recipe: Recipe) -> Iterator[tuple[Recipe, Proxy]]:
    with opened(recipe) as storage:
        storage.store("f", "t", "1", 1)
    with behind(recipe) as found:
        yield found


def quick(recipe: Recipe, **more: Any) -> Recipe:
    return recipe[0], recipe[1] | {"timeout": 1, "connect_timeout": 2} | more


@pytest.mark.parametrize("call", [*READS, *WRITES])
@pytest.mark.parametrize("limit", [None, 2])
def test_no_call_waits_for_ever(in_front: tuple[Recipe, Proxy], call: str, limit: int | None) -> None:
    between, middle = in_front
    run = (READS | WRITES)[call]
    with ThreadPoolExecutor(1) as pool, opened(quick(between, pool_limit=limit)) as storage:
        # In the thread that holds the connection.
        pool.submit(storage.retrieve, "f", "t", "1").result(LONG)
        middle.flowing.clear()
        with pytest.raises(UnreachableError, match="time") as caught:
            pool.submit(run, storage).result(LONG)
        assert isinstance(caught.value, OutcomeUnknownError) == (call in WRITES)
        middle.flowing.set()
        # What comes too late is nobody's answer.
        assert pool.submit(storage.get_many, [Ref("result", KEY)]).result(LONG) is not None
        pool.submit(storage.store, "f", "t", "1", "after").result(LONG)
        assert pool.submit(storage.retrieve, "f", "t", "1").result(LONG) == "after"


def test_connecting_does_not_wait_for_ever(in_front: tuple[Recipe, Proxy]) -> None:
    between, middle = in_front
    middle.flowing.clear()
    with ThreadPoolExecutor(1) as pool:
        for _ in range(2):
            with pytest.raises(UnreachableError, match="time"):
                pool.submit(make(quick(between)).connect).result(LONG)
    middle.flowing.set()
    with opened(quick(between)) as storage:
        assert storage.retrieve("f", "t", "1") == 1


def test_disconnecting_does_not_wait_for_ever(in_front: tuple[Recipe, Proxy]) -> None:
    between, middle = in_front
    storage = make(quick(between))
    with ThreadPoolExecutor(2) as pool:
        storage.connect()
        assert pool.submit(storage.retrieve, "f", "t", "1").result(LONG) == 1
        middle.flowing.clear()
        running = pool.submit(storage.retrieve, "f", "t", "1")
        assert middle.held.wait(LONG)
        pool.submit(storage.disconnect).result(LONG)
        assert isinstance(running.exception(LONG), UnreachableError)
