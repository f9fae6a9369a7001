"""A Redis server that may lose what it is given is noticed at connect."""

from __future__ import annotations

import pytest

from flowstore.errors import UnsupportedError
from flowstore.storages import RedisStorage
from tests.reliability.figures import Figures
from tests.servers import redis as servers
from tests.storages.redis.redis_kit import need_program

CLAIM = "unsafe settings of a server: planted, detected"
UNSAFE = {
    "allkeys-lru": {"maxmemory": "50mb", "maxmemory-policy": "allkeys-lru"},
    "allkeys-lfu": {"maxmemory": "50mb", "maxmemory-policy": "allkeys-lfu"},
    "allkeys-random": {"maxmemory": "50mb", "maxmemory-policy": "allkeys-random"},
    "no persistence": {"appendonly": "no", "save": '""'},
}


def refused(settings: dict[str, str]) -> bool:
    with servers.running({**servers.SAFE, **settings}) as server:
        storage = RedisStorage(host="127.0.0.1", port=server.port, unsafe_settings="refuse")
        try:
            storage.connect()
        except UnsupportedError:
            return True
        storage.disconnect()
        return False


def test_unsafe_settings_are_detected(figures: Figures) -> None:
    need_program()
    detected = [name for name, settings in UNSAFE.items() if refused(settings)]
    figures.planted(CLAIM, "one unsafe setting each", planted=len(UNSAFE), detected=len(detected))
    assert detected == list(UNSAFE)


@pytest.mark.parametrize("settings", [{}, {"maxmemory": "50mb", "maxmemory-policy": "noeviction"}], ids=str)
def test_safe_settings_are_not_taken_for_unsafe(settings: dict[str, str], figures: Figures) -> None:
    need_program()
    wrong = refused(settings)
    figures.note(CLAIM, f"redis, safe with {settings or 'its defaults'}", refused=int(wrong))
    assert not wrong
