"""A fixture for every kind of storage: what has to hold in all of them is tested in all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flowstore.storage import RecordStorage
from tests.storages.places import PLACES, adapter, recipe_of
from tests.storages.storage_kit import Recipe

pytest_plugins = (
    "tests.storages.mongo.mongo_fixtures",
    "tests.storages.redis.redis_fixtures",
    "tests.storages.s3.s3_fixtures",
    "tests.storages.sql.sql_fixtures",
)


@pytest.fixture(params=PLACES)
def kind(request: pytest.FixtureRequest) -> str:
    """Which storage it is."""
    found: str = request.param
    return found


@pytest.fixture
def recipe(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Recipe:
    """An empty place."""
    return recipe_of(kind, request, tmp_path)


@pytest.fixture
def storage(recipe: Recipe) -> Iterator[RecordStorage]:
    """The adapter itself, connected."""
    with adapter(recipe).opened() as storage:
        yield storage
