"""A FlowStore over one storage, for tests that hold for every kind of storage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from flowstore import FlowStore
from tests.storages.places import configuration
from tests.storages.storage_kit import Recipe


@pytest.fixture
def flows(recipe: Recipe) -> Iterator[FlowStore]:
    """A FlowStore with one empty storage, of each kind for the tests that have the fixtures of every storage."""
    flows = FlowStore(configuration(recipe))
    yield flows
    flows.close()


@pytest.fixture
def memory() -> Iterator[FlowStore]:
    """A FlowStore with one empty storage in memory."""
    flows = FlowStore(configuration(("MemoryStorage", {})))
    yield flows
    flows.close()


@pytest.fixture
def losing() -> Iterator[FlowStore]:
    """A FlowStore whose storage can lose answers."""
    entry: dict[str, Any] = {"name": "Results", "classname": "LosingStorage", "import": "tests.store.state_adapters"}
    entry["on_store_error"] = {"retry": "3s"}
    flows = FlowStore({"storages": [entry], "global": {"default_storage": "Results"}})
    yield flows
    flows.close()
