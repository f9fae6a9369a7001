"""The Redis servers that the tests meet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import redis as servers
from tests.storages.redis_kit import need_program


@pytest.fixture(scope="session")
def redis_server_url() -> Iterator[str]:
    """The URL of one server: the given one, or a private one."""
    if servers.GIVEN is None:
        need_program()
    with servers.url() as url:
        yield url


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[list[servers.Server]]:
    need_program()
    with servers.cluster() as nodes:
        yield nodes
