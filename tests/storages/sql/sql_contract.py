"""The whole kit for a server that speaks SQL, reached over a proxy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from flowstore.record import Ref
from tests.servers.proxy import Proxy
from tests.storages.sql.sql_servers import behind, raw_payload
from tests.storages.storage_contract import StorageContract
from tests.storages.storage_kit import Recipe
from tests.storages.storage_races import ProcessRaces


class SqlServerContract(ProcessRaces, StorageContract):
    """``StorageContract`` for the empty database or schema that a fixture ``place`` names."""

    @pytest.fixture
    def place(self) -> Recipe:
        raise NotImplementedError

    @pytest.fixture
    def in_front(self, place: Recipe) -> Iterator[tuple[Recipe, Proxy]]:
        with behind(place) as found:
            yield found

    @pytest.fixture
    def recipe(self, in_front: tuple[Recipe, Proxy]) -> Recipe:
        return in_front[0]

    @pytest.fixture
    def outage(self, in_front: tuple[Recipe, Proxy]) -> Proxy:
        return in_front[1]

    @pytest.fixture
    def lost_answer(self, outage: Proxy) -> Proxy:
        return outage

    @pytest.fixture
    def raw_get(self, place: Recipe) -> Callable[[Ref], bytes | None]:
        return lambda ref: raw_payload(place, ref)
