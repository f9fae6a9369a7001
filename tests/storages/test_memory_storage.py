from __future__ import annotations

import pytest

from flowstore.record import Query
from flowstore.storages import MemoryStorage
from tests.storages.storage_contract import StorageContract
from tests.storages.storage_kit import Recipe
from tests.storages.storage_races import ThreadRaces


class TestMemoryStorage(ThreadRaces, StorageContract):
    @pytest.fixture
    def recipe(self) -> Recipe:
        return "MemoryStorage", {}


def test_keeps_records_while_disconnected() -> None:
    storage = MemoryStorage()
    storage.connect()
    storage.store("f", "t", "1", "x")
    storage.disconnect()
    storage.connect()
    assert storage.retrieve("f", "t", "1") == "x"


def test_keeps_instances_apart() -> None:
    one, other = MemoryStorage(), MemoryStorage()
    one.store("f", "t", "1", "x")
    assert other.scan(Query()).records == []
