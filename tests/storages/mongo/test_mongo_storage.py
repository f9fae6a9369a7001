from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import orjson
import pytest
from pymongo import MongoClient

from flowstore.record import Ref
from flowstore.storages import MongoStorage
from flowstore.testing import StorageTests
from tests.servers.mongo import Place
from tests.servers.proxy import Proxy
from tests.storages.bystanders import Bystander, beside
from tests.storages.mongo.mongo_kit import fresh, in_front, through
from tests.storages.storage_races import ProcessRaces
from tests.storages.wrecks import Wrecked

pytest_plugins = ("tests.storages.mongo.mongo_fixtures",)


class MongoTests(Wrecked, StorageTests):
    storage_class = MongoStorage

    @pytest.fixture
    def configuration(self, place: Place) -> dict[str, Any]:
        return fresh(place.uri)

    @pytest.fixture
    def bystander(self, configuration: dict[str, Any]) -> Bystander:
        return beside(("MongoStorage", configuration))

    @pytest.fixture
    def raw_get(self, place: Place, configuration: dict[str, Any]) -> Callable[[Ref], bytes | None]:
        def payload(ref: Ref) -> bytes | None:
            client: MongoClient[dict[str, Any]] = MongoClient(place.uri)
            with client:
                collection = client[configuration["db_name"]][configuration["collection_name"]]
                document = collection.find_one({"_id": ref.address.hex()})
            if document is None:
                return None
            return bytes(document["payload"]) if "payload" in document else orjson.dumps(document["value"])

        return payload


class TestMongod(ProcessRaces, MongoTests):
    @pytest.fixture
    def place(self, mongod: Place) -> Place:
        return mongod

    @pytest.fixture
    def outage(self, mongod: Place) -> Place | None:
        return mongod if mongod.server else None


class TestJavaServer(ProcessRaces, MongoTests):
    """An independent server that keeps everything in memory: an outage is one of the connections to it."""

    waivers: ClassVar = {
        "test_lists_by_task_id": "this server sorts by UTF-16, MongoDB by UTF-8, which is the order of code points",
        "test_selects_by_pattern": "this server compares by UTF-16, MongoDB by UTF-8",
    }

    @pytest.fixture
    def outage(self, java_server: Place) -> Iterator[Proxy]:
        with in_front(java_server) as proxy:
            yield proxy

    @pytest.fixture
    def lost_answer(self, outage: Proxy) -> Proxy:
        return outage

    @pytest.fixture
    def place(self, outage: Proxy) -> Place:
        return Place(through(outage))


@pytest.mark.each_time("lifecycle", "revisions", "expiry", "raw access")
class TestNx27017(MongoTests):
    """The contract alone: nothing that is seen here proves anything about races."""

    lacks: ClassVar = {
        "processes": "an emulation proves nothing about races",
        "faults": "an emulation proves nothing about outages",
    }

    @pytest.fixture
    def place(self, nx: Place) -> Place:
        return nx
