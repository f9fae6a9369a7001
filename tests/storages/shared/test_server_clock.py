"""The server's time, counted on from one answer."""

from __future__ import annotations

import time

import pytest

from flowstore.storages import RedisStorage
from flowstore.storages.shared.clock import ServerClock, elapsed
from tests.servers import redis as servers
from tests.storages.redis.redis_kit import at, need_program

needs_boottime = pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="no clock counts suspension here")


@pytest.fixture
def suspend(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the machine was suspended: its monotonic clock stood still for them."""
    asleep = [0.0]
    real, monotonic = time.clock_gettime, time.monotonic

    def told(clock: int) -> float:
        return real(clock) + (asleep[0] if clock != time.CLOCK_MONOTONIC else 0)

    monkeypatch.setattr(time, "clock_gettime", told)
    monkeypatch.setattr(time, "monotonic", lambda: monotonic())
    return asleep


@needs_boottime
def test_goes_on_while_the_machine_is_suspended(suspend: list[float]) -> None:
    clock = ServerClock(1000.0, 0.001, elapsed())
    suspend[0] = 3600
    assert 4600 <= clock.now() < 4700
    assert clock.stamp() >= 4600 * 10**9


@needs_boottime
def test_redis_goes_on_while_the_machine_is_suspended(suspend: list[float]) -> None:
    need_program()
    with servers.running() as server:
        storage: RedisStorage = at(server)
        storage.connect()
        suspend[0] = 3600
        assert storage.now() > time.time() + 3500
        storage.disconnect()
