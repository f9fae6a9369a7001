"""From every kind of storage and into every kind, on real servers or emulated ones."""

from __future__ import annotations

import pytest

from flowstore.copying import copy, verify
from flowstore.storage import RecordStorage
from flowstore.storages import MemoryStorage
from tests.copying.test_copy import everything, fill

pytest_plugins = ("tests.storages.every_storage",)


@pytest.fixture
def memory() -> RecordStorage:
    storage = MemoryStorage()
    storage.connect()
    return storage


def test_a_copy_through_it_loses_nothing(storage: RecordStorage, memory: RecordStorage) -> None:
    fill(memory, 30)
    into = copy(memory, storage)
    assert (into.copied, into.failed, into.conflicts) == (len(everything(memory)), 0, 0)
    assert verify(memory, storage).is_same
    back = MemoryStorage()
    back.connect()
    assert copy(storage, back).failed == 0
    assert everything(back) == everything(memory)
