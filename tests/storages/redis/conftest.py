"""Fixtures of the tests of Redis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flowstore.storages import RedisStorage
from tests.servers import redis as servers
from tests.storages.redis.redis_kit import opened


@pytest.fixture
def storage(server: servers.Server) -> Iterator[RedisStorage]:
    """A connected storage at an empty place."""
    with opened(server) as storage:
        yield storage
