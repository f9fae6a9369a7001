"""``RoutingStorage`` passes the kit, over files, SQLite, memory and a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit, urlunsplit

import pytest

from flowstore.storages import RoutingStorage
from flowstore.testing import StorageTests
from tests.servers.proxy import Proxy, proxy
from tests.storages.redis.redis_kit import fresh_prefix
from tests.storages.routing.routing_kit import ELSEWHERE, NO_SERVER, files, sqlite
from tests.storages.storage_races import ProcessRaces

pytest_plugins = ("tests.storages.redis.redis_fixtures",)

LACKS = {"faults": NO_SERVER, "raw access": ELSEWHERE, "foreign data": ELSEWHERE, "damaged records": ELSEWHERE}


class TestRoutingBySizeAndKind(ProcessRaces, StorageTests):
    """Small records in SQLite, large payloads and errors in files."""

    storage_class = RoutingStorage
    lacks: ClassVar = LACKS

    @pytest.fixture
    def configuration(self, tmp_path: Path) -> dict[str, Any]:
        return {
            "storages": {
                "small": sqlite(tmp_path / "small"),
                "large": files(tmp_path / "large"),
                "errors": files(tmp_path / "errors"),
            },
            "default": "small",
            "routes": [
                {"storage": "errors", "kinds": ["error"]},
                {"storage": "large", "min_size": 1001},
            ],
        }


@pytest.mark.each_time("lifecycle", "revisions", "deletion", "emptying", "large values", "fork")
class TestRoutingWithCopies(StorageTests):
    """Large payloads away, everything written through to SQLite, which is the fallback too."""

    storage_class = RoutingStorage
    lacks: ClassVar = LACKS

    @pytest.fixture
    def configuration(self, tmp_path: Path) -> dict[str, Any]:
        return {
            "storages": {
                "here": sqlite(tmp_path / "here"),
                "away": files(tmp_path / "away"),
                "copies": sqlite(tmp_path / "copies"),
            },
            "default": "here",
            "routes": [{"storage": "away", "min_size": 1001}],
            "write_through": ["copies"],
            "fallback": ["copies"],
        }


@pytest.mark.each_time("lifecycle", "values", "revisions", "expiry")
class TestRoutingInMemory(StorageTests):
    """The same storage for small and large: nothing is away."""

    storage_class = RoutingStorage
    lacks: ClassVar = {
        **LACKS,
        "instances": "each instance has a memory of its own",
        "processes": "each process has a memory of its own",
    }

    @pytest.fixture
    def configuration(self) -> dict[str, Any]:
        memory = {"classname": "MemoryStorage"}
        return {
            "storages": {"all": memory, "more": memory},
            "default": "all",
            "routes": [{"storage": "more", "flow": "no such *"}, {"storage": "all", "min_size": 1001}],
        }


@pytest.mark.each_time("lifecycle", "revisions", "expiry", "server clock", "fork", "faults")
class TestRoutingOverAServer(StorageTests):
    """Small records in Redis, which is gone now and then, large payloads in files."""

    storage_class = RoutingStorage
    lacks: ClassVar = {"raw access": ELSEWHERE, "foreign data": ELSEWHERE, "damaged records": ELSEWHERE}

    @pytest.fixture
    def outage(self, redis_server_url: str) -> Iterator[Proxy]:
        parts = urlsplit(redis_server_url)
        with proxy(parts.port or 6379, parts.hostname or "localhost") as middle:
            yield middle

    @pytest.fixture
    def configuration(self, redis_server_url: str, outage: Proxy, tmp_path: Path) -> dict[str, Any]:
        parts = urlsplit(redis_server_url)
        login = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        url = urlunsplit(parts._replace(netloc=f"{login}127.0.0.1:{outage.port}"))
        redis = {"classname": "RedisStorage", "configuration": {"url": url, "prefix": fresh_prefix()}}
        return {
            "storages": {"small": redis, "large": files(tmp_path / "large")},
            "default": "small",
            "routes": [{"storage": "large", "min_size": 1001}],
        }
