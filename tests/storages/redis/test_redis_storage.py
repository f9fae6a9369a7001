"""The kit, on one server with its every option, and on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar
from urllib.parse import urlsplit, urlunsplit

import pytest
import redis

from flowstore.record import Ref
from flowstore.storages import RedisStorage
from flowstore.storages.redis.layout import shard_of
from flowstore.testing import StorageTests
from tests.servers import redis as servers
from tests.servers.proxy import Proxy, proxy
from tests.storages.bystanders import Bystander, beside
from tests.storages.redis.redis_kit import fresh_prefix
from tests.storages.wrecks import Wrecked

pytest_plugins = ("tests.storages.redis.redis_fixtures",)


def stored_payload(client: Any, prefix: str, ref: Ref) -> bytes | None:
    payload: bytes | None = client.hget(f"{prefix}:{{{shard_of(ref.key)}}}:record:{ref.address.hex()}", "payload")
    return payload


class TestRedis(Wrecked, StorageTests):
    storage_class = RedisStorage

    @pytest.fixture
    def middle(self, redis_server_url: str) -> Iterator[Proxy]:
        parts = urlsplit(redis_server_url)
        with proxy(parts.port or 6379, parts.hostname or "localhost") as middle:
            yield middle

    @pytest.fixture
    def configuration(self, redis_server_url: str, middle: Proxy) -> dict[str, Any]:
        parts = urlsplit(redis_server_url)
        login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        url = urlunsplit(parts._replace(netloc=f"{login}127.0.0.1:{middle.port}"))
        return {"url": url, "prefix": fresh_prefix()}

    @pytest.fixture
    def outage(self, middle: Proxy) -> Proxy:
        return middle

    @pytest.fixture
    def lost_answer(self, middle: Proxy) -> Proxy:
        return middle

    @pytest.fixture
    def bystander(self, configuration: dict[str, Any]) -> Bystander:
        return beside(("RedisStorage", configuration))

    @pytest.fixture
    def raw_get(self, redis_server_url: str, configuration: dict[str, Any]) -> Iterator[Callable[[Ref], bytes | None]]:
        client: Any = redis.Redis.from_url(redis_server_url)
        with client:
            yield lambda ref: stored_payload(client, configuration["prefix"], ref)


@pytest.mark.each_time("lifecycle", "revisions", "batches", "listing", "expiry", "server clock", "claims", "fork")
class TestRedisCluster(StorageTests):
    storage_class = RedisStorage

    @pytest.fixture
    def configuration(self, redis_cluster: list[servers.Server]) -> dict[str, Any]:
        return {"host": "127.0.0.1", "port": redis_cluster[0].port, "cluster": True, "prefix": fresh_prefix()}

    lacks: ClassVar = {"faults": "a lost server of a cluster has tests of its own"}

    @pytest.fixture
    def bystander(self, configuration: dict[str, Any]) -> Bystander:
        return beside(("RedisStorage", configuration))

    @pytest.fixture
    def raw_get(
        self, redis_cluster: list[servers.Server], configuration: dict[str, Any]
    ) -> Iterator[Callable[[Ref], bytes | None]]:
        client: Any = redis.RedisCluster("127.0.0.1", redis_cluster[0].port)
        yield lambda ref: stored_payload(client, configuration["prefix"], ref)
        client.close()
