from __future__ import annotations

from typing import Any, ClassVar

import pytest

from flowstore.record import Query
from flowstore.storages import MemoryStorage
from flowstore.testing import StorageTests
from flowstore.testing.concurrency import in_child, wait_for
from tests.storages.wrecks import Wrecked


class TestMemoryStorage(Wrecked, StorageTests):
    storage_class = MemoryStorage
    lacks: ClassVar = {
        "instances": "each instance has records of its own",
        "processes": "each process has records of its own",
        "faults": "there is no server",
        "raw access": "there is nothing but the adapter's own dictionary",
        "foreign data": "nobody else can put anything there",
    }

    @pytest.fixture
    def configuration(self) -> dict[str, Any]:
        return {}


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


def test_a_forked_child_has_a_copy() -> None:
    storage = MemoryStorage()
    storage.store("f", "t", "1", "parent")

    def work() -> None:
        assert storage.retrieve("f", "t", "1") == "parent"
        storage.store("f", "t", "1", "child")

    wait_for(in_child(work))
    assert storage.retrieve("f", "t", "1") == "parent"
