"""Servers that fall silent: their connections stay open, and no answer comes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from flowstore.errors import UnreachableError
from flowstore.record import RESULT, Key, Query, Ref
from flowstore.storage import RecordStorage
from flowstore.storages import MongoStorage, RedisStorage, S3Storage
from tests.servers.mongo import Place
from tests.servers.proxy import Proxy, proxy
from tests.servers.s3 import Store
from tests.storages.mongo import mongo_kit
from tests.storages.redis import redis_kit
from tests.storages.s3 import s3_kit
from tests.storages.storage_kit import record, returns

pytest_plugins = (
    "tests.storages.mongo.mongo_fixtures",
    "tests.storages.redis.redis_fixtures",
    "tests.storages.s3.s3_fixtures",
)

KEY = Key("f", "t", "1")
SOME = [Key("f", "t", str(number)) for number in range(40)]
LARGE = b"x" * (17 << 20)

CALLS: dict[str, Callable[[Any], object]] = {
    "get": lambda storage: storage.get(KEY),
    "get_many": lambda storage: storage.get_many([Ref(RESULT, key) for key in SOME]),
    "put": lambda storage: storage.put(record(KEY, 2)),
    "put_many": lambda storage: storage.put_many([record(key, 2) for key in SOME]),
    "add_many": lambda storage: storage.add_many([record(key, 2) for key in SOME]),
    "delete": lambda storage: storage.delete(KEY),
    "delete_many": lambda storage: storage.delete_many([Ref(RESULT, key) for key in SOME]),
    "scan": lambda storage: list(storage.records(Query(flow_name="f"))),
    "count": lambda storage: storage.count(Query()),
    "cleanup": lambda storage: storage.cleanup(),
    "store_blob": lambda storage: storage.store_blob(KEY, "b", io.BytesIO(LARGE)),
    "retrieve_blob": lambda storage: storage.retrieve_blob(KEY, "there").read(),
    "purge": lambda storage: storage.purge(),
}

Silent = tuple[Proxy, Callable[[], RecordStorage]]


@pytest.fixture
def redis(redis_server_url: str) -> Iterator[Silent]:
    with proxy(urlsplit(redis_server_url).port or 6379) as middle:
        prefix = redis_kit.fresh_prefix()
        yield middle, lambda: RedisStorage("127.0.0.1", middle.port, prefix=prefix, timeout=0.5, connect_timeout=0.5)


@pytest.fixture
def s3(store: Store) -> Iterator[Silent]:
    with proxy(urlsplit(store.url).port or 80) as middle:
        place = {**s3_kit.fresh(store), "endpoint_url": f"http://127.0.0.1:{middle.port}"}
        yield middle, lambda: S3Storage(**{**place, "connect_timeout": 0.5, "read_timeout": 0.5})


@pytest.fixture
def mongo(mongo_server: Place) -> Iterator[Silent]:
    with proxy(urlsplit(mongo_server.uri).port or 27017) as middle:
        place = mongo_kit.fresh(f"mongodb://127.0.0.1:{middle.port}")
        yield middle, lambda: MongoStorage(**{**place, "connect_timeout": 0.5, "read_timeout": 0.5})


@pytest.mark.parametrize("server", ["redis", "s3", "mongo"])
def test_no_call_waits_for_ever(server: str, request: pytest.FixtureRequest) -> None:
    middle, make = request.getfixturevalue(server)
    for name, call in CALLS.items():
        storage = make()
        # A patient one: what is looked for is that it ends at all.
        _patiently(storage.connect)
        _patiently(lambda: storage.put_many([record(KEY, 1), record(SOME[2], 1)]))  # noqa: B023
        _patiently(lambda: storage.store_blob(KEY, "there", io.BytesIO(b"x")))  # noqa: B023
        middle.flowing.clear()
        outcome = returns(lambda: call(storage))  # noqa: B023
        middle.flowing.set()
        storage.disconnect()
        assert isinstance(outcome, UnreachableError), f"{name}: {outcome!r}"


@pytest.mark.parametrize("server", ["redis", "s3", "mongo"])
def test_connecting_does_not_wait_for_ever(server: str, request: pytest.FixtureRequest) -> None:
    middle, make = request.getfixturevalue(server)
    middle.flowing.clear()
    assert isinstance(returns(make().connect), UnreachableError)
    middle.flowing.set()


def _patiently(call: Callable[[], object]) -> None:
    """Make a call until a loaded machine answers in the short time that it has."""
    for _ in range(20):
        try:
            call()
        except UnreachableError:
            continue
        return
    call()
