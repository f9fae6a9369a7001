"""A RoutingStorage with a fallback, while a real server is away and when it is back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from flowstore.errors import NotFoundError, UnreachableError
from flowstore.record import Key, Query, Record, Ref
from flowstore.storage import RecordStorage
from flowstore.store.registry import Registry
from flowstore.testing import record
from tests.servers.proxy import Proxy, proxy
from tests.storages.redis.redis_kit import fresh_prefix
from tests.storages.routing.routing_kit import files, records, routed, sqlite
from tests.storages.storage_kit import returns

pytest_plugins = ("tests.storages.redis.redis_fixtures",)

KEY, OTHER = Key("flow", "task", "1"), Key("flow", "task", "2")


@pytest.fixture
def server(redis_server_url: str) -> Iterator[Proxy]:
    parts = urlsplit(redis_server_url)
    with proxy(parts.port or 6379, parts.hostname or "localhost") as middle:
        yield middle


@pytest.fixture
def declared(redis_server_url: str, server: Proxy, tmp_path: Path) -> dict[str, dict[str, Any]]:
    parts = urlsplit(redis_server_url)
    login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    url = urlunsplit(parts._replace(netloc=f"{login}127.0.0.1:{server.port}"))
    return {
        "Redis": {"classname": "RedisStorage", "configuration": {"url": url, "prefix": fresh_prefix()}},
        "Large": files(tmp_path / "large"),
        "Spare": sqlite(tmp_path / "spare"),
    }


def configuration(**more: Any) -> dict[str, Any]:
    return {
        "storages": {"redis": "Redis", "large": "Large", "spare": "Spare"},
        "default": "redis",
        "routes": [{"storage": "large", "min_size": 1000}],
        "fallback": ["spare"],
        **more,
    }


@pytest.fixture
def registry(declared: dict[str, dict[str, Any]]) -> Iterator[Registry]:
    with routed(declared, configuration()) as registry:
        yield registry


@pytest.fixture
def storage(registry: Registry) -> RecordStorage:
    return records(registry, "Routed")


def strays(registry: Registry) -> int:
    return records(registry, "Spare").count(Query(kinds=("routing.stray",)))


@pytest.mark.parametrize("value", ["small", "large" * 1000], ids=["small", "large"])
def test_what_was_written_during_an_outage_moves_home(
    registry: Registry, storage: RecordStorage, server: Proxy, value: str
) -> None:
    storage.put(record(KEY, "one"))
    before = storage.put(record(KEY, "two")).revision
    server.begin()
    during = storage.put(record(KEY, value))
    storage.put(record(OTHER, "new"))
    assert storage.retrieve("flow", "task", "1") == value
    assert storage.get_many([during.ref])[0] == storage.get(KEY)
    server.end()
    assert strays(registry) == 2
    assert storage.retrieve("flow", "task", "1") == value
    assert storage.get(KEY).revision == before + 1, "it follows the revisions that were there before"
    assert storage.count(Query()) == 2
    assert strays(registry) == 0
    assert storage.get(KEY).headers["token"] == during.headers["token"]
    assert records(registry, "Redis").count(Query(kinds=("result",))) == 2


def test_a_home_that_falls_silent_is_waited_for_once(declared: dict[str, dict[str, Any]], server: Proxy) -> None:
    declared["Redis"]["configuration"] |= {"timeout": 0.5, "connect_timeout": 0.5}
    with routed(declared, configuration()) as registry:
        storage: Any = records(registry, "Routed")
        storage.put(record(OTHER, "at home"))
        server.flowing.clear()
        for number in range(3):
            outcome = returns(lambda number=number: storage.put(record(KEY, number)))  # type: ignore[misc]
            assert isinstance(outcome, Record), outcome
            assert returns(lambda: storage.retrieve("flow", "task", "1")) == number
        for call in (lambda: storage.get(OTHER), lambda: storage.count(Query()), storage.settle):
            assert isinstance(returns(call), UnreachableError)
        server.flowing.set()
        assert storage.retrieve("flow", "task", "1") == 2
        assert strays(registry) == 0


def test_what_was_written_later_at_home_stays(registry: Registry, storage: RecordStorage, server: Proxy) -> None:
    """Another process could reach the server, and has stored something newer there."""
    server.begin()
    storage.put(record(KEY, "during"))
    server.end()
    newer = record(KEY, "newer")
    assert newer.stored_at > 0
    records(registry, "Redis").put(newer)
    assert storage.retrieve("flow", "task", "1") == "newer"
    assert strays(registry) == 0


def test_writing_and_deleting_settle_first(registry: Registry, storage: RecordStorage, server: Proxy) -> None:
    """What is deleted after an outage must not come back from the fallback, nor what is replaced."""
    acts: list[Callable[[], int]] = [
        lambda: storage.delete(KEY),
        lambda: storage.delete_many([Ref("result", KEY)]),
        lambda: storage.delete_task(KEY),
    ]
    for act in acts:
        server.begin()
        storage.put(record(KEY, "during"))
        server.end()
        assert act() == 1
        with pytest.raises(NotFoundError):
            storage.get(KEY)
        assert strays(registry) == 0
    server.begin()
    storage.put(record(KEY, "during"))
    server.end()
    after = storage.put(record(KEY, "after")).revision
    assert storage.retrieve("flow", "task", "1") == "after"
    assert storage.put_many([record(KEY, "again")])[0].revision == after + 1
    assert strays(registry) == 0


def test_what_needs_its_own_storage_says_that_it_is_gone(storage: RecordStorage, server: Proxy) -> None:
    """Who wins is decided at home; and what is there can't be denied, listed or deleted while it can't be asked."""
    storage.put(record(KEY, "one"))
    server.begin()
    acts: list[Callable[[], object]] = [
        lambda: storage.get(KEY),
        lambda: storage.get_many([Ref("result", KEY)]),
        lambda: storage.put(record(OTHER, "x"), if_revision=0),
        lambda: storage.claim(KEY),
        lambda: storage.delete(KEY),
        lambda: storage.count(Query()),
        lambda: storage.scan(Query()),
        lambda: storage.store_blob(KEY, "b", b"x"),
    ]
    for act in acts:
        with pytest.raises(UnreachableError):
            act()
    server.end()
    assert storage.retrieve("flow", "task", "1") == "one"
    assert storage.count(Query()) == 1


def test_copies_are_read_while_their_home_is_gone(declared: dict[str, dict[str, Any]], server: Proxy) -> None:
    with routed(declared, configuration(write_through=["spare"])) as registry:
        storage = records(registry, "Routed")
        first = storage.put(record(KEY, "one")).revision
        server.begin()
        assert storage.retrieve("flow", "task", "1") == "one"
        assert storage.get_many([Ref("result", KEY)])[0] is not None
        storage.put(record(KEY, "two"))
        assert storage.retrieve("flow", "task", "1") == "two"
        server.end()
        assert storage.get(KEY).revision == first + 1
        assert records(registry, "Spare").get(KEY).payload == storage.get(KEY).payload
        assert strays(registry) == 0


def test_connects_while_a_storage_is_gone(declared: dict[str, dict[str, Any]], server: Proxy) -> None:
    server.begin()
    with routed(declared, configuration()) as registry:
        storage = records(registry, "Routed")
        storage.put(record(KEY, "during"))
        assert storage.retrieve("flow", "task", "1") == "during"
        server.end()
        assert storage.retrieve("flow", "task", "1") == "during"
        assert strays(registry) == 0
    with routed(declared, configuration(fallback=[])) as registry:
        server.begin()
        with pytest.raises(UnreachableError):
            registry.get("Routed")
        server.end()
        assert records(registry, "Routed").retrieve("flow", "task", "1") == "during"


def test_settling_by_hand(registry: Registry, storage: RecordStorage, server: Proxy) -> None:
    server.begin()
    storage.put_many([record(Key("flow", "task", str(number)), number) for number in range(5)])
    server.end()
    assert strays(registry) == 5
    assert storage.settle() == 5  # type: ignore[attr-defined]
    assert strays(registry) == 0
    assert records(registry, "Redis").count(Query(kinds=("result",))) == 5
