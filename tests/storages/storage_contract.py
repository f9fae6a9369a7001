"""The whole kit for an adapter of flowstore's own that a ``recipe`` names."""

from __future__ import annotations

from typing import Any

import pytest

import flowstore.storages
from flowstore.testing import HOSTILE, StorageTests
from tests.storages.bystanders import Bystander, beside
from tests.storages.storage_kit import Recipe
from tests.storages.wrecks import Wrecked

__all__ = ["HOSTILE", "StorageContract"]


class StorageContract(Wrecked, StorageTests):
    """``StorageTests`` with an adapter's name and configuration given by one fixture, ``recipe``."""

    @pytest.fixture
    def recipe(self) -> Recipe:
        raise NotImplementedError

    @pytest.fixture
    def storage_class(self, recipe: Recipe) -> type[Any]:
        found: type[Any] = getattr(flowstore.storages, recipe[0])
        return found

    @pytest.fixture
    def configuration(self, recipe: Recipe) -> dict[str, Any]:
        configuration: dict[str, Any] = recipe[1]
        return configuration

    @pytest.fixture
    def bystander(self, recipe: Recipe) -> Bystander:
        return beside(recipe)
