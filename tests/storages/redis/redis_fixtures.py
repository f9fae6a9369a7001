"""The Redis servers that the tests meet."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import redis as servers
from tests.servers.proxy import Proxy, proxy
from tests.storages.redis.redis_kit import need_program


@pytest.fixture(scope="session")
def redis_server_url() -> Iterator[str]:
    """The URL of one server: the given one, or a private one."""
    if servers.GIVEN is None:
        need_program()
    with servers.url() as url:
        yield url


@pytest.fixture(scope="module")
def server() -> Iterator[servers.Server]:
    """A server of the module's own, which its tests may watch and change."""
    need_program()
    with servers.running() as server:
        yield server


@pytest.fixture
def middle(server: servers.Server) -> Iterator[Proxy]:
    """A proxy in front of that server."""
    with proxy(server.port) as one:
        yield one


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[list[servers.Server]]:
    need_program()
    with servers.cluster() as nodes:
        yield nodes
