"""Random histories, after each step of which the indexes have to say what the records say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import invariant, run_state_machine_as_test

from tests.servers import redis as servers
from tests.storages.redis.redis_kit import check_indexes, fresh_prefix, need_program
from tests.storages.storage_kit import Recipe
from tests.storages.test_storage_model import History


class Indexed(History):
    server: ClassVar[servers.Server]
    adapter = "RedisStorage"

    def recipe(self) -> Recipe:
        self.prefix = fresh_prefix()
        return "RedisStorage", {"host": "127.0.0.1", "port": self.server.port, "prefix": self.prefix}

    @invariant()
    def indexes_say_what_the_records_say(self) -> None:
        if hasattr(self, "storage"):
            with self.server.client() as client:
                assert check_indexes(client, self.prefix) == len(self.model)


@pytest.fixture(scope="module")
def server() -> Iterator[servers.Server]:
    need_program()
    with servers.running({"save": '""'}) as server:
        yield server


def test_behaves_like_a_dictionary_with_exact_indexes(server: servers.Server) -> None:
    class OfServer(Indexed):
        pass

    OfServer.server = server
    run_state_machine_as_test(
        OfServer,
        settings=settings(max_examples=30, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow]),
    )
