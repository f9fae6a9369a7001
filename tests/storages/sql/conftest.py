"""PostgreSQL and MySQL, one after the other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flowstore.storage import RecordStorage
from tests.storages.storage_kit import Recipe, opened


@pytest.fixture(params=["postgres", "mysql"])
def recipe(request: pytest.FixtureRequest) -> Recipe:
    found: Recipe = request.getfixturevalue(f"{request.param}_recipe")
    return found


@pytest.fixture
def storage(recipe: Recipe) -> Iterator[RecordStorage]:
    with opened(recipe) as storage:
        yield storage
